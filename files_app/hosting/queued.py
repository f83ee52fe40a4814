"""An observer that nobody waits for: what it is told it hears a moment later, in a thread of its own.

A line on the console takes longer than the bytes of a small file; and each line written by a client's own
thread lets the others go first. Nobody reads thousands of lines a second either: what is too much is counted.
"""

import itertools
import logging
import queue
import threading

from fileserver.events import Event, Observer

log = logging.getLogger(__name__)

MAX_WAITING = 500  # events that may wait: what a whole class does at once is told
PACE = 100  # events a second that are told where there is always one more
REST = 0.05  # seconds in which events gather, at least


class QueuedObserver:
    """A context manager; at its end all that waits has been told."""

    def __init__(self, observer: Observer, name: str) -> None:
        self._observer = observer
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name)
        self._ending = threading.Event()
        self._left_out = itertools.count()  # one step for whoever counts, without a lock
        self._known = 0  # of them, those already reported

    def __call__(self, event: Event) -> None:
        if self._queue.qsize() < MAX_WAITING:
            self._queue.put(event)
        else:
            next(self._left_out)

    def __enter__(self) -> "QueuedObserver":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while (event := self._queue.get()) is not None:
            self._tell(event)
            count += 1
            if self._queue.empty():
                self._tell_of_the_rest()
                self._ending.wait(max(REST, count / PACE))
                count = 0
        self._tell_of_the_rest()

    def _tell(self, event: Event) -> None:
        try:
            self._observer(event)
        except Exception:
            log.exception("not told: %r", event)

    def _tell_of_the_rest(self) -> None:
        total = next(self._left_out)
        count, self._known = total - self._known, total + 1  # this look has counted, too
        if count:
            log.info("%d events were not told here: too many at once", count)
