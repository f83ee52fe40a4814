"""What a connection asks of its transport: bytes in, bytes out, and the endings. Nothing here waits.

A call that would block raises ``WouldBlock`` with the events to wait for; the caller waits and calls again.
``PlainTransport`` is the socket itself, ``TlsTransport`` (in ``tls``) encrypts. The socket below is the same:
what other threads may call acts on it alone, never on the state of the encryption, which has no lock.
"""

import errno
import os
import socket
import struct
import sys
from abc import ABC, abstractmethod

from fileserver.net.polling import READABLE, WRITABLE, poll, poll_finely
from fileserver.net.stall import PeerGone
from fileserver.net.unacknowledged import unacknowledged_bytes

_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
# Beside ConnectionError and TimeoutError, these of the network say that nobody is there any more.
_GONE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENOTCONN, errno.ESHUTDOWN}


class WouldBlock(Exception):
    """Nothing moves until the socket is ready for one of ``events``.

    Not an ``OSError`` as those of ``socket`` and ``ssl`` are: who takes every OSError for a lost peer would
    drop a healthy one.
    """

    def __init__(self, events: int) -> None:
        super().__init__(events)
        self.events = events


class Transport(ABC):
    """Owned by one thread; only ``stop`` and ``stop_receiving`` are for others."""

    sends_files = False  # whether there is a ``sendfile``

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock

    # --- bytes

    @abstractmethod
    def handshake(self) -> None:
        """Agree with the peer on how to talk."""

    @abstractmethod
    def recv(self, size: int) -> bytes:
        """The next bytes, ``size`` at most; none at the end of the stream. Raises ``PeerGone``."""

    @abstractmethod
    def recv_into(self, view: memoryview) -> int:
        """Put the next bytes into ``view``; how many, 0 at the end of the stream. Raises ``PeerGone``."""

    @abstractmethod
    def send(self, data: bytes | memoryview) -> int:
        """How many bytes were taken. Raises ``PeerGone``."""

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """How many bytes of an open file were taken. Raises ``PeerGone``, and what the file itself raises."""
        raise NotImplementedError

    def unsent(self) -> int:
        """Bytes that ``send`` has taken and the system has not: they wait for ``flush``."""
        return 0

    def flush(self) -> int:
        """Send some of ``unsent``; how many bytes. Raises ``PeerGone``."""
        return 0

    def pending(self) -> int:
        """Bytes that have come in but are no longer in the socket: no poll sees them."""
        return 0

    def recv_raw_into(self, view: memoryview) -> int:
        """The same as ``recv_into``, but of what is on the wire, for bytes that nobody will read."""
        try:
            return self.sock.recv_into(view)
        except BlockingIOError:
            raise WouldBlock(READABLE) from None
        except OSError as error:
            raise PeerGone(str(error)) from error

    def _send_raw(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except BlockingIOError:
            raise WouldBlock(WRITABLE) from None
        except OSError as error:
            if _is_peer_gone(error):
                raise PeerGone(str(error)) from error
            raise

    # --- the state of the socket

    def poll(self, events: int, seconds: float) -> bool:
        return poll(self.sock, events, seconds)

    def poll_finely(self, events: int, seconds: float) -> bool:
        return poll_finely(self.sock, events, seconds)

    def unacknowledged(self) -> int:
        return unacknowledged_bytes(self.sock.fileno())

    def is_broken(self) -> bool:
        return bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    # --- ending

    def stop(self) -> None:
        """From any thread: end both directions, and with them every wait. Raises ``OSError``."""
        self.sock.shutdown(socket.SHUT_RDWR)

    def stop_receiving(self) -> None:
        """From any thread: what comes next is the end of the stream. Raises ``OSError``."""
        self.sock.shutdown(socket.SHUT_RD)

    def finish_sending(self) -> None:
        """Tell the peer that nothing more will come. Raises ``OSError``."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the peer sees a break. Raises ``OSError``."""
        with self.sock:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    def close(self) -> None:
        self.sock.close()


class PlainTransport(Transport):
    """The bytes as they are."""

    @property
    def sends_files(self) -> bool:  # type: ignore[override]
        return hasattr(os, "sendfile")

    def handshake(self) -> None:
        pass

    def recv(self, size: int) -> bytes:
        try:
            return self.sock.recv(size)
        except BlockingIOError:
            raise WouldBlock(READABLE) from None
        except OSError as error:
            raise PeerGone(str(error)) from error

    def recv_into(self, view: memoryview) -> int:
        return self.recv_raw_into(view)

    def send(self, data: bytes | memoryview) -> int:
        return self._send_raw(data)

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        try:
            return os.sendfile(self.sock.fileno(), fd, offset, count)
        except BlockingIOError:
            raise WouldBlock(WRITABLE) from None
        except OSError as error:
            if _is_peer_gone(error):
                raise PeerGone(str(error)) from error
            raise  # of the file


def _is_peer_gone(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in _GONE
