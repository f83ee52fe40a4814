"""The blocking client against a real server, and against servers that break every promise."""

import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.client import blocking as client_module
from fileserver.client.blocking import SEND_BUFFER, Client, ErrorReply, Incomplete, keep_short
from fileserver.pacing import Pace
from fileserver.rights import Principal
from fileserver.wire.fields import MAX_LIST
from fileserver.wire.replies import BadReply
from tests.servers import ALL, Address, Running, accounts, numbered_bytes, run_server, sha256, wait_until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path) as running:
        yield running


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(*running.address) as client:
        yield client


@contextlib.contextmanager
def script(*answers: bytes) -> Iterator[Address]:
    """A server for one client: an answer to each line that comes, then it closes."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock, sock.makefile("rb") as lines:
            for answer in answers:
                lines.readline()
                with contextlib.suppress(ConnectionError):
                    sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            thread.join()


HEADER = (
    b'OK {"id": 1, "name": "a", "size": 10, "offset": 0, "length": 10,'
    b' "etag": "e", "sha256": null, "new": 1}\n'
)


def test_a_download_arrives_whole_and_the_connection_goes_on(client: Client, tmp_path: Path) -> None:
    data = numbered_bytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    parts = ((0, None, data), (1000, None, data[1000:]), (5, 10, data[5:15]), (3_000_000, None, b""))
    for offset, length, wanted in parts:
        download = client.get("a", offset=offset, length=length)
        assert (download.name, download.size, download.offset) == ("a", 3_000_000, offset)
        assert b"".join(bytes(piece) for piece in download) == wanted
    assert client.request("PING")["protocol"] == "CFS/1"


def test_a_resumed_download_of_another_state_is_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    etag = client.get("a", length=0).etag
    client._read_reply()
    (tmp_path / "a").write_bytes(b"newer")
    with pytest.raises(ErrorReply) as refusal:
        client.get("a", offset=1, etag=etag)
    assert refusal.value.code == "changed"


def test_a_pace_is_asked_for(client: Client, running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert b"".join(bytes(piece) for piece in client.get("a", pace=Pace(1, 0.01))) == b"abc"
    wait_until(lambda: [e for e in running.events if getattr(e, "pace", "") == "1 bytes each 0.01 s"])


def test_a_refusal_is_raised_with_its_code(client: Client) -> None:
    with pytest.raises(ErrorReply) as refusal:
        client.get("missing")
    assert refusal.value.code == "not-found"
    assert client.request("PING")


def test_an_upload_arrives_whole_and_tells_its_progress(client: Client, tmp_path: Path) -> None:
    data, told = numbered_bytes(600_000), bytearray()
    client.request("PUT", name="w/a", size=len(data), sha256=sha256(data))
    end = client.send_body(io.BytesIO(data), len(data), told.extend)
    assert (end["name"], end["sha256"]) == ("w/a", sha256(data))
    assert (tmp_path / "w" / "a").read_bytes() == data
    assert told == data
    assert client.put("w/a", io.BytesIO(b"x"), 1, exists="rename")["name"] == "w/a (1)"


@pytest.mark.parametrize(
    ("seconds", "pieces"),
    [(float("inf"), [64, 128, 256, 512, 1024, 1112]), (0.0, [64] * 48 + [24])],
    ids=["quickly", "slowly"],
)
def test_what_leaves_quickly_is_sent_in_longer_pieces(
    client: Client, monkeypatch: pytest.MonkeyPatch, seconds: float, pieces: list[int]
) -> None:
    monkeypatch.setattr(client_module, "PIECE_SECONDS", seconds)
    data, sizes = bytes(3096 << 10), []
    client.request("PUT", name="x", size=len(data))
    client.send_body(io.BytesIO(data), len(data), lambda piece: sizes.append(len(piece) >> 10))
    assert sizes == pieces


def test_on_one_machine_few_bytes_of_an_upload_are_on_their_way(client: Client) -> None:
    client.put("a.txt", io.BytesIO(b"hello"), 5)
    # Linux takes as much again for its own use; others take what they are told.
    found = client._sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    assert SEND_BUFFER <= found <= 2 * SEND_BUFFER


def test_between_two_addresses_the_system_says_how_many(running: Running) -> None:
    with socket.create_connection(running.address, source_address=("127.0.0.2", 0)) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        keep_short(sock, SEND_BUFFER)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before


def test_a_source_longer_than_its_size_sends_no_byte_too_many(client: Client, tmp_path: Path) -> None:
    assert client.put("a", io.BytesIO(b"abcQUIT\n"), 3)["size"] == 3
    assert client.request("PING")


def test_an_upload_by_parts_sends_what_each_part_lacks(client: Client, tmp_path: Path) -> None:
    data = numbered_bytes(600_000)
    source = io.BytesIO(data)
    end = client.put("a", source, len(data), length=0)
    upload = end["upload"]
    end = client.put("a", source, len(data), upload=upload, length=400_000)
    assert (end["upload"], end["offset"], source.tell()) == (upload, 400_000, 400_000)
    end = client.put("a", source, len(data), upload=upload, offset=400_000, length=999_999)
    assert end["sha256"] == sha256(data)
    assert client.request("PING")
    again = client.put("a", source, len(data), upload=upload, offset=len(data))
    assert (again["name"], again["sha256"]) == ("a", sha256(data))
    assert client.request("PING")


def test_an_upload_goes_on_after_a_break(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(600_000)
    with Client(*running.address) as client:
        upload = client.request("PUT", name="a", size=len(data))["upload"]
        with pytest.raises(Incomplete):
            client.send_body(io.BytesIO(data[:400_000]), len(data))
    wait_until(lambda: not running.server._uploads._claims)
    with Client(*running.address) as client:
        offset = client.request("STAT", upload=upload)["offset"]
        assert offset == 400_000
        end = client.put("a", io.BytesIO(data[offset:]), len(data), upload=upload, offset=offset)
        assert end["sha256"] == sha256(data)
    assert (tmp_path / "a").read_bytes() == data


def test_a_wrong_offset_is_refused_with_the_right_one(running: Running, client: Client) -> None:
    upload = client.put("a", io.BytesIO(b"abc"), 6, length=3)["upload"]
    with Client(*running.address) as other, pytest.raises(ErrorReply) as refusal:  # which ends the connection
        other.put("a", io.BytesIO(b"f"), 6, upload=upload, offset=5)
    assert (refusal.value.code, refusal.value.extra) == ("offset", {"offset": 3})
    assert client.put("a", io.BytesIO(b"def"), 6, upload=upload, offset=3)["size"] == 6


def test_a_source_shorter_than_its_size_is_incomplete(client: Client) -> None:
    with pytest.raises(Incomplete):
        client.put("a", io.BytesIO(b"abc"), 4)


def test_an_upload_that_is_refused_midway_says_why(client: Client) -> None:
    with pytest.raises(ErrorReply) as refusal:
        client.put("a", io.BytesIO(b"abc"), 3, sha256="0" * 64)
    assert refusal.value.code == "checksum"


def test_all_files_are_had_page_by_page(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:05}" for number in range(2500)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    limits: list[int] = []
    request = client.request

    def asked(verb: str, **fields: Any) -> Any:
        limits.append(fields["limit"])
        return request(verb, **fields)

    monkeypatch.setattr(client, "request", asked)
    assert [entry["name"] for entry in client.files()] == names
    assert limits == [MAX_LIST]
    monkeypatch.setattr(client_module, "MAX_LIST", 1000)
    assert [entry["name"] for entry in client.files()] == names
    assert limits == [MAX_LIST, 1000, 1000, 1000]
    assert [entry["name"] for entry in client.files("0002")] == names[20:30]


def test_a_watcher_gets_lines_until_the_server_goes(client: Client, running: Running) -> None:
    lines = client.watch()
    assert next(lines)["full"]
    running.server.shutdown(grace=0)
    with pytest.raises(ErrorReply) as refusal:
        for _ in lines:
            pass
    assert refusal.value.code == "shutting-down"


def test_a_token_is_shown_at_the_beginning_and_a_wrong_one_leaves_nothing_open(tmp_path: Path) -> None:
    with run_server(tmp_path, access=accounts({"right": (Principal("guest"), ALL)})) as running:
        with Client(*running.address, token="right") as client:
            assert client.request("LIST")["count"] == 0
        with pytest.raises(ErrorReply):
            Client(*running.address, token="wrong")


def test_where_nobody_listens_there_is_an_os_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        Client(*address)


@pytest.mark.parametrize(
    "answer", [HEADER, HEADER + b"01234", HEADER + b"0123456789", HEADER + b'0123456789END {"id": 1']
)
def test_without_its_end_a_download_is_incomplete(answer: bytes) -> None:
    with script(answer) as address, Client(*address) as client:
        download = client.get("a")
        with pytest.raises(Incomplete):
            list(download)


def test_a_file_that_changed_meanwhile_is_an_error_reply() -> None:
    with (
        script(HEADER + b'0123456789ERR {"code": "changed", "message": "m"}\n') as address,
        Client(*address) as client,
    ):
        with pytest.raises(ErrorReply) as refusal:
            list(client.get("a"))
        assert refusal.value.code == "changed"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n", b"OK nothing\n", b"\x00\xff\n", b"OK []\n"]
)
def test_a_server_of_another_kind_is_a_bad_reply(answer: bytes) -> None:
    with script(answer) as address, Client(*address) as client, pytest.raises(BadReply):
        client.request("PING")


def test_a_server_that_closes_at_once_is_incomplete() -> None:
    with script(b"") as address, Client(*address) as client, pytest.raises(Incomplete):
        client.request("PING")


def test_a_server_that_never_answers_is_a_timeout() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(*listener.getsockname(), timeout=0.05) as client,
        pytest.raises(TimeoutError),
    ):
        client.request("PING")


def test_a_busy_server_says_so() -> None:
    with script(b'ERR {"code": "busy", "message": "m"}\n') as address, Client(*address) as client:
        with pytest.raises(ErrorReply) as refusal:
            client.request("PING")
        assert refusal.value.code == "busy"


def test_an_upload_cut_by_the_server_tells_what_it_said(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes while the bytes are on their way, and the connection is closed behind it."""
    import os

    write: Callable[..., int] = os.write

    def full(fd: int, data: memoryview) -> int:
        if os.fstat(fd).st_size > 500_000:
            raise OSError(28, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    with Client(*running.address) as client:
        with pytest.raises((ErrorReply, ConnectionError)) as refusal:
            client.put("a", io.BytesIO(bytes(30_000_000)), 30_000_000)
        assert not isinstance(refusal.value, ErrorReply) or refusal.value.code == "no-space"
