"""How fast bytes move, measured from a count that only grows."""

from collections import deque

RATE_WINDOW = 3.0  # seconds that a rate looks back
TICK = 0.25  # seconds between two lines to a watcher, at least


class RateMeter:
    """Bytes a second over the last seconds, from a count that only grows. Not for several threads at once."""

    def __init__(self, total: int, now: float) -> None:
        self._samples = deque([(now, total)])

    def rate(self, total: int, now: float) -> float:
        samples = self._samples
        since = now - samples[-1][0]
        if since >= TICK / 2:
            samples.append((now, total))
        while len(samples) > 1 and now - samples[1][0] >= RATE_WINDOW:
            samples.popleft()
        then, before = samples[0]
        if since >= RATE_WINDOW:
            # Nobody has looked for so long: this once the mean must do, but it must not blur what follows.
            samples.popleft()
        return round((total - before) / max(now - then, TICK), 1)
