"""A bad line for tests: a TCP proxy whose connections break, each after so many bytes.

Every second one breaks abruptly, with a reset; the others look like an orderly end.
"""

import contextlib
import random
import selectors
import socket
import struct
import threading
from collections.abc import Iterator

_PIECE = 64 * 1024  # bytes
_SECONDS = 30.0  # without a byte, after which a connection is given up


def random_cuts(seed: int, count: int, most: int) -> Iterator[int]:
    """``count`` numbers of bytes from 1 to ``most``, the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        yield chance.randint(1, most)


@contextlib.contextmanager
def lossy_proxy(target_port: int, cuts: Iterator[int], host: str = "127.0.0.1") -> Iterator[int]:
    """The port of a proxy to ``target_port``.

    Each connection breaks when as many bytes as the next of ``cuts`` have gone through it, both ways counted;
    when there is none left, connections stay whole.
    """
    with socket.create_server((host, 0)) as listener:
        proxy = _Proxy(listener, (host, target_port), cuts)
        thread = threading.Thread(target=proxy.accept, name="LossyProxy")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            proxy.stop()
            thread.join()


class _Proxy:
    def __init__(self, listener: socket.socket, target: tuple[str, int], cuts: Iterator[int]) -> None:
        self._listener = listener
        self._target = target
        self._cuts = cuts
        self._lock = threading.Lock()
        self._lines: dict[_Line, threading.Thread] = {}
        self._stopping = False

    def accept(self) -> None:
        for number in range(1 << 30):
            try:
                client, _ = self._listener.accept()
            except OSError:  # stopped
                return
            line = _Line(client, next(self._cuts, None), abruptly=number % 2 == 1)
            thread = threading.Thread(target=self._carry, args=(line,), name=f"LossyLine-{number}")
            with self._lock:
                self._lines[line] = thread
                thread.start()
                if self._stopping:
                    line.stop()

    def _carry(self, line: "_Line") -> None:
        try:
            line.carry(self._target)
        finally:
            with self._lock:
                self._lines.pop(line)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        with self._lock:
            self._stopping = True
            threads = list(self._lines.values())
            for line in self._lines:
                line.stop()
        for thread in threads:
            thread.join()


class _Line:
    """One connection through the proxy, in one thread: nobody else closes its sockets."""

    def __init__(self, client: socket.socket, cut: int | None, abruptly: bool) -> None:
        self._client = client
        self._left = cut
        self._abruptly = abruptly
        self._waiter, self._waker = socket.socketpair()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def carry(self, target: tuple[str, int]) -> None:
        with self._client, self._waiter, self._waker, contextlib.suppress(OSError):
            self._client.settimeout(_SECONDS)
            with socket.create_connection(target, _SECONDS) as server:
                try:
                    self._pump(server)
                finally:
                    if self._left == 0 and self._abruptly:
                        for sock in (self._client, server):
                            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _pump(self, server: socket.socket) -> None:
        """Until both sides have ended, the line is cut, or the proxy stops."""
        to = {self._client: server, server: self._client}
        with selectors.DefaultSelector() as selector:
            for sock in (*to, self._waiter):
                selector.register(sock, selectors.EVENT_READ, sock)
            while self._left != 0 and len(selector.get_map()) > 1:
                ready = selector.select(_SECONDS)
                if not ready or any(key.fileobj is self._waiter for key, _ in ready):
                    return
                for key, _ in ready:
                    if not self._pass_on(key.data, to[key.data]):
                        selector.unregister(key.data)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> bool:
        """The bytes that are there, as many as may still pass; False at the end."""
        data = source.recv(_PIECE if self._left is None else min(_PIECE, self._left))
        if not data:
            if self._left != 0:
                target.shutdown(socket.SHUT_WR)
            return self._left == 0
        target.sendall(data)
        if self._left is not None:
            self._left -= len(data)
        return True
