"""What the transports promise to a connection: no wait, no lost byte, and no peer lost that is there."""

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from fileserver.net.polling import READABLE, WRITABLE, poll, poll_finely
from fileserver.net.stall import PeerGone
from fileserver.net.tls import TlsTransport
from fileserver.net.transport import PlainTransport, WouldBlock
from tests.certificates import TlsOfItsOwn, encrypted, server_context
from tests.servers import numbered_bytes, wait_until

Pair = tuple[TlsTransport, ssl.SSLSocket]


def sockets() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    peer.settimeout(5)
    return ours, peer


def shake_hands(transport: TlsTransport) -> None:
    while True:
        try:
            return transport.handshake()
        except WouldBlock as would:
            transport.poll(would.events, 5)


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, peer = sockets()
    transport = TlsTransport(ours, server_context())
    thread = threading.Thread(target=shake_hands, args=[transport])
    thread.start()
    with ours, encrypted(peer) as tls:
        thread.join()
        yield transport, tls


def overfill(transport: TlsTransport) -> int:
    """Send until the system does not take a whole piece; how many bytes of content were taken."""
    count, events = 0, 0
    while not events:
        try:
            count += transport.send(bytes(1 << 20))
            while transport.unsent():
                transport.flush()
        except WouldBlock as would:
            events = would.events
    assert events == WRITABLE
    return count


def test_a_wait_is_no_error_of_the_network() -> None:
    """``ssl`` raises an OSError for it: whoever takes that for a lost peer drops a healthy one."""
    assert not issubclass(WouldBlock, OSError)


def test_what_must_be_waited_for_is_told() -> None:
    ours, peer = sockets()
    with ours, peer:
        for transport in (PlainTransport(ours), TlsTransport(ours, server_context())):
            with pytest.raises(WouldBlock) as would:
                transport.recv(1)
            assert would.value.events == READABLE


def test_a_piece_that_was_given_up_leaves_whole_before_the_next_line(pair: Pair) -> None:
    """A record that has begun cannot be taken back: without its rest the peer could read nothing more."""
    transport, peer = pair
    count = overfill(transport)
    got = bytearray()

    def read() -> None:
        while not got.endswith(b"ERR\n"):
            got.extend(peer.recv(1 << 20))

    thread = threading.Thread(target=read)
    thread.start()
    line = b"ERR\n"
    while line or transport.unsent():
        try:
            line = line[transport.send(line) :] if line else line
            transport.flush()
        except WouldBlock as would:
            transport.poll(would.events, 5)
    thread.join()
    assert len(got) == count + 4


def test_an_answer_of_tls_itself_that_does_not_fit_is_waited_for_beside_the_next_bytes(pair: Pair) -> None:
    transport, peer = pair
    overfill(transport)
    with pytest.raises(WouldBlock) as would:
        transport.recv(1)
    assert would.value.events == READABLE | WRITABLE
    peer.sendall(b"x")
    wait_until(lambda: transport.poll(READABLE, 0))
    assert transport.recv(10) == b"x"


def test_what_is_decrypted_already_is_told_though_no_poll_sees_it(pair: Pair) -> None:
    transport, peer = pair
    data = numbered_bytes(10_000)
    peer.sendall(data)
    wait_until(lambda: transport.poll(READABLE, 0))
    got = wait_until(lambda: transport.recv(100))
    assert not transport.poll(READABLE, 0)
    assert transport.pending() == len(data) - 100
    buffer = memoryview(bytearray(len(data)))
    assert transport.recv_into(buffer) == len(data) - 100
    assert got + buffer[: len(data) - 100] == data
    assert transport.pending() == 0


class Flooded(socket.socket):
    """Always has 1,000 bytes more, up to 20 million of them."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(fileno=sock.detach())
        self.setblocking(False)
        self.left = 20_000_000

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.left -= 1000
        return bytes(1000 if self.left >= 0 else 0)


def test_a_read_returns_although_the_peer_sends_records_of_tls_itself_without_end() -> None:
    """The limits of time are looked at between two reads."""
    ours, peer = sockets()
    with Flooded(ours) as flooded, peer:
        transport = TlsTransport(flooded, server_context())
        transport._tls = TlsOfItsOwn(transport)  # type: ignore[assignment]
        with pytest.raises(WouldBlock) as would:
            transport.recv(1)
        assert would.value.events & READABLE
        assert flooded.left > 0


def test_a_peer_that_takes_no_answers_is_not_read_further() -> None:
    """The answers would fill the memory."""
    ours, peer = sockets()
    with Flooded(ours) as flooded, peer:
        transport = TlsTransport(flooded, server_context())
        transport._tls = TlsOfItsOwn(transport)  # type: ignore[assignment]
        events = READABLE
        while events & READABLE:
            with pytest.raises(WouldBlock) as would:
                transport.recv(1)
            events = would.value.events
            assert transport.unsent() < 1_200_000
        assert events == WRITABLE
        assert flooded.left > 0


def test_bytes_that_were_changed_on_the_way_are_a_peer_that_is_gone(pair: Pair) -> None:
    transport, peer = pair
    socket.socket.send(peer, b"\x17\x03\x03\x00\x20" + bytes(32))
    wait_until(lambda: transport.poll(READABLE, 0))
    with pytest.raises(PeerGone):
        transport.recv(1)


@pytest.mark.parametrize("has_poll", [True, False])
@pytest.mark.parametrize("wait", [poll, poll_finely])
def test_either_of_two_events_ends_a_poll(
    monkeypatch: pytest.MonkeyPatch, has_poll: bool, wait: Callable[[socket.socket, int, float], bool]
) -> None:
    if not has_poll:
        monkeypatch.delattr(select, "poll", raising=False)
    ours, peer = sockets()
    with ours, peer:
        assert wait(ours, WRITABLE, 0)
        assert wait(ours, READABLE | WRITABLE, 0)
        assert not wait(ours, READABLE, 0)
        assert not wait(ours, 0, 0)
        peer.send(b"x")
        assert wait(ours, READABLE, 5)
