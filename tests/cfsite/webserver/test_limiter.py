"""Places for connections, slow peers, and lines of the log: by themselves, with a clock of the test."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsite.webserver.limiter import TELL_EACH, ConnectionLimiter, StallWatch, Tally

HERE = "127.0.0.1"
FAR = ("192.0.2.1", "192.0.2.2")


class Clock:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


class Places(ConnectionLimiter):
    """Connections are numbers; remembers which were closed."""

    def __init__(self, places: int) -> None:
        self.closed: list[int] = []
        self.full: set[int] = set()  # with bytes that have not gone out
        super().__init__(places, self.closed.append, lambda number: number not in self.full)

    def fill(self, count: int, address: str = HERE, start: int = 0) -> None:
        for number in range(start, start + count):
            self.add(number, address)


def test_the_one_that_has_waited_longest_makes_room() -> None:
    places = Places(4)
    places.fill(4)
    assert places.begin(0, is_socket=False)
    assert places.closed == []
    places.fill(2, start=4)
    assert (places.closed, len(places)) == ([1, 2], 4)
    places.wait(0)  # its request is done: it waits behind the others
    places.fill(3, start=6)
    assert places.closed == [1, 2, 3, 4, 5]
    places.fill(1, start=9)
    assert places.closed[-1] == 0


def test_an_answer_that_is_not_out_yet_is_spared_if_it_can_be() -> None:
    places = Places(3)
    places.fill(3)
    places.full = {0, 1}
    places.fill(1, start=3)
    assert places.closed == [2]
    places.full = {0, 1, 3}
    places.fill(1, start=4)
    assert places.closed == [2, 0]


def test_some_places_are_kept_from_requests_and_more_from_websockets() -> None:
    places = Places(8)
    places.fill(8)
    assert [places.begin(number, is_socket=True) for number in range(5)] == [True] * 4 + [False]
    assert [places.begin(number, is_socket=False) for number in range(4, 8)] == [True] * 2 + [False] * 2
    places.remove(0)
    assert places.begin(6, is_socket=False)
    assert not places.begin(7, is_socket=True)  # all places for requests are taken
    for number in range(100, 120):  # and still everybody new is let in, and has a moment
        places.add(number, HERE)
    assert places.closed == [7, *range(100, 118)][: len(places.closed)]
    assert len(places) == 8


def test_an_address_has_half_of_the_requests_and_loopback_more() -> None:
    for address, most in ((FAR[0], 4), ("fe80::1%eth0", 4), (HERE, 6), ("::1", 6)):
        places = Places(8)
        places.fill(8, address)
        assert sum(places.begin(number, is_socket=False) for number in range(8)) == most


def test_whoever_has_most_that_wait_makes_room() -> None:
    places = Places(8)
    places.fill(1, FAR[1])
    places.fill(20, FAR[0], start=1)
    assert 0 not in places.closed
    assert len(places.closed) == 13


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "begin", "socket", "wait", "remove"]), st.integers(0, 30)),
        max_size=80,
    )
)
def test_whatever_happens_the_books_are_right(steps: list[tuple[str, int]]) -> None:
    places = Places(6)
    open_: set[int] = set()
    for step, number in steps:
        if step == "add" and number not in open_:
            places.closed.clear()
            places.add(number, FAR[number % 2])
            open_ = (open_ - set(places.closed)) | {number}
        elif step == "begin":
            places.begin(number, is_socket=False)
        elif step == "socket":
            places.begin(number, is_socket=True)
        elif step == "wait":
            places.wait(number)
        elif step == "remove":
            places.remove(number)
            open_.discard(number)
        waiting = [number for numbers in places._waiting.values() for number in numbers]
        assert sorted([*waiting, *places._busy]) == sorted(open_)
        assert len(places) == len(open_) <= 6
        assert places._sockets <= places._busy
        assert sum(places._busy_by_address.values()) == len(places._busy)
    for number in open_:
        places.remove(number)
    assert (len(places), places._waiting, places._busy) == (0, {}, set())


class TestStallWatch:
    """Looked at each second, with a limit of ten: as the server does, only quicker."""

    @staticmethod
    def seconds_until_stalled(rate: float, waits: int = 1) -> int | None:
        """``waits``: of how many looks one finds that it is the peer's turn."""
        clock = Clock()
        watch = StallWatch(10.0, clock)
        for second in range(200):
            if watch.is_stalled(int(rate * second), second % waits == 0):
                return second
            clock.now += 1
        return None

    @pytest.mark.parametrize(("rate", "stalled"), [(0, 10), (1, 10), (99, 10), (101, None), (10_000, None)])
    def test_a_peer_must_move_a_hundred_bytes_a_second(self, rate: float, stalled: int | None) -> None:
        found = self.seconds_until_stalled(rate)
        assert found is None if stalled is None else found is not None
        if stalled:
            assert abs((found or 0) - stalled) <= 1

    def test_only_its_own_turn_counts(self) -> None:
        assert self.seconds_until_stalled(0, waits=1000) is None

    def test_a_look_that_comes_late_is_not_held_against_it(self) -> None:
        clock = Clock()
        watch = StallWatch(10.0, clock)
        assert not watch.is_stalled(0, True)
        clock.now += 60  # this machine was asleep, or busy
        assert not watch.is_stalled(10_000, True)
        assert not watch.is_stalled(10_000, True)


def test_a_thousand_of_the_same_are_a_line_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    tally = Tally(clock)
    with caplog.at_level(logging.WARNING):
        for _ in range(1000):
            tally.add("flies")
        tally.add("birds", 2)
        tally.add("elephants", 0)
        assert caplog.messages == ["Closed 1 flies", "Closed 2 birds"]
        clock.now += TELL_EACH
        tally.tell()
        tally.tell()
    assert caplog.messages[2:] == ["Closed 999 flies"]
