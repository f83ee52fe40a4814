"""Clients that are turned away with one sentence."""

import contextlib
import socket
import threading
import time
from collections import deque

MAX_OPEN = 64  # sockets
OPEN_SECONDS = 1.0


class Refusals:
    """For any thread. Their sockets stay open for a second, so that they can read why: closed at once, a
    request that lies unread would reset the connection, and the sentence with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: deque[tuple[float, socket.socket]] = deque()

    def add(self, sock: socket.socket, line: bytes) -> None:
        """Send ``line`` if that needs no waiting."""
        with contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(line)
            sock.shutdown(socket.SHUT_WR)
        with self._lock:
            self._open.append((time.monotonic() + OPEN_SECONDS, sock))
            if len(self._open) > MAX_OPEN:
                self._open.popleft()[1].close()

    def close_until(self, now: float) -> None:
        """Close those whose time is over at ``now`` (monotonic seconds)."""
        with self._lock:
            while self._open and self._open[0][0] <= now:
                self._open.popleft()[1].close()
