"""One transfer: its facts, its state, and the control by which any thread can act on it.

A ``Transfer`` belongs to the thread that moves its bytes: only that thread changes ``done``. Others may look
at it (``row`` in ``watch``) and stop it (``control``).
"""

import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from fileserver.events import Observer, Outcome, TransferFacts, TransferProgressed
from fileserver.pacing import Pace, Schedule
from fileserver.rights import Principal, Right
from fileserver.transfers.rates import RateMeter

PROGRESS_INTERVAL = 2.0  # seconds between two TransferProgressed

State = Literal["running", "waiting"]


class Owner(NamedTuple):
    """Whose transfer it is, and the rights on its file that they need as long as it runs."""

    principal: Principal = Principal()
    needs: tuple[Right, ...] = ()


NOBODY = Owner()


class Stopped(Exception):
    """Somebody ended this transfer: the text is ``cancelled``, ``revoked`` or ``shutting-down``."""

    @property
    def ending(self) -> tuple[Outcome, str]:
        """The outcome, and the error word, of the transfer."""
        return ("cancelled", "") if str(self) == "cancelled" else ("aborted", str(self))


class Control:
    """How other threads act on a transfer. Each wait of its own thread can be ended by any of them.

    ``wake`` ends a wait for the peer; a wait of the control itself is ended here. ``pace`` may be set by any
    thread at any time: it is one reference, and the loops that move bytes take it at their next chunk.
    """

    __slots__ = ("_ended", "_lock", "_reason", "_sleep", "pace", "waiting_since", "wake")

    def __init__(self, wake: Callable[[], None], pace: Pace | None = None) -> None:
        self.wake = wake
        self.pace = pace
        self._lock = threading.Lock()
        # Written under the lock, once. Read without it: who reads it too early reads it again at the next
        # chunk, and ``wake`` comes after it.
        self._reason = ""
        self._ended = False
        self.waiting_since: float | None = None  # monotonic; of an upload between two parts
        self._sleep: threading.Lock | None = None  # held while its thread sleeps: whoever stops it opens this

    # --- for the thread that moves the bytes

    def check(self) -> None:
        """Raise ``Stopped`` if somebody has stopped this transfer."""
        if self._reason:
            raise Stopped(self._reason)

    def sleep(self, seconds: float) -> None:
        """Wait, or raise ``Stopped`` as soon as somebody stops this transfer."""
        # A tenth of the cost of an Event, ten thousand times a second with two thousand slow transfers.
        if self._sleep is None:
            with self._lock:  # from here on who stops it opens this
                self._sleep = threading.Lock()
                self._sleep.acquire()
        self.check()
        if seconds > 0 and self._sleep.acquire(timeout=seconds):
            self._sleep.release()
        self.check()

    def wake_by(self, wake: Callable[[], None]) -> None:
        """From here on its thread waits in another way. Raises ``Stopped`` if somebody was quicker."""
        with self._lock:
            self.check()
            self.wake = wake

    def wait_for_part(self) -> str:
        """No thread moves it until its next part comes; the reason if somebody has stopped it instead."""
        with self._lock:
            if not self._reason:
                self.waiting_since = time.monotonic()
                self.wake = _nobody
            return self._reason

    def settle(self) -> None:
        """From here on nobody can stop it. Raises ``Stopped`` if somebody already has."""
        if reason := self.close():
            raise Stopped(reason)

    def close(self) -> str:
        """From here on nobody can stop it; the reason if somebody already has."""
        with self._lock:
            self._ended = True
            return self._reason

    # --- for others

    def stop(self, reason: str) -> bool:
        """End it from any thread; False if it has ended or was stopped before."""
        with self._lock:
            if self._ended or self._reason:
                return False
            self._reason = reason
            if self._sleep is not None:
                self._sleep.release()
            # Under the lock: a moment later the connection may be about another request.
            self.wake()
            return True


def _nobody() -> None:
    """The wake of a transfer that no thread is moving."""


class Transfer:
    """One file on its way. ``name``, ``thread`` and ``owner`` may change while it runs, the facts do not."""

    __slots__ = (
        "_base",
        "_next_report",
        "begun",
        "control",
        "done",
        "facts",
        "id",
        "meter",
        "name",
        "observer",
        "owner",
        "schedule",
        "thread",
    )

    def __init__(
        self, facts: TransferFacts, control: Control, observer: Observer, owner: Owner = NOBODY
    ) -> None:
        self.facts = facts
        self.owner = owner
        self.id = facts.id
        self.control = control
        self.observer = observer
        self.name = facts.name
        self.thread = facts.thread
        self.done = facts.done
        self.begun = time.monotonic()
        self.meter: RateMeter | None = None  # of one that somebody has looked at
        self.schedule: Schedule | None = None  # of one with a pace: all parts of an upload share it
        self._base = facts.done  # bytes that had moved before this transfer began
        self._next_report = self.begun + PROGRESS_INTERVAL

    @property
    def moved(self) -> int:
        """Bytes that moved in this transfer, without those of an earlier try."""
        return self.done - self._base

    @property
    def state(self) -> State:
        """Of a live transfer, as the protocol says it: an upload between two parts is ``waiting``."""
        # Read without a lock: the next line to a watcher says what has changed since.
        return "running" if self.control.waiting_since is None else "waiting"

    def advance(self, count: int) -> None:
        """For its own thread: ``count`` more bytes have moved."""
        self.done += count
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + PROGRESS_INTERVAL
            paced, seconds = self.control.pace is not None, now - self.begun
            facts = self.facts
            self.observer(TransferProgressed(facts.id, self.name, self.done, facts.length, paced, seconds))
