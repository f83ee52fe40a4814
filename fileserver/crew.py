"""The threads of the clients: each client has one to itself, and one whose client has left takes the next.

To start a thread costs more than to send a small file, for its starter waits until it runs. So a thread whose
work is done stays a little, under its old name, for the next.
"""

import threading
from collections.abc import Callable

PATIENCE = 10.0  # seconds that a thread waits for more work

Work = Callable[[], None]


class Crew:
    """For any thread. After ``close`` no thread is left, and none starts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[_Member] = set()
        self._waiting: list[_Member] = []
        self._closed = False

    def take_on(self, name: str, work: Work) -> None:
        """Have a thread of that name do ``work``. Raises ``RuntimeError`` when there is none to be had."""
        with self._lock:
            if self._closed:
                raise RuntimeError("No thread starts any more.")
            if self._waiting:
                self._waiting.pop().go_on(name, work)
                return
            member = _Member(self, name, work)
            member.start()  # under the lock, so that close misses none
            self._all.add(member)

    def close(self) -> None:
        """Let those that wait go, and return when the others have done their work too."""
        with self._lock:
            self._closed = True
            members = list(self._all)
            while self._waiting:
                self._waiting.pop().let_go()
        for member in members:
            member.join()

    def wait_for_work(self, member: "_Member") -> None:
        """Return when ``member`` has work, or none for too long."""
        with self._lock:
            if self._closed:
                return
            self._waiting.append(member)
        if member.called.acquire(timeout=PATIENCE):
            return
        with self._lock:
            if member in self._waiting:
                self._waiting.remove(member)
                self._all.discard(member)
                return
        member.called.acquire()  # at the last moment


class _Member(threading.Thread):
    def __init__(self, crew: Crew, name: str, work: Work) -> None:
        super().__init__(name=name)
        self._crew = crew
        self._work: Work | None = work
        self.called = threading.Semaphore(0)

    def go_on(self, name: str, work: Work) -> None:
        self.name, self._work = name, work
        self.called.release()

    def let_go(self) -> None:
        self.called.release()

    def run(self) -> None:
        while self._work is not None:
            work, self._work = self._work, None
            work()
            self._crew.wait_for_work(self)
