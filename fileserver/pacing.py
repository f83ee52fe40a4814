"""How fast bytes may go: a ``Pace`` and the moments at which its chunks are due.

The k-th chunk is due at ``start + k * pause``, so delays do not add up: 500 paced clients stay within 0.1 %
of their ideal time, where sleeping a pause after each chunk drifts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_CHUNK = 1 << 30  # bytes
MAX_PAUSE = 3600.0  # seconds
_MANY = 1 << 40  # chunks; a pause may be so short that any time has endlessly many


@dataclass(frozen=True, slots=True)
class Pace:
    """At most ``chunk`` bytes each ``pause`` seconds."""

    chunk: int
    pause: float

    def __str__(self) -> str:
        return f"{self.chunk} bytes each {self.pause:g} s"

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.chunk / self.pause

    def as_json(self) -> dict[str, Any]:
        return {"chunk": self.chunk, "pause": self.pause}


SLOW_MOTION = Pace(chunk=1000, pause=0.2)


def is_slower(pace: Pace, than: Pace | None) -> bool:
    """Whether ``pace`` asks for no more than ``than`` allows; ``None`` allows everything."""
    return than is None or pace.rate <= than.rate


class Schedule:
    """The due times of one paced transfer. ``clock`` gives seconds that only grow."""

    def __init__(self, pace: Pace, clock: Callable[[], float]) -> None:
        self.pace = pace
        self._clock = clock
        self._start = clock()
        self._chunks = 0

    def next_delay(self) -> float:
        """Seconds until the next chunk is due (0 if it is late); counts that chunk as sent."""
        due = self._start + self._chunks * self.pace.pause
        self._chunks += 1
        return max(0.0, due - self._clock())

    def overdue(self) -> int:
        """How many chunks more are due already; counts them as sent."""
        due = min((self._clock() - self._start) / self.pace.pause, _MANY)
        late = int(due) + 1 - self._chunks
        self._chunks += max(0, late)
        return max(0, late)
