"""Many clients at once, of the kinds that wear a server out: idle, paced, and stalled ones."""

import contextlib
import json
import socket
import sqlite3
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.load import LoadFailed
from benchmarks.measure import (
    MEBIBYTE,
    Run,
    forget_peak,
    peak_resident,
    percentile,
    random_file,
    resident,
)
from benchmarks.result import Bench, Family, Result, Scenario, Target
from benchmarks.servers import Installation, ours
from fileserver.pacing import SLOW_MOTION

SOURCES = 8  # addresses that clients come from
PIECES = 51  # of a file in slow motion: the first goes at once, so 50 pauses
HISTORY_SECONDS = 30.0  # within which it must have the last row
STALLED = 20
PAGES = ("/", "/history/", "/history/recent/")


@contextlib.contextmanager
def alone(bench: Bench) -> Iterator[Bench]:
    """Each scenario starts servers of its own, with its own limits."""
    yield bench


@contextlib.contextmanager
def fresh(bench: Bench, site: bool = False, **settings: object) -> Iterator[Installation]:
    """Servers in an empty folder and with an empty database."""
    home = Path(mkdtemp(dir=bench.home))
    if site:
        with ours(home, home / "files", **settings) as installation:
            yield installation
    else:
        installation = Installation(home, home / "files", **settings)
        installation.migrate()
        with installation.server():
            yield installation


# --- idle


def idle(bench: Bench) -> Result:
    count = bench.pick(10_000, 200)
    asking = {"requests": bench.pick(1000, 20), "length": 10 * 1024}
    with fresh(bench, MAX_CLIENTS=count + 10) as server, contextlib.ExitStack() as held:
        random_file(server.files / "small.bin", 10 * 1024)
        load = partial(bench.load, "cfs", server.server_port, "small.bin", **asking)
        load()
        before = resident(server.server_pid)
        clients = [held.enter_context(_connected(server.server_port, number)) for number in range(count)]
        each = (resident(server.server_pid) - before) / count
        runs = [load() for _ in range(bench.rounds)]
        answering = sum(map(_answers, clients))
    slowest = statistics.median(run.p99 for run in runs)
    rows = [
        ["idle clients that answer at the end", f"{answering:,} of {count:,}"],
        ["resident memory for each", f"{each / 1000:.1f} KB"],
        ["a new client's 10 KiB, median", f"{1000 * statistics.median(run.median for run in runs):.2f} ms"],
        ["99 % within", f"{1000 * slowest:.2f} ms"],
    ]
    targets = [
        Target("all held", answering / count, 1),
        Target("≤ 30 KB resident each", each / 1000, 30, at_most=True),
        Target("a new client's 10 KiB: 99 % within 20 ms", 1000 * slowest, 20, at_most=True),
    ]
    return Result(("", ""), rows, targets)


def _connected(port: int, number: int) -> socket.socket:
    """A client that has said something, so that it may be silent for five minutes."""
    source = (f"127.0.0.{1 + number % SOURCES}", 0)
    client = socket.create_connection(("127.0.0.1", port), 30, source)
    if not _answers(client):
        raise AssertionError(f"client {number} was not welcome")
    return client


def _answers(client: socket.socket) -> bool:
    try:
        client.sendall(b"PING\n")
        return client.recv(4096).startswith(b"OK ")
    except OSError:
        return False


# --- slow motion


def slow_motion(bench: Bench) -> Result:
    count = bench.pick(2000, 20)
    pieces = bench.pick(PIECES, 6)
    size, ideal = pieces * SLOW_MOTION.chunk, (pieces - 1) * SLOW_MOTION.pause
    request = json.dumps({"name": "slow.bin", "pace": SLOW_MOTION.as_json()})
    at_once = {"connections": count, "requests": count, "length": size}
    # Those of one round may not all have left when those of the next one come.
    with fresh(bench, MAX_CLIENTS=2 * count + 10) as server:
        random_file(server.files / "slow.bin", size)
        runs, durations = [], []
        for number in range(bench.rounds):
            runs.append(bench.load("cfs", server.server_port, request, **at_once))
            durations.append(_durations(server.database, count * (number + 1))[-count:])
    figures = {
        "median": (
            statistics.median(map(statistics.median, durations)),
            statistics.median(run.median for run in runs),
        ),
        "99 % within": (
            statistics.median(percentile(each, 0.99) for each in durations),
            statistics.median(run.p99 for run in runs),
        ),
        "slowest": (statistics.median(map(max, durations)), statistics.median(run.most for run in runs)),
    }
    rows = [["ideal", f"{ideal:.2f} s", f"{ideal:.2f} s"]]
    rows += [
        [name, *(f"{each:.2f} s ({each / ideal - 1:+.1%})" for each in both)]
        for name, both in figures.items()
    ]
    excess = figures["99 % within"][0] / ideal
    share = statistics.median(run.cpu / run.seconds for run in runs)
    waiting = (
        "The second column counts from connecting: before it begins a transfer waits until its client is "
        "accepted, behind all that connect in the same moment and beside those that are served already."
    )
    return Result(
        ("", "from the request to END", "from connecting to END"),
        rows,
        [Target("99 % within 1.05 × the ideal", excess, 1.05, at_most=True)],
        [waiting, f"The client was at work for {share:.0%} of the time."],
    )


def _durations(database: Path, count: int) -> list[float]:
    """Seconds from the beginning of each transfer to its end, by the history, as soon as it has ``count``."""
    seconds = "(julianday(finished_at) - julianday(started_at)) * 86400"
    query = f"SELECT {seconds} FROM files_app_transfer WHERE outcome = 'complete' ORDER BY id"
    deadline = time.monotonic() + HISTORY_SECONDS
    while True:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            found = [float(row[0]) for row in connection.execute(query)]
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise LoadFailed(f"the history has {len(found)} of {count} transfers")
        time.sleep(0.05)


# --- stalled browsers


def stalled(bench: Bench) -> Result:
    with fresh(bench, site=True) as running, contextlib.ExitStack() as held:
        random_file(running.files / "big.bin", bench.pick(1024, 64) * MEBIBYTE)
        _pages(bench, running)
        _read_a_little(running.web_port).close()
        forget_peak(running.web_pid)
        before = resident(running.web_pid)
        browsers = [held.enter_context(_read_a_little(running.web_port)) for _ in range(STALLED)]
        runs = [_pages(bench, running) for _ in range(bench.rounds)]
        grown = peak_resident(running.web_pid) - before
        waiting = sum(_is_still_there(browser) for browser in browsers)
    slowest = statistics.median(run.p99 for run in runs)
    rows = [
        ["the site before", f"{before / MEBIBYTE:.0f} MiB"],
        ["growth at most", f"{grown / MEBIBYTE:.1f} MiB"],
        ["stalled browsers still served", f"{waiting} of {STALLED}"],
        ["other pages, median", f"{1000 * statistics.median(run.median for run in runs):.1f} ms"],
        ["99 % within", f"{1000 * slowest:.1f} ms"],
    ]
    targets = [
        Target("site: +32 MiB at most", grown / MEBIBYTE, 32, at_most=True),
        Target("other pages: 99 % within 50 ms", 1000 * slowest, 50, at_most=True),
        Target("all still served", waiting / STALLED, 1),
    ]
    return Result(("", ""), rows, targets)


def _read_a_little(port: int) -> socket.socket:
    browser = socket.create_connection(("127.0.0.1", port), 30)
    browser.sendall(b"GET /files/big.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert browser.recv(4096).startswith(b"HTTP/1.1 200 "), "the site does not send the file"
    return browser


def _is_still_there(browser: socket.socket) -> bool:
    """More content comes as soon as it reads on."""
    try:
        return len(browser.recv(MEBIBYTE)) > 0
    except OSError:
        return False


def _pages(bench: Bench, running: Installation) -> Run:
    """Several pages, one after another; the percentiles are those of the slowest of the pages."""
    requests = bench.pick(100, 5)
    runs = [bench.load("http", running.web_port, page, requests=requests) for page in PAGES]
    return replace(max(runs, key=lambda run: run.p99), median=max(run.median for run in runs))


SCENARIOS = [
    Scenario(
        "stalled",
        "20 stalled browser downloads of 1 GiB",
        "20 browsers ask the site for the file, read the first bytes and then nothing more; meanwhile other "
        "browsers open pages, "
        f"100 times each of {', '.join(f'`{page}`' for page in PAGES)}; the slowest page counts.",
        stalled,
    ),
    Scenario(
        "idle",
        "10,000 idle clients",
        "10,000 connections that have said `PING` once and then stay silent; then 1,000 new clients, one "
        "after another, each with a download of 10 KiB; in the end all the silent ones say `PING` again.",
        idle,
    ),
    Scenario(
        "slow-motion",
        "2,000 slow-motion transfers at once",
        "2,000 clients connect in the same moment and ask for "
        f"{PIECES * SLOW_MOTION.chunk:,} bytes at {SLOW_MOTION}.",
        slow_motion,
    ),
]

FAMILY = Family(alone, SCENARIOS)
