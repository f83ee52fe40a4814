"""The real thing for tests: both servers as processes, with a folder and a database of their own."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.certificates import CertificateFiles
from tests.servers import wait_until

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Each another one, for they are held until all are there."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


class Stack:
    """A served folder (``files``), two ports, and the processes, which can be started again."""

    def __init__(self, home: Path, tls: CertificateFiles | None = None) -> None:
        self.home = home
        self.tls = tls
        self.files = home / "files"
        self.files.mkdir()
        self.server_port, self.web_port = free_ports(2)
        self.environment = {
            **os.environ,
            "FILES_DIRECTORY": str(self.files),
            "DATABASE_URL": f"sqlite:///{home / 'db.sqlite3'}",
            "SECRET_KEY": "only for tests, but long enough for a check of its length",
            "SERVER_PORT": str(self.server_port),
            "WEB_PORT": str(self.web_port),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONWARNINGS": "default",
            **(tls.settings if tls else {}),
        }
        self.server: subprocess.Popen[bytes] | None = None
        self.site: subprocess.Popen[bytes] | None = None
        self.log = home / "log.txt"

    # --- processes

    def manage(self, *arguments: str, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end; output and errors as text."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            stdin=subprocess.DEVNULL,
            **kwargs,
        )

    def spawn(self, *arguments: str) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-u", "manage.py", *arguments],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_server(self) -> None:
        self.server = self.spawn("runfileserver")
        self.wait_listening(self.server_port)

    def start_site(self) -> None:
        self.site = self.spawn("runserver", "--noreload")
        self.wait_listening(self.web_port)

    def wait_listening(self, port: int) -> None:
        wait_until(lambda: _answers(port), START_SECONDS)

    def kill_server(self) -> None:
        """As a crash does: without a chance to say anything."""
        _end(self.server, signal.SIGKILL)
        self.server = None

    def kill_site(self) -> None:
        _end(self.site, signal.SIGKILL)
        self.site = None

    def stop(self) -> None:
        for process in (self.site, self.server):
            _end(process, signal.SIGTERM)

    # --- the site

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.web_port}"

    def file_url(self, name: str) -> str:
        return f"{self.url}/files/{quote(name)}"

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        with contextlib.closing(self.connection(self.web_port)) as connection:
            connection.request(method, path, body, {"Host": f"localhost:{self.web_port}", **headers})
            response = connection.getresponse()
            return response.status, response.read()

    def connection(self, port: int) -> http.client.HTTPConnection:
        """As a browser has one, to the site or to the file server."""
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        return http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=self.tls.context())

    def history(self, **filters: str) -> list[dict[str, Any]]:
        """Rows of the history, newest first."""
        query = "&".join(f"{key}={quote(value)}" for key, value in filters.items())
        rows: list[dict[str, Any]] = json.loads(self.request("GET", f"/api/history?{query}")[1])["transfers"]
        return rows

    def ending(self, name: str, *, after: str = "running") -> dict[str, Any]:
        """The one row of that name, as soon as it has its ending, and not the ``after`` of an earlier try."""

        def ended() -> dict[str, Any] | None:
            rows = [row for row in self.history(q=name) if row["name"] == name]
            assert len(rows) <= 1, rows
            return rows[0] if rows and rows[0]["outcome"] not in ("running", after) else None

        found = wait_until(ended, 15)
        assert found
        return found

    def memory(self, what: str = "VmRSS") -> int:
        """Resident bytes of the site's process; with ``VmHWM`` the most that they have been."""
        assert self.site is not None
        status = Path(f"/proc/{self.site.pid}/status").read_text()
        return int(status.partition(f"{what}:")[2].split()[0]) * 1024


@contextlib.contextmanager
def run_stack(home: Path, *, tls: CertificateFiles | None = None, **environment: str) -> Iterator[Stack]:
    """Both processes, running and migrated; none is left. ``environment``: more settings."""
    stack = Stack(home, tls)
    stack.environment |= environment
    migrated = stack.manage("migrate", "--verbosity", "0")
    assert migrated.returncode == 0, migrated.stderr
    try:
        stack.start_server()
        stack.start_site()
        yield stack
    except BaseException:
        print(stack.log.read_text(errors="replace"), file=sys.stderr)
        raise
    finally:
        stack.stop()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def end_supervisor(process: "subprocess.Popen[Any]") -> None:
    """End ``manage.py start``, which gives its servers their time."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end(process: "subprocess.Popen[bytes] | None", number: int) -> None:
    if process is None:
        return
    process.send_signal(number)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
