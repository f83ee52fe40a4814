"""``manage.py start`` and its two servers as real processes: who lives, who dies, and with whom."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fileserver.client.blocking import Client
from fileserver.pacing import Pace
from tests.servers import wait_until
from tests.stack import PROJECT, Stack, end_supervisor

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, sends signals")

STEP = Pace(1000, 0.1)


class Started:
    """``manage.py start``, what it says, and its children."""

    def __init__(self, stack: Stack, process: "subprocess.Popen[str]") -> None:
        self.stack = stack
        self.process = process
        self.lines: list[str] = []
        self._seen: list[int] = []
        self._reader = threading.Thread(target=self._read, name="Reader")
        self._reader.start()

    def _read(self) -> None:
        if self.process.stdout is not None:  # else it writes to a terminal
            with self.process.stdout:
                self.lines.extend(iter(self.process.stdout.readline, ""))

    def has_said(self, words: str) -> bool:
        return any(words in line for line in list(self.lines))

    def wait_said(self, words: str) -> None:
        wait_until(lambda: self.has_said(words), 30)

    def child(self, command: str) -> int:
        """The process id of that child; 0 if there is none."""
        return self.children().get(command, 0)

    def children(self) -> dict[str, int]:
        """The process id of each child, by its command."""
        found = {}
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                found |= {word: int(pid) for word in words if word.startswith("run")}
        self._seen = list(found.values())
        return found

    def end(self) -> None:
        end_supervisor(self.process)
        try:
            wait_until(self.are_ports_free, 45)
        finally:
            for pid in self._seen:  # those that have outlived it, which is what must not be
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._reader.join()

    def are_ports_free(self) -> bool:
        return not any(answers(port) for port in (self.stack.server_port, self.stack.web_port))


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    made = Stack(tmp_path)
    (made.files / "sample.txt").write_text("hello")
    (made.files / "slow.bin").write_bytes(bytes(20 * STEP.chunk))
    return made


Start = Callable[..., Started]


@pytest.fixture
def start(stack: Stack) -> Iterator[Start]:
    running: list[Started] = []

    def begin(**options: object) -> Started:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "start"],
            cwd=PROJECT,
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},  # type: ignore[call-overload]
        )
        running.append(Started(stack, process))
        return running[-1]

    yield begin
    for each in running:
        each.end()


@pytest.fixture
def started(start: Start) -> Started:
    running = start()
    running.wait_said("The page is at")
    assert len(running.children()) == 2
    return running


def slow_download(stack: Stack, whole: list[bool]) -> threading.Thread:
    """A download of two seconds that has begun; whether it came to its ``END`` is added to ``whole``."""
    begun = threading.Event()

    def work() -> None:
        with Client(port=stack.server_port) as client:
            try:
                download = client.get("slow.bin", pace=STEP)
                begun.set()
                whole.append(sum(map(len, download)) == download.length)
            except OSError:
                whole.append(False)

    thread = threading.Thread(target=work, name="Download")
    thread.start()
    assert begun.wait(10)
    return thread


@pytest.mark.parametrize("drain", [False, True])
def test_killed_it_takes_both_servers_with_it_which_let_transfers_end(
    stack: Stack, started: Started, drain: bool
) -> None:
    whole: list[bool] = []
    thread = slow_download(stack, whole) if drain else None
    started.process.kill()
    begun = time.monotonic()
    wait_until(started.are_ports_free, 10)
    print(f"ports free after {time.monotonic() - begun:.2f} s")
    if thread:
        thread.join()
        assert whole == [True]


def test_a_closed_terminal_stops_all_in_order(stack: Stack, start: Start) -> None:
    import pty

    ours, theirs = pty.openpty()
    running = start(stdout=theirs, stderr=theirs, preexec_fn=lambda: take_terminal(theirs))
    os.close(theirs)
    said = b""
    while b"The page is at" not in said:
        said += os.read(ours, 4096)
    whole: list[bool] = []
    thread = slow_download(stack, whole)
    os.close(ours)  # the window is closed
    assert running.process.wait(30) == 0
    thread.join()
    assert whole == [True]
    assert running.are_ports_free()


def take_terminal(fd: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize("command", ["runfileserver", "runserver"])
def test_a_closed_terminal_stops_each_server_alone_too(stack: Stack, command: str) -> None:
    assert stack.manage("migrate", "--verbosity", "0").returncode == 0
    if command == "runfileserver":
        stack.start_server()
        process, port = stack.server, stack.server_port
    else:
        stack.start_site()
        process, port = stack.site, stack.web_port
    assert process is not None
    try:
        whole: list[bool] = []
        thread = slow_download(stack, whole) if command == "runfileserver" else None
        for _ in range(2):  # system and shell
            process.send_signal(signal.SIGHUP)
        # Twisted ends with the signal that has stopped it, so that its parent sees it.
        assert process.wait(20) in (0, -signal.SIGTERM)
        if thread:
            thread.join()
            assert whole == [True]
        assert not answers(port)
        assert "Traceback" not in stack.log.read_text()
    finally:
        stack.stop()


def test_under_nohup_a_closed_terminal_does_not_matter(stack: Stack, start: Start) -> None:
    running = start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    running.wait_said("The page is at")
    running.process.send_signal(signal.SIGHUP)
    with Client(port=stack.server_port) as client:
        client.request("PING")
    assert running.process.poll() is None
    # But without its supervisor no server lives on.
    running.process.kill()
    wait_until(running.are_ports_free, 10)


def test_a_file_server_that_dies_is_back_and_the_page_stays_up(stack: Stack, started: Started) -> None:
    before, site = started.child("runfileserver"), started.child("runserver")
    assert stack.request("GET", "/files/sample.txt") == (200, b"hello")
    os.kill(before, signal.SIGKILL)
    started.wait_said("files | ended unasked (SIGKILL); it is started again in 1 s")
    assert stack.request("GET", "/")[0] == 200
    assert stack.request("GET", "/api/status")[0] == 503
    wait_until(lambda: stack.request("GET", "/files/sample.txt") == (200, b"hello"), 30)
    assert started.child("runfileserver") not in (0, before)
    assert started.child("runserver") == site


def test_a_site_that_dies_is_back_and_transfers_go_on(stack: Stack, started: Started) -> None:
    server, before = started.child("runfileserver"), started.child("runserver")
    whole: list[bool] = []
    thread = slow_download(stack, whole)
    os.kill(before, signal.SIGKILL)
    started.wait_said("site  | ended unasked (SIGKILL); it is started again in 1 s")
    thread.join()
    assert whole == [True]

    def is_back() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return stack.request("GET", "/")[0] == 200
        return False

    wait_until(is_back, 30)
    assert started.child("runserver") not in (0, before)
    assert started.child("runfileserver") == server


def test_what_runs_already_is_named(stack: Stack, started: Started) -> None:
    again = stack.manage("start")
    assert again.returncode == 1
    assert f":{stack.server_port}: a file server of this kind is running there already." in again.stderr
    assert "Stop it, or set SERVER_PORT to another one." in again.stderr
    site = stack.manage("runserver", "--noreload")
    assert site.returncode == 1
    assert f":{stack.web_port}: the site of such a file server is running there already" in site.stderr
    assert "Traceback" not in again.stderr + site.stderr


def test_a_site_told_to_listen_on_the_network_takes_nobody_for_local(stack: Stack) -> None:
    assert stack.manage("migrate", "--verbosity", "0").returncode == 0
    where = f"0.0.0.0:{stack.web_port}"
    refused = stack.manage("runserver", where, "--noreload")
    assert (refused.returncode, "Refusing to listen on 0.0.0.0" in refused.stderr) == (1, True)
    assert stack.manage("adduser", "ann", "--generate").returncode == 0
    stack.start_server()
    stack.site = stack.spawn("runserver", where, "--noreload")
    try:
        stack.wait_listening(stack.web_port)
        assert stack.request("DELETE", "/files/sample.txt")[0] == 401
        assert (stack.files / "sample.txt").exists()
    finally:
        stack.stop()


def test_what_cannot_start_at_all_ends_it_with_a_sentence(stack: Stack, start: Start) -> None:
    stack.environment["FILES_DIRECTORY"] = str(stack.home / "nothing")
    running = start()
    assert running.process.wait(30) == 1
    running.wait_said("files ended by itself; its lines above say why.")
    assert running.has_said("does not exist; create it or set FILES_DIRECTORY")
