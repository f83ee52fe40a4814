"""Runs, turns, medians and ratios; and how much memory a process has."""

import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEBIBYTE = 1 << 20
ROUNDS = 5


@dataclass(frozen=True)
class Run:
    """What one run gave, in seconds; ``cpu`` is the client's own, ``least`` and so on are of a request."""

    seconds: float
    bytes: int
    requests: int = 1
    cpu: float = 0.0
    least: float = 0.0
    median: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    most: float = 0.0


@dataclass(frozen=True)
class Contender:
    """One way to do the work. ``run`` does it once; what it does not count belongs into ``prepare``."""

    name: str
    run: Callable[[], Run]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Rounds:
    """All counted runs of one contender."""

    name: str
    runs: list[Run]

    def median(self, figure: Callable[[Run], float]) -> float:
        return statistics.median(map(figure, self.runs))


def rate(run: Run) -> float:
    """MiB/s"""
    return run.bytes / MEBIBYTE / run.seconds


def requests_rate(run: Run) -> float:
    return run.requests / run.seconds


def client_share(run: Run) -> float:
    """How much of the time the client's one thread was at work: near 1, it may be what is measured."""
    return run.cpu / run.seconds


def take_turns(contenders: list[Contender], rounds: int = ROUNDS) -> list[Rounds]:
    """One round for warming up is not counted; every other round goes the other way round."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders if number % 2 else reversed(contenders):
            contender.prepare()
            run = contender.run()
            if number:
                runs[contender.name].append(run)
    return [Rounds(name, done) for name, done in runs.items()]


def ratio(ours: Rounds, theirs: Rounds, figure: Callable[[Run], float] = rate) -> float:
    """The median over the rounds of ours to theirs."""
    pairs = zip(ours.runs, theirs.runs, strict=True)
    return statistics.median(figure(mine) / figure(other) for mine, other in pairs)


def timed(work: Callable[[], object], size: int) -> Run:
    """A run of ``work`` in this process, which moves ``size`` bytes."""
    begun, cpu = time.perf_counter(), time.thread_time()
    work()
    return Run(time.perf_counter() - begun, size, cpu=time.thread_time() - cpu)


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, -int(-part * len(ordered) // 1) - 1)]


# --- memory, in bytes


def resident(pid: int) -> int:
    return _status(pid, "VmRSS")


def peak_resident(pid: int) -> int:
    """The most since ``forget_peak``."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found, f"process {pid} tells no {field}"
    return int(found[1]) * 1024


# --- files


def random_file(path: Path, size: int) -> Path:
    """On the disk, and in the system's cache of it."""
    with path.open("wb") as file:
        for start in range(0, size, MEBIBYTE):
            file.write(os.urandom(min(MEBIBYTE, size - start)))
        file.flush()
        os.fsync(file.fileno())
    return path
