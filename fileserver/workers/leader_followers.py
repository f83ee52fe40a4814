"""Leader and followers: the fast model, for thousands of short downloads a second.

Each client has a thread to itself, as under ``thread_per_client``. But no thread accepts for the others: the
thread that accepts a client serves it, and another one accepts the next. So a client costs no start of a
thread and no message from one thread to another. The interpreter runs one thread at a time, and to pass it on
costs more than to send a small file; a thread passes it on at each system call, if another is there to take
it. Two rules keep that rare:

- *Leader and followers* (Schmidt and others, 2000). The leader accepts a client and answers it. Before it
  blocks on anything else, the client or the disk, it promotes a follower, which accepts the next client.
  First it spins for a moment: most clients nearby send the next request, or close, in less time than it takes
  to wake another thread.
- *Turns* (``FairLock``). A thread that has something short to do takes the turn, while the others that have
  something to do sleep. A thread that has slept for 50 ms goes ahead, so a turn that is never released is no
  more than a delay.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from fileserver.workers.base import BUSY, Accept, Workers

log = logging.getLogger(__name__)

PATIENCE = 10.0  # seconds that a follower waits until it leaves, unless it is the last one
TURN_PATIENCE = 0.05  # seconds after which a thread does not wait for its turn any longer
SPIN = 30e-6  # seconds that the leader waits for its own client; the system may make 80e-6 of them
SKIPPED = 8  # waits without a spin after two in vain: clients that are far away are never so quick
SPARE = "SpareThread"  # the name of a thread while it has no client


class FairLock:
    """For any thread; the first to come is the first to have it.

    Only a matter of speed: a thread that waits for too long continues without it, so nothing may rely on it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._waiting: deque[tuple[int, threading.Lock]] = deque()

    def acquire(self) -> None:
        me = threading.get_ident()
        with self._lock:
            if not self._owner:
                self._owner = me
            if self._owner == me:
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append((me, gate))
        if not gate.acquire(timeout=TURN_PATIENCE):
            with self._lock:
                if self._owner != me:  # else it came at the last moment
                    self._waiting.remove((me, gate))

    def release(self) -> None:
        # Read without the lock: only this thread writes its own number here, and nobody else takes it out.
        if self._owner != threading.get_ident():
            return
        with self._lock:
            self._owner = 0
            if self._waiting:
                self._owner, gate = self._waiting.popleft()
                gate.release()


class LeaderFollowers(Workers):
    """Also the ``Scheduler`` of its clients' connections."""

    def __init__(self, accept: Accept) -> None:
        super().__init__(accept)
        self._turns = FairLock()
        self._lead = threading.Lock()  # held as long as there is a leader
        # The leader's number. Others may read an old one, never their own: only the thread itself writes
        # that.
        self._leader = 0
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._followers = 0
        self._vain = 0  # spins in a row in which nothing came; of the leader, as is the next
        self._skipped = 0  # waits that get no spin
        self._is_over = threading.Event()

    def run(self) -> None:
        try:
            self.ensure_spare()
            self._is_over.wait()
        finally:
            self._is_over.set()
            with self._lead:  # the last leader has accepted its last client
                pass

    def join(self) -> None:
        self._is_over.set()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()

    def ensure_spare(self) -> None:
        """Have a thread that can lead next. Raises ``RuntimeError`` when the system has none.

        The leader calls it before it serves: afterwards it can always promote a follower.
        """
        with self._lock:
            if self._followers or self._is_over.is_set():
                return
            thread = threading.Thread(target=self._run, name=SPARE)
            thread.start()  # under the lock, so that join misses none
            self._threads.add(thread)
            self._followers += 1

    # --- as a scheduler

    def take_turn(self) -> None:
        self._turns.acquire()

    def before_blocking(self) -> None:
        self._turns.release()
        self._promote()

    def spin(self, is_ready: Callable[[float], bool]) -> bool:
        if self._leader != threading.get_ident():
            return False
        if self._skipped:
            self._skipped -= 1
            return False
        if is_ready(SPIN):
            self._vain = 0
            return True
        self._vain += 1
        if self._vain > 1:
            self._skipped = SKIPPED
        return False

    # --- in each thread

    def _run(self) -> None:
        me = threading.get_ident()
        while self._follow():
            self._leader = me
            while self._leader == me:
                if self._is_over.is_set():
                    self._promote()
                    return
                try:
                    self._serve_next()
                except Exception:  # which must not leave the others without a leader
                    self.before_blocking()
                    log.exception("a client could not be served")
                self._turns.release()
                threading.current_thread().name = SPARE
            with self._lock:
                self._followers += 1

    def _serve_next(self) -> None:
        client = self.accept()
        if client is None:
            self._is_over.set()
            return
        try:
            self.ensure_spare()
        except RuntimeError:  # the system has none to give
            client.refuse(BUSY)
            return
        threading.current_thread().name = client.thread
        client.announce_to(self)
        client.serve()

    def _follow(self) -> bool:
        """Wait until this thread leads; False if it is not needed any more."""
        while not self._lead.acquire(timeout=PATIENCE):
            with self._lock:
                if self._followers > 1:
                    self._followers -= 1
                    self._threads.discard(threading.current_thread())
                    return False
        with self._lock:
            self._followers -= 1
        return True

    def _promote(self) -> None:
        """Let a follower lead, if this thread does."""
        if self._leader == threading.get_ident():
            self._leader = 0
            self._lead.release()
