"""How often a wait looks."""

import pytest

from fileserver.net.stall import Stalled, StallGuard
from fileserver.net.waiter import Waiter


class SlowPeer:
    """A transport whose peer takes ``rate`` bytes a second of what is queued, by a clock of its own."""

    def __init__(self, queued: int, rate: float) -> None:
        self.queued, self.rate = queued, rate
        self.now, self.looks = 0.0, 0

    def unacknowledged(self) -> int:
        self.looks += 1
        return max(0, self.queued - int(self.rate * self.now))

    def poll(self, events: int, seconds: float) -> bool:
        self.now += seconds
        return False

    def is_broken(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("rate", "looks", "late"),
    [
        (0, 140, 60.5),  # takes nothing, until it has stalled
        (1_000, 140, 60.5),
        (1_000_000, 12, 0.06 * 2),
        (1_000_000_000, 3, 0.001),
    ],
    ids=["never", "slow", "network", "at once"],
)
def test_it_looks_the_less_often_the_longer_it_waits(
    monkeypatch: pytest.MonkeyPatch, rate: float, looks: int, late: float
) -> None:
    """A thousand peers that take nothing at 50 looks a second each would occupy a processor."""
    peer = SlowPeer(60_000, rate)
    monkeypatch.setattr("fileserver.net.waiter.time.monotonic", lambda: peer.now)
    waiter = Waiter(peer)  # type: ignore[arg-type]
    try:
        waiter.wait_acknowledged(StallGuard(limit=60), lambda: None)
    except Stalled:
        assert rate == 0
    assert peer.looks <= looks
    assert peer.now <= late
