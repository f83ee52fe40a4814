"""Due times with a clock of our own: nothing here waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fileserver.pacing import SLOW_MOTION, Pace, Schedule, is_slower


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_slow_motion_is_a_thousand_bytes_each_fifth_of_a_second() -> None:
    assert Pace(1000, 0.2) == SLOW_MOTION
    assert SLOW_MOTION.rate == 5000
    assert SLOW_MOTION.as_json() == {"chunk": 1000, "pause": 0.2}
    assert str(SLOW_MOTION) == "1000 bytes each 0.2 s"


def test_the_first_chunk_is_due_at_once() -> None:
    assert Schedule(Pace(10, 5.0), Clock()).next_delay() == 0


def test_each_chunk_is_due_a_pause_after_the_one_before_was_due() -> None:
    clock = Clock()
    schedule = Schedule(Pace(10, 0.5), clock)
    due = []
    for _ in range(4):
        delay = schedule.next_delay()
        due.append(clock.now + delay)
        clock.now += delay + 0.1  # sending takes a while; that must not add up
    assert due == [1000.0, 1000.5, 1001.0, 1001.5]


def test_a_late_chunk_is_due_at_once_and_the_next_one_is_back_on_time() -> None:
    clock = Clock()
    schedule = Schedule(Pace(10, 1.0), clock)
    schedule.next_delay()
    clock.now += 2.5
    assert [schedule.next_delay() for _ in range(3)] == [0.0, 0.0, 0.5]


def test_chunks_that_are_late_can_be_sent_together_and_the_next_one_is_back_on_time() -> None:
    clock = Clock()
    schedule = Schedule(Pace(10, 1.0), clock)
    assert (schedule.next_delay(), schedule.overdue()) == (0.0, 0)
    clock.now += 2.5
    assert (schedule.next_delay(), schedule.overdue(), schedule.overdue()) == (0.0, 1, 0)
    assert schedule.next_delay() == 0.5


@given(
    st.integers(1, 1 << 30), st.floats(0.001, 3600), st.lists(st.floats(0, 10000), min_size=1, max_size=30)
)
def test_delays_are_never_negative_and_never_add_up(chunk: int, pause: float, lags: list[float]) -> None:
    clock = Clock()
    schedule = Schedule(Pace(chunk, pause), clock)
    for k, lag in enumerate(lags):
        delay = schedule.next_delay()
        assert delay >= 0
        assert clock.now + delay == pytest.approx(max(clock.now, 1000.0 + k * pause))
        clock.now += delay + lag


SLOWER = [
    (Pace(1000, 0.2), None, True),
    (Pace(1000, 0.2), Pace(1000, 0.2), True),
    (Pace(500, 0.2), Pace(1000, 0.2), True),
    (Pace(1000, 0.4), Pace(1000, 0.2), True),
    (Pace(1001, 0.2), Pace(1000, 0.2), False),
    (Pace(1000, 0.1), Pace(1000, 0.2), False),
]


@pytest.mark.parametrize(("pace", "than", "wanted"), SLOWER)
def test_a_pace_is_slower_if_it_moves_no_more_bytes_a_second(
    pace: Pace, than: Pace | None, wanted: bool
) -> None:
    assert is_slower(pace, than) is wanted
