"""How long a peer may keep the server waiting."""

import pytest

from fileserver.net.stall import Stalled, StallGuard


def test_a_guard_counts_silence_from_the_last_byte() -> None:
    guard = StallGuard(limit=60, floor=0)
    guard.waited(59)
    assert guard.patience == 1
    guard.moved(1)
    assert guard.patience == 60
    guard.waited(59)
    with pytest.raises(Stalled):
        guard.waited(1)


def test_a_guard_refuses_less_than_the_floor_on_average() -> None:
    guard = StallGuard(limit=60, floor=100)
    for _ in range(59):
        guard.waited(1)
        guard.moved(99)
    with pytest.raises(Stalled):
        guard.waited(1)


def test_a_guard_lets_the_floor_itself_pass() -> None:
    guard = StallGuard(limit=60, floor=100)
    for _ in range(600):
        guard.moved(100)
        guard.waited(1)
