"""The waits of one thread for one peer. Each is a ``poll`` that another thread can end.

Each wait is announced to the scheduler here, so nobody who sends or receives has to think of it.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from fileserver.net.polling import READABLE, WRITABLE
from fileserver.net.stall import PeerGone, StallGuard
from fileserver.net.transport import Transport, WouldBlock
from fileserver.workers.base import NullScheduler, Scheduler

T = TypeVar("T")

# Windows wakes no wait when another thread shuts the socket down: there each wait is cut in slices.
_SLICE = 1.0 if sys.platform == "win32" else float("inf")
_SHORTEST_LOOK, _LONGEST_LOOK = 0.0002, 0.5  # seconds between two looks at what is not acknowledged
_SHORT_SLICE = 0.5  # for waits that must end although nothing may happen on the socket


class Waiter:
    """Owned by one thread; only ``end`` and ``end_reading`` are for others."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.scheduler: Scheduler = NullScheduler()
        self.has_waited = False  # since its owner has set it to False
        self._slice = _SLICE
        # Others set these and the owner reads them without a lock. That is safe: nobody takes them back, and
        # after they are set the wait that may have begun just before ends too, by the shutdown of the socket
        # that follows, or at the end of its slice (``breakable``). Two flags, not one set of events: two
        # threads that add to the same one can lose what the other has added.
        self._reading_is_over = False
        self._writing_is_over = False

    # --- waits

    def wait(self, events: int, seconds: float) -> bool:
        """Wait until the socket is ready for one of ``events``, broken, or ended by another thread."""
        if self.scheduler.spin(lambda seconds: self._transport.poll_finely(events, seconds)):
            return True
        self.scheduler.before_blocking()
        self.has_waited = True
        deadline = time.monotonic() + seconds
        while not self._is_over(events):
            left = max(0.0, deadline - time.monotonic())
            if self._transport.poll(events, min(left, self._slice)):
                return True
            if left <= self._slice:
                return False
        return True

    def insist(self, attempt: Callable[[], T], guard: StallGuard, check: Callable[[], None]) -> T:
        """Repeat ``attempt``, and wait for the peer in between, until it does not have to wait.

        ``check`` may raise to give up. Raises ``PeerGone`` and ``Stalled``.
        """
        while True:
            check()
            # An attempt that gets nowhere counts as a wait: TLS may have had work with its own records.
            begun = time.monotonic()
            try:
                return attempt()
            except WouldBlock as would:
                self.wait(would.events, guard.patience)
                guard.waited(time.monotonic() - begun)
            except PeerGone:
                check()  # who wants it to be given up may have shut the socket down: then that is the reason
                raise

    def wait_acknowledged(self, guard: StallGuard, check: Callable[[], None]) -> None:
        """Wait until the peer's system has every byte that ours has taken.

        No poll tells when, so it looks now and then: each time after as long again as it has waited so far.
        To look often would let a thousand peers that take nothing occupy the processor.
        """
        events, left, first = READABLE, self._transport.unacknowledged(), time.monotonic()
        while left:
            check()
            begun = time.monotonic()
            if self.wait(events, min(max(_SHORTEST_LOOK, begun - first), _LONGEST_LOOK)):
                if not events:  # broken: what is in the queue is lost, but Linux goes on counting it
                    check()
                    raise PeerGone("The connection was reset before the last byte was acknowledged.")
                events = 0  # the next request has come, often with the acknowledgement; once is enough
            guard.waited(time.monotonic() - begun)
            before, left = left, self._transport.unacknowledged()
            if left < before:
                guard.moved(before - left)
        # Only a whole connection means that the bytes arrived.
        check()
        if self._transport.is_broken():
            raise PeerGone("The connection was reset before the last byte was acknowledged.")

    # --- their end, by another thread

    def end(self) -> None:
        self._reading_is_over = self._writing_is_over = True

    def end_reading(self) -> None:
        self._reading_is_over = True

    @contextlib.contextmanager
    def breakable(self) -> Iterator[None]:
        """In this context waits end soon after ``end``, though nothing happens on the socket."""
        self._slice = _SHORT_SLICE
        try:
            yield
        finally:
            self._slice = _SLICE

    def _is_over(self, events: int) -> bool:
        return bool(
            (self._reading_is_over and events & READABLE) or (self._writing_is_over and events & WRITABLE)
        )
