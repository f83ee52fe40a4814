"""Our two servers and the peers, each on a free port with a folder of its own."""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0


@dataclass(frozen=True)
class Ours:
    files: Path
    server_port: int
    web_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"


@contextlib.contextmanager
def ours(home: Path) -> Iterator[Ours]:
    """The file server and the site. The settings of this process are made to fit, for commands run in it."""
    running = Ours(home / "ours", free_port(), free_port())
    running.files.mkdir()
    os.environ.update(
        FILES_DIRECTORY=str(running.files),
        DATABASE_URL=f"sqlite:///{home / 'db.sqlite3'}",
        SERVER_PORT=str(running.server_port),
        WEB_PORT=str(running.web_port),
        SECRET_KEY="of a benchmark, which nobody but its own processes can reach",
        XDG_CACHE_HOME=str(home / "cache"),
    )
    manage = [sys.executable, str(PROJECT / "manage.py")]
    subprocess.run([*manage, "migrate", "--verbosity", "0"], check=True)
    with (
        process([*manage, "runfileserver"], running.server_port, home),
        process([*manage, "runserver", "--noreload"], running.web_port, home),
    ):
        yield running


@contextlib.contextmanager
def copyparty(home: Path) -> Iterator[int]:
    """Its port; anybody may upload."""
    port, folder = free_port(), home / "copyparty"
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "copyparty",
        "-i",
        "127.0.0.1",
        "-p",
        str(port),
        "-q",
        "-v",
        f"{folder}::rwmd",
    ]
    with process([*command, "--no-reload", "-j", "1"], port, home):
        yield port


@contextlib.contextmanager
def uploadserver(home: Path) -> Iterator[int]:
    port, folder = free_port(), home / "uploadserver"
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "uploadserver",
        "--bind",
        "127.0.0.1",
        "-d",
        str(folder),
        "--allow-replace",
    ]
    with process([*command, str(port)], port, home):
        yield port


def is_installed(module: str) -> bool:
    if importlib.util.find_spec(module):
        return True
    print(f"{module} is not installed and is left out (pip install -r requirements-bench.txt)")
    return False


@contextlib.contextmanager
def process(command: list[str], port: int, home: Path) -> Iterator[None]:
    """Runs ``command`` until the block ends; begins when ``port`` answers."""
    with (home / "log.txt").open("ab") as log:
        child = subprocess.Popen(command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{' '.join(command)} does not answer; {home / 'log.txt'} may say why.")
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False
