"""CFS/1 from the other side, blocking: for commands, tests and scripts.

One ``Client`` is one connection and belongs to one thread. Refusals are ``ErrorReply``; a connection that
breaks is ``ConnectionError``. A download is whole only when its iterator has ended without an error.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from fileserver.pacing import Pace
from fileserver.wire.fields import MAX_LIST
from fileserver.wire.lines import DEFAULT_PORT, Fields, request_line
from fileserver.wire.replies import BadReply, ErrorReply, parse_bare, parse_reply

CHUNK = 256 * 1024  # bytes of a read
# Bytes of a send. Long ones spare two processes on one machine half of their waiting for each other; but what
# takes long to leave is sent in shorter ones, for the sake of a progress bar.
PIECES = (64 * 1024, 2 << 20)
PIECE_SECONDS = 0.1
SEND_BUFFER = 1 << 20  # bytes on their way, between two ends on one machine
# A server that has all bytes may have to flush many of them to a slow disk before it answers.
PUBLISH_TIMEOUT = 600.0  # seconds
TIMEOUT = 90.0  # seconds without a byte; the server itself gives up after 60


class Readable(Protocol):
    """A file that is open for reading in binary mode, or anything that fills a buffer as one does."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Incomplete(ConnectionError):
    """The connection ended before ``END``: what has arrived is a part."""


class TlsBroken(Incomplete):
    """What arrives is no TLS, or not its end."""


@contextlib.contextmanager
def _tls_breaks() -> Iterator[None]:
    """A fault of TLS after the handshake is a break like any other; for ``ssl`` it is no ConnectionError."""
    try:
        yield
    except ssl.SSLError as error:
        raise TlsBroken(f"TLS broke off ({error.reason or error}).") from error


def keep_short(sock: socket.socket, count: int) -> None:
    """Let only ``count`` bytes be on their way if both ends are on one machine; a network needs more.

    With the megabytes that Linux allows each byte comes from memory and not from the cache, and the last ones
    are answered late: 1 GiB takes half as long again.
    """
    with contextlib.suppress(OSError):  # of a peer that is gone: the next send will fail
        if sock.getpeername()[0] == sock.getsockname()[0]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, count)


class Download:
    """A running ``GET``: the fields of its header, and its bytes by iteration."""

    def __init__(self, client: "Client", header: Fields) -> None:
        self._client = client
        self.id: int = header["id"]
        self.name: str = header["name"]
        self.size: int = header["size"]
        self.offset: int = header["offset"]
        self.length: int = header["length"]
        self.etag: str = header["etag"]
        self.sha256: str | None = header["sha256"]

    def __iter__(self) -> Iterator[memoryview]:
        """Pieces of the content, each valid until the next is asked for. Raises ``Incomplete``."""
        buffer = memoryview(bytearray(min(CHUNK, max(1, self.length))))
        left = self.length
        while left:
            count = self._client._read_into(buffer[: min(left, len(buffer))])
            if not count:
                raise Incomplete(f"The connection ended with {left} of {self.length} bytes missing.")
            left -= count
            yield buffer[:count]
        self._client._read_reply()


class Client:
    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        token: str | None = None,
        timeout: float = TIMEOUT,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect, with ``tls`` encrypted. Raises ``OSError`` when nobody listens there, or not whom ``tls``
        trusts (``ssl.SSLError``)."""
        self._sock = socket.create_connection((host, port), timeout)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self._sock = _encrypted(self._sock, tls, host)
        self._input = self._sock.makefile("rb", CHUNK)
        if token is not None:
            try:
                self.request("AUTH", token=token)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._input.close()
        self._sock.close()

    # --- requests

    def request(self, verb: str, **fields: Any) -> Fields:
        """Send one request and read its ``OK``; fields that are ``None`` are left out."""
        given = {key: value for key, value in fields.items() if value is not None}
        with _tls_breaks():
            self._sock.sendall(request_line(verb, **given))
        if verb != "PUT":
            return self._read_reply()
        # To resume a long upload, the server may have to read all that it has of it.
        return self._read_late_reply()

    def files(self, prefix: str = "", unread: Callable[[int], None] = lambda count: None) -> Iterator[Fields]:
        """All files, page by page, as ``{"name", "size", "mtime"}``.

        ``unread`` is called with folders and files that the server could not read, with their number.
        """
        after, more = "", True
        while more:
            # The server reads a folder anew for each page: of a large one, few large pages are cheapest.
            head = self.request("LIST", prefix=prefix, after=after, limit=MAX_LIST)
            more = head["more"]
            if "unread" in head:
                unread(head["unread"])
            for _ in range(head["count"]):
                entry = parse_bare(self._read_line())
                after = entry["name"]
                yield entry

    def get(
        self,
        name: str,
        *,
        offset: int = 0,
        length: int | None = None,
        etag: str | None = None,
        pace: Pace | None = None,
    ) -> Download:
        wire_pace = pace.as_json() if pace else None
        return Download(
            self, self.request("GET", name=name, offset=offset, length=length, etag=etag, pace=wire_pace)
        )

    def put(self, name: str, source: "Readable", size: int, **fields: Any) -> Fields:
        """Upload from ``source``; the fields of ``END``. ``fields`` are further ones of ``PUT``.

        What is sent are the bytes that are missing, or ``length`` of them; ``Incomplete`` if there are fewer.
        """
        begun = self.request("PUT", name=name, size=size, **fields)
        left, most = size - begun["offset"], fields.get("length")
        return self.send_body(source, left if most is None else min(most, left))

    def send_body(
        self, source: "Readable", length: int, sent: Callable[[memoryview], None] = lambda piece: None
    ) -> Fields:
        """The bytes of a ``PUT`` that was answered ``OK``, then its ``END``.

        ``sent`` gets each piece when it is on its way: what it does, hashing say, is done meanwhile.
        A piece is valid until ``sent`` returns.
        """
        keep_short(self._sock, SEND_BUFFER)
        size, most = PIECES
        buffer, left = memoryview(bytearray(min(most, max(1, length)))), length
        try:
            while left:
                count = source.readinto(buffer[: min(left, size)])
                if not count:
                    raise Incomplete(f"The source ended with {left} of {length} bytes missing.")
                begun = time.monotonic()
                with _tls_breaks():
                    self._sock.sendall(buffer[:count])
                is_quick = time.monotonic() - begun < PIECE_SECONDS
                size = min(most, 2 * size) if is_quick else max(PIECES[0], size // 2)
                left -= count
                sent(buffer[:count])
        except (BrokenPipeError, ConnectionResetError, TlsBroken) as error:
            # The server may have said why before it closed.
            try:
                return self._read_reply()
            except (OSError, BadReply):
                raise error from None
        return self._read_late_reply()

    def watch(self) -> Iterator[Fields]:
        """Event lines, without end. Nothing else can be asked on this connection afterwards."""
        self.request("WATCH")
        while True:
            line = self._read_line()
            if line.startswith(b"ERR "):
                parse_reply(line)
            yield parse_bare(line)

    # --- the wire

    def _read_reply(self) -> Fields:
        return parse_reply(self._read_line())

    def _read_late_reply(self) -> Fields:
        usual = self._sock.gettimeout()
        self._sock.settimeout(PUBLISH_TIMEOUT)
        try:
            return self._read_reply()
        finally:
            self._sock.settimeout(usual)

    def _read_line(self) -> bytes:
        with _tls_breaks():
            line = self._input.readline()
        if not line.endswith(b"\n"):
            raise Incomplete("The server closed the connection.")
        return line[:-1]

    def _read_into(self, view: memoryview) -> int:
        """How many bytes; 0 at the end of the connection. The server resets one whose download it stops."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            return self._input.readinto1(view)  # type: ignore[attr-defined,no-any-return]
        return 0


def _encrypted(sock: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """After the handshake; ``sock`` is closed if that fails."""
    try:
        return tls.wrap_socket(sock, server_hostname=host)
    except ssl.SSLEOFError as error:
        sock.close()
        raise TlsBroken("The server closed before TLS began; it may have all its clients.") from error
    except BaseException:
        sock.close()
        raise


__all__ = ["Client", "Download", "ErrorReply", "Incomplete"]
