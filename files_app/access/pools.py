"""How many tries there are: pools that fill up again with time, and pauses that grow. Pure arithmetic."""

from dataclasses import dataclass
from typing import NamedTuple

HOUR = 3600.0  # seconds


class Pool(NamedTuple):
    """At most ``burst`` tries at once, and ``an_hour`` more in each hour: together the most in any hour."""

    burst: float
    an_hour: float


@dataclass
class Level:
    """How full a pool is. ``at``: when that was so, in Unix seconds."""

    tries: float
    at: float

    def fill(self, pool: Pool, now: float) -> None:
        passed = max(0.0, now - self.at)  # a clock may have been put back
        self.tries, self.at = min(pool.burst, self.tries + passed * pool.an_hour / HOUR), now

    def wait(self, pool: Pool) -> float:
        """Seconds until there is a whole try; 0 if there is one."""
        missing = 1.0 - self.tries
        # As floats add up, a pool that has filled for just so long may lack a billionth.
        return 0.0 if missing <= 1e-9 else missing * HOUR / pool.an_hour


FREE_TRIES = 2  # of a visitor, after which each is followed by a pause
MAX_PAUSE = 900.0  # seconds


def pause_after(fails: int) -> float:
    """Seconds that a visitor must wait who has failed so often: 1, 2, 4, … up to a quarter of an hour."""
    return 0.0 if fails < FREE_TRIES else min(MAX_PAUSE, 2.0 ** min(fails - FREE_TRIES, 20))
