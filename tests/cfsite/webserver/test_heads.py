"""The form of a request: what is refused, with which status and which words, by itself and on the wire."""

import contextlib
import socket
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsite.webserver.heads import MAX_HEAD, MAX_LINE, MAX_LINES, BadHead, Head
from tests.cfsite.webserver.test_flow import Site, respond, serving
from tests.cfsite.webserver.test_flow import pytestmark as pytestmark

GET = b"GET /state HTTP/1.1"
POST = b"POST /hash HTTP/1.1"
HOST = b"Host: localhost"

BAD: list[tuple[int, str, list[bytes]]] = [
    (400, "first line", [b"hello"]),
    (400, "first line", [b"GET /state"]),
    (400, "first line", [b"GET  /state HTTP/1.1"]),
    (400, "first line", [b"GET /st ate HTTP/1.1"]),
    (400, "first line", ["GET /stäte HTTP/1.1".encode()]),
    (400, "first line", [b"G(T /state HTTP/1.1"]),
    (400, "first line", [b"GET /state HTTP/1.1 "]),
    (400, "first line", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]),
    (400, "first line", [b"", b"", GET]),
    (505, "HTTP/1.1", [b"GET /state HTTP/2.0"]),
    (505, "HTTP/1.1", [b"PRI * HTTP/2.0"]),
    (414, "first line", [b"GET /" + bytes(17_000).replace(b"\0", b"a") + b" HTTP/1.1"]),
    (431, "header", [GET, HOST, b"X: " + b"a" * 1_000_000]),
    (431, "header", [GET, HOST, *[b"X: " + b"a" * 10_000] * 7]),
    (431, "header", [GET, HOST, *[b"X: a"] * 200]),
    (400, "Host is missing", [GET]),
    (400, "Host is missing", [GET, b"Content-Length: 0"]),
    (400, "Host is given twice", [GET, HOST, HOST]),
    (400, "Host is given twice", [GET, HOST, b"host: evil.example"]),
    (400, "Host is given twice", [b"GET /state HTTP/1.0", HOST, HOST]),
    (400, "second line", [GET, HOST, b"X: a", b" b"]),
    (400, "second line", [GET, HOST, b"X: a", b"\tb"]),
    (400, "second line", [GET, b" Host: localhost"]),
    (400, "understood", [GET, HOST, b"no colon"]),
    (400, "understood", [GET, HOST, b": no name"]),
    (400, "understood", [GET, HOST, b"X : a"]),
    (400, "understood", [GET, HOST, b"X\xff: a"]),
    (400, "understood", [GET, HOST, b"X: a\x00b"]),
    (400, "understood", [GET, HOST, b"X: a\nY: b"]),
    (400, "understood", [GET, HOST, b"X: a\rb"]),
    (400, "understood", [GET, HOST, "Sec-WebSocket-Protocol: grün".encode("latin-1")]),
    (400, "Daphne-Root-Path", [GET, HOST, b"daphne-root-path: /admin"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: 5", b"Content-Length: 5"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: 5", b"Content-Length: 6"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: 5, 5"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: -5"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: +5"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: 0x5"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length:"]),
    (400, "Content-Length", [POST, HOST, b"Content-Length: " + b"9" * 5000]),
    (400, "exclude", [POST, HOST, b"Content-Length: 5", b"Transfer-Encoding: chunked"]),
    (400, "exclude", [POST, HOST, b"Transfer-Encoding: chunked", b"Content-Length: 5"]),
    (400, "chunked", [POST, HOST, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"]),
    (400, "chunked", [POST, HOST, b"Transfer-Encoding: chunked, chunked"]),
    (400, "chunked", [POST, HOST, b"Transfer-Encoding: chunked, gzip"]),
    (400, "chunked", [POST, HOST, b"Transfer-Encoding: identity"]),
    (400, "chunked", [POST, HOST, b"Transfer-Encoding: xchunked"]),
    (400, "chunked", [POST, HOST, b"Transfer-Encoding:"]),
    (501, "chunked", [POST, HOST, b"Transfer-Encoding: gzip, chunked"]),
    (400, "HTTP/1.0", [b"POST /hash HTTP/1.0", HOST, b"Transfer-Encoding: chunked"]),
]
GOOD: list[list[bytes]] = [
    [GET, HOST],
    [b"", GET, HOST],
    [b"GET /state HTTP/1.0"],
    [GET, b"Host:"],
    [GET, HOST, b"X-Empty:", b"X-Blank: \t ", "X-Latin: grün".encode("latin-1"), b"X-Tab: a\tb"],
    [GET, HOST, *[b"X: a"] * (MAX_LINES - 3)],
    [GET, HOST, *[b"X: " + b"a" * 16_000] * 3],
    [POST, HOST, b"Content-Length: 0"],
    [b"GET /state?" + b"a" * 16_000 + b" HTTP/1.1", HOST],
]


def fed(lines: list[bytes]) -> Head:
    head = Head()
    for line in lines:
        assert not head.add(line)
    assert head.add(b"")
    return head


@pytest.mark.parametrize("lines", GOOD)
def test_a_head_in_order_is_let_through_and_so_is_the_next(lines: list[bytes]) -> None:
    head = fed(lines)
    for line in lines:
        assert not head.add(line)
    assert head.add(b"")


@pytest.mark.parametrize("upgrade", [b"websocket", b"WebSocket"])
def test_a_head_tells_whether_it_opens_a_websocket(upgrade: bytes) -> None:
    assert fed([GET, HOST, b"Upgrade: " + upgrade]).opens_socket
    assert not fed([GET, HOST, b"Upgrade: h2c", b"Upgrade: " + upgrade]).opens_socket
    assert not fed([GET, HOST]).opens_socket


@given(lines=st.lists(st.binary(max_size=40), max_size=20))
def test_nothing_but_its_own_exception_comes_out(lines: list[bytes]) -> None:
    head = Head()
    with contextlib.suppress(BadHead):
        for line in lines:
            head.add(line)


def test_a_long_head_takes_no_long_time_to_be_looked_at() -> None:
    """Patterns that try again for each blank would take seconds."""
    for filler in (b" ", b"\t", b"a", b":", b",", b"chunked,"):
        head = Head()
        head.add(POST)
        head.add(HOST)
        for name in (b"X", b"Transfer-Encoding"):
            head.add(name + b": " + filler * (MAX_LINE // len(filler) - 30) + b"x")
        with pytest.raises(BadHead):
            head.add(b"")
    assert MAX_HEAD >= 2 * MAX_LINE


# On the wire


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("heads")) as site:
        yield site
        assert "Traceback" not in site.log.read_text()


def refusal(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, header and body of what comes until the server closes, which must be one response."""
    with client.makefile("rb") as answer:
        status = int(answer.readline().split()[1])
        headers = dict(iter_headers(answer))
        return status, headers, answer.read()


def iter_headers(answer: BinaryIO) -> Iterator[tuple[str, str]]:
    for line in iter(answer.readline, b"\r\n"):
        name, _, value = line.decode().partition(": ")
        yield name.lower(), value.strip()


@pytest.mark.parametrize(("status", "words", "lines"), BAD)
def test_a_bad_head_gets_a_status_and_a_sentence_and_an_end(
    site: Site, status: int, words: str, lines: list[bytes]
) -> None:
    with site.connect() as client:
        client.sendall(b"\r\n".join([*lines, b"", b""]))
        found, headers, text = refusal(client)
    assert (found, headers["connection"]) == (status, "close")
    assert int(headers["content-length"]) == len(text)
    assert words in text.decode()
    assert text.count(b"\n") == 1
    assert text.endswith(b".\n")


@pytest.mark.parametrize("lines", [lines for lines in GOOD if b"POST" not in lines[0]])
def test_a_head_in_order_is_answered(site: Site, lines: list[bytes]) -> None:
    with site.connect() as client:
        client.sendall(b"\r\n".join([*lines, b"", b""]))
        assert respond(client)[0] == 200


def test_what_hides_behind_a_bad_head_is_never_a_request(site: Site) -> None:
    site.request("GET", "/state?reset=1")
    with site.connect() as client:
        lines = [POST, HOST, b"Content-Length: 4", b"Transfer-Encoding: chunked", b"", b""]
        client.sendall(b"\r\n".join(lines))
        client.sendall(b"0\r\n\r\nGET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert refusal(client)[0] == 400
    assert site.state()["yielded"] == 0


def test_a_refused_head_request_has_no_body(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"HEAD /state HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        status, headers, text = refusal(client)
    assert (status, text) == (400, b"")
    assert int(headers["content-length"]) > 0


def test_a_bad_head_behind_a_good_request_is_answered_after_it(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"GET /file?size=16 HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        with client.makefile("rb") as answers:
            text = answers.read()
    assert text.index(b"HTTP/1.1 200") < text.index(b"%015d\n" % 0) < text.index(b"HTTP/1.1 400")
    assert text.endswith(b"The header Host is missing.\n")


@pytest.mark.parametrize("piece", [b"xyz\r\n", b"5\r\nhello!!", b"-1\r\n", b"1" * 2000])
def test_a_chunked_body_that_cannot_be_understood_is_told_so(site: Site, piece: bytes) -> None:
    with site.connect() as client:
        client.sendall(b"\r\n".join([POST, HOST, b"Transfer-Encoding: chunked", b"", b""]) + piece)
        status, _, text = refusal(client)
    assert (status, text) == (400, b"The body of this request cannot be understood.\n")
