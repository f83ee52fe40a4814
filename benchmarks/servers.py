"""Our servers: an installation with a database and ports of its own, beside the files that it is to serve."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
STOP_SECONDS = 30.0


class NoAnswer(Exception):
    """A server did not start."""


class Installation:
    """``settings`` are variables of .env.example; ``home`` gets the database and the log."""

    def __init__(self, home: Path, files: Path, **settings: object) -> None:
        self.home, self.files = home, files
        self.server_port, self.web_port = free_port(), free_port()
        self.database = home / "db.sqlite3"
        self.server_pid = self.web_pid = 0
        files.mkdir(exist_ok=True)
        self.settings = {
            "FILES_DIRECTORY": str(files),
            "DATABASE_URL": f"sqlite:///{self.database}",
            "SERVER_PORT": str(self.server_port),
            "WEB_PORT": str(self.web_port),
            "SECRET_KEY": "of a benchmark, which nobody but its own processes can reach",
            "XDG_CACHE_HOME": str(home / "cache"),
            **{name: str(value) for name, value in settings.items()},
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def manage(self, *words: str) -> list[str]:
        return [sys.executable, str(PROJECT / "manage.py"), *words]

    def migrate(self) -> None:
        self.run("migrate", "--verbosity", "0")

    def run(self, *words: str) -> None:
        """A command, to its end; what it says is of no interest."""
        environment = {**os.environ, **self.settings}
        subprocess.run(self.manage(*words), check=True, stdout=subprocess.DEVNULL, env=environment)

    @contextlib.contextmanager
    def server(self) -> Iterator[None]:
        command = self.manage("runfileserver")
        with process(command, self.server_port, self.home, self.settings) as self.server_pid:
            yield

    @contextlib.contextmanager
    def site(self) -> Iterator[None]:
        command = self.manage("runserver", "--noreload")
        with process(command, self.web_port, self.home, self.settings) as self.web_pid:
            yield


@contextlib.contextmanager
def ours(home: Path, files: Path, **settings: object) -> Iterator[Installation]:
    """The file server and the site."""
    installation = Installation(home, files, **settings)
    installation.migrate()
    with installation.server(), installation.site():
        yield installation


@contextlib.contextmanager
def process(
    command: list[str], port: int, home: Path, environment: dict[str, str] | None = None
) -> Iterator[int]:
    """Runs ``command`` until the block ends; begins, with its id, when ``port`` answers."""
    log_path = home / "log.txt"
    # A signal in the very moment of the start would leave the child behind, so it waits until the try.
    _hold_signals(signal.SIG_BLOCK)
    with log_path.open("ab") as log:
        child = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=partial(_hold_signals, signal.SIG_UNBLOCK),
        )
    try:
        _hold_signals(signal.SIG_UNBLOCK)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise NoAnswer(f"{' '.join(command)} does not answer; its log ends: {_tail(log_path)}")
            time.sleep(0.01)
        yield child.pid
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _hold_signals(how: int) -> None:
    signal.pthread_sigmask(how, {signal.SIGTERM, signal.SIGINT})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _tail(path: Path) -> str:
    return path.read_text("utf-8", "replace")[-800:]
