"""``python -m benchmarks``: all of them; with names, those."""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import (
    clients,
    downloads,
    encrypted,
    history,
    listing,
    live,
    load,
    report,
    small,
    stand,
    uploads,
)
from benchmarks.result import Bench, Family, Result, Scenario

FAMILIES = [
    Family(stand.downloads, [*downloads.SCENARIOS, *small.SCENARIOS]),
    encrypted.FAMILY,
    uploads.FAMILY,
    clients.FAMILY,
    history.FAMILY,
    live.FAMILY,
    listing.FAMILY,
]


def main(words: list[str]) -> int:
    options = _options(words)
    if options.list:
        print("\n".join(f"{scenario.name:16} {scenario.title}" for scenario in _all()))
        return 0
    _raise_limit()
    signal.signal(signal.SIGTERM, _stop)
    before = os.getloadavg()[0]
    outcomes = list(_measured(set(options.names), options.quick))
    if options.json:
        options.json.write_text(json.dumps({s.name: asdict(r) for s, r in outcomes if r}, indent=1))
    if not options.quick and (options.write or not options.names):
        sections = [report.section(scenario, result) for scenario, result in outcomes if result]
        report.PAGE.write_text(report.page(sections, before), "utf-8")
        print(f"written: {report.PAGE}")
    return _summary(outcomes, options.quick)


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measures this server beside others."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--list", action="store_true", help="show the names")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: shows that all works, and measures nothing"
    )
    parser.add_argument("--write", action="store_true", help="write the page with some of them")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds to FILE")
    options = parser.parse_args(words)
    if options.quick and options.write:
        parser.error("--write and --quick do not go together: such figures say nothing")
    known = [scenario.name for scenario in _all()]
    for name in options.names:
        if name not in known:
            parser.error(f"there is no benchmark {name}; there are: {', '.join(known)}")
    return options


def _all() -> list[Scenario]:
    return [scenario for family in FAMILIES for scenario in family.scenarios]


def _measured(names: set[str], quick: bool) -> Iterator[tuple[Scenario, Result | None]]:
    """Each scenario with its result; ``None`` if it failed, which is told at once."""
    with tempfile.TemporaryDirectory(prefix="benchmark-client-") as folder:
        bench = Bench(Path(folder), load.compiled(Path(folder)), quick)
        for family in FAMILIES:
            chosen = [scenario for scenario in family.scenarios if not names or scenario.name in names]
            if chosen:
                yield from _of_family(family, chosen, bench)


def _of_family(family: Family, chosen: list[Scenario], bench: Bench) -> list[tuple[Scenario, Result | None]]:
    outcomes: list[tuple[Scenario, Result | None]] = [(scenario, None) for scenario in chosen]
    # Beside the project and not in /tmp, which may be memory.
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=Path(__file__).parent) as home:
        try:
            with family.stand(replace(bench, home=Path(home))) as standing:
                outcomes = [(scenario, _result(scenario, standing, bench.quick)) for scenario in chosen]
        except Exception:  # the other families are worth their time all the same
            print(f"{', '.join(scenario.name for scenario in chosen)}: the servers failed", file=sys.stderr)
            traceback.print_exc()
    return outcomes


def _result(scenario: Scenario, standing: Any, quick: bool) -> Result | None:
    print(f"measuring {scenario.name} …", file=sys.stderr)
    try:
        result = scenario.run(standing)
    except Exception:
        print(f"{scenario.name} failed:", file=sys.stderr)
        traceback.print_exc()
        return None
    print(report.section(scenario, result, judge=not quick), flush=True)
    return result


def _summary(outcomes: list[tuple[Scenario, Result | None]], quick: bool) -> int:
    failed = [scenario.name for scenario, result in outcomes if result is None]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    targets = [target for _, result in outcomes if result for target in result.targets]
    if not quick:
        print(f"{sum(target.is_met for target in targets)} of {len(targets)} targets are met")
    return bool(failed)


def _stop(*_: object) -> None:
    """Servers are stopped and files removed on the way out; a second signal must not end that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("stopped")


def _raise_limit() -> None:
    """Thousands of sockets, here and in the servers, which inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
