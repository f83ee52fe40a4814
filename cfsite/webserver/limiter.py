"""How many connections the web port has at once, and which one makes room for the next.

Whoever only connects, or sends a header a byte at a time, costs a descriptor; a process has few of them. A
connection *waits* while it has no whole request: before its first one, within a head, between two requests,
and while it is closed slowly. When all places are taken, the one that has waited longest is closed for the
newcomer. Connections with a request are never closed here: they have a part of the places only, so some are
always left for others, and a websocket, which stays for hours, has a smaller part still.

Addresses have equal rights: the one that is closed belongs to the address with the most that wait, and no
address has more than half of the requests. Loopback is not counted, for it is everybody on this machine, and
everybody who comes through a proxy or a tunnel on it. There only the rules above hold.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from fileserver.net.address import is_loopback
from fileserver.net.stall import Stalled, StallGuard

logger = logging.getLogger(__name__)

BUSY_SHARE = 3 / 4  # of the places, for connections with a request
SOCKET_SHARE = 1 / 2  # of the places, for websockets
ADDRESS_SHARE = 1 / 2  # of the places, for requests from one address
TELL_EACH = 10.0  # seconds between two lines of the log about the same


class ConnectionLimiter:
    """For the event loop's thread. A transport stands for its connection, whatever protocol it speaks."""

    def __init__(
        self,
        places: int,
        close: Callable[[Any], None],
        is_done: Callable[[Any], bool] = lambda transport: True,
    ) -> None:
        self.places = places
        self._close = close  # ends a connection at once
        self._is_done = is_done  # whether nothing of ours is left to be written to it
        self._address: dict[Any, str] = {}  # of each transport
        # Of each address: the transports that wait, the one that has waited longest first.
        self._waiting: dict[str, dict[Any, None]] = {}
        self._busy: set[Any] = set()
        self._busy_by_address: Counter[str] = Counter()
        self._sockets: set[Any] = set()

    def __len__(self) -> int:
        return len(self._address)

    def add(self, transport: Any, address: str) -> int:
        """A new connection, which waits. Returns how many were closed for it."""
        closed = 0
        while len(self) >= self.places and self._waiting:
            victim = self._choose(max(self._waiting.values(), key=len))
            self._close(victim)
            self.remove(victim)
            closed += 1
        self._address[transport] = address
        self.wait(transport)
        return closed

    def _choose(self, waiting: dict[Any, None]) -> Any:
        """Rather none whose last answer is not out yet."""
        return next(filter(self._is_done, waiting), None) or next(iter(waiting))

    def remove(self, transport: Any) -> None:
        if transport in self._address:
            self._leave(transport)
            del self._address[transport]

    def wait(self, transport: Any) -> None:
        """It has no request, or not any more: from now on it waits, behind all others that do."""
        if transport in self._address:
            self._leave(transport)
            self._waiting.setdefault(self._address[transport], {})[transport] = None

    def begin(self, transport: Any, is_socket: bool) -> bool:
        """Its request has come. False if there is no place for one more of its kind."""
        address = self._address.get(transport)
        if address is None:
            return False
        if is_socket and len(self._sockets) >= SOCKET_SHARE * self.places:
            return False
        if len(self._busy) >= BUSY_SHARE * self.places:
            return False
        if self._busy_by_address[address] >= ADDRESS_SHARE * self.places and not is_loopback(address):
            return False
        self._leave(transport)
        self._busy.add(transport)
        self._busy_by_address[address] += 1
        if is_socket:
            self._sockets.add(transport)
        return True

    def _leave(self, transport: Any) -> None:
        address = self._address[transport]
        if transport in self._busy:
            self._busy.discard(transport)
            self._sockets.discard(transport)
            self._busy_by_address -= Counter([address])
        elif transport in (waiting := self._waiting.get(address, {})):
            del waiting[transport]
            if not waiting:
                del self._waiting[address]


class StallWatch:
    """Looks at a peer from time to time: whether it keeps the server waiting for too long.

    By the rule of the file server's ``StallGuard``: ``limit`` seconds without a byte, or under 100 bytes a
    second on average, and only the time spent waiting for the peer counts.
    """

    def __init__(self, limit: float, now: Callable[[], float] = time.monotonic) -> None:
        self._guard = StallGuard(limit)
        self._now = now
        self._moved = 0
        self._waits_since: float | None = None  # what has been counted comes before that

    def is_stalled(self, moved: int, waits: bool) -> bool:
        """``moved``: bytes so far, from or to the peer; ``waits``: whether it is the peer's turn now."""
        now, since = self._now(), self._waits_since
        if moved != self._moved:
            self._guard.moved(moved - self._moved)
            self._moved = moved
        self._waits_since = now if waits else None
        if since is None or not waits:
            return False
        try:
            # If it is we who are late with this look, that is not held against the peer.
            self._guard.waited(min(now - since, self._guard.limit / 4))
        except Stalled:
            return True
        return False


class Tally:
    """Counts what may happen thousands of times in a minute, and logs a line now and then."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._counts: Counter[str] = Counter()
        self._told: dict[str, float] = {}
        self._now = now

    def add(self, what: str, count: int = 1) -> None:
        if count:
            self._counts[what] += count
            self.tell()

    def tell(self) -> None:
        for what in list(self._counts):
            if self._now() - self._told.get(what, float("-inf")) >= TELL_EACH:
                logger.warning("Closed %d %s", self._counts.pop(what), what)
                self._told[what] = self._now()
