"""TLS over a socket, as the server speaks it.

OpenSSL works in memory here (``ssl.MemoryBIO``) and never touches the socket. So a thread may shut the socket
down while its owner encrypts (``SSLSocket.shutdown`` would make the owner continue in plain text), the end of
the stream is ours to judge, and 256 KiB leave in one system call instead of sixteen. ``ssl`` releases the
interpreter while it encrypts.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from fileserver.net.polling import READABLE, WRITABLE
from fileserver.net.stall import PeerGone
from fileserver.net.transport import Transport, WouldBlock
from fileserver.wire.http import Refused, is_http, sentence_of
from fileserver.wire.replies import ErrorReply

T = TypeVar("T")

# Of TLS 1.2: a new key for each connection, and encryption that authenticates; all of TLS 1.3 is like that.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
PLAIN_TEXT = range(0x20, 0x7F)  # the first bytes of lines and of HTTP; TLS begins with 0x16 (RFC 8446, 5.1)
_SPEAKS_TLS = "This port speaks TLS, and no plain text: "

_RECEIVE_SIZE = 256 * 1024  # bytes of the wire that are taken at once
_SEND_SIZE = 1 << 20  # bytes that are encrypted at once, at most: their copy stays until the peer takes them
_MAX_UNSENT = _SEND_SIZE + 64 * 1024  # bytes: one such piece encrypted, and some answers of TLS itself


def server_context(certificate: str | Path, key: str | Path) -> ssl.SSLContext:
    """Of a server with these files (PEM). Raises ``OSError``, or ``ssl.SSLError`` for what is of no use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Without a password of ours the one of a locked key would be asked for at the terminal.
    context.load_cert_chain(certificate, key, password="")
    return context


class _EndOfStream(PeerGone):
    """The peer sends no more. For a read that is an answer, for a handshake it is the end."""


class TlsTransport(Transport):
    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = memoryview(b"")  # encrypted; comes before what is in ``_outgoing``
        self._is_new = True  # nothing has come yet
        self._has_said_goodbye = False

    # --- bytes

    def handshake(self) -> None:
        self._run(self._tls.do_handshake)
        self._flush_all()

    def recv(self, size: int) -> bytes:
        try:
            return self._run(lambda: self._tls.read(size))
        except _EndOfStream:
            return b""

    def recv_into(self, view: memoryview) -> int:
        try:
            # With a buffer the answer is a count; the types know only the other form.
            return self._run(lambda: self._tls.read(len(view), view))  # type: ignore[return-value]
        except _EndOfStream:
            return 0

    def send(self, data: bytes | memoryview) -> int:
        # First what is left of the last piece: a record that has begun must leave as it is.
        self._flush_all()
        return self._run(lambda: self._tls.write(data[:_SEND_SIZE]))

    def unsent(self) -> int:
        return len(self._unsent) + self._outgoing.pending

    def flush(self) -> int:
        if not self._unsent:
            self._unsent = memoryview(self._outgoing.read())
        sent = self._send_raw(self._unsent)
        self._unsent = self._unsent[sent:]
        return sent

    def pending(self) -> int:
        return self._tls.pending() + self._incoming.pending

    def _flush_all(self) -> None:
        while self.unsent():
            self.flush()

    def _run(self, step: Callable[[], T]) -> T:
        """Do a step of OpenSSL, and give it the bytes of the peer that it wants for that, but only once.

        A peer may send records for TLS itself without end, new keys for example (RFC 8446, 4.6.3). The caller
        looks at its limits between two calls, so each call has to return.
        """
        for may_feed in (True, False):
            try:
                return step()
            except ssl.SSLWantReadError:
                # A read may need a write: an answer of the handshake, a new key. A peer that waits for that
                # sends nothing before it has it.
                self._flush_what_fits()
                if may_feed:
                    self._feed()
            except ssl.SSLZeroReturnError as error:
                raise _EndOfStream("The peer has closed.") from error
            except ssl.SSLError as error:
                self._flush_what_fits()  # the alert that says why
                raise PeerGone(str(error)) from error
        raise self._would_block()

    def _feed(self) -> None:
        """Hand the next bytes of the wire to OpenSSL."""
        # Memory has no end, as the buffer of a socket has: a peer that wants answers but takes none would
        # fill it.
        if self.unsent() > _MAX_UNSENT:
            raise WouldBlock(WRITABLE)
        try:
            data = self.sock.recv(_RECEIVE_SIZE)
        except BlockingIOError:
            raise self._would_block() from None
        except OSError as error:
            raise PeerGone(str(error)) from error
        # OpenSSL is not told of the end: it would take one without a close_notify for an attack, and refuse
        # to send. Yet a peer may close its side and read on, and after ``stop_receiving`` we have a last line
        # to send. Nothing is mistaken for whole: each length is known before.
        if not data:
            raise _EndOfStream("The peer closed without a word.")
        if self._is_new and data[0] in PLAIN_TEXT:
            self._refuse_plain_text(data)
        self._is_new = False
        self._incoming.write(data)

    def _refuse_plain_text(self, data: bytes) -> None:
        """Say in plain text, to whoever has begun in it, what is spoken here."""
        self._has_said_goodbye = True
        with contextlib.suppress(WouldBlock, OSError):
            self._send_raw(_plain_refusal(data))
        raise PeerGone("The peer does not speak TLS.")

    def _would_block(self) -> WouldBlock:
        return WouldBlock(READABLE | WRITABLE if self.unsent() else READABLE)

    def _flush_what_fits(self) -> None:
        with contextlib.suppress(WouldBlock, OSError):
            self._flush_all()

    # --- ending

    def finish_sending(self) -> None:
        self._say_goodbye()
        super().finish_sending()

    def close(self) -> None:
        self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        """Send a close_notify if the socket takes it at once; nobody waits for the peer's."""
        if not self._has_said_goodbye:
            self._has_said_goodbye = True
            with contextlib.suppress(ssl.SSLError):  # it wants the peer's, or there was no handshake
                self._tls.unwrap()
            self._flush_what_fits()


def _plain_refusal(data: bytes) -> bytes:
    if is_http(data.partition(b"\r\n")[0]):
        return sentence_of(Refused(400, f"{_SPEAKS_TLS}open the address of the web page instead."))
    error = ErrorReply("bad-request", f"{_SPEAKS_TLS}the commands take --tls for it.")
    return error.line()
