"""Direct downloads to the letter of HTTP/1.1, and all that must not be taken for one."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from fileserver.events import ClientDisconnected, FileDeleted, TransferFinished, TransferStarted
from fileserver.limits import Limits
from fileserver.names import is_safe
from fileserver.net.connection import Connection
from fileserver.pacing import Pace
from fileserver.rights import Access, Principal, Ticket
from fileserver.sessions import http as module
from fileserver.transfers.copying import SMALL
from fileserver.wire.http import MAX_HEAD_BYTES, MAX_HEADER_LINES, Request, is_direct, parse_head
from tests.fileserver.wire.heads import REFUSED
from tests.servers import ALL, Peer, Running, accounts, numbered_bytes, run_server, wait_until

BIG = 20_000_000
TICKETS = {
    "here": Ticket(""),
    "a": Ticket("a"),
    "week": Ticket("week 3/ü 100%.txt"),
    "gone": Ticket("gone"),
    "folder": Ticket("folder"),
    "up": Ticket("../secret"),
    "slow": Ticket("a", Pace(1000, 0.01)),
}


# All rights on purpose: that a ticket is no key to the rest is the server's affair.
PEOPLE = {token: (Principal("ticket", "maria", ticket=ticket), ALL) for token, ticket in TICKETS.items()}
ACCESS = accounts({None: (Principal("guest"), ALL), **PEOPLE})


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path, access=ACCESS, direct=True) as running:
        yield running


@pytest.fixture
def peer(running: Running) -> Iterator[Peer]:
    with running.peer() as peer:
        yield peer


class Answer:
    """The next answer on a connection: its body is read as far as the header promises."""

    def __init__(self, peer: Peer, method: str = "GET") -> None:
        version, status, self.reason = peer.line().rstrip(b"\r").decode().split(" ", 2)
        assert version == "HTTP/1.1"
        self.status = int(status)
        self.headers: dict[str, str] = {}
        while line := peer.line().decode("latin-1"):
            assert line.endswith("\r"), line
            if line == "\r":
                break
            name, _, value = line[:-1].partition(": ")
            assert name.lower() not in self.headers
            self.headers[name.lower()] = value
        has_body = method != "HEAD" and self.status not in (204, 304)
        self.body = peer.read(int(self.headers["content-length"])) if has_body else b""

    @property
    def sentence(self) -> str:
        assert self.headers["content-type"] == "text/plain; charset=utf-8"
        text = self.body.decode()
        assert text.endswith(".\n")
        assert text.count("\n") == 1
        return text


def head(target: str, method: str = "GET", version: str = "1.1", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost:9999"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def get(peer: Peer, target: str, method: str = "GET", **headers: str) -> Answer:
    peer.send(head(target, method, **headers))
    return Answer(peer, method)


def is_closed(peer: Peer) -> bool:
    return peer.rest() == b""


# --- what is sent


@pytest.mark.parametrize("size", [0, 1, 2, SMALL, SMALL + 1, SMALL + 2, BIG])
def test_a_file_arrives_byte_for_byte_and_is_one_complete_transfer_via_web(
    running: Running, peer: Peer, tmp_path: Path, size: int
) -> None:
    (tmp_path / "a").write_bytes(numbered_bytes(size))
    answer = get(peer, "/get/a/a")
    assert (answer.status, answer.reason) == (200, "OK")
    assert answer.body == numbered_bytes(size)
    ending = running.events.ending(1)
    assert (ending.outcome, ending.done, ending.error) == ("complete", size, "")
    (started,) = running.events.of(TransferStarted)
    assert (started.name, started.via, started.user, started.pace) == ("a", "web", "maria", "")
    assert started.client == "{}:{}".format(*peer.sock.getsockname())
    assert started.thread.startswith("ClientThread-")


def test_without_sendfile_a_file_arrives_byte_for_byte_too(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sendfile")
    (tmp_path / "a").write_bytes(numbered_bytes(BIG))
    assert get(peer, "/get/a/a").body == numbered_bytes(BIG)


def test_every_file_is_sent_as_one_to_keep_and_never_as_a_page(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "week 3").mkdir()
    path = tmp_path / "week 3" / "ü 100%.txt"
    path.write_bytes(b"<script>")
    os.utime(path, (1, 1763800000.9))
    answer = get(peer, "/get/week/" + quote("week 3/ü 100%.txt"))
    assert answer.body == b"<script>"
    assert abs(parsedate_to_datetime(answer.headers.pop("date")).timestamp() - path.stat().st_ctime) < 60
    etag = answer.headers.pop("etag")
    assert etag[0] == etag[-1] == '"'
    assert len(etag) > 10
    assert answer.headers == {
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
        "accept-ranges": "bytes",
        "last-modified": formatdate(1763800000, usegmt=True),
        "content-type": "application/octet-stream",
        "content-disposition": "attachment; filename*=utf-8''%C3%BC%20100%25.txt",
        "content-length": "8",
    }


@pytest.mark.parametrize("mtime", [-1e9, 0, 4e10, 9e11])
def test_a_file_of_any_year_can_be_had(peer: Peer, tmp_path: Path, mtime: float) -> None:
    (tmp_path / "a").write_bytes(b"x")
    try:
        os.utime(tmp_path / "a", (mtime, mtime))
    except OSError:
        pytest.skip("this disk keeps no such date")
    answer = get(peer, "/get/a/a")
    assert (answer.status, answer.body) == (200, b"x")
    assert parsedate_to_datetime(answer.headers["last-modified"])


@pytest.mark.parametrize("target", ["/get/a/a", "/get/slow/a"])
def test_head_tells_what_get_would_and_starts_no_transfer(
    running: Running, peer: Peer, tmp_path: Path, target: str
) -> None:
    (tmp_path / "a").write_bytes(bytes(5000))
    answers = [get(peer, target, method).headers for method in ("HEAD", "GET")]
    for headers in answers:
        headers.pop("date")
    assert answers[0] == answers[1]
    running.events.ending(1)
    assert len(running.events.of(TransferStarted)) == 1


@pytest.mark.parametrize(
    ("asked", "offset", "length"),
    [("bytes=0-", 0, 100_000), ("bytes=10-19", 10, 10), ("bytes=-7", 99_993, 7)],
)
def test_a_range_is_a_transfer_with_its_offset(
    running: Running, peer: Peer, tmp_path: Path, asked: str, offset: int, length: int
) -> None:
    content = numbered_bytes(100_000)
    (tmp_path / "a").write_bytes(content)
    answer = get(peer, "/get/a/a", Range=asked)
    assert (answer.status, answer.body) == (206, content[offset : offset + length])
    assert answer.headers["content-range"] == f"bytes {offset}-{offset + length - 1}/100000"
    running.events.ending(1)
    (started,) = running.events.of(TransferStarted)
    assert (started.size, started.offset, started.length) == (100_000, offset, length)


def test_a_range_behind_the_end_is_refused_with_the_size(
    running: Running, peer: Peer, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    answer = get(peer, "/get/a/a", Range="bytes=5-")
    assert (answer.status, answer.headers["content-range"]) == (416, "bytes */5")
    assert "5 bytes" in answer.sentence
    assert running.events.of(TransferStarted) == []


def test_a_resumed_download_gets_the_rest_only_of_the_same_file(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    etag = get(peer, "/get/a/a").headers["etag"]
    assert get(peer, "/get/a/a", Range="bytes=6-", If_Range=etag).body == b"6789"
    (tmp_path / "a").write_bytes(b"quite another")
    answer = get(peer, "/get/a/a", Range="bytes=6-", If_Range=etag)
    assert (answer.status, answer.body) == (200, b"quite another")


def test_what_the_browser_has_already_is_not_sent_again(running: Running, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    etag = get(peer, "/get/a/a", "HEAD").headers["etag"]
    answer = get(peer, "/get/a/a", If_None_Match=etag)
    assert (answer.status, answer.headers["etag"]) == (304, etag)
    assert not answer.headers.keys() & {"content-length", "content-type"}
    assert get(peer, "/get/a/a", If_Match='"another"').status == 412
    assert running.events.of(TransferStarted) == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whoever_has_a_ticket_without_a_name_sees_that_the_server_is_here(
    running: Running, peer: Peer, method: str
) -> None:
    answer = get(peer, "/get/here/", method)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "content-length" not in answer.headers
    assert is_closed(peer)
    assert running.events.of(TransferStarted) == []


# --- tickets


@pytest.mark.parametrize(
    "target", ["/get/x/a", "/get/gone/a", "/get/a/gone", "/get/a/", "/get/here/a", "/get/a/A", "/get/a/%2561"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_only_the_ticket_of_that_name_is_good(
    running: Running, tmp_path: Path, target: str, method: str
) -> None:
    for name in ("a", "A"):
        (tmp_path / name).write_bytes(b"secret")
    with running.peer() as peer:
        answer = get(peer, target, method)
        assert answer.status == 403
        assert answer.headers["connection"] == "close"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers
        assert is_closed(peer)
    assert running.events.of(TransferStarted) == []


def test_without_a_maker_of_tickets_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with run_server(tmp_path, direct=True) as running, running.peer() as peer:
        assert get(peer, "/get/a/a").status == 403


@pytest.mark.parametrize("line", [b"AUTH a\n", b'AUTH {"token": "here"}\n'])
def test_a_ticket_is_no_token(peer: Peer, tmp_path: Path, line: bytes) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert peer.refusal(line)["code"] == "denied"
    assert peer.is_usable()


def test_a_name_of_a_ticket_goes_through_the_guard_of_every_name(peer: Peer, running: Running) -> None:
    (running.storage.root.parent / "secret").write_bytes(b"secret")
    answer = get(peer, "/get/up/../secret")
    assert answer.status == 400
    assert "'../secret'" in answer.sentence


@pytest.mark.parametrize("name", ["gone", "folder"])
def test_what_is_no_file_is_not_found(peer: Peer, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    answer = get(peer, f"/get/{name}/{name}")
    assert answer.status == 404
    assert f"'{name}'" in answer.sentence
    assert answer.headers["cache-control"] == "no-store"
    assert is_closed(peer)


# --- pace, cancel, cut


def test_a_ticket_has_the_pace(running: Running, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(numbered_bytes(5000))
    assert get(peer, "/get/slow/a").body == numbered_bytes(5000)
    (started,) = running.events.of(TransferStarted)
    assert started.pace == str(TICKETS["slow"].pace)
    assert running.events.ending(1).outcome == "complete"


def test_a_ticket_is_not_faster_than_the_server(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with run_server(tmp_path, access=ACCESS, direct=True, pace=Pace(1, 1)) as running:
        with running.peer() as peer:
            assert get(peer, "/get/slow/a").status == 403
        with running.peer() as peer:
            assert get(peer, "/get/a/a").status == 200
        (started,) = running.events.of(TransferStarted)
        assert started.pace == str(Pace(1, 1))


def start(running: Running, peer: Peer, target: str = "/get/a/a") -> int:
    """Ask, and read the head; how many bytes are promised."""
    peer.send(head(target))
    lines = iter(peer.line, b"\r")
    return next(int(line.split()[1]) for line in list(lines) if line.lower().startswith(b"content-length"))


def is_broken_off(peer: Peer, promised: int) -> None:
    """Fewer bytes come than are promised, and then no end of the stream: some take that for the file's."""
    with pytest.raises(ConnectionResetError):
        peer.read(promised)


def test_a_cancelled_download_never_looks_whole(running: Running, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    assert start(running, peer) == BIG
    transfer = running.live()
    assert running.server.registry.cancel(transfer.id) is not None
    is_broken_off(peer, BIG)
    ending = running.events.ending(transfer.id)
    assert ending.outcome == "cancelled"


@pytest.mark.parametrize("target", ["/get/a/a", "/get/slow/a"])
def test_what_the_end_of_the_server_cuts_off_never_looks_whole(
    running: Running, peer: Peer, tmp_path: Path, target: str
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    start(running, peer, target)
    running.live()
    running.server.shutdown(grace=0)
    is_broken_off(peer, BIG)
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error) == ("aborted", "shutting-down")


@pytest.mark.parametrize("how", [Peer.close, Peer.reset])
def test_a_browser_that_leaves_at_40_percent_is_aborted(
    running: Running, tmp_path: Path, how: Callable[[Peer], None]
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with running.peer(receive_buffer=64 * 1024) as peer:
        start(running, peer)
        peer.read(BIG * 4 // 10)
        how(peer)
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error) == ("aborted", "disconnected")
    assert BIG * 0.4 <= ending.done < BIG


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
@pytest.mark.parametrize("size", [SMALL, 1_000_000])
def test_a_browser_that_leaves_with_bytes_on_their_way_is_aborted(
    running: Running, tmp_path: Path, size: int
) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    with running.peer(receive_buffer=2048) as peer:
        peer.send(head("/get/a/a"))
        running.live()
        peer.reset()
    assert running.events.ending(1).outcome == "aborted"


def test_a_browser_that_takes_nothing_stalls(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    limits = Limits(stall=0.2)
    with (
        run_server(tmp_path, access=ACCESS, direct=True, limits=limits) as running,
        running.peer(receive_buffer=4096) as peer,
    ):
        peer.send(head("/get/a/a"))
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error) == ("aborted", "stalled")


def write(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"changed" * 100)


@pytest.mark.parametrize("change", [write, lambda path: os.truncate(path, 10)], ids=["written", "cut"])
@pytest.mark.parametrize("size", [1_000_000, BIG])
def test_a_file_that_changes_meanwhile_never_looks_whole(
    running: Running, tmp_path: Path, change: Callable[[Path], None], size: int
) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    with running.peer(receive_buffer=2048) as peer:
        assert start(running, peer) == size
        transfer = running.live()
        change(tmp_path / "a")
        is_broken_off(peer, size)
    ending = running.events.ending(transfer.id)
    assert (ending.outcome, ending.error) == ("failed", "changed")


@pytest.mark.parametrize("size", [1, 5000])
def test_a_small_file_that_changes_while_it_is_read_never_looks_whole(
    running: Running, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (tmp_path / "a").write_bytes(bytes(size))
    monkeypatch.setattr("fileserver.storage.content.OpenFile.has_changed", lambda file: True)
    assert start(running, peer) == size
    is_broken_off(peer, size)
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error, ending.done) == ("failed", "changed", size - 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no moment of the last change")
def test_a_file_whose_time_is_put_back_after_a_write_never_looks_whole(
    running: Running, peer: Peer, tmp_path: Path
) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(5000))
    assert start(running, peer, "/get/slow/a") == 5000
    peer.read(1000)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"mixed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    is_broken_off(peer, 4000)
    assert running.events.ending(1).error == "changed"


def test_a_paced_file_that_changes_never_looks_whole(running: Running, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5000))
    assert start(running, peer, "/get/slow/a") == 5000
    peer.read(1000)
    os.utime(tmp_path / "a", (1, 1))
    is_broken_off(peer, 4000)
    assert running.events.ending(1).error == "changed"


def test_a_mistake_of_ours_is_500_before_the_first_byte_and_a_cut_behind_it(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    (tmp_path / "a").write_bytes(b"x")
    with monkeypatch.context() as patch, running.peer() as peer:
        patch.setattr(module, "select", lambda *args, **kwargs: fail())
        assert "mistake" in get(peer, "/get/a/a").sentence
        assert is_closed(peer)
    with monkeypatch.context() as patch, running.peer() as peer:
        patch.setattr(module, "send", fail)
        peer.send(head("/get/a/a"))
        is_broken_off(peer, 1)
    assert running.events.ending(1).outcome == "failed"
    assert len(caplog.records) == 2


# --- the connection


def test_requests_follow_each_other_on_one_connection(running: Running, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"first")
    peer.send(head("/get/a/a") + head("/get/a/a", "HEAD") + head("/get/a/a"))
    assert [Answer(peer, method).body for method in ("GET", "HEAD", "GET")] == [b"first", b"", b"first"]
    assert get(peer, "/get/a/a", Connection="close").headers["connection"] == "close"
    assert is_closed(peer)
    assert {event.thread for event in running.events.of(TransferStarted)} == {"ClientThread-1"}


def test_http_1_0_gets_one_answer(running: Running, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    peer.send(b"GET /get/a/a HTTP/1.0\r\n\r\n" + head("/get/a/a"))
    answer = Answer(peer)
    assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"old", "close")
    assert is_closed(peer)


def test_lf_alone_ends_a_line_as_in_the_rest_of_the_protocol(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"by hand")
    peer.send(b"GET /get/a/a HTTP/1.0\n\n")
    assert Answer(peer).body == b"by hand"


REFUSED_OVER_HTTP = [
    lines
    for lines, _ in REFUSED
    if lines and is_direct(lines[0]) and lines[0].endswith((b" HTTP/1.0", b" HTTP/1.1"))
]


@pytest.mark.parametrize("lines", REFUSED_OVER_HTTP)
def test_a_refused_head_is_told_in_one_sentence_and_closes(
    running: Running, tmp_path: Path, lines: list[bytes]
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with running.peer() as peer:
        peer.send(b"\r\n".join([*lines, b"", b""]) + b"DELETE a\n" + head("/get/a/a"))
        answer = Answer(peer)
        assert answer.status in (400, 405)
        assert answer.sentence
        assert is_closed(peer)
    assert (tmp_path / "a").exists()


def test_too_many_or_too_long_header_lines_are_refused(running: Running) -> None:
    many = {f"X{number}": "y" for number in range(MAX_HEADER_LINES)}
    large = {f"X{number}": "y" * 7000 for number in range(MAX_HEAD_BYTES // 7000 + 1)}
    for headers in (many, large, {"X": "y" * 8192}, {"X": "y" * 1_000_000}):
        with running.peer() as peer:
            assert get(peer, "/get/here/", **headers).status == 431
            assert is_closed(peer)
    with running.peer() as peer:
        assert get(peer, "/get/here/", **dict(list(many.items())[1:])).status == 204
    with running.peer() as peer:
        assert get(peer, "/get/here/", X="y" * 8000).status == 204


def test_a_head_that_does_not_come_to_its_end_is_refused_in_time(tmp_path: Path) -> None:
    limits = Limits(line=0.2)
    over = threading.Event()
    with (
        run_server(tmp_path, access=ACCESS, direct=True, limits=limits) as running,
        running.peer() as peer,
    ):

        def drip() -> None:  # each line in time, all of them never
            while not over.wait(0.02):
                try:
                    peer.send(b"A: b\r\n")
                except OSError:
                    return

        peer.send(b"GET /get/here/ HTTP/1.1\r\n")
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert Answer(peer).status == 408
        finally:
            over.set()
            thread.join()


def test_an_idle_connection_is_closed_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    limits = Limits(keep_alive=0.1)
    with (
        run_server(tmp_path, access=ACCESS, direct=True, limits=limits) as running,
        running.peer() as peer,
    ):
        assert get(peer, "/get/a/a").status == 200
        assert is_closed(peer)


@pytest.mark.parametrize("data", [b"", b"\r\nHost: x", b"\r\nHost: x\r\n"])
def test_a_peer_that_leaves_in_the_middle_of_a_head_leaves_no_thread(running: Running, data: bytes) -> None:
    with running.peer() as peer:
        peer.send(b"GET /get/here/ HTTP/1.1" + data)
        peer.sock.shutdown(socket.SHUT_WR)
        peer.rest()
    running.events.wait_for_kind(ClientDisconnected)


def test_a_server_that_ends_lets_idle_browsers_go_and_downloads_finish(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with (
        run_server(tmp_path, access=ACCESS, direct=True) as running,
        running.peer() as idle,
        running.peer() as half,
        running.peer(receive_buffer=64 * 1024) as busy,
    ):
        assert get(idle, "/get/a/a", "HEAD").status == 200
        half.send(b"GET /get/here/ HTTP/1.1\r\nHost:")
        assert start(running, busy) == BIG
        running.live()
        wait_until(lambda: len(running.server._clients) == 3)
        stopping = threading.Thread(target=running.server.shutdown)
        stopping.start()
        assert is_closed(idle)
        assert len(busy.read(BIG)) == BIG
        assert is_closed(busy)
        stopping.join()
        assert running.events.ending(1).outcome == "complete"


def test_a_request_that_comes_when_the_server_ends_is_503(
    running: Running, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert get(peer, "/get/a/a").status == 200
    session = running.server._current()[0].session

    def stop_and_parse(lines: list[bytes]) -> Request:
        session.wind_down()
        return parse_head(lines)

    monkeypatch.setattr(module, "parse_head", stop_and_parse)
    answer = get(peer, "/get/a/a")
    assert (answer.status, answer.sentence) == (503, "The server is shutting down.\n")
    assert is_closed(peer)


# --- what a web page could make a browser send

LINES = b'DELETE a\nPUT {"name": "b", "size": 1}\nx\n'
ATTACKS = [
    b"POST /get/a/a HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + LINES,
    b"POST /get/a/a HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n\r\n" + LINES,
    b"PUT /get/a/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n" + LINES,
    b"GET /get/a/a HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n" + LINES,
    b"GET /get/a/a HTTP/1.1\r\nHost: x\r\n\r\n" + LINES,
    b"GET /get/a/a HTTP/1.1\r\n" + LINES + b"\r\n",
    b"GET /get/a/a HTTP/1.1\r\nHost: x\r\n\r\n\r\n" + LINES,
    b"GET /get/x/a HTTP/1.1\r\nHost: x\r\n\r\n" + LINES,
    b"GET /get/a/a HTTP/1.1\n\n" + LINES,
    b"HEAD /get/a/a HTTP/1.1\r\nHost: x\r\n\r\n" + LINES,
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + LINES,
    b"GET /files/a HTTP/1.1\r\nHost: x\r\n\r\n" + LINES,
    b"OPTIONS /get/a/a HTTP/1.1\r\nHost: x\r\nAccess-Control-Request-Method: DELETE\r\n\r\n" + LINES,
    b"CONNECT localhost:9999 HTTP/1.1\r\nHost: x\r\n\r\n" + LINES,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + LINES,
]


@pytest.mark.parametrize("data", ATTACKS)
def test_no_line_behind_http_is_ever_obeyed(running: Running, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(b"precious")
    answer = running.talk(data)
    assert b"OK {" not in answer
    assert b"END {" not in answer
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert running.events.of(FileDeleted) == []
    assert {event.direction for event in running.events.of(TransferStarted)} <= {"download"}
    assert running.talk(b"PING\n").startswith(b"OK ")


@pytest.mark.parametrize("before", [b"PING\n", b"\n", b"AUTH a\n", b"GET a\n", b"{\n"])
def test_http_behind_another_line_is_refused(running: Running, tmp_path: Path, before: bytes) -> None:
    (tmp_path / "a").write_bytes(b"x")
    answer = running.talk(before + head("/get/a/a"))
    assert b"HTTP/1.1 200" not in answer
    assert answer.splitlines()[-1].startswith(b"ERR ")
    assert len(running.events.of(TransferStarted)) == (before == b"GET a\n")


# --- what is no download: a person has opened this address in a browser

PAGE = "http://127.0.0.1:8000/"


@pytest.fixture(params=[True, False], ids=["direct", "relayed"])
def beside_a_page(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    (tmp_path / "a").write_bytes(b"x")
    options = {"access": ACCESS, "direct": request.param, "page_url": lambda: PAGE}
    with run_server(tmp_path, **options) as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_opens_this_address_is_sent_to_the_page(
    beside_a_page: Running, method: str, version: str
) -> None:
    with beside_a_page.peer() as peer:
        peer.send(head("/", method, version, Accept="text/html"))
        answer = Answer(peer, method)
        assert (answer.status, answer.headers["location"]) == (303, PAGE)
        assert method == "HEAD" or PAGE in answer.sentence
        assert answer.headers["connection"] == "close"
        assert answer.headers["cache-control"] == "no-store"
        assert is_closed(peer)


@pytest.mark.parametrize(
    "lines",
    [
        "Host: evil.example",
        "Host: evil.example:8000",
        "Host: 127.0.0.1:9999\r\nX-Forwarded-Host: evil.example",
        "Host: x\r\nOrigin: http://evil.example\r\nReferer: http://evil.example/",
    ],
)
def test_nothing_in_a_request_says_where_one_is_sent(beside_a_page: Running, lines: str) -> None:
    with beside_a_page.peer() as peer:
        peer.send(f"GET / HTTP/1.1\r\n{lines}\r\n\r\n".encode())
        answer = Answer(peer)
        assert (answer.status, answer.headers["location"]) == (303, PAGE)
        assert "evil" not in answer.sentence


@pytest.mark.parametrize(
    "target", ["/favicon.ico", "/files/a", "/get", "//evil.example/", "/?x", "http://evil.example/", "*"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_elsewhere_a_sentence_says_where_the_page_is(
    beside_a_page: Running, target: str, method: str
) -> None:
    with beside_a_page.peer() as peer:
        answer = get(peer, target, method)
        assert (answer.status, "location" in answer.headers) == (404, False)
        assert method == "HEAD" or PAGE in answer.sentence
        assert is_closed(peer)


def test_where_the_page_is_not_known_a_sentence_says_what_to_do(running: Running) -> None:
    with running.peer() as peer:
        answer = get(peer, "/")
        assert (answer.status, "location" in answer.headers) == (404, False)
        assert answer.sentence.endswith("which has no pages: open that of the site.\n")
        assert is_closed(peer)


def test_without_direct_downloads_a_ticket_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"secret")
    with run_server(tmp_path, access=ACCESS, page_url=lambda: PAGE) as running, running.peer() as peer:
        answer = get(peer, "/get/a/a")
        assert (answer.status, answer.sentence.startswith(f"The page is at {PAGE}")) == (404, True)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "get", "X"])
@pytest.mark.parametrize("target", ["/", "/files/a", "/get/a/a", "*"])
def test_other_methods_are_refused_and_their_body_is_never_read(
    beside_a_page: Running, tmp_path: Path, method: str, target: str
) -> None:
    with beside_a_page.peer() as peer:
        peer.send(head(target, method, Content_Length="9", Expect="100-continue") + b"DELETE a\n")
        answer = Answer(peer)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        assert answer.sentence
        assert is_closed(peer)
    assert (tmp_path / "a").exists()
    assert beside_a_page.events.of(FileDeleted) == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nDELETE a\n",
        b"GET / HTTP/1.1\r\nDELETE a\n\r\n",
        b"GET /\xc3\xbc HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / x HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_request_that_is_not_right_is_400(beside_a_page: Running, tmp_path: Path, data: bytes) -> None:
    with beside_a_page.peer() as peer:
        peer.send(data)
        assert Answer(peer).status == 400
        assert is_closed(peer)
    assert (tmp_path / "a").exists()


def test_the_page_is_told_of_on_a_connection_that_has_had_a_download_too(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert get(peer, "/get/a/a").status == 200
    assert get(peer, "/").status == 404
    assert is_closed(peer)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_says_where_the_page_is(beside_a_page: Running) -> None:
    host, port = beside_a_page.address
    command = ["curl", "-sS", "--noproxy", "*", "-w", "%{http_code} %{redirect_url}"]
    done = subprocess.run([*command, f"http://{host}:{port}/"], capture_output=True, text=True, timeout=30)
    sentence, _, line = done.stdout.rpartition("\n")
    assert (done.returncode, line, PAGE in sentence) == (0, f"303 {PAGE}", True)


# --- floods


def test_after_each_request_the_others_have_their_turns(
    running: Running, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    given: list[str] = []
    monkeypatch.setattr(
        Connection, "expect_to_block", lambda connection: given.append(threading.current_thread().name)
    )
    peer.send(head("/get/a/a", "HEAD") * 20)  # all there: no wait is needed between two of them
    for _ in range(20):
        assert Answer(peer, "HEAD").status == 200
    assert given.count("ClientThread-1") >= 20


def test_empty_lines_end_a_connection_of_http(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    peer.send(head("/get/a/a", "HEAD") + b"\n" * 10_000 + head("/get/a/a"))
    assert [Answer(peer, "HEAD").status, Answer(peer).status] == [200, 400]
    assert is_closed(peer)


def test_a_ticket_whose_holder_may_not_get_the_file_any_more_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    access = accounts({"t": (Principal("ticket", "maria", ticket=Ticket("a")), {"write"})})
    with run_server(tmp_path, access=access, direct=True) as running, running.peer() as peer:
        answer = get(peer, "/get/t/a")
        assert (answer.status, b"may not be downloaded" in answer.body) == (403, True)
        assert running.events.of(TransferStarted) == []


def test_a_name_of_any_length_fits_into_a_request_line(tmp_path: Path) -> None:
    name = "/".join(["é" * 127] * 4)
    assert is_safe(name)
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"deep")

    access = Access(lambda token, host: Principal("ticket", ticket=Ticket(name)))
    with run_server(tmp_path, access=access, direct=True) as running, running.peer() as peer:
        assert get(peer, f"/get/{'t' * 4000}/{quote(name)}").body == b"deep"
        assert running.events.wait_for_kind(TransferFinished).outcome == "complete"
