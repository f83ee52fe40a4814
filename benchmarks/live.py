"""How old the news on open pages are."""

import asyncio
import bisect
import contextlib
import importlib.util
import json
import resource
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.clients import alone, fresh
from benchmarks.measure import percentile, random_file
from benchmarks.result import Bench, Family, Result, Scenario, Target
from benchmarks.servers import Installation
from fileserver.pacing import SLOW_MOTION

WARM_UP = 5.0  # seconds until all transfers run and all pages are open
LONGEST = 16 << 20  # bytes of one piece of news

Arrivals = list[tuple[float, dict[int, int]]]  # when, and how far each transfer was by that news
Trace = dict[int, list[tuple[float, int]]]  # of each transfer: when, and how many bytes the client had


@dataclass
class News:
    """What all pages were told. Most texts are the same for all, so each is kept and parsed once."""

    pages: list[list[tuple[float, bytes]]] = field(default_factory=list)
    _texts: dict[bytes, bytes] = field(default_factory=dict)
    _parsed: dict[bytes, dict[int, int]] = field(default_factory=dict)

    def kept(self, text: bytes) -> bytes:
        return self._texts.setdefault(text, text)

    def of_pages(self) -> list[Arrivals]:
        return [[(at, self._progress(text)) for at, text in page] for page in self.pages]

    def _progress(self, text: bytes) -> dict[int, int]:
        if text not in self._parsed:
            message: dict[str, Any] = json.loads(text)
            self._parsed[text] = {row["id"]: row["done"] for row in message.get("transfers", ())}
        return self._parsed[text]


def news(bench: Bench) -> Result:
    if importlib.util.find_spec("websockets") is None:
        return Result((), [], [], ["Not measured: the package websockets is not installed."])
    transfers, pages = bench.pick(500, 20), bench.pick(100, 5)
    seconds = bench.pick(10, 2)
    shown, steps, shares = [], [], []
    with fresh(bench, site=True) as running:
        size = int((WARM_UP + seconds + 2) / SLOW_MOTION.pause) * SLOW_MOTION.chunk
        random_file(running.files / "slow.bin", size)
        for number in range(bench.rounds):
            trace = bench.home / f"trace-{number}.txt"
            with _transfers(bench, running, transfers, size, trace):
                heard, share = asyncio.run(_listen(running, pages, seconds))
            of_pages, received = heard.of_pages(), read_trace(trace)
            begun = min(at for page in of_pages for at, _ in page)
            shown.append(percentile(ages(of_pages, received), 0.95))
            steps.append(percentile(waits(of_pages, received, begun, begun + seconds - 1), 0.95))
            shares.append(share)
    return _result(shown, steps, shares)


def _result(shown: list[float], steps: list[float], shares: list[float]) -> Result:
    age, wait, share = sorted(shown), sorted(steps), sorted(shares)
    middle = len(age) // 2
    rows = [
        ["age of what arrives", f"{age[middle]:.3f} s", f"{age[-1]:.3f} s"],
        ["wait until a page shows a piece", f"{wait[middle]:.3f} s", f"{wait[-1]:.3f} s"],
    ]
    targets = [
        Target("age of what arrives: 95 % within 0.5 s", age[middle], 0.5, at_most=True),
        Target("a page shows a piece: 95 % within 0.5 s", wait[middle], 0.5, at_most=True),
    ]
    notes = [f"The process that holds the pages was at work for {share[middle]:.0%} of the time."]
    return Result(("95 % within", "median of the rounds", "worst round"), rows, targets, notes)


@contextlib.contextmanager
def _transfers(bench: Bench, running: Installation, count: int, size: int, trace: Path) -> Any:
    request = json.dumps({"name": "slow.bin", "pace": SLOW_MOTION.as_json()})
    options: dict[str, Any] = {"connections": count, "requests": count, "length": size, "trace": trace}
    words = load.command(bench.client, "cfs", running.server_port, request, **options)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
        yield
        load.outcome(client.communicate()[0], "slow-motion transfers")


async def _listen(running: Installation, count: int, seconds: float) -> tuple[News, float]:
    """Open the pages, wait until all is steady, and keep what comes in ``seconds``."""
    from websockets.asyncio.client import connect
    from websockets.typing import Origin

    heard = News()
    url = f"ws://127.0.0.1:{running.web_port}/ws/live/"
    options: dict[str, Any] = {"compression": None, "max_size": LONGEST, "proxy": None}
    open_page = partial(connect, url, origin=Origin(running.url), **options)
    async with contextlib.AsyncExitStack() as opened:
        sockets = [await opened.enter_async_context(open_page()) for _ in range(count)]
        steady = time.monotonic() + WARM_UP
        cpu = resource.getrusage(resource.RUSAGE_SELF)
        heard.pages = await asyncio.gather(
            *(_page(page, heard, steady, steady + seconds) for page in sockets)
        )
        after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    return heard, used / (WARM_UP + seconds)


async def _page(socket: Any, heard: News, begin: float, end: float) -> list[tuple[float, bytes]]:
    arrived = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(asyncio.get_running_loop().time() + end - time.monotonic()):
            while True:
                text = await socket.recv(decode=False)
                at = time.monotonic()
                if at >= begin:
                    arrived.append((at, heard.kept(text)))
    return arrived


def read_trace(path: Path) -> Trace:
    trace: Trace = defaultdict(list)
    with path.open() as lines:
        for line in lines:
            key, at, done = line.split()
            trace[int(key)].append((float(at), int(done)))
    return trace


def ages(pages: list[Arrivals], trace: Trace) -> list[float]:
    """For each row of each news: how long before it came the client already had so many bytes."""
    counts = {key: [done for _, done in steps] for key, steps in trace.items()}
    found = []
    for page in pages:
        for at, progress in page:
            for key, done in progress.items():
                step = bisect.bisect_left(counts.get(key, []), done)
                if done and key in trace and step < len(trace[key]):
                    found.append(at - trace[key][step][0])
    return found


def waits(pages: list[Arrivals], trace: Trace, begin: float, end: float) -> list[float]:
    """For each piece that a client got in that time, and each page: how long until the page told of it."""
    found = []
    for page in pages:
        for key, steps in trace.items():
            told = [(progress[key], at) for at, progress in page if key in progress]
            counts = [done for done, _ in told]
            for at, done in steps:
                if begin <= at < end:
                    step = bisect.bisect_left(counts, done)
                    found.append(told[step][1] - at if step < len(told) else float("inf"))
    return found


SCENARIOS = [
    Scenario(
        "live",
        "500 live transfers, 100 open pages",
        "500 downloads in slow motion, and 100 websockets that hear of them. *Age*: how long before a row "
        "arrives the client already had the bytes that it tells of. *Wait*: how long after a piece has "
        "reached its client a page tells of it, which counts the time between two pieces of news too.",
        news,
    )
]

FAMILY = Family(alone, SCENARIOS)
