"""Turns, medians and ratios."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

MEBIBYTE = 1 << 20
ROUNDS = 5


@dataclass(frozen=True)
class Contender:
    """One way to do the work. ``run`` does it once; what it does not count belongs into ``prepare``."""

    name: str
    run: Callable[[], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Result:
    name: str
    seconds: float  # median
    rate: float  # MiB/s
    spread: float  # slowest round / fastest round


def take_turns(contenders: list[Contender], size: int, rounds: int = ROUNDS) -> list[Result]:
    """``size`` bytes are moved by each run; one round for warming up is not counted."""
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for round_number in range(rounds + 1):
        for contender in contenders:
            contender.prepare()
            begun = time.perf_counter()
            contender.run()
            if round_number:
                times[contender.name].append(time.perf_counter() - begun)
    return [_result(name, taken, size) for name, taken in times.items()]


def _result(name: str, times: list[float], size: int) -> Result:
    median = statistics.median(times)
    return Result(name, median, size / MEBIBYTE / median, max(times) / min(times))


def table(title: str, results: list[Result]) -> str:
    """As Markdown; the first result is ours, and the ratios are ours to theirs."""
    ours = results[0]
    lines = [
        f"### {title}",
        "",
        "| | MiB/s | median | slowest/fastest | ours to it |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        ratio = "" if result is ours else f"{ours.rate / result.rate:.2f}"
        lines.append(
            f"| {result.name} | {result.rate:,.0f} | {result.seconds:.2f} s | {result.spread:.2f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"
