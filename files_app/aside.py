"""An observer that nobody waits for: what it is told it hears a moment later, in a thread of its own.

A line on the console takes longer than the bytes of a small file; and each line written by a client's own
thread lets the others go first.
"""

import logging
import queue
import threading

from fileserver.events import Event, Observer

log = logging.getLogger(__name__)

REST = 0.05  # seconds in which events gather


class Aside:
    """A context manager; at its end everything has been told."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer = observer
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name)
        self._ending = threading.Event()

    def __call__(self, event: Event) -> None:
        self._queue.put(event)

    def __enter__(self) -> "Aside":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (event := self._queue.get()) is not None:
            try:
                self._observer(event)
            except Exception:
                log.exception("not told: %r", event)
            if self._queue.empty():
                self._ending.wait(REST)
