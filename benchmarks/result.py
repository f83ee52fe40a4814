"""What a scenario gives: a table, its targets, and whether each is met."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.measure import ROUNDS, Rounds, Run, client_share, rate, ratio, requests_rate

BUSY = 0.9  # of the time: above, the client may be what is measured


@dataclass(frozen=True)
class Target:
    """``figure`` must be at least or at most ``bound``; ``None``: there is nothing to compare with."""

    text: str
    figure: float | None
    bound: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        if self.figure is None:
            return False
        return self.figure <= self.bound if self.at_most else self.figure >= self.bound


@dataclass(frozen=True)
class Result:
    columns: Sequence[str]
    rows: list[list[str]]
    targets: list[Target]
    notes: list[str] = field(default_factory=list)
    rounds: list[Rounds] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """What every scenario gets: a folder that will be removed, and the compiled client."""

    home: Path
    client: Path
    quick: bool = False

    @property
    def rounds(self) -> int:
        return 2 if self.quick else ROUNDS

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def load(self, protocol: str, port: int, target: str, **options: Any) -> Run:
        return load.run(self.client, protocol, port, target, **options)


@dataclass(frozen=True)
class Scenario:
    """``run`` gets what the ``stand`` of its family has set up."""

    name: str
    title: str
    what: str
    run: Callable[[Any], Result]


@dataclass(frozen=True)
class Family:
    stand: Callable[[Bench], AbstractContextManager[Any]]
    scenarios: list[Scenario]


# --- tables of contenders; the first is ours


def bytes_table(rounds: list[Rounds], targets: list[Target], notes: Sequence[str] = ()) -> Result:
    columns = ["", "MiB/s", "median", "slowest/fastest", "client's CPU", "ours to it"]
    rows = [
        [
            each.name,
            f"{each.median(rate):,.0f}",
            f"{each.median(_seconds):.2f} s",
            f"{spread(each):.2f}",
            _share(each),
            _ours_to(rounds[0], each, rate),
        ]
        for each in rounds
    ]
    return Result(columns, rows, targets, [*notes, *_busy(rounds)], rounds)


def requests_table(rounds: list[Rounds], targets: list[Target], notes: Sequence[str] = ()) -> Result:
    columns = ["", "requests/s", "median", "99 % within", "slowest/fastest", "client's CPU", "ours to it"]
    rows = [
        [
            each.name,
            f"{each.median(requests_rate):,.0f}",
            f"{1000 * each.median(lambda run: run.median):.2f} ms",
            f"{1000 * each.median(lambda run: run.p99):.2f} ms",
            f"{spread(each):.2f}",
            _share(each),
            _ours_to(rounds[0], each, requests_rate),
        ]
        for each in rounds
    ]
    return Result(columns, rows, targets, [*notes, *_busy(rounds)], rounds)


def of(rounds: list[Rounds], name: str) -> Rounds | None:
    return next((each for each in rounds if each.name == name), None)


def ratio_to(rounds: list[Rounds], name: str, figure: Callable[[Run], float] = rate) -> float | None:
    """Ours, which is the first, to that of ``name``; ``None`` if that is not there."""
    other = of(rounds, name)
    return ratio(rounds[0], other, figure) if other else None


def ratio_to_best(
    rounds: list[Rounds], names: Sequence[str], figure: Callable[[Run], float] = rate
) -> float | None:
    """Ours to the best of those of ``names`` that are there."""
    ratios = [ratio_to(rounds, name, figure) for name in names]
    return min((each for each in ratios if each is not None), default=None)


def spread(rounds: Rounds) -> float:
    """The slowest of the rounds to the fastest."""
    return max(map(_seconds, rounds.runs)) / min(map(_seconds, rounds.runs))


def _seconds(run: Run) -> float:
    return run.seconds


def _ours_to(ours: Rounds, other: Rounds, figure: Callable[[Run], float]) -> str:
    return "" if other is ours else f"{ratio(ours, other, figure):.2f}"


def _share(rounds: Rounds) -> str:
    share = rounds.median(client_share)
    return f"{share:.0%}" if share else ""


def _busy(rounds: list[Rounds]) -> list[str]:
    return [
        f"With {each.name} the client was at work for {each.median(client_share):.0%} of the time: "
        "it may be what limits that figure."
        for each in rounds
        if each.median(client_share) > BUSY
    ]
