"""When a peer counts as gone or as too slow. A value without a socket: whoever waits tells it how long."""

STALL_SECONDS = 60.0
STALL_FLOOR = 100  # bytes a second, on average over STALL_SECONDS


class PeerGone(ConnectionError):
    """The other side closed or reset the connection."""


class Stalled(TimeoutError):
    """The other side takes or gives no bytes, or hardly any."""


class StallGuard:
    """Judges a peer by the time spent waiting for it, so that a pace of our own is never held against it."""

    def __init__(self, limit: float = STALL_SECONDS, floor: int = STALL_FLOOR) -> None:
        self.limit = limit
        self.floor = floor
        self._silent = 0.0
        self._window = 0.0
        self._window_bytes = 0

    def moved(self, count: int) -> None:
        self._silent = 0.0
        self._window_bytes += count

    def waited(self, seconds: float) -> None:
        self._silent += seconds
        self._window += seconds
        if self._silent >= self.limit:
            raise Stalled
        if self._window >= self.limit:
            if self._window_bytes < self.floor * self.limit:
                raise Stalled
            self._window, self._window_bytes = 0.0, 0

    @property
    def patience(self) -> float:
        """Seconds that may still be waited in silence."""
        return self.limit - self._silent
