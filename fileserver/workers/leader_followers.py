"""The threads of the clients: who waits for the next one, and who has the interpreter.

Each client has a thread to itself from its first moment to its last. The interpreter runs one thread at a
time, and to hand it over costs more than to send a small file; a thread hands it over at each system call,
if another is there to take it. Two rules keep that rare:

- *Leader and followers* (Schmidt and others, 2000). One thread, the leader, waits for a client, takes it in
  and answers it. A follower leads in its place before it waits for that client, or for the disk, and after
  a few requests in any case (``session``). A client has a moment first: most that are near say their next
  word, or goodbye, in less time than it takes to hand the lead on.
- *Turns* (``FairLock``). A thread that has something short to do does it in its turn, while the others that
  have something to do sleep. Who has slept for 50 ms goes ahead, so a turn that is never given is no more
  than a delay.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from fileserver.workers.base import Scheduler

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that a follower waits until it leaves, unless it is the last one
TURN_PATIENCE = 0.05  # seconds after which a thread does not wait for its turn any longer
MOMENT = 30e-6  # seconds that the leader waits for its own client; the system may make 80e-6 of them
LEFT_OUT = 8  # waits that get no moment after two in vain: clients that are far away are never so quick
SPARE = "SpareThread"  # the name of a thread while it has no client


class FairLock:
    """For any thread. Only a matter of speed: nothing may rely on being alone. Who comes first is first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whose = 0
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    def take(self) -> None:
        me = threading.get_ident()
        with self._lock:
            if not self._whose:
                self._whose = me
            if self._whose == me:
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append((me, gate))
        if not gate.acquire(timeout=TURN_PATIENCE):
            with self._lock:
                if self._whose != me:  # else it came at the last moment
                    self._waiting.remove((me, gate))

    def give(self) -> None:
        if self._whose != threading.get_ident():
            return
        with self._lock:
            self._whose = 0
            if self._waiting:
                self._whose, gate = self._waiting.popleft()
                gate.release()


class LeaderFollowers(Scheduler):
    """``serve_next`` waits for a client and serves it, or returns False because none will come any more.

    After ``close`` no thread is left, and none starts.
    """

    def __init__(self, serve_next: Callable[[], bool]) -> None:
        self._serve_next = serve_next
        self._turns = FairLock()
        self._lead = threading.Lock()  # held as long as somebody leads
        self._leader = 0  # its thread
        self._lock = threading.Lock()
        self._all: set[threading.Thread] = set()
        self._followers = 0
        self._vain = 0  # moments in a row in which nothing came
        self._left_out = 0  # waits that get none
        self._closed = False

    def start(self) -> None:
        self.ensure_spare()

    def ensure_spare(self) -> None:
        """Have somebody who can lead next. Raises ``RuntimeError`` when there is no thread to be had.

        The leader calls it before it serves: afterwards it can always let a follower lead.
        """
        with self._lock:
            if self._followers or self._closed:
                return
            thread = threading.Thread(target=self._run, name=SPARE)
            thread.start()  # under the lock, so that close misses none
            self._all.add(thread)
            self._followers += 1

    def take_turn(self) -> None:
        self._turns.take()

    def before_blocking(self) -> None:
        self._turns.give()
        self._hand_on()

    def spin(self, is_ready: Callable[[float], bool]) -> bool:
        if self._leader != threading.get_ident():
            return False
        if self._left_out:
            self._left_out -= 1
            return False
        if is_ready(MOMENT):
            self._vain = 0
            return True
        self._vain += 1
        if self._vain > 1:
            self._left_out = LEFT_OUT
        return False

    def dismiss(self) -> None:
        """Return when nobody leads, and nobody will. To end ``serve_next`` is for the caller to see to."""
        self._closed = True
        with self._lead:
            pass

    def close(self) -> None:
        """Return when those that serve are done too."""
        self.dismiss()
        with self._lock:
            members = list(self._all)
        for member in members:
            member.join()

    # --- in each thread

    def _run(self) -> None:
        me = threading.get_ident()
        while self._follow():
            self._leader = me
            while self._leader == me:
                if self._closed:
                    self._hand_on()
                    return
                try:
                    if not self._serve_next():
                        self._closed = True
                except Exception:  # of one client, which must not leave the others without a leader
                    self.before_blocking()
                    log.exception("a client could not be served")
                self._turns.give()
                threading.current_thread().name = SPARE
            with self._lock:
                self._followers += 1

    def _follow(self) -> bool:
        """Wait until this thread leads; False if it is not needed any more."""
        while not self._lead.acquire(timeout=PATIENCE):
            with self._lock:
                if self._followers > 1:
                    self._followers -= 1
                    self._all.discard(threading.current_thread())
                    return False
        with self._lock:
            self._followers -= 1
        return True

    def _hand_on(self) -> None:
        if self._leader == threading.get_ident():
            self._leader = 0
            self._lead.release()
