"""Websockets that send too much, of every kind: what they cost, and that others do not notice."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cfsite.webserver.sockets import FRAMES, MAX_FRAGMENTS, MAX_MESSAGE
from files_app.live.consumers import ANSWER_PAUSE
from tests.cfsite.webserver.test_flow import MIB, Site, needs_proc, serving, until
from tests.cfsite.webserver.test_flow import pytestmark as pytestmark
from tests.framing import BINARY, CLOSE, PING, PONG, TEXT, Socket, frame, upgrade
from tests.stack import Stack, run_stack

REFRESH = frame(TEXT, b'{"type":"refresh"}')


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("sockets")) as site:
        yield site
        assert "Traceback" not in site.log.read_text()


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    shared_site.request("GET", "/state?reset=1")
    yield shared_site
    shared_site.request("GET", "/gate")


def test_a_normal_page_is_answered(site: Site) -> None:
    with Socket(site.port, "/ws") as page:
        for number in range(3):
            page.send(frame(TEXT, b"%d" % number))
            assert page.receive() == (TEXT, b"%d" % number)
        page.send(frame(BINARY, b"\0"))
        assert page.receive() == (TEXT, b"bytes")
        page.send(frame(PING, b"are you there"))
        assert page.receive() == (PONG, b"are you there")
        page.send(frame(TEXT, b"hal", last=False) + frame(PING) + frame(0, b"ves"))
        assert [page.receive(), page.receive()] == [(PONG, b""), (TEXT, b"halves")]
        page.send(frame(CLOSE, b"\x03\xe8"))
        assert page.close_code() == 1000


def test_messages_wait_with_their_sender_until_the_application_takes_them(site: Site) -> None:
    messages = b"".join(frame(TEXT, b"%05d" % number) for number in range(FRAMES - 10))
    with Socket(site.port, "/ws/gate") as page:
        page.send(messages)
        until(lambda: site.state()["messages"] == 1)
        page.send(messages)
        assert site.request("GET", "/state")[0] == 200
        site.request("GET", "/gate")
        for number in [*range(FRAMES - 10)] * 2:  # none is lost, in order
            assert page.receive() == (TEXT, b"%05d" % number)


@needs_proc
@pytest.mark.parametrize(
    "flood",
    [
        frame(TEXT),
        frame(TEXT, b"x" * 50),
        frame(BINARY, bytes(MAX_MESSAGE)),
        frame(PING),
        frame(PING, bytes(125)),
    ],
    ids=["empty", "short", "long", "ping", "long ping"],
)
@pytest.mark.parametrize("path", ["/ws", "/ws/gate"])
def test_a_flood_costs_no_memory_and_no_time_of_others(site: Site, flood: bytes, path: str) -> None:
    with Socket(site.port, path, receive_buffer=4096) as page:
        page.send(flood)
        before = site.memory()
        sent = page.fill(flood * (48 * MIB // len(flood)))
        assert sent < 24 * MIB  # what two kernels hold
        began = time.monotonic()
        for _ in range(10):
            assert site.request("GET", "/state")[0] == 200
        assert time.monotonic() - began < 5
        assert site.memory() - before < 8 * MIB


def test_a_flood_is_taken_slowly_and_never_cut_off(site: Site) -> None:
    with Socket(site.port, "/ws") as page:
        page.send(frame(PING) * (2 * FRAMES + 10) + frame(TEXT, b"the end"))
        began = time.monotonic()
        assert page.wait_for(TEXT) == b"the end"
        assert time.monotonic() - began > 1


TOO_MUCH = [
    (1009, frame(TEXT, b"x" * (MAX_MESSAGE + 1))),
    (1009, frame(TEXT, b"", length=1 << 40)),
    (1009, frame(TEXT, b"x" * MAX_MESSAGE, last=False) + frame(0, b"x", last=False)),
    (1009, frame(TEXT, b"x" * 1000, last=False) + frame(0, b"x" * 1000, last=False) * 40),
    (1008, frame(TEXT, b"", last=False) + frame(0, b"", last=False) * MAX_FRAGMENTS),
    (1008, frame(BINARY, b"x", last=False) + frame(0, b"x", last=False) * 5000),
    (1002, frame(3, b"no such kind")),
    (1002, frame(PING, b"x" * 126)),
    (1002, frame(PING, b"", length=1 << 40) + bytes(100_000)),
    (1007, frame(TEXT, b"\xff\xfe")),
]


@pytest.mark.parametrize(("code", "data"), TOO_MUCH)
def test_a_message_that_is_too_much_is_told_so_with_the_right_code(
    site: Site, code: int, data: bytes
) -> None:
    with Socket(site.port, "/ws") as page:
        page.fill(data)
        assert page.close_code() == code
        with contextlib.suppress(ConnectionResetError), pytest.raises(EOFError):
            page.receive()


def test_a_message_of_the_greatest_size_in_as_many_pieces_as_may_be_is_taken(site: Site) -> None:
    piece = MAX_MESSAGE // MAX_FRAGMENTS
    pieces = [
        frame(TEXT if not n else 0, b"x" * piece, last=n == MAX_FRAGMENTS - 1) for n in range(MAX_FRAGMENTS)
    ]
    with Socket(site.port, "/ws") as page:
        page.send(b"".join(pieces))
        assert page.receive() == (TEXT, b"x" * MAX_MESSAGE)


def test_what_we_send_may_be_larger(site: Site) -> None:
    """Five hundred live rows and five hundred endings with long names are more than a mebibyte."""
    with Socket(site.port, "/ws/large") as page:
        page.send(REFRESH)
        assert page.receive() == (TEXT, b"x" * 3_000_000)


def test_what_comes_before_our_answer_is_no_websocket(site: Site) -> None:
    """A client must wait for the 101; one that does not could send without end before it."""
    with site.connect() as client:
        client.sendall(upgrade("/ws", site.port) + REFRESH * 10)
        assert client.recv(12) in (b"HTTP/1.1 101", b"")
    assert site.request("GET", "/state")[0] == 200


def test_what_a_peer_has_sent_before_it_left_is_not_worked_off(site: Site) -> None:
    ended = site.logged("websocket: disconnect")
    with Socket(site.port, "/ws/gate") as page:
        page.send(frame(TEXT, b"x") * 5000)
        until(lambda: site.state()["messages"] == 1)
    site.request("GET", "/gate")
    until(lambda: site.logged("websocket: disconnect") == ended + 1)
    assert site.state()["messages"] < 5 * FRAMES


def test_a_peer_that_only_sends_and_never_reads_is_dropped(tmp_path: Path) -> None:
    with serving(tmp_path, "--stall", "0.5") as site, Socket(site.port, "/ws", receive_buffer=4096) as page:
        flood, sent, deadline = frame(TEXT, b"x" * MAX_MESSAGE) * 20, 0, time.monotonic() + 60
        while not site.logged("Closed 1 websockets whose peer read nothing more"):
            assert time.monotonic() < deadline
            sent = (sent + page.fill(flood[sent:], 0.1)) % len(flood)  # goes on in the middle of a frame


# The site


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("sockets")) as stack:
        yield stack


@needs_proc
@pytest.mark.parametrize("reads", [True, False])
def test_a_page_that_asks_without_end_costs_no_memory_and_others_are_answered(
    stack: Stack, reads: bool
) -> None:
    with (
        Socket(stack.web_port, "/ws/live/", receive_buffer=4096) as page,
        Socket(stack.web_port, "/ws/live/") as other,
    ):
        assert json.loads(page.wait_for(TEXT))["online"] is True
        stack.request("GET", "/")
        before = stack.memory()
        sent = page.fill(REFRESH * 1_000_000)
        assert sent < 24 * MIB
        began = time.monotonic()
        for _ in range(5):
            assert stack.request("GET", "/")[0] == 200
            other.send(REFRESH)
            other.wait_for(TEXT)
        assert time.monotonic() - began < 10
        answers, deadline = 0, time.monotonic() + 1
        while reads and time.monotonic() < deadline:
            page.wait_for(TEXT)
            answers += 1
        assert answers < 4 + 2 / ANSWER_PAUSE
        assert stack.memory() - before < 8 * MIB


def test_a_page_that_asks_twice_is_answered_twice(stack: Stack) -> None:
    with Socket(stack.web_port, "/ws/live/") as page:
        page.wait_for(TEXT)
        page.send(REFRESH * 2)
        assert [json.loads(page.wait_for(TEXT))["full"] for _ in range(2)]


@pytest.mark.parametrize("path", ["/", "/ws/none/", "/ws/%ff%fe", "/admin/"])
def test_an_unknown_address_is_refused_without_a_word_in_the_log(stack: Stack, path: str) -> None:
    before = stack.log.read_text()
    with socket.create_connection(("127.0.0.1", stack.web_port), 10) as client:
        client.sendall(upgrade(path, stack.web_port))
        assert client.recv(12) == b"HTTP/1.1 403"
    assert stack.request("GET", "/")[0] == 200
    assert "Traceback" not in stack.log.read_text()[len(before) :]
