"""How a program of ours is asked to end: by signals, of which the second hurries what the first has begun."""

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator

# Windows has the last, which is what a supervisor can send there.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


class Ending:
    """Asked for by the first signal; the second one hurries what the first has begun."""

    def __init__(self) -> None:
        self._is_asked = False
        # Of all that one can wait for, only this may be woken from a signal handler: an Event's lock may be
        # held by the very thread that the handler interrupts.
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._hurry: Callable[[], None] = lambda: None
        self._hurrying: list[threading.Thread] = []

    @property
    def is_asked(self) -> bool:
        return self._is_asked

    def hurry_with(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry

    def ask(self) -> None:
        """From any thread, and any number of times."""
        self._is_asked = True
        self._asked.put(None)

    def wait(self) -> None:
        """Until it is asked for; for one thread."""
        while not self._is_asked:
            # With a time limit: on Windows a wait without one cannot be interrupted by Ctrl+C.
            with contextlib.suppress(queue.Empty):
                self._asked.get(timeout=1.0)

    def on_signal(self, *args: object) -> None:
        if self._is_asked:
            # In a thread: the handler interrupts the very code that holds the locks.
            thread = threading.Thread(target=self._hurry, name="Hurry")
            self._hurrying.append(thread)
            thread.start()
        self.ask()

    def join(self) -> None:
        """Return when nothing hurries any more; no signal may come then."""
        for thread in self._hurrying:
            thread.join()


@contextlib.contextmanager
def ends_on_signal() -> Iterator[Ending]:
    """For the main thread. Inside, a signal asks for the end and does not interrupt anything."""
    ending = Ending()
    before = {number: signal.signal(number, ending.on_signal) for number in SIGNALS}
    try:
        yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        ending.join()
