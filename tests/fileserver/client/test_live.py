"""What the lines of ``WATCH`` add up to."""

from typing import Any

import pytest

from fileserver.client.live import LiveState


def row(key: int, done: int = 0) -> dict[str, Any]:
    return {"id": key, "done": done}


def line(
    *transfers: dict[str, Any], ended: tuple[int, ...] = (), full: bool = False, clients: int = 1
) -> Any:
    rows = [row(key) for key in ended]
    return {"full": full, "transfers": list(transfers), "ended": rows, "status": {"clients": clients}}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        ([line(row(1), row(2), full=True)], [row(1), row(2)]),
        ([line(row(1), full=True), line(row(1, done=5))], [row(1, done=5)]),
        ([line(row(1), full=True), line(row(2))], [row(1), row(2)]),
        ([line(row(1), row(2), full=True), line(ended=(1,))], [row(2)]),
        ([line(full=True), line(ended=(7,))], []),
        ([line(row(1)), line(row(1, done=9), ended=(1,))], []),
        ([line(row(1), full=True), line(row(2), full=True)], [row(2)]),
        ([line(row(1), full=True), line(full=True)], []),
    ],
)
def test_what_runs_is_what_began_and_has_not_ended(lines: list[Any], expected: list[Any]) -> None:
    state = LiveState()
    for one in lines:
        state.absorb(one)
    assert list(state.transfers.values()) == expected


def test_the_status_is_that_of_the_newest_line() -> None:
    state = LiveState()
    assert state.status == {}
    for clients in (1, 3):
        state.absorb(line(clients=clients))
    assert state.status == {"clients": 3}


def test_the_lines_themselves_stay_as_they_were() -> None:
    first = line(row(1), ended=(2,), full=True)
    LiveState().absorb(first)
    assert first == line(row(1), ended=(2,), full=True)
