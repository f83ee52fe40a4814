"""A file server that dies at a chosen step on the disk, for tests.

Run as a program it reads orders, a line of JSON each, and forks a server for each of them. It says the port
and the process of the server, and when that has ended.
"""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fileserver.server import FileServer
from fileserver.storage import syscalls as disk
from fileserver.storage.folder import Storage

STEPS = ("open", "mkdir", "write", "fsync", "replace", "rename", "link", "unlink")
ROOT = Path(__file__).resolve().parent.parent


class Crasher:
    """The program, seen from a test."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    @contextmanager
    def server(self, folder: Path, step: int, after: bool) -> Iterator[int]:
        """The port of a server that is killed at its ``step``-th step, or else at the end of the block."""
        order = {"folder": str(folder), "step": step, "after": after}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        said = self._hear()
        try:
            yield said["port"]
        finally:
            # Its process is there, if only as a zombie, until we say that it may be forgotten.
            os.kill(said["pid"], signal.SIGKILL)
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            assert self._hear() == {"ended": True}

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout
        heard = json.loads(self._process.stdout.readline())
        assert isinstance(heard, dict)
        return heard


@contextmanager
def crasher() -> Iterator[Crasher]:
    command = [sys.executable, "-m", "tests.crashing"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        yield Crasher(process)


# --- the program


def main() -> None:
    while line := sys.stdin.readline():
        pid = os.fork()
        if not pid:
            serve(**json.loads(line))
        sys.stdin.readline()
        os.waitpid(pid, 0)
        say(ended=True)


def serve(folder: str, step: int, after: bool) -> None:
    numbers = itertools.count(1)
    for name in STEPS:
        setattr(os, name, dying(getattr(os, name), numbers, step, after))
    disk._rename_noreplace = dying(disk._rename_noreplace, numbers, step, after)
    with Storage(folder) as storage, FileServer(storage) as server:
        say(port=server.address[1], pid=os.getpid())
        server.serve_forever()


def dying(call: Callable[..., Any], numbers: Iterator[int], step: int, after: bool) -> Callable[..., Any]:
    @functools.wraps(call)
    def call_or_die(*args: Any, **kwargs: Any) -> Any:
        if not threading.current_thread().name.startswith("ClientThread"):
            return call(*args, **kwargs)
        is_last = next(numbers) == step
        if is_last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return call(*args, **kwargs)
        finally:
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)

    return call_or_die


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
