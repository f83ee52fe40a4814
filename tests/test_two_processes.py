"""The file server and the site as two real processes: what only shows when both are there."""

import contextlib
import hashlib
import http.client
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fileserver.client import Client, Incomplete
from fileserver.pacing import SLOW_MOTION, Pace
from tests.servers import numbered_bytes, wait_until
from tests.stack import PROJECT, Stack, run_stack

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def start_download(stack: Stack, path: str) -> tuple[socket.socket, bytes]:
    """A browser that has asked and got the header; it has read nothing behind that yet."""
    browser = socket.socket()
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    browser.settimeout(20)
    browser.connect(("127.0.0.1", stack.web_port))
    browser.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{stack.web_port}\r\n\r\n".encode())
    head = browser.recv(1024)
    assert head.startswith(b"HTTP/1.1 200"), head
    return browser, head


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_to_the_end(sock: socket.socket) -> int:
    """Bytes until the other side closes or resets."""
    count = 0
    try:
        while data := sock.recv(1 << 18):
            count += len(data)
    except ConnectionError:
        pass
    return count


def test_a_download_through_the_site_arrives_byte_for_byte_and_is_one_complete_row(stack: Stack) -> None:
    content = numbered_bytes(3 * MEBIBYTE)
    (stack.files / "whole.bin").write_bytes(content)
    status, body = stack.request("GET", "/files/whole.bin")
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(content).digest())
    row = stack.ending("whole.bin")
    assert (row["outcome"], row["done"], row["via"]) == ("complete", len(content), "web")


def test_an_upload_and_a_delete_with_curls_manners_are_done_and_recorded(stack: Stack) -> None:
    content = numbered_bytes(5 * MEBIBYTE)
    assert stack.request("PUT", "/files/week%203/up.bin", content)[0] == 201
    assert (stack.files / "week 3" / "up.bin").read_bytes() == content
    assert stack.request("PUT", "/files/week%203/up.bin", b"other")[0] == 409
    row = stack.ending("week 3/up.bin")
    assert (row["outcome"], row["direction"], row["done"]) == ("complete", "upload", len(content))
    assert stack.request("DELETE", "/files/week%203/up.bin")[0] == 204
    assert not (stack.files / "week 3").exists()


def test_an_upload_of_unknown_length_arrives_too(stack: Stack) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stack.web_port, timeout=20)
    with contextlib.closing(connection):
        headers = {"Host": "localhost", "Transfer-Encoding": "chunked"}
        connection.request("PUT", "/files/piped.txt", iter([b"one ", b"two"]), headers, encode_chunked=True)
        assert connection.getresponse().status == 201
    assert (stack.files / "piped.txt").read_bytes() == b"one two"


def test_a_stalled_browser_costs_the_site_no_memory_and_is_not_called_complete(stack: Stack) -> None:
    sparse(stack.files / "stalled.iso", 1024 * MEBIBYTE)
    stack.request("GET", "/")  # what a first page costs is not the download's
    before = stack.memory()
    browser, _ = start_download(stack, "/files/stalled.iso")

    def moved() -> int:
        return next(row["done"] for row in live(stack) if row["name"] == "stalled.iso")

    # Both sockets and both buffers fill; then the bytes stand still although 1 GiB is there to be sent.
    settled = [-1]
    wait_until(lambda: (settled[0] == moved() > 0) or settled.__setitem__(0, moved()), 20)
    assert moved() < 64 * MEBIBYTE
    assert stack.memory() - before < 32 * MEBIBYTE
    assert stack.request("GET", "/api/status")[0] == 200
    reset(browser)
    row = stack.ending("stalled.iso")
    assert (row["outcome"], row["done"] < 64 * MEBIBYTE) == ("aborted", True)


def live(stack: Stack) -> list[dict[str, object]]:
    with Client(port=stack.server_port) as client:
        rows: list[dict[str, object]] = next(client.watch())["transfers"]
        return rows


def test_a_browser_that_leaves_at_forty_percent_is_an_aborted_row(stack: Stack) -> None:
    size = 100 * MEBIBYTE
    sparse(stack.files / "cut.iso", size)
    browser, head = start_download(stack, "/files/cut.iso")
    count = len(head)
    while count < 0.4 * size:
        count += len(browser.recv(1 << 18))
    reset(browser)
    row = stack.ending("cut.iso")
    assert row["outcome"] == "aborted"
    assert 0.4 * size * 0.99 < row["done"] < size


def test_a_file_truncated_while_it_is_sent_fails_that_browser_alone(stack: Stack) -> None:
    path = stack.files / "shrinks.iso"
    sparse(path, 300 * MEBIBYTE)
    browser, _ = start_download(stack, "/files/shrinks.iso")
    with browser:
        os.truncate(path, MEBIBYTE)
        assert read_to_the_end(browser) < 300 * MEBIBYTE
    row = stack.ending("shrinks.iso")
    assert (row["outcome"], row["error"]) == ("failed", "changed")
    assert stack.request("GET", "/")[0] == 200
    assert "Traceback" not in stack.log.read_text()


def test_after_a_crash_of_the_file_server_its_next_start_closes_what_was_running(stack: Stack) -> None:
    (stack.files / "crash.bin").write_bytes(numbered_bytes(200_000))
    with Client(port=stack.server_port) as client:
        download = client.get("crash.bin", pace=SLOW_MOTION)
        pieces = iter(download)
        next(pieces)
        wait_until(lambda: stack.history(q="crash.bin"))
        assert stack.history(q="crash.bin")[0]["outcome"] == "running"
        stack.kill_server()
        with pytest.raises((Incomplete, ConnectionError)):
            for _ in pieces:
                pass
    status, sentence = stack.request("GET", "/files/crash.bin")
    assert (status, b"manage.py runfileserver" in sentence) == (503, True)
    stack.start_server()
    row = stack.ending("crash.bin")
    assert row["outcome"] == "interrupted"
    assert row["finished_at"] is not None


def test_three_slow_downloads_run_side_by_side_each_in_a_thread_of_its_own(stack: Stack) -> None:
    (stack.files / "lesson.txt").write_bytes(numbered_bytes(5000))
    all_there = threading.Barrier(4)

    def take() -> None:
        with Client(port=stack.server_port) as client:
            pieces = iter(client.get("lesson.txt", pace=Pace(100, 0.1)))
            next(pieces)
            all_there.wait(10)
            assert sum(len(piece) for piece in pieces) == 4900

    clients = [threading.Thread(target=take) for _ in range(3)]
    for client in clients:
        client.start()
    all_there.wait(10)
    rows = [row for row in live(stack) if row["name"] == "lesson.txt"]
    for client in clients:
        client.join()
    assert len({row["thread"] for row in rows}) == 3
    assert all(str(row["thread"]).startswith("ClientThread-") for row in rows)

    def durations() -> list[float]:
        found = [row for row in stack.history(q="lesson.txt") if row["outcome"] == "complete"]
        return [row["seconds"] for row in found] if len(found) == 3 else []

    # 50 chunks, each 0.1 s behind the one before: one alone takes 4.9 s, one after another would take 14.7.
    assert all(4.8 < seconds < 8 for seconds in wait_until(durations, 10))


def test_the_console_tells_what_the_demo_told(stack: Stack) -> None:
    (stack.files / "told.txt").write_bytes(b"x" * 3000)
    stack.request("GET", "/files/told.txt?pace=slow-motion")
    stack.ending("told.txt")
    log = stack.log.read_text()
    assert f"listening on 127.0.0.1:{stack.server_port}, serving {stack.files}" in log
    assert "of 'told.txt' started for 127.0.0.1:" in log
    assert "ClientThread-" in log
    assert "of 'told.txt': complete, 2.9\xa0KB" in log


def test_the_command_downloads_and_uploads(stack: Stack, tmp_path: Path) -> None:
    content = numbered_bytes(MEBIBYTE)
    (tmp_path / "mine.bin").write_bytes(content)
    up = stack.manage("upload", str(tmp_path / "mine.bin"), "--as", "by hand/mine.bin")
    assert (up.returncode, up.stderr) == (0, "")
    down = stack.manage("download", "by hand/mine.bin", "--to", str(tmp_path / "back.bin"))
    assert (down.returncode, down.stderr) == (0, "")
    assert (tmp_path / "back.bin").read_bytes() == content
    assert "by hand/mine.bin" in stack.manage("files").stdout
    missing = stack.manage("download", "nowhere.bin", "--to", str(tmp_path))
    assert missing.returncode == 1
    assert missing.stderr == "CommandError: There is no file 'nowhere.bin'.\n"


def test_what_cannot_be_started_is_refused_with_a_sentence(stack: Stack, tmp_path: Path) -> None:
    taken = stack.manage("runfileserver")
    assert (taken.returncode, "SERVER_PORT" in taken.stderr) == (1, True)
    taken = stack.manage("runserver", "--noreload")
    assert (taken.returncode, "WEB_PORT" in taken.stderr) == (1, True)
    for arguments in (["runfileserver", "--host", "0.0.0.0"], ["runserver", "--noreload", "0.0.0.0:0"]):
        refused = stack.manage(*arguments)
        assert (refused.returncode, "ccess control comes first" in refused.stderr) == (1, True), refused
    missing = stack.manage("runfileserver", "--port", "0", "--files", str(tmp_path / "nowhere"))
    assert (missing.returncode, "does not exist" in missing.stderr) == (1, True)
    for refusal in (taken, refused, missing):
        assert "Traceback" not in refusal.stderr


def test_without_its_tables_nothing_starts_and_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    for command in (["runfileserver"], ["runserver", "--noreload"]):
        refused = stack.manage(*command)
        assert (refused.returncode, "manage.py migrate" in refused.stderr) == (1, True), refused
        assert "Traceback" not in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_start_runs_both_and_ctrl_c_stops_both_with_exit_code_0(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    (stack.files / "sample.txt").write_text("hello")
    both = subprocess.Popen(
        [sys.executable, "manage.py", "start"],
        cwd=PROJECT,
        env=stack.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert both.stdout is not None
    with both.stdout:
        lines = iter(both.stdout)
        assert any(f"http://127.0.0.1:{stack.web_port}/" in line and "page is at" in line for line in lines)
        assert stack.request("GET", "/files/sample.txt") == (200, b"hello")
        os.killpg(both.pid, 2)  # as a terminal does
        rest = "".join(lines)
    assert (both.wait(20), "Traceback" in rest) == (0, False), rest
    for port in (stack.server_port, stack.web_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 1).close()


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="needs prlimit")
def test_a_disk_that_takes_no_more_refuses_the_upload_and_nobody_elses(stack: Stack) -> None:
    import resource

    assert stack.server is not None
    limit = (2 * MEBIBYTE, resource.RLIM_INFINITY)
    before = resource.prlimit(stack.server.pid, resource.RLIMIT_FSIZE, limit)
    try:
        status, sentence = stack.request("PUT", "/files/too-big.bin", numbered_bytes(4 * MEBIBYTE))
        assert (status, b"too-big.bin" in sentence) == (413, True)
        assert stack.request("PUT", "/files/fits.bin", numbered_bytes(MEBIBYTE))[0] == 201
    finally:
        resource.prlimit(stack.server.pid, resource.RLIMIT_FSIZE, before)
    assert not (stack.files / "too-big.bin").exists()
    assert stack.ending("too-big.bin")["outcome"] == "failed"
