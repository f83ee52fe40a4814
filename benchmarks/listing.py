"""A folder of 100,000 files: the first start in it, and its page."""

import contextlib
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.clients import fresh
from benchmarks.measure import Contender, Run, random_file, ratio, take_turns
from benchmarks.result import Bench, Family, Result, Scenario, Target
from benchmarks.servers import Installation

PER_FOLDER = 1000
PATIENCE = 120.0  # seconds for the catalogue
PROBE = "probe.bin"
PROBE_SIZE = 10 * 1024


@dataclass(frozen=True)
class Stand:
    bench: Bench
    few: Path
    many: Path

    @property
    def count(self) -> int:
        return self.bench.pick(100_000, 2000)


@contextlib.contextmanager
def stand(bench: Bench) -> Iterator[Stand]:
    built = Stand(bench, bench.home / "few", bench.home / "many")
    _fill(built.few, bench.pick(1000, 100))
    _fill(built.many, built.count)
    yield built


def _fill(folder: Path, count: int) -> None:
    """``count`` files in all, a thousand in each folder."""
    for number in range(count - 1):
        if number % PER_FOLDER == 0:
            inner = folder / f"folder {number // PER_FOLDER:03}"
            inner.mkdir(parents=True)
        (inner / f"file {number:06}.txt").write_bytes(b"%d" % number)
    random_file(folder / PROBE, PROBE_SIZE)


# --- the first start


def first_start(stand: Stand) -> Result:
    empty = stand.bench.home / "empty"
    empty.mkdir()
    random_file(empty / PROBE, PROBE_SIZE)
    few: list[Start] = []
    many: list[Start] = []
    for _ in range(stand.bench.rounds):
        few.append(_start(stand.bench, empty, 1))
        many.append(_start(stand.bench, stand.many, stand.count))
    later = statistics.median(b.served - a.served for a, b in zip(few, many, strict=True))
    rows = [
        [
            name,
            f"{statistics.median(start.served for start in found):.2f} s",
            f"{1000 * statistics.median(start.slowest for start in found):.0f} ms",
            f"{statistics.median(start.complete for start in found):.2f} s",
        ]
        for name, found in (("one file", few), (f"{stand.count:,} files", many))
    ]
    complete = statistics.median(start.complete for start in many)
    targets = [
        Target("serving at once: ≤ 0.5 s later than with one file", later, 0.5, at_most=True),
        Target("catalogue complete within 10 s", complete, 10, at_most=True),
    ]
    columns = ("in the folder", "first download whole", "slowest download meanwhile", "catalogue complete")
    return Result(columns, rows, targets, ["Times count from the start of the process."])


@dataclass(frozen=True)
class Start:
    """Seconds since the start of the process; ``slowest`` is of the downloads while the catalogue grew."""

    served: float
    slowest: float
    complete: float


def _start(bench: Bench, folder: Path, count: int) -> Start:
    with _installed(bench, folder) as installation:
        begun = time.monotonic()
        with installation.server():
            load = partial(bench.load, "cfs", installation.server_port, PROBE, length=PROBE_SIZE)
            load()
            served, slowest = time.monotonic() - begun, 0.0
            while _rows(installation) < count:
                slowest = max(slowest, load().most)
                assert time.monotonic() < begun + PATIENCE, "the catalogue is not complete"
                time.sleep(0.05)
            return Start(served, slowest, time.monotonic() - begun)


@contextlib.contextmanager
def _installed(bench: Bench, folder: Path) -> Iterator[Installation]:
    """Migrated, but not started yet."""
    home = bench.home / "start"
    home.mkdir()
    installation = Installation(home, folder)
    installation.migrate()
    yield installation
    shutil.rmtree(home)


def _rows(installation: Installation) -> int:
    address = f"file:{installation.database}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM files_app_file").fetchone()[0])


# --- the page


def page(stand: Stand) -> Result:
    requests = stand.bench.pick(50, 5)
    with _running(stand, stand.many, stand.count) as many, _running(stand, stand.few, None) as few:
        contenders = [
            _opening(stand.bench, name, where, requests)
            for name, where in ((f"{stand.count:,} files", many), ("1,000 files", few))
        ]
        rounds = take_turns(contenders, stand.bench.rounds)
    slow = 1000 * rounds[0].median(lambda run: run.p95)
    times = ratio(rounds[0], rounds[1], lambda run: run.median)
    rows = [
        [
            each.name,
            f"{1000 * each.median(lambda run: run.median):.1f} ms",
            f"{1000 * each.median(lambda run: run.p95):.1f} ms",
            f"{each.median(lambda run: run.bytes / run.requests) / 1000:.0f} KB",
        ]
        for each in rounds
    ]
    targets = [
        Target("95 % within 100 ms", slow, 100, at_most=True),
        Target("≤ 1.5 × the time with 1,000", times, 1.5, at_most=True),
    ]
    return Result(("in the folder", "median", "95 % within", "the page"), rows, targets, rounds=rounds)


@contextlib.contextmanager
def _running(stand: Stand, folder: Path, count: int | None) -> Iterator[Installation]:
    """Both servers, when the catalogue is complete."""
    with fresh(stand.bench, site=True, FILES_DIRECTORY=folder) as running:
        expected = count or stand.bench.pick(1000, 100)
        deadline = time.monotonic() + PATIENCE
        while _rows(running) < expected:
            assert time.monotonic() < deadline, "the catalogue is not complete"
            time.sleep(0.1)
        yield running


def _opening(bench: Bench, name: str, running: Installation, requests: int) -> Contender:
    def run() -> Run:
        return bench.load("http", running.web_port, "/", requests=requests)

    return Contender(name, run)


SCENARIOS = [
    Scenario(
        "page",
        "The page with 100,000 files",
        "`/` of a site with 100,000 files beside one with 1,000, one request after another, a new "
        "connection for each.",
        page,
    ),
    Scenario(
        "first-start",
        "The first start in a folder of 100,000 files",
        "`manage.py runfileserver` with an empty database. A client downloads 10 KiB as soon as the "
        "port answers, and again and again until the database has a row for each file.",
        first_start,
    ),
]

FAMILY = Family(stand, SCENARIOS)
