"""Results as Markdown, for the terminal and for docs/benchmarks.md."""

import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import peers
from benchmarks.measure import ROUNDS
from benchmarks.result import Result, Scenario, Target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def section(scenario: Scenario, result: Result, judge: bool = True) -> str:
    """``judge`` is false for sizes that are too small to tell anything."""
    lines = [f"## {scenario.title}", "", scenario.what, ""]
    lines += _table(result.columns, result.rows) if result.rows else []
    if judge and result.targets:
        lines += _table(("target", "measured", ""), [_verdict(target) for target in result.targets])
    for note in result.notes:
        lines += [note, ""]
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: list[list[str]]) -> list[str]:
    lines = [_row(columns), "|" + "---|" * len(columns), *map(_row, rows)]
    return [*lines, ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _verdict(target: Target) -> list[str]:
    if target.figure is None:
        return [target.text, "nothing to compare with", "open"]
    figure = f"{target.figure:,.0f}" if target.figure >= 100 else f"{target.figure:.3g}"
    return [target.text, figure, "met" if target.is_met else "**not met**"]


def page(sections: list[str], load: float) -> str:
    """``load`` is what the machine had to do before."""
    introduction = _INTRODUCTION.format(rounds=ROUNDS, load=f"{load:.2f}", **machine())
    return "\n".join([introduction, *sections]).rstrip() + "\n"


def machine() -> dict[str, str]:
    versions = [
        f"Python {platform.python_version()}{_origin()}",
        f"nginx {peers.nginx_version().removeprefix('nginx/')}" if peers.NGINX else "",
        *(f"{name} {version(name)}" for name in ("Django", "daphne", "Twisted")),
        *(peer.version for peer in peers.PEERS if peer.packages and not peer.missing),
    ]
    return {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "versions": ", ".join(filter(None, versions)),
    }


def _origin() -> str:
    """It matters for plain code, as the page says."""
    return " of the distribution" if sys.base_prefix == "/usr" else " compiled elsewhere"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


_INTRODUCTION = """# How fast it is

Written by `python -m benchmarks` on {day}; do not edit. To measure on your own machine:

```bash
pip install -r requirements-bench.txt
python -m benchmarks            # all of them, which takes a while; with names, those
python -m benchmarks --list     # the names
```

| | |
|---|---|
| processor | {processor}, {cores} cores for everything: servers, peers and the measuring client |
| memory | {memory} |
| system | {system}, over the loopback interface |
| versions | {versions} |
| load average before the run | {load}; with more than 0.5 something else was running too |

How it is measured:

- In one run all take turns, with the same files on the same disk, in {rounds} rounds after one for
  warming up. Every figure is a median over the rounds; a ratio is the median of the ratios of each round.
  *Slowest/fastest* compares the rounds of one contender: far above 1 the machine was busy with something
  else.
- The client is a C program of one thread (`benchmarks/load.c`), the same for all. The kernel throws the
  content away for it, so it copies nothing. That it is not what limits a figure is seen in two ways:
  *client's CPU* is how much of the time it was at work at all, and the same program takes more from a
  faster server. Where it was at work for more than 90 % of the time, a note says so.
- Nobody gets a short or wrong answer counted: each reply must bring as many bytes as it promises and as
  the file has, over our own protocol with its END, or the run fails. What is in the files is compared by
  hash, once for each contender; over FTP their size is.
- nginx runs as many workers as there are cores, with `sendfile`, without a log. Our servers run as
  `manage.py` starts them, with history, catalogue and log.
- All that is in Python runs in the same one. It matters which: plain code takes a third less time in
  Debian's, which is built with optimization after a profile, than in one that was compiled with the
  defaults.
- Uploads are done by the programs that people use for them (`curl`, our command) and by tus as the page
  speaks it.
"""
