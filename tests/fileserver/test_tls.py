"""A server that speaks TLS: each way to use it, and each way to misuse its handshake."""

import asyncio
import contextlib
import errno
import io
import logging
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from fileserver.client.aio import AsyncClient
from fileserver.client.blocking import Client, Incomplete
from fileserver.events import ClientConnected, ClientDisconnected, ClientRefused
from fileserver.limits import Limits
from fileserver.pacing import Pace
from fileserver.wire.replies import ErrorReply
from tests.certificates import client_context, encrypted, server_context
from tests.servers import (
    SECONDS,
    Peer,
    Running,
    numbered_bytes,
    parsed,
    request,
    run_server,
    sha256,
    wait_until,
)

BIG = 20_000_000  # bytes: more than all buffers on the way
SLOW = {"chunk": 1000, "pause": 0.2}


class TlsPeer(Peer):
    """The raw socket of a client, with TLS over it."""

    def __init__(self, running: Running, receive_buffer: int | None = None) -> None:
        super().__init__(running.address, receive_buffer)
        self.sock = encrypted(self.sock)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path, tls=server_context()) as running:
        yield running
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ClientThread")]


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(*running.address, tls=client_context()) as client:
        yield client


# --- transfers


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, 65_537, 3_000_000, BIG])
def test_a_file_arrives_whole_whatever_its_size(
    running: Running, client: Client, tmp_path: Path, size: int
) -> None:
    data = numbered_bytes(size)
    (tmp_path / "a").write_bytes(data)
    for _ in range(2):  # the connection goes on
        assert b"".join(bytes(piece) for piece in client.get("a")) == data
    assert running.events.ending(2).outcome == "complete"


def test_a_part_arrives_as_it_was_asked_for(client: Client, tmp_path: Path) -> None:
    data = numbered_bytes(2_000_000)
    (tmp_path / "a").write_bytes(data)
    for offset, length in [(0, 10), (5, None), (1000, 0), (1234, 700_000), (1_999_999, 1)]:
        got = b"".join(bytes(piece) for piece in client.get("a", offset=offset, length=length))
        assert got == (data[offset:] if length is None else data[offset : offset + length])


def test_a_paced_file_arrives_whole_and_in_its_time(client: Client, tmp_path: Path) -> None:
    data = numbered_bytes(10_500)
    (tmp_path / "a").write_bytes(data)
    begun = time.monotonic()
    assert b"".join(bytes(piece) for piece in client.get("a", pace=Pace(1000, 0.02))) == data
    assert time.monotonic() - begun >= 0.2  # eleven chunks, the first at once


def test_a_peer_that_reads_slowly_gets_every_byte(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    with TlsPeer(running, receive_buffer=4096) as peer:
        length = peer.ask("GET", name="a")["length"]
        assert peer.read(length) == data
        peer.end()


@pytest.mark.parametrize("size", [0, 1, 100_000, BIG])
def test_an_upload_arrives_whole_and_the_connection_goes_on(
    client: Client, tmp_path: Path, size: int
) -> None:
    data = numbered_bytes(size)
    assert client.put("a", io.BytesIO(data), size)["sha256"] == sha256(data)
    assert (tmp_path / "a").read_bytes() == data
    assert client.request("PING")["protocol"] == "CFS/1"


def test_a_paced_upload_takes_what_is_decrypted_already(tmp_path: Path) -> None:
    """One record has more bytes than a chunk: what is left of it is in no socket any more."""
    data = numbered_bytes(50_000)
    with (
        run_server(tmp_path, tls=server_context(), pace=Pace(1000, 0.001)) as running,
        Client(*running.address, tls=client_context()) as client,
    ):
        client.put("a", io.BytesIO(data), len(data))
    assert (tmp_path / "a").read_bytes() == data


def test_an_upload_cut_by_the_server_tells_both_clients_why(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal comes while the bytes are on their way, and the connection is closed behind it."""
    size, write = 30_000_000, os.write

    def full(fd: int, data: memoryview) -> int:
        if os.fstat(fd).st_size > 500_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    async def source() -> AsyncIterator[bytes]:
        for _ in range(size // 100_000):
            yield bytes(100_000)

    async def work() -> None:
        async with await AsyncClient.connect(*running.address, tls=client_context()) as client:
            with pytest.raises((ErrorReply, Incomplete, ConnectionError)) as refusal:
                await client.put("b", size, source())
            assert not isinstance(refusal.value, ErrorReply) or refusal.value.code == "no-space"

    monkeypatch.setattr(os, "write", full)
    with (
        Client(*running.address, tls=client_context()) as client,
        pytest.raises((ErrorReply, ConnectionError)) as refusal,
    ):
        client.put("a", io.BytesIO(bytes(size)), size)
    assert not isinstance(refusal.value, ErrorReply) or refusal.value.code == "no-space"
    asyncio.run(work())


def test_an_upload_that_broke_is_resumed(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(3_000_000)
    with TlsPeer(running) as peer:
        upload = peer.ask("PUT", name="a", size=len(data))["upload"]
        peer.send(data[:1_000_000])
        wait_until(lambda: running.live().done == 1_000_000)
        peer.reset()
    running.events.wait_for_kind(ClientDisconnected)
    with Client(*running.address, tls=client_context()) as client:
        begun = client.request("PUT", name="a", size=len(data), upload=upload, offset=1_000_000)
        assert begun["offset"] == 1_000_000
        client.send_body(io.BytesIO(data[1_000_000:]), 2_000_000)
    assert (tmp_path / "a").read_bytes() == data


def test_a_watcher_sees_the_transfers_of_others_and_another_client_cancels_one(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with TlsPeer(running) as watcher, TlsPeer(running) as getter, TlsPeer(running) as controller:
        watcher.ask("WATCH")
        transfer_id = getter.ask("GET", name="a", pace=SLOW)["id"]
        wait_until(lambda: b'"a"' in watcher.line())
        controller.ask("CANCEL", id=transfer_id)
        with pytest.raises((EOFError, OSError)):
            getter.read(BIG)
        assert running.events.ending(transfer_id).outcome == "cancelled"
        wait_until(lambda: b"cancelled" in watcher.line())
        assert watcher.sock.fileno() >= 0


def test_a_cancel_ends_a_transfer_that_waits_for_its_peer(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with TlsPeer(running, receive_buffer=4096) as getter, TlsPeer(running) as controller:
        transfer_id = getter.ask("GET", name="a")["id"]
        controller.ask("CANCEL", id=transfer_id)
        assert running.events.ending(transfer_id).outcome == "cancelled"


@pytest.mark.parametrize("pace", [None, SLOW])
def test_a_shutdown_ends_transfers_and_leaves_no_thread(
    running: Running, tmp_path: Path, pace: dict[str, float] | None
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with TlsPeer(running, receive_buffer=4096) as peer:
        transfer_id = peer.ask("GET", name="a", pace=pace)["id"]
        running.server.shutdown(grace=0)
        ending = running.events.ending(transfer_id)
        assert (ending.outcome, ending.error) == ("aborted", "shutting-down")
    assert not running.server._clients


def test_an_idle_client_reads_why_the_server_closes(running: Running) -> None:
    """The server stops reading, and must still be able to encrypt its last line."""
    with TlsPeer(running) as peer:
        peer.ask("PING")
        running.server.shutdown()
        assert peer.err()["code"] == "shutting-down"
        with pytest.raises(EOFError):  # and not SSLEOFError: the end has its close_notify
            peer.line()


def test_a_transfer_is_aborted_when_its_peer_resets(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with TlsPeer(running) as peer:
        transfer_id = peer.ask("GET", name="a")["id"]
        peer.reset()
    ending = running.events.ending(transfer_id)
    assert (ending.outcome, ending.error) == ("aborted", "disconnected")


def test_requests_that_come_in_one_record_are_all_answered(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(1000)
    (tmp_path / "a").write_bytes(data)
    with TlsPeer(running) as peer:
        peer.send(b"PING\n" * 50 + request("GET", name="a") + b"PING\n")
        assert {peer.ok()["protocol"] for _ in range(50)} == {"CFS/1"}
        header = peer.ok()
        assert peer.read(header["length"]) == data
        peer.end()
        peer.ok()


def test_a_body_that_comes_in_one_record_with_its_request_is_all_read(running: Running) -> None:
    with TlsPeer(running) as peer:
        peer.send(request("PUT", name="a", size=5) + b"12345PING\n")
        peer.ok()
        peer.end()
        assert peer.ok()["protocol"] == "CFS/1"


def test_a_client_that_closes_its_side_without_a_word_is_answered(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    with TlsPeer(running) as peer:
        peer.send(request("GET", name="a"))
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.read(peer.ok()["length"]) == data
        peer.end()
    assert running.events.ending(1).outcome == "complete"


def test_a_client_that_closes_its_side_with_a_close_notify_is_answered(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(100_000))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    got = b""
    with Peer(running.address) as peer:

        def exchange(step: Callable[[], bytes | None]) -> bytes | None:
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    return step()
                peer.send(outgoing.read())
                data = peer.sock.recv(100_000)
                assert data, "the server closed without a close_notify"
                incoming.write(data)

        exchange(tls.do_handshake)
        tls.write(request("GET", name="a"))
        with contextlib.suppress(ssl.SSLWantReadError):  # the server's close_notify
            tls.unwrap()
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while True:
                got += exchange(tls.read) or b""
    assert got.startswith(b"OK ")
    assert got.endswith(bytes(100_000) + b'END {"id": 1, "sent": 100000}\n')
    assert running.events.ending(1).outcome == "complete"


# --- clients


def test_a_client_refuses_a_server_that_it_does_not_trust(running: Running) -> None:
    stranger = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(*running.address, tls=stranger)
    with pytest.raises(ssl.SSLCertVerificationError):
        asyncio.run(AsyncClient.connect(*running.address, tls=stranger))
    wait_until(lambda: not running.server._clients)


def test_the_asyncio_client_uploads_downloads_and_is_refused(running: Running) -> None:
    data = numbered_bytes(3_000_000)

    async def source() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async def work() -> None:
        async with await AsyncClient.connect(*running.address, tls=client_context()) as client:
            assert (await client.put("a", len(data), source()))["sha256"] == sha256(data)
            download = await client.get("a")
            assert b"".join([piece async for piece in download]) == data
            with pytest.raises(ErrorReply):
                await client.request("GET", name="absent")

    asyncio.run(work())


# --- handshakes


def test_two_hundred_half_open_handshakes_hold_nobody_up_and_are_gone_after_the_limit(
    tmp_path: Path,
) -> None:
    (tmp_path / "a").write_bytes(b"content")
    limits = Limits(line=1.0)
    with (
        run_server(tmp_path, tls=server_context(), limits=limits) as running,
        contextlib.ExitStack() as stack,
    ):
        socks = [stack.enter_context(socket.create_connection(running.address)) for _ in range(200)]
        for sock in socks[100:]:
            sock.sendall(b"\x16\x03\x01\x02\x00")  # the start of a hello, and no more
        wait_until(lambda: len(running.server._clients) == 200)
        with Client(*running.address, tls=client_context()) as client:
            assert b"".join(bytes(piece) for piece in client.get("a")) == b"content"
        for sock in socks:
            sock.settimeout(SECONDS)
            assert sock.recv(100) == b""
            sock.close()
        wait_until(lambda: not running.server._clients)
        assert len(running.events.of(ClientDisconnected)) == 201


def test_a_handshake_that_drips_has_one_limit_for_all_its_bytes(tmp_path: Path) -> None:
    with (
        run_server(tmp_path, tls=server_context(), limits=Limits(line=0.3)) as running,
        socket.create_connection(running.address) as sock,
    ):
        sock.sendall(b"\x16\x03\x01\x3f\xff\x01\x00\x3f\xfb")
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            while not select.select([sock], [], [], 0.01)[0]:
                sock.sendall(b"\x00")
                assert time.monotonic() - begun < SECONDS
        wait_until(lambda: not running.server._clients)


@pytest.mark.parametrize("data", [b"\x80PING\n", bytes(100_000), b"\x16\x03\x01\x00\x05hello"])
def test_what_is_no_tls_is_closed_without_a_word_in_the_log(
    running: Running, caplog: pytest.LogCaptureFixture, data: bytes
) -> None:
    with caplog.at_level(logging.DEBUG), socket.create_connection(running.address) as sock:
        sock.settimeout(SECONDS)
        sock.sendall(data)
        got = b"".join(iter(lambda: sock.recv(1000), b""))  # an end of the stream, and no reset
    assert got[:1] in (b"", b"\x15")  # an alert, if anything
    running.events.wait_for_kind(ClientDisconnected)
    assert not caplog.records


def test_a_hello_to_a_plain_port_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with run_server(tmp_path) as running:
        with pytest.raises(ssl.SSLError):
            Client(*running.address, tls=client_context())
        answer = running.talk(b"\x16\x03\x01\x02\x00\x01\x00\x01")
        assert parsed(answer.rstrip(b"\n"))[1]["code"] == "bad-request"


@pytest.mark.parametrize("half", [b"", b"\x16\x03\x01\x02\x00"])
def test_a_peer_that_goes_in_its_handshake_leaves_no_thread(running: Running, half: bytes) -> None:
    with Peer(running.address) as polite, Peer(running.address) as rude:
        for peer in (polite, rude):
            peer.send(half)
        wait_until(lambda: len(running.events.of(ClientConnected)) == 2)
        rude.reset()
    wait_until(lambda: len(running.events.of(ClientDisconnected)) == 2)


def test_a_shutdown_ends_a_handshake(running: Running) -> None:
    with Peer(running.address):
        wait_until(lambda: running.server._clients)
        begun = time.monotonic()
        running.server.shutdown()
        assert time.monotonic() - begun < SECONDS


def test_a_client_too_many_is_closed_without_plain_text(tmp_path: Path) -> None:
    with (
        run_server(tmp_path, tls=server_context(), limits=Limits(max_clients=1)) as running,
        TlsPeer(running) as first,
        Peer(running.address) as second,
    ):
        running.events.wait_for_kind(ClientRefused)
        assert second.rest() == b""
        assert first.is_usable()


@pytest.mark.parametrize(
    ("said", "begins"),
    [(b"PING\n", b'ERR {"code": "bad-request"'), (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 400 ")],
)
def test_plain_text_is_answered_with_a_sentence_in_plain_text(
    running: Running, said: bytes, begins: bytes
) -> None:
    answer = running.talk(said)
    assert answer.startswith(begins)
    assert b"This port speaks TLS" in answer


def test_a_client_that_forgets_tls_is_told_so(running: Running) -> None:
    with Client(*running.address) as client, pytest.raises(ErrorReply, match="speaks TLS"):
        client.request("PING")
