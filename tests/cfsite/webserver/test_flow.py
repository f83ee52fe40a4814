"""The site's web server under slow, absent and greedy clients: a real one, in a process of its own."""

import hashlib
import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

APP = Path(__file__).with_name("flow_app.py")
MIB = 1024 * 1024
LINUX = sys.platform == "linux"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops the server with SIGTERM")
needs_proc = pytest.mark.skipif(not LINUX, reason="reads /proc")


def until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return value


def numbered_lines(size: int) -> bytes:
    return b"".join(b"%015d\n" % n for n in range((size + 15) // 16))[:size]


class Site:
    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self.process, self.log = process, log
        assert process.stdout is not None
        self.port = int(process.stdout.readline())

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        client = socket.socket()
        client.settimeout(10)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.connect(("127.0.0.1", self.port))
        return client

    @contextmanager
    def get(self, target: str, receive_buffer: int | None = None) -> Iterator[socket.socket]:
        with self.connect(receive_buffer) as client:
            client.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode())
            yield client

    def request(self, method: str, target: str, body: Any = None, **options: Any) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, target, body, **options)
            with connection.getresponse() as response:
                return response.status, response.read()
        finally:
            connection.close()

    def state(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.request("GET", "/state")[1])
        return value

    def wait_until_paused(self) -> int:
        """Bytes the application has yielded when it yields no more."""
        seen = [-1, 0]

        def steady() -> bool:
            seen[:] = [seen[1], self.state()["yielded"]]
            time.sleep(0.1)
            return 0 < seen[0] == seen[1]

        until(steady)
        return seen[1]

    def memory(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) * 1024

    def logged(self, text: str) -> int:
        return self.log.read_text().count(text)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Site]:
    log = folder / "site.log"
    command = [sys.executable, "-X", "faulthandler", "-W", "always::ResourceWarning", str(APP), *options]
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    with process:
        try:
            yield Site(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    assert process.returncode == 0, log.read_text()
    assert "ResourceWarning" not in log.read_text()


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("flow")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.request("GET", "/state?reset=1")
    return shared_site


@pytest.fixture(scope="module")
def limited_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("flow"), "--limit", "100000") as site:
        yield site


def respond(client: socket.socket, method: str = "GET") -> tuple[int, bytes]:
    """Read one response from a connection."""
    with http.client.HTTPResponse(client, method=method) as response:
        response.begin()
        return response.status, response.read()


def ending(client: socket.socket) -> str:
    """How the server closes: read on until it does."""
    try:
        while client.recv(MIB):
            pass
    except ConnectionResetError:
        return "reset"
    return "closed"


def test_what_daphne_listens_with_is_our_factory(site: Site) -> None:
    """If its attributes were renamed, its own factory would listen, and whole files would lie in memory."""
    assert site.state()["listens_with"] == "FlowFactory"
    assert site.state()["sockets"] == "FlowSocket"


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


# The response


@needs_proc
def test_a_client_that_reads_nothing_costs_no_memory_and_pauses_the_application(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        before = site.memory()
        with site.get("/endless", receive_buffer=64 * 1024) as client:
            paused_at = site.wait_until_paused()
            assert paused_at < 24 * MIB  # what the two kernels hold
            assert site.memory() - before < 32 * MIB
            wanted = paused_at + 32 * MIB
            while wanted > 0:
                wanted -= len(client.recv(MIB))
            assert site.state()["yielded"] > paused_at + 24 * MIB
            assert site.memory() - before < 32 * MIB


@pytest.mark.parametrize("length", [1, 0])
def test_a_slow_reader_gets_every_byte(site: Site, length: int) -> None:
    size = 4 * MIB + 5
    with site.get(f"/file?size={size}&length={length}", receive_buffer=32 * 1024) as client:
        response = http.client.HTTPResponse(client)
        with response:
            response.begin()
            content = response.read(MIB)
            site.wait_until_paused()
            while piece := response.read(100_000):
                content += piece
                time.sleep(0.005)
    assert hashlib.sha256(content).digest() == hashlib.sha256(numbered_lines(size)).digest()


def test_the_application_ends_at_once_when_its_waiting_client_leaves(site: Site) -> None:
    with site.get("/endless"):
        site.wait_until_paused()
        assert site.state()["closed"] == 0
    until(lambda: site.state()["closed"], 1.0)
    assert site.state()["disconnects"] == 1


def test_the_application_ends_when_a_reading_client_leaves(site: Site) -> None:
    with site.get("/endless") as client:
        client.recv(MIB)
    until(lambda: site.state()["closed"], 1.0)


def test_send_raises_for_an_application_that_does_not_listen(site: Site) -> None:
    errors = site.logged("ERROR")
    with site.get("/deaf"):
        site.wait_until_paused()
    until(lambda: site.state()["errors"])
    assert site.logged("ERROR") == errors  # a client that leaves is no error


def test_a_client_that_reads_nothing_is_dropped_after_the_stall_timeout(tmp_path: Path) -> None:
    with serving(tmp_path, "--stall", "0.5") as site:
        with site.get("/endless") as client:
            until(lambda: site.state()["closed"])
            assert ending(client) == "reset"
        with site.get("/delivered?size=1000000", receive_buffer=16 * 1024):
            until(lambda: site.state()["delivered"] == [False])


def test_a_slow_reader_is_not_stalled(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--stall", "0.5") as site,
        site.get("/file?size=100000000", receive_buffer=128 * 1024) as client,
    ):
        end = time.monotonic() + 3  # Daphne looks for the first time after 2
        while time.monotonic() < end:
            assert client.recv(64 * 1024)
            time.sleep(0.05)
        assert site.state()["closed"] == 0


def test_delivered_is_true_when_the_client_has_every_byte(site: Site) -> None:
    size = 1_500_000
    with site.get(f"/delivered?size={size}", receive_buffer=16 * 1024) as client:
        until(lambda: site.state()["yielded"] == size)
        if LINUX:
            assert site.wait_until_paused() == size
            assert site.state()["delivered"] == []  # written, not yet acknowledged
        assert respond(client) == (200, numbered_lines(size))
        until(lambda: site.state()["delivered"] == [True])


def test_a_client_that_takes_everything_and_leaves_at_once_was_served(site: Site) -> None:
    for times in range(1, 21):
        with site.get("/delivered?size=300000") as client:
            assert respond(client) == (200, numbered_lines(300_000))
        until(lambda: site.state()["delivered"] == [True] * times)  # noqa: B023


def test_delivered_is_false_when_the_client_leaves(site: Site) -> None:
    with site.get("/delivered?size=1500000", receive_buffer=16 * 1024):
        until(lambda: site.state()["yielded"] == 1_500_000)
    until(lambda: site.state()["delivered"] == [False])


def test_without_the_kernels_queue_delivered_means_written(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-kernel-queue") as site, site.get("/delivered?size=200000") as client:
        until(lambda: site.state()["delivered"] == [True])
        assert respond(client) == (200, numbered_lines(200_000))


def test_requests_share_a_connection_one_after_another_or_pipelined(site: Site) -> None:
    one = b"GET /file?size=70000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with site.connect() as client, client.makefile("rb") as stream:
        for times in (1, 1, 5):
            client.sendall(one * times)
            for _ in range(times):
                head = b"".join(iter(stream.readline, b"\r\n"))
                assert b"200" in head
                assert stream.read(70_000) == numbered_lines(70_000)


def test_head_has_no_body_and_does_not_run_the_whole_response(site: Site) -> None:
    with site.connect() as client:
        for target in (b"/file?size=300000", b"/endless", b"/whole?size=300000"):
            client.sendall(b"HEAD %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target)
            assert respond(client, "HEAD") == (200, b"")
        client.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert respond(client)[0] == 200  # nothing else was on the connection
    until(lambda: site.state()["closed"] == 2, 1.0)


# The request


@needs_proc
def test_a_big_form_costs_no_memory_and_others_are_served_meanwhile(tmp_path: Path) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    block, blocks, tail = bytes(range(256)) * 4096, 64, b"\r\n--x--\r\n"
    digest = hashlib.sha256(head + block * blocks + tail).hexdigest()
    size = len(head) + len(block) * blocks + len(tail)
    with serving(tmp_path) as site:
        before = site.memory()

        def body() -> Iterator[bytes]:
            yield head
            for n in range(blocks):
                yield block
                if n % 16 == 0:
                    assert site.state()["errors"] == 0
            yield tail

        headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(size)}
        answer = json.loads(site.request("POST", "/hash", body(), headers=headers)[1])
        assert (answer["sha256"], answer["size"]) == (digest, size)
        assert answer["largest"] == 64 * 1024
        assert max(answer["memory"], site.memory()) - before < 32 * MIB


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
def test_a_body_arrives_intact_with_a_length_or_chunked(site: Site, size: int) -> None:
    content = numbered_lines(size)
    pieces = (content[start : start + 50_000] for start in range(0, size, 50_000))
    for body, is_chunked in ((content, False), (pieces, True)):
        status, answer = site.request("POST", "/hash", body, encode_chunked=is_chunked)
        told = json.loads(answer)
        assert (status, told["size"]) == (200, size)
        assert told["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_body_of_exactly_the_limit_is_taken(limited_site: Site) -> None:
    assert limited_site.request("POST", "/hash", bytes(100_000))[0] == 200
    assert limited_site.request("POST", "/hash", iter([bytes(100_000)]), encode_chunked=True)[0] == 200


def test_a_body_known_to_be_too_large_is_refused_and_the_answer_arrives(limited_site: Site) -> None:
    with limited_site.connect() as client:
        client.sendall(b"POST /hash HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n")
        client.sendall(bytes(20_000_000))  # a client that looks for an answer only after its last byte
        status, text = respond(client)
        assert (status, text.count(b"\n")) == (413, 1)
        assert b"larger than the 100000 bytes" in text
        assert ending(client) == "closed"
    assert limited_site.state()["errors"] == 0


def test_a_chunked_body_is_refused_when_it_has_become_too_large(limited_site: Site) -> None:
    with limited_site.connect() as client:
        client.sendall(b"POST /hash HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in chunked([bytes(30_000)] * 200):
            client.sendall(piece)
        assert respond(client)[0] == 413
        assert ending(client) == "closed"


def test_who_asks_before_sending_hears_413_in_place_of_continue(limited_site: Site) -> None:
    ask = b"PUT /hash HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    with limited_site.connect() as client:
        client.sendall(ask % 100_001)
        assert respond(client)[0] == 413
        assert ending(client) == "closed"
    with limited_site.connect() as client:
        client.sendall(ask % 5)
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert respond(client)[0] == 200


# Errors


@pytest.mark.parametrize("query", ["", "started=1", "quietly=1", "sent=2000"])
def test_a_failure_before_the_first_byte_is_a_500(site: Site, query: str) -> None:
    assert site.request("GET", f"/boom?{query}")[0] == 500


@pytest.mark.parametrize("query", ["sent=100", "sent=100&quietly=1", "sent=100&finish=1"])
def test_a_response_that_cannot_be_completed_is_reset(site: Site, query: str) -> None:
    errors = site.logged("Exception inside application")
    with site.get(f"/boom?{query}") as client:
        assert ending(client) == "reset"
    until(lambda: site.logged("Exception inside application") == errors + 1)
    assert site.state()["yielded"] == 0  # the next request is answered


def test_the_server_goes_on_after_errors_in_the_middle_of_responses(site: Site) -> None:
    errors = site.logged("ValueError: boom")
    for times in (1, 2, 3):
        with site.get("/boom?sent=10") as client:
            assert ending(client) == "reset"
        assert site.request("GET", "/boom")[0] == 500
        until(lambda: site.logged("ValueError: boom") == errors + 2 * times)  # noqa: B023


# The end


@pytest.mark.parametrize("target", ["/endless", "/file?size=1000000000&length=0", "/whole?size=50000000"])
@pytest.mark.parametrize("reading", [True, False])
def test_a_download_is_reset_when_the_server_stops(tmp_path: Path, target: str, reading: bool) -> None:
    with serving(tmp_path) as site, site.get(target) as client:
        client.recv(100)
        if reading:
            client.recv(MIB)
        elif "whole" not in target:
            site.wait_until_paused()
        assert site.stop() == 0
        assert ending(client) == "reset"
        assert site.log.read_text() == ""


def test_the_server_stops_cleanly_with_connections_that_have_no_application(tmp_path: Path) -> None:
    with serving(tmp_path) as site, site.connect() as idle, site.connect() as half, site.connect() as body:
        half.sendall(b"GET /state HTTP/1.1\r\nHost: loc")
        body.sendall(b"POST /hash HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n123")
        assert site.state()["errors"] == 0
        assert idle
        assert site.stop() == 0
        assert site.process.stdout
        assert site.process.stdout.read() == "ended\n"
        assert site.log.read_text() == ""


def test_tasks_that_nobody_waits_for_are_ended_before_the_interpreter_is(tmp_path: Path) -> None:
    with serving(tmp_path) as site:
        assert site.request("GET", "/orphan")[0] == 200
        assert site.stop() == 0
        assert site.log.read_text() == "orphan: ended\n"


def test_open_websockets_hear_that_the_server_goes_away(tmp_path: Path) -> None:
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with serving(tmp_path) as site, site.connect() as client, client.makefile("rb") as stream:
        client.sendall(upgrade)
        head = b"".join(iter(stream.readline, b"\r\n"))
        assert b"101" in head
        assert site.stop() == 0
        assert stream.read() == b"\x88\x02" + struct.pack("!H", 1001)
        assert site.log.read_text() == "websocket: disconnect\n"


# Django


def test_under_django_a_view_is_closed_when_its_client_leaves_and_knows_when_its_bytes_arrived(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, "--django") as site:
        with site.get("/endless"):
            site.wait_until_paused()
        until(lambda: site.state()["closed"], 1.0)
        for times in range(1, 11):
            assert len(site.request("GET", "/delivered")[1]) == 1_000_000
            until(lambda: site.state()["delivered"] == [True] * times)  # noqa: B023
        with site.connect() as client:
            client.sendall(b"HEAD /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert respond(client, "HEAD") == (200, b"")
        until(lambda: site.state()["closed"] == 12, 1.0)
        with site.get("/endless") as client:
            site.wait_until_paused()
            assert site.stop() == 0
            assert ending(client) == "reset"
        assert site.log.read_text() == ""
