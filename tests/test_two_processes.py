"""The file server and the site as two real processes: what only shows when both are there."""

import base64
import contextlib
import hashlib
import http.client
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import tusclient.client

from fileserver.client.blocking import Client, Incomplete
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


def test_answers_to_conditions_and_ranges_follow_each_other_on_one_connection(stack: Stack) -> None:
    content = numbered_bytes(MEBIBYTE)
    (stack.files / "asked.bin").write_bytes(content)
    with Client(port=stack.server_port) as client:
        etag = f'"{client.request("STAT", name="asked.bin")["etag"]}"'
    asked = [
        ("GET", {"If-None-Match": etag}, 304, MEBIBYTE, b""),
        ("HEAD", {"If-None-Match": etag}, 304, MEBIBYTE, b""),
        ("GET", {"Range": "bytes=5-9", "If-Range": etag}, 206, 5, content[5:10]),
        ("HEAD", {"Range": "bytes=5-9"}, 200, MEBIBYTE, b""),
        ("HEAD", {"If-Match": '"x"'}, 412, None, b""),
        ("HEAD", {}, 200, MEBIBYTE, b""),
        ("GET", {"Range": "bytes=-9"}, 206, 9, content[-9:]),
        ("GET", {"Range": "bytes=5-9", "If-Range": '"x"'}, 200, MEBIBYTE, content),
        ("GET", {}, 200, MEBIBYTE, content),
    ]
    connection = http.client.HTTPConnection("127.0.0.1", stack.web_port, timeout=20)
    with contextlib.closing(connection):
        for method, headers, status, length, body in asked:
            connection.request(method, "/files/asked.bin", headers=headers)
            sock = connection.sock
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, body), (method, headers)
            assert length is None or answer.headers["Content-Length"] == str(length), (method, headers)
            assert connection.sock is sock, "the connection was not kept open"


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
            first = len(next(pieces))
            all_there.wait(10)
            assert first + sum(len(piece) for piece in pieces) == 5000

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
    assert all(4.8 < seconds < 14 for seconds in wait_until(durations, 10))


def test_the_console_tells_what_the_demo_told(stack: Stack) -> None:
    (stack.files / "told.txt").write_bytes(b"x" * 3000)
    stack.request("GET", "/files/told.txt?pace=slow-motion")
    stack.ending("told.txt")
    wait_until(lambda: "of 'told.txt': complete, 2.9\xa0KiB" in stack.log.read_text())
    log = stack.log.read_text()
    assert f"listening on 127.0.0.1:{stack.server_port}, serving {stack.files}" in log
    assert "of 'told.txt' started for 127.0.0.1:" in log
    assert "ClientThread-" in log


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
    second = stack.manage("runfileserver")
    assert (second.returncode, "is served by another file server already" in second.stderr) == (1, True)
    other = Stack(tmp_path)  # with a folder and a database of its own
    other.environment["SERVER_PORT"] = str(stack.server_port)
    assert other.manage("migrate", "--verbosity", "0").returncode == 0
    occupied = other.manage("runfileserver")
    assert (occupied.returncode, "SERVER_PORT" in occupied.stderr) == (1, True)
    taken = stack.manage("runserver", "--noreload")
    assert (taken.returncode, "WEB_PORT" in taken.stderr) == (1, True)
    for arguments in (["runfileserver", "--host", "0.0.0.0"], ["runserver", "--noreload", "0.0.0.0:0"]):
        refused = stack.manage(*arguments)
        assert (refused.returncode, "others reach it" in refused.stderr) == (1, True), refused
    missing = stack.manage("runfileserver", "--port", "0", "--files", str(tmp_path / "nowhere"))
    assert (missing.returncode, "does not exist" in missing.stderr) == (1, True)
    for refusal in (second, occupied, taken, refused, missing):
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


# --- uploads that go on

TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}
LONG = 512 * MEBIBYTE


def create_upload(stack: Stack, name: str, size: int) -> str:
    """The path of a new upload."""
    metadata = "filename " + base64.b64encode(name.encode()).decode()
    with contextlib.closing(browser_of(stack)) as connection:
        headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
        connection.request("POST", "/uploads/", b"", headers)
        response = connection.getresponse()
        assert response.status == 201, response.read()
        return response.headers["Location"]


def browser_of(stack: Stack) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("localhost", stack.web_port, timeout=60)


def head_of_upload(stack: Stack, path: str) -> tuple[int, int]:
    """Status, and the offset if there is one."""
    with contextlib.closing(browser_of(stack)) as connection:
        connection.request("HEAD", path, headers=TUS)
        response = connection.getresponse()
        return response.status, int(response.headers.get("Upload-Offset", -1))


def begin_part(stack: Stack, path: str, promised: int, data: bytes) -> socket.socket:
    """A browser in the middle of a PATCH: ``data`` of the promised bytes are at the file server."""
    browser = socket.create_connection(("127.0.0.1", stack.web_port), 20)
    lines = [f"PATCH {path} HTTP/1.1", f"Host: localhost:{stack.web_port}", "Upload-Offset: 0"]
    lines += [f"{name}: {value}" for name, value in PART.items()]
    lines += [f"Content-Length: {promised}", "", ""]
    browser.sendall("\r\n".join(lines).encode() + data)
    wait_until(lambda: [row for row in live(stack) if row["done"] == len(data)], 20)
    return browser


def finish_upload(stack: Stack, path: str, content: bytes) -> None:
    """Go on where the server says that it is, and send all the rest."""
    offset = wait_until(lambda: next((o for s, o in [head_of_upload(stack, path)] if s == 200), 0), 20)
    assert offset
    headers = {**PART, "Upload-Offset": str(offset)}
    status, said = stack.request("PATCH", path, content[offset:], **headers)
    assert status == 204, said


def test_an_upload_goes_on_after_a_crash_of_the_file_server_and_is_one_row(stack: Stack) -> None:
    content = numbered_bytes(8 * MEBIBYTE)
    path = create_upload(stack, "crashes/server.bin", len(content))
    with begin_part(stack, path, len(content), content[: 3 * MEBIBYTE]) as browser:
        wait_until(lambda: stack.history(q="crashes/server.bin"))
        stack.kill_server()
        assert browser.recv(1000).startswith(b"HTTP/1.1 50")
    assert head_of_upload(stack, path)[0] == 423
    stack.start_server()
    assert stack.ending("crashes/server.bin")["outcome"] == "interrupted"
    finish_upload(stack, path, content)
    row = stack.ending("crashes/server.bin", after="interrupted")
    assert (row["outcome"], row["done"], row["error"]) == ("complete", len(content), "")
    assert (stack.files / "crashes/server.bin").read_bytes() == content


def test_an_upload_goes_on_after_a_crash_of_the_site_and_is_one_row(stack: Stack) -> None:
    content = numbered_bytes(8 * MEBIBYTE)
    path = create_upload(stack, "crashes/site.bin", len(content))
    with begin_part(stack, path, len(content), content[: 3 * MEBIBYTE]) as browser:
        stack.kill_site()
        with contextlib.suppress(ConnectionError):
            assert browser.recv(1000) == b""
    wait_until(lambda: [row for row in live(stack) if row["state"] == "waiting"])
    stack.start_site()
    assert head_of_upload(stack, path) == (200, 3 * MEBIBYTE)
    finish_upload(stack, path, content)
    row = stack.ending("crashes/site.bin")
    assert (row["outcome"], row["done"]) == ("complete", len(content))
    assert (stack.files / "crashes/site.bin").read_bytes() == content


def test_a_browser_whose_line_died_without_a_word_goes_on_at_once_and_the_old_request_ends(
    stack: Stack,
) -> None:
    content = numbered_bytes(8 * MEBIBYTE)
    path = create_upload(stack, "dead/line.bin", len(content))
    with begin_part(stack, path, len(content), content[: 3 * MEBIBYTE]) as browser:
        for _ in range(3):  # looking disturbs nobody
            assert head_of_upload(stack, path) == (200, 3 * MEBIBYTE)
        finish_upload(stack, path, content)
        assert browser.recv(1000).startswith(b"HTTP/1.1 423 ")
        read_to_the_end(browser)  # which there is
    row = stack.ending("dead/line.bin")
    assert (row["outcome"], row["done"]) == ("complete", len(content))
    assert (stack.files / "dead/line.bin").read_bytes() == content


def test_the_command_goes_on_by_itself_after_a_crash_of_the_file_server(stack: Stack, tmp_path: Path) -> None:
    sparse(tmp_path / "long.iso", LONG)
    command = stack.spawn("upload", str(tmp_path / "long.iso"), "--as", "crashes/long.iso")
    try:
        wait_until(lambda: [row for row in live(stack) if cast(int, row["done"]) > 8 * MEBIBYTE], 20)
        stack.kill_server()
        stack.start_server()
        assert command.wait(60) == 0
    finally:
        command.kill()
        command.wait()
    row = stack.ending("crashes/long.iso", after="interrupted")
    assert (row["outcome"], row["done"]) == ("complete", LONG)
    (stack.files / "crashes/long.iso").unlink()


@pytest.mark.parametrize("checked", [False, True])
def test_another_client_of_tus_uploads_in_parts_and_goes_on(stack: Stack, checked: bool) -> None:
    name = f"by tuspy/ä {checked}.bin"
    content = numbered_bytes(2 * MEBIBYTE + 1)
    facts = {"chunk_size": 500_000, "upload_checksum": checked, "metadata": {"filename": name}}
    client = tusclient.client.TusClient(f"{stack.url}/uploads/")
    first = client.uploader(file_stream=io.BytesIO(content), **facts)
    first.upload(stop_at=1_000_000)
    assert first.offset == 1_000_000
    second = client.uploader(file_stream=io.BytesIO(content), url=first.url, **facts)
    assert second.offset == 1_000_000
    second.upload()
    assert (stack.files / name).read_bytes() == content
    row = stack.ending(name)
    assert (row["outcome"], row["done"], row["via"]) == ("complete", len(content), "web")


def test_another_client_of_tus_uploads_in_one_go(stack: Stack) -> None:
    content = numbered_bytes(MEBIBYTE)
    client = tusclient.client.TusClient(f"{stack.url}/uploads/")
    client.uploader(file_stream=io.BytesIO(content), metadata={"filename": "in one go.bin"}).upload()
    assert (stack.files / "in one go.bin").read_bytes() == content


BLOCK = bytes(MEBIBYTE)


def long_body(stack: Stack, before: bytes = b"", after: bytes = b"") -> Iterator[bytes]:
    """In the middle of it another page is asked for."""
    yield before
    for number in range(LONG // MEBIBYTE):
        if number == LONG // MEBIBYTE // 2:
            began = time.monotonic()
            assert stack.request("GET", "/history/")[0] == 200
            assert time.monotonic() - began < 5
        yield BLOCK
    yield after


def send_by_tus(stack: Stack, name: str) -> int:
    path = create_upload(stack, name, LONG)
    return send_long(stack, "PATCH", path, b"", b"", {**PART, "Upload-Offset": "0"})


def send_by_put(stack: Stack, name: str) -> int:
    return send_long(stack, "PUT", f"/files/{name}", b"", b"", {})


def send_by_form(stack: Stack, name: str) -> int:
    before = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return send_long(stack, "POST", "/upload/", before, b"\r\n--x--\r\n", headers)


def send_long(
    stack: Stack, method: str, path: str, before: bytes, after: bytes, headers: dict[str, str]
) -> int:
    with contextlib.closing(browser_of(stack)) as connection:
        headers = {**headers, "Content-Length": str(len(before) + LONG + len(after))}
        connection.request(method, path, long_body(stack, before, after), headers)
        return connection.getresponse().status


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
@pytest.mark.parametrize(
    ("send", "status"),
    [(send_by_tus, 204), (send_by_put, 201), (send_by_form, 302)],
    ids=["tus", "put", "form"],
)
def test_a_long_upload_costs_the_site_no_memory_and_others_are_served_meanwhile(
    stack: Stack, send: Callable[[Stack, str], int], status: int
) -> None:
    assert stack.site is not None
    name = f"{send.__name__}.iso"
    stack.request("GET", "/history/")  # what a first page costs is not the upload's
    Path(f"/proc/{stack.site.pid}/clear_refs").write_text("5")  # the peak is counted from here
    before = stack.memory()
    assert send(stack, name) == status
    grown = stack.memory("VmHWM") - before
    print(f"{grown / MEBIBYTE:.1f} MiB at the peak")
    assert grown < 32 * MEBIBYTE
    assert (stack.files / name).stat().st_size == LONG
    row = stack.ending(name)
    assert (row["outcome"], row["done"]) == ("complete", LONG)
    (stack.files / name).unlink()


def test_a_bad_host_is_one_line_of_the_log(stack: Stack) -> None:
    size = stack.log.stat().st_size
    status, text = stack.request("GET", "/", Host="evil.example")
    assert (status, text.count(b"\n")) == (400, 1)
    lines = wait_until(lambda: stack.log.read_bytes()[size:]).decode().splitlines()
    assert len(lines) == 1
    assert "Invalid HTTP_HOST header: 'evil.example'" in lines[0]
