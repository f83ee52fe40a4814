"""Lines and bytes over a real pair of sockets, plain and with TLS, and each way in which a wait ends."""

import contextlib
import errno
import os
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fileserver.net import connection as module
from fileserver.net import unacknowledged
from fileserver.net.connection import Connection
from fileserver.net.polling import WRITABLE
from fileserver.net.stall import PeerGone, Stalled, StallGuard
from fileserver.net.tls import TlsTransport
from fileserver.net.transport import PlainTransport
from fileserver.wire.lines import ForeignProtocol
from fileserver.wire.replies import ErrorReply
from fileserver.workers.base import NullScheduler
from tests.certificates import PeerSocket, TlsOfItsOwn, encrypted, server_context
from tests.servers import numbered_bytes, wait_until

Pair = tuple[Connection, socket.socket]


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work, name="Worker")
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


@pytest.fixture(params=["plain", "tls"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A connection after its handshake, and the other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    peer.settimeout(5)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        if request.param == "plain":
            yield Connection(PlainTransport(ours), "peer", stall_seconds=5), stack.enter_context(peer)
            return
        connection = Connection(TlsTransport(ours, server_context()), "peer", stall_seconds=5)
        with in_thread(lambda: connection.handshake(5)):
            peer = stack.enter_context(encrypted(peer))
        yield connection, peer


def socket_of(connection: Connection) -> socket.socket:
    return connection._transport.sock


def cpu_seconds_of(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


# --- lines


def test_lines_are_handed_out_one_by_one_without_their_ends(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"one\ntwo \r\n\nfour\r\r\nfive")
    assert [connection.read_line(5) for _ in range(4)] == [b"one", b"two ", b"", b"four\r"]
    peer.sendall(b"!\n")
    assert connection.read_line(5) == b"five!"


def test_a_line_may_come_a_byte_at_a_time(pair: Pair) -> None:
    connection, peer = pair

    def dribble() -> None:
        for byte in b"PING now\n":
            peer.sendall(bytes([byte]))

    with in_thread(dribble):
        assert connection.read_line(5) == b"PING now"


def test_a_peer_that_closes_between_two_lines_is_no_error(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"one\n")
    peer.shutdown(socket.SHUT_WR)
    assert connection.read_line(5) == b"one"
    assert connection.read_line(5) is None


def test_a_peer_that_closes_in_a_line_is_told_so_and_there_is_no_next_line(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"PIN")
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(ErrorReply) as refusal:
        connection.read_line(5)
    assert refusal.value.code == "bad-request"
    assert refusal.value.closes


def test_a_reset_is_a_peer_that_is_gone(pair: Pair) -> None:
    connection, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with pytest.raises(PeerGone):
        connection.read_line(5)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_of_8192_bytes_is_read(pair: Pair, end: bytes) -> None:
    connection, peer = pair
    line = b"x" * (8192 - (len(end) - 1))
    peer.sendall(line + end)
    assert connection.read_line(5) == line


@pytest.mark.parametrize("data", [b"x" * 8193 + b"\n", b"x" * 9000 + b"\n", b"x" * 8193, b"x" * 100_000])
def test_a_longer_line_is_too_long_whether_it_ends_or_not(pair: Pair, data: bytes) -> None:
    connection, peer = pair

    def send() -> None:
        with contextlib.suppress(OSError):  # what is left of it, once nobody reads any more
            peer.sendall(data)

    with in_thread(send):
        with pytest.raises(ErrorReply) as refusal:
            connection.read_line(5)
        connection.wake()
    assert refusal.value.code == "too-long"


def test_silence_before_a_line_is_a_timeout(pair: Pair) -> None:
    with pytest.raises(ErrorReply) as refusal:
        pair[0].read_line(0.02)
    assert refusal.value.code == "timeout"


def test_a_line_that_does_not_come_to_its_end_is_a_timeout(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"PIN")
    with pytest.raises(ErrorReply) as refusal:
        connection.read_line(idle=60, line_seconds=0.02)
    assert refusal.value.code == "timeout"


def test_a_dripping_line_is_a_timeout_too(pair: Pair) -> None:
    connection, peer = pair
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.01):
            with contextlib.suppress(OSError):
                peer.sendall(b"x")

    with in_thread(drip):
        begun = time.monotonic()
        with pytest.raises(ErrorReply) as refusal:
            connection.read_line(idle=60, line_seconds=0.2)
        over.set()
    assert refusal.value.code == "timeout"
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.0\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x16\x03",
        b"SSH-2.0-x\r\n",
        b"SSH-",
    ],
)
def test_another_protocol_is_known_as_soon_as_it_shows(pair: Pair, data: bytes) -> None:
    connection, peer = pair
    peer.sendall(data)
    with pytest.raises(ForeignProtocol):
        connection.read_line(5)


# --- bytes


def test_bytes_behind_a_line_are_handed_out_first(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"PUT\nabcdef")
    assert connection.read_line(5) == b"PUT"
    assert connection.has_input()
    buffer, got = memoryview(bytearray(4)), b""
    while len(got) < 6:
        count = connection.receive_into(buffer, StallGuard())
        got += buffer[:count]
    assert got == b"abcdef"
    assert not connection.has_input()
    peer.sendall(b"ghi")
    assert connection.receive_into(buffer, StallGuard()) == 3


def test_a_peer_that_closes_before_its_last_byte_is_gone(pair: Pair) -> None:
    connection, peer = pair
    peer.close()
    with pytest.raises(PeerGone):
        connection.receive_into(memoryview(bytearray(4)), StallGuard())


def test_all_bytes_are_sent_however_slowly_they_are_read(pair: Pair) -> None:
    connection, peer = pair
    data = bytes(range(256)) * 20_000
    with in_thread(lambda: connection.send(data)):
        got = bytearray()
        while len(got) < len(data):
            got += peer.recv(100_000)
    assert bytes(got) == data


def test_a_peer_that_takes_nothing_is_stalled(pair: Pair) -> None:
    connection, _ = pair
    with pytest.raises(Stalled):
        connection.send(bytes(50_000_000), StallGuard(limit=0.05))


def test_a_peer_that_gives_nothing_is_stalled(pair: Pair) -> None:
    with pytest.raises(Stalled):
        pair[0].receive_into(memoryview(bytearray(4)), StallGuard(limit=0.05))


def test_a_peer_that_closes_while_it_is_sent_to_is_gone(pair: Pair) -> None:
    connection, peer = pair
    with in_thread(peer.close), pytest.raises(PeerGone):
        connection.send(bytes(50_000_000))


def test_a_part_of_a_file_is_sent_a_piece_at_a_time(pair: Pair, tmp_path: Path) -> None:
    connection, peer = pair
    data = numbered_bytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    got = bytearray()

    def read() -> None:
        while len(got) < len(data) - 1000:
            got.extend(peer.recv(100_000))

    with in_thread(read), open(tmp_path / "a", "rb") as file:
        offset = 1000
        while sent := connection.send_file(file.fileno(), offset, len(data), StallGuard()):
            offset += sent
    assert offset == len(data)
    assert bytes(got) == data[1000:]


def test_an_error_of_the_file_is_no_peer_that_is_gone(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken_disk(*args: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "sendfile", broken_disk, raising=False)
    monkeypatch.setattr(os, "pread", broken_disk, raising=False)
    (tmp_path / "a").write_bytes(b"content")
    with open(tmp_path / "a", "rb") as file, pytest.raises(OSError, match="Input") as error:
        pair[0].send_file(file.fileno(), 0, 7, StallGuard())
    assert not isinstance(error.value, PeerGone)


def test_a_file_is_announced_before_the_disk_may_have_to_be_waited_for(pair: Pair, tmp_path: Path) -> None:
    (connection, peer), gossip = pair, Gossip(moment=0)
    (tmp_path / "a").write_bytes(b"content")
    connection.scheduler = gossip
    with open(tmp_path / "a", "rb") as file:
        assert connection.send_file(file.fileno(), 3, 100, StallGuard()) == 4
        assert connection.send_file(file.fileno(), 7, 100, StallGuard()) == 0
    assert gossip.heard == ["waits", "waits"]
    assert peer.recv(100) == b"tent"


def test_a_check_ends_a_send_before_its_next_byte(pair: Pair) -> None:
    def check() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        pair[0].send(b"x", check=check)
    with pytest.raises(InterruptedError):
        pair[0].receive_into(memoryview(bytearray(1)), StallGuard(), check)


def test_whether_the_peer_has_closed_is_seen_past_what_it_sends(pair: Pair) -> None:
    connection, peer = pair
    assert not connection.has_closed()
    peer.sendall(b"noise")
    wait_until(connection.has_input)
    assert not connection.has_closed()
    peer.close()
    wait_until(connection.has_closed)


def test_a_peer_that_always_sends_more_is_refused_and_not_read_for_ever(pair: Pair) -> None:
    connection, peer = pair
    for count in (module.NOISE_BYTES - 1, module.NOISE_BYTES):
        peer.sendall(bytes(count))
        # A record of TLS 1.3 has 22 bytes more than its content (RFC 8446, 5.2).
        records = -(-count // 16_384) if isinstance(peer, PeerSocket) else 0
        on_the_wire = count + 22 * records
        wait_until(lambda: len(socket_of(connection).recv(1 << 20, socket.MSG_PEEK)) == on_the_wire)  # noqa: B023
        if count < module.NOISE_BYTES:
            assert not connection.has_closed()
    with pytest.raises(ErrorReply) as refusal:
        connection.has_closed()
    assert (refusal.value.code, refusal.value.closes) == ("bad-request", True)


def test_whether_the_peer_has_reset_is_seen(pair: Pair) -> None:
    connection, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    wait_until(connection.has_closed)


# --- acknowledgement


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_bytes_are_acknowledged_when_the_peers_system_has_them(pair: Pair) -> None:
    connection, peer = pair
    connection.send(b"x" * 1000)
    connection.wait_acknowledged(StallGuard(limit=5))
    assert connection._transport.unacknowledged() == 0
    assert peer.recv(1000)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_bytes_that_our_system_has_taken_but_the_peer_has_not_are_waited_for(pair: Pair) -> None:
    connection, peer = pair
    _fill(connection)
    with pytest.raises(Stalled):
        connection.wait_acknowledged(StallGuard(limit=0.05))
    with in_thread(lambda: connection.wait_acknowledged(StallGuard(limit=5))):
        _drain(peer, connection)


def _fill(connection: Connection) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            socket_of(connection).send(bytes(1 << 20))


def _drain(peer: socket.socket, connection: Connection) -> None:
    while connection._transport.unacknowledged():
        socket.socket.recv(peer, 1 << 20)  # what fills it is no TLS


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_reset_that_empties_the_queue_is_no_acknowledgement(pair: Pair) -> None:
    connection, peer = pair
    _fill(connection)
    peer.close()  # with bytes unread: a reset
    with pytest.raises(PeerGone):
        connection.wait_acknowledged(StallGuard(limit=5))


def test_where_the_system_does_not_tell_what_it_has_taken_must_do(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unacknowledged, "SYSTEM_TELLS", False)
    connection, _ = pair
    _fill(connection)
    connection.wait_acknowledged(StallGuard(limit=0.05))


# --- waits that another thread ends


@pytest.mark.parametrize("end", [Connection.wake, Connection.stop_reading])
def test_another_thread_ends_a_wait_for_a_line(pair: Pair, end: Callable[[Connection], None]) -> None:
    connection, _ = pair
    lines: list[bytes | None] = []
    with in_thread(lambda: lines.append(connection.read_line(60))):
        end(connection)
    assert lines == [None]


def test_another_thread_ends_a_send(pair: Pair) -> None:
    connection, _ = pair
    ends: list[type[BaseException]] = []

    def send() -> None:
        try:
            connection.send(bytes(50_000_000))
        except PeerGone as error:
            ends.append(type(error))

    with in_thread(send):
        wait_until(lambda: not connection._transport.poll(WRITABLE, 0))
        connection.wake()
    assert ends == [PeerGone]


def test_who_has_stopped_reading_can_still_send(pair: Pair) -> None:
    connection, peer = pair
    connection.stop_reading()
    assert connection.read_line(5) is None
    connection.send(b"goodbye\n")
    assert peer.recv(100) == b"goodbye\n"


def test_who_has_stopped_reading_waits_for_a_slow_peer_without_using_the_processor(pair: Pair) -> None:
    connection, _ = pair
    connection.stop_reading()

    def send() -> None:
        with pytest.raises(Stalled):
            connection.send(bytes(50_000_000), StallGuard(limit=0.5))

    assert cpu_seconds_of(send) < 0.3


def test_a_breakable_wait_is_broken_off_and_the_peer_sees_no_end_of_the_stream(pair: Pair) -> None:
    connection, peer = pair
    broken = threading.Event()

    def check() -> None:
        if broken.is_set():
            raise InterruptedError

    def send() -> None:
        with connection.breakable(), pytest.raises(InterruptedError):
            connection.send(bytes(50_000_000), check=check)
        connection.reset()

    with in_thread(send):
        wait_until(lambda: not connection._transport.poll(WRITABLE, 0))
        broken.set()
        connection.break_off()
    with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):  # ssl tells them apart no further
        list(iter(lambda: peer.recv(1 << 20), b""))
    connection.close()  # as at the end of every session
    assert socket_of(connection).fileno() == -1


# --- closing


def test_a_last_reply_arrives_though_input_lies_unread(pair: Pair) -> None:
    connection, peer = pair
    peer.sendall(b"x" * 100_000)
    wait_until(connection.has_input)
    connection.send(b"ERR\n")
    with in_thread(connection.close):
        got = b""
        while data := peer.recv(100):
            got += data
        peer.close()
    assert got == b"ERR\n"


def test_a_close_lingers_for_a_moment_only(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.05)
    connection, peer = pair
    begun = time.monotonic()
    connection.close()
    assert 0.04 < time.monotonic() - begun < 2
    assert peer.recv(10) == b""


def test_a_close_takes_no_endless_stream(pair: Pair) -> None:
    connection, peer = pair

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.sendall(bytes(100_000))

    with in_thread(flood):
        connection.close()
    assert socket_of(connection).fileno() == -1


class Endless(socket.socket):
    """Always has one more byte, for three seconds; what it has really got stays unread."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.until = time.monotonic() + 3

    def recv(self, size: int, flags: int = 0) -> bytes:
        return b"x" * (time.monotonic() < self.until)

    def recv_into(self, *args: object, **kwargs: object) -> int:
        return int(time.monotonic() < self.until)


def test_a_close_lingers_for_a_moment_only_though_there_is_always_one_more_byte(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.05)
    connection, peer = pair
    peer.sendall(b"more")
    wait_until(connection.has_input)
    connection._transport.sock = Endless(socket_of(connection))
    begun = time.monotonic()
    connection.close()
    assert 0.04 < time.monotonic() - begun < 2


@pytest.mark.parametrize("pair", ["tls"], indirect=True)
def test_records_of_tls_itself_are_no_sign_of_life(pair: Pair) -> None:
    connection, peer = pair
    transport = connection._transport
    assert isinstance(transport, TlsTransport)
    peer.sendall(b"more")
    wait_until(connection.has_input)
    transport._tls = TlsOfItsOwn(transport)  # type: ignore[assignment]
    transport.sock = Endless(transport.sock)
    with pytest.raises(ErrorReply) as refusal:
        connection.read_line(0.1)
    assert refusal.value.code == "timeout"
    with pytest.raises(Stalled):
        connection.receive_into(memoryview(bytearray(1)), StallGuard(0.1))
    with pytest.raises(Stalled):
        connection.handshake(0.1)
    socket_of(connection).close()


# --- the threads beside it


class Gossip(NullScheduler):
    """Is told what a connection tells, and gives each wait a moment."""

    def __init__(self, moment: float) -> None:
        self.heard: list[str] = []
        self.moment = moment

    def before_blocking(self) -> None:
        self.heard.append("waits")

    def spin(self, is_ready: Callable[[float], bool]) -> bool:
        self.heard.append("in time" if is_ready(self.moment) else "too late")
        return self.heard[-1] == "in time"

    def answered_late(self, peer: socket.socket) -> None:
        wait_until(lambda: "waits" in self.heard)
        peer.sendall(b"one\n")


def test_what_comes_within_the_moment_is_not_waited_for(pair: Pair) -> None:
    (connection, peer), gossip = pair, Gossip(moment=5)
    connection.begin_request()  # what the handshake had to wait for is past
    connection.scheduler = gossip
    with in_thread(lambda: peer.sendall(b"one\n")):
        assert connection.read_line(5) == b"one"
    assert gossip.heard in (["in time"], [])  # nothing, if it was there at the first look
    assert not connection._waiter.has_waited


def test_after_the_moment_the_others_hear_that_it_waits(pair: Pair) -> None:
    (connection, peer), gossip = pair, Gossip(moment=0.001)
    connection.scheduler = gossip

    with in_thread(lambda: gossip.answered_late(peer)):
        assert connection.read_line(5) == b"one"
    assert gossip.heard == ["too late", "waits"]
    assert connection._waiter.has_waited


def test_bytes_that_nobody_wants_let_the_others_go_first(pair: Pair) -> None:
    (connection, peer), gossip = pair, Gossip(moment=5)
    connection.scheduler = gossip
    peer.sendall(b"x" * 100)
    with in_thread(connection.close):
        wait_until(lambda: gossip.heard[:2] == ["in time", "waits"])
        peer.close()


def test_a_descriptor_that_is_too_high_for_a_moment_is_waited_for_all_the_same() -> None:
    fcntl, resource = pytest.importorskip("fcntl"), pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    high = 1500  # select takes those below 1024
    if before[1] != resource.RLIM_INFINITY and before[1] <= high:
        pytest.skip("this system has no descriptor as high as that")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], high + 1), before[1]))
    ours, peer = socket.socketpair()
    try:
        raised = socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD, high))
        with ours, peer, raised:
            gossip = Gossip(moment=5)
            connection = Connection(PlainTransport(raised), "peer")
            connection.scheduler = gossip

            with in_thread(lambda: gossip.answered_late(peer)):
                assert connection.read_line(5) == b"one"
            assert gossip.heard == ["too late", "waits"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
