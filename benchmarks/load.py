"""Compiles and runs ``load.c``, the client that all servers are measured with."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Run

SOURCE = Path(__file__).with_name("load.c")
PATIENCE = 300  # seconds for one run


class LoadFailed(Exception):
    """A reply was wrong or short, or none came: nothing that was measured with it counts."""


def compiled(folder: Path) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit(
            "The measuring client is written in C: install a compiler that answers to cc (gcc or clang)."
        )
    program = folder / "load"
    done = subprocess.run([compiler, "-O2", "-o", program, SOURCE], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The measuring client could not be compiled; it needs Linux.\n{done.stderr}")
    return program


def command(
    program: Path,
    protocol: str,
    port: int,
    target: str,
    *,
    connections: int = 1,
    requests: int = 1,
    keep: bool = False,
    length: int | None = None,
    sources: int = 1,
    trace: Path | None = None,
) -> list[str]:
    options = [f"-c{connections}", f"-n{requests}", f"-s{sources}", f"-w{PATIENCE}"]
    options += ["-k"] if keep else []
    options += [] if length is None else [f"-l{length}"]
    options += [f"-t{trace}"] if trace else []
    return [str(program), *options, protocol, str(port), target]


def run(program: Path, protocol: str, port: int, target: str, **options: object) -> Run:
    words = command(program, protocol, port, target, **options)  # type: ignore[arg-type]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    return outcome(done.stdout, f"{protocol} {target}")


def outcome(report: str, what: str) -> Run:
    try:
        fields = json.loads(report)
    except ValueError:
        raise LoadFailed(f"{what}: the client ended without a report") from None
    if fields.pop("errors"):
        raise LoadFailed(f"{what}, after {fields['requests']} requests: {fields['message']}")
    return Run(**fields)
