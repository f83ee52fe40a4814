"""The web port under clients that send slowly, or only knock: a real one, in a process of its own."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfsite.webserver import flow, heads, limiter, sockets
from files_app.hosting.process import DESCRIPTORS, OTHERS
from files_app.live.consumers import ANSWER_PAUSE
from tests.cfsite.webserver.test_flow import MIB, Site, ending, needs_proc, respond, serving, until
from tests.cfsite.webserver.test_flow import pytestmark as pytestmark
from tests.test_docs import ROOT, section

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def rest(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(MIB):
            text += data
    return text


def dribble(client: socket.socket, seconds: float, data: bytes = b"a", pause: float = 0.05) -> bool:
    """Send a little again and again; whether the server has closed before ``seconds`` are over."""
    deadline = time.monotonic() + seconds
    client.settimeout(pause)
    try:
        while time.monotonic() < deadline:
            client.sendall(data)
            with contextlib.suppress(TimeoutError):
                if client.recv(1, socket.MSG_PEEK):
                    return True
    except ConnectionError:
        return True
    finally:
        client.settimeout(10)
    return False


@pytest.mark.parametrize(
    "begun",
    [b"GET /state HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET /", b"\r\n", UPGRADE[:-2] + b"X: "],
    ids=["header", "line", "empty", "websocket"],
)
def test_a_head_that_comes_a_byte_at_a_time_is_given_up(tmp_path: Path, begun: bytes) -> None:
    with serving(tmp_path, "--head", "0.5") as site, site.connect() as client:
        client.sendall(begun)
        assert dribble(client, 5)
        assert rest(client).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_each_head_on_a_connection_has_its_time_and_between_them_is_another(tmp_path: Path) -> None:
    with serving(tmp_path, "--head", "0.4") as site, site.connect() as client:
        for _ in range(3):
            for piece in (b"GET /state HTTP/1.1\r\n", b"Host: localhost\r\n", b"\r\n"):
                client.sendall(piece)
                time.sleep(0.05)
            assert respond(client)[0] == 200
            time.sleep(0.5)  # longer than a head may take: in between, that is nobody's business
        client.sendall(b"GET /sta")
        assert rest(client).startswith(b"HTTP/1.1 408 ")


def test_the_rest_of_a_head_behind_another_request_has_its_time_too(tmp_path: Path) -> None:
    with serving(tmp_path, "--head", "0.4") as site, site.connect() as client:
        client.sendall(b"GET /file?size=16 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /state HT")
        assert dribble(client, 5, pause=0.1)
        until(lambda: b"HTTP/1.1 408 " in client.recv(4096, socket.MSG_PEEK))


@pytest.mark.parametrize("idle", [b"", b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_a_connection_without_a_word_is_closed_after_a_while(tmp_path: Path, idle: bytes) -> None:
    with serving(tmp_path, "--idle", "0.5") as site, site.connect() as client:
        client.sendall(idle)
        if idle:
            assert respond(client)[0] == 200
        assert rest(client) == b""
        assert site.logged("Closed") == 0  # that is in order


BODY = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"


@pytest.mark.parametrize("target", [b"/hash", b"/stream/hash"])
def test_a_body_that_trickles_is_given_up(tmp_path: Path, target: bytes) -> None:
    """A byte each 50 ms is under 100 bytes a second, and never silent for long."""
    with serving(tmp_path, "--stall", "0.8") as site, site.connect() as client:
        client.sendall(BODY % target)
        assert dribble(client, 10)
        answer = rest(client)
        if target == b"/hash":
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert answer.endswith(b"The body of this request came too slowly.\n")
        else:
            until(lambda: site.state()["lost"] == 1)
        assert site.logged("Closed 1 connections whose request had a body that came too slowly") == 1
        assert "Traceback" not in site.log.read_text()


@pytest.mark.parametrize("target", [b"/hash", b"/stream/hash"])
def test_a_slow_body_is_not_given_up_when_it_is_quick_enough(tmp_path: Path, target: bytes) -> None:
    with serving(tmp_path, "--stall", "1.5") as site, site.connect() as client:
        client.sendall(BODY % target)
        assert not dribble(client, 4, bytes(200), 0.05)


# Many


def test_two_hundred_slow_heads_are_gone_in_their_time_with_one_line(tmp_path: Path) -> None:
    with serving(tmp_path, "--head", "1.5") as site, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(site.connect()) for _ in range(200)]
        began = time.monotonic()
        for client in clients:
            client.sendall(b"GET /state HTTP/1.1\r\nX: ")
        assert site.state()["errors"] == 0
        for client in clients:
            assert rest(client).startswith(b"HTTP/1.1 408 ")
        assert 1.0 < time.monotonic() - began < 15.0
        assert site.logged("Closed") == 1


@pytest.fixture
def small_site(tmp_path: Path) -> Iterator[Site]:
    """With 256 descriptors, which is 52 places."""
    with serving(tmp_path, "--descriptors", "256", "--head", "60") as site:
        yield site
        assert "Traceback" not in site.log.read_text()


@needs_proc
@pytest.mark.parametrize("said", [b"", b"GET /state HTTP/1.1\r\nX: "])
def test_the_page_is_answered_while_three_hundred_knock(small_site: Site, said: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for count in range(300):
            client = stack.enter_context(small_site.connect())
            client.sendall(said)
            if count % 30 == 29:
                assert small_site.request("GET", "/state")[0] == 200
        for _ in range(20):
            assert small_site.request("GET", "/state")[0] == 200
        descriptors = len(list(Path(f"/proc/{small_site.process.pid}/fd").iterdir()))
        assert descriptors < 100
        assert 1 <= small_site.logged("to make room for others") <= 3


def test_websockets_take_half_of_the_places_and_the_page_is_answered(small_site: Site) -> None:
    with contextlib.ExitStack() as stack:
        answers = []
        for _ in range(30):
            client = stack.enter_context(small_site.connect())
            client.sendall(UPGRADE)
            answers.append(client.recv(12))
        assert answers == [b"HTTP/1.1 101"] * 26 + [b"HTTP/1.1 503"] * 4
        assert small_site.request("GET", "/state")[0] == 200
    until(lambda: small_site.logged("websocket: disconnect") == 26)
    with small_site.connect() as client:
        client.sendall(UPGRADE)
        assert client.recv(12) == b"HTTP/1.1 101"


def test_requests_leave_some_places_for_others_who_hear_that_there_is_none(small_site: Site) -> None:
    with contextlib.ExitStack() as stack:

        def upload() -> None:
            client = stack.enter_context(small_site.connect())
            client.sendall(BODY % b"/stream/hash?gate=1")

        for _ in range(38):
            upload()
        until(lambda: small_site.state()["waiting"] == 38)
        upload()
        until(lambda: small_site.request("GET", "/state")[0] == 503)
        with small_site.connect() as client:
            client.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
            status, text = respond(client)
            assert status == 503
            assert text == b"The server has all the connections that it takes; try again in a moment.\n"
            assert ending(client) == "closed"
    until(lambda: small_site.request("GET", "/state")[0] == 200)


def test_a_request_is_never_closed_for_a_newcomer(small_site: Site) -> None:
    with small_site.get("/file?size=3000000", receive_buffer=16 * 1024) as reader:
        small_site.wait_until_paused()
        for _ in range(200):
            small_site.connect().close()
        with contextlib.ExitStack() as stack:
            for _ in range(120):
                stack.enter_context(small_site.connect())
            status, content = respond(reader)
            assert (status, len(content)) == (200, 3_000_000)


def test_the_documented_limits_are_those_of_the_code() -> None:
    text = section(ROOT / "docs" / "architecture.md", "Limits of the web port")
    assert (limiter.BUSY_SHARE, limiter.SOCKET_SHARE, limiter.ADDRESS_SHARE) == (3 / 4, 1 / 2, 1 / 2)
    assert (flow.FlowServer.connections_wanted, DESCRIPTORS, OTHERS) == (2000, 3, 100)
    for row in (
        f"| {flow.FlowServer.head_timeout:g} s | 408, closed |",
        f"| silence before a request, and between two | {flow.FlowFactory(None).timeOut:g} s |",
        f"| {flow.FlowServer.stall_timeout:g} s | 408 if nothing",
        f"| {heads.MAX_LINE:,} bytes | 414",
        f"| {heads.MAX_LINES} lines and {heads.MAX_HEAD:,} bytes | 431",
        f"| {sockets.MAX_MESSAGE:,} bytes in {sockets.MAX_FRAGMENTS} frames |",
        f"| {sockets.MAX_WAITING} | the socket is not read |",
        f"| {sockets.FRAMES / sockets.PERIOD:g} a second |",
        f"| {1 / ANSWER_PAUSE:g} a second |",
        f"each {limiter.TELL_EACH:g} seconds".replace("10 seconds", "ten seconds"),
    ):
        assert row in text
