"""A websocket's other end, frame by frame (RFC 6455): as no library would send them."""

import contextlib
import socket
import struct
from typing import BinaryIO

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes = b"", *, last: bool = True, length: int | None = None) -> bytes:
    """Masked, with a mask of zeros. ``length``: another than that of the payload is said."""
    length = len(payload) if length is None else length
    first = bytes([(0x80 if last else 0) | opcode])
    if length < 126:
        return first + bytes([0x80 | length]) + bytes(4) + payload
    if length < 1 << 16:
        return first + bytes([0x80 | 126]) + struct.pack("!H", length) + bytes(4) + payload
    return first + bytes([0x80 | 127]) + struct.pack("!Q", length) + bytes(4) + payload


def upgrade(path: str, port: int) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: localhost:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Socket:
    """An open websocket to ``port`` on this machine."""

    def __init__(self, port: int, path: str, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(10)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect(("127.0.0.1", port))
            self.sock.sendall(upgrade(path, port))
            self._stream: BinaryIO = self.sock.makefile("rb")
            head = b"".join(iter(self._stream.readline, b"\r\n"))
            assert head.startswith(b"HTTP/1.1 101 "), head
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self) -> "Socket":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def fill(self, data: bytes, seconds: float = 0.3) -> int:
        """Send until nothing more is taken for a while, or it is closed; how many bytes were taken."""
        self.sock.settimeout(seconds)
        sent = 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < len(data):
                sent += self.sock.send(data[sent : sent + (1 << 18)])
        self.sock.settimeout(10)
        return sent

    def receive(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame; ``EOFError`` at the end."""
        head = self._stream.read(2)
        if len(head) < 2:
            raise EOFError
        length = head[1] & 0x7F
        if length == 126:
            length = struct.unpack("!H", self._stream.read(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self._stream.read(8))[0]
        return head[0] & 0x0F, self._stream.read(length)

    def wait_for(self, opcode: int) -> bytes:
        """The payload of the next frame of that kind; others are skipped."""
        while (found := self.receive())[0] != opcode:
            pass
        return found[1]

    def close_code(self) -> int:
        """With which the server closes."""
        code: int = struct.unpack("!H", self.wait_for(CLOSE)[:2])[0]
        return code
