"""What is left for an honest client beside one that floods: ``python -m benchmarks.flood [NAME …]``.

Run by hand; it takes some three seconds for each flood and writes nothing. The honest client asks for 10 KiB
again and again on a connection that it keeps. The other one sends without end, throws the answers away, and
comes back at once whenever it is cut off.
"""

import argparse
import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

from benchmarks.measure import random_file
from benchmarks.servers import Installation

SIZE = 10 * 1024  # bytes of the file
SECONDS = 2.0  # of one measurement
WARM_UP = 0.5
PIECE = 256 * 1024  # bytes that a flood sends at a time


@dataclass(frozen=True)
class Flood:
    """``first`` goes out once on each connection, ``again`` without end."""

    again: bytes
    first: bytes = b""


FLOODS = {
    "nobody": None,
    "PING": Flood(b"PING\n"),
    "HELP": Flood(b"HELP\n"),
    "errors": Flood(b"STAT missing\n"),
    "LF": Flood(b"\n"),
    "CR LF": Flood(b"\r\n"),
    "WATCH": Flood(b"x", b"WATCH\n"),
    "QUIT": Flood(b"x", b"QUIT\n"),
    "unknown": Flood(b"x\n"),
    "GET": Flood(b"GET small.bin\n"),
    "HEAD": Flood(b"HEAD /get/TICKET/small.bin HTTP/1.1\r\nHost: x\r\n\r\n"),
    "304": Flood(b"GET /get/TICKET/small.bin HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n"),
    "HTTP LF": Flood(b"\n", b"HEAD /get/TICKET/small.bin HTTP/1.1\r\nHost: x\r\n\r\n"),
}


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(FLOODS)}")
    names = parser.parse_args(words).names or list(FLOODS)
    if unknown := set(names) - FLOODS.keys():
        parser.error(f"there is no flood {min(unknown)}; there are: {', '.join(FLOODS)}")
    with running() as (port, ticket):
        print(f"{'flood':10} {'GETs/s':>8} {'longest':>10} {'connections':>12}")
        for name in names:
            with flooding(port, FLOODS[name], ticket) as connections:
                time.sleep(WARM_UP)
                rate, longest = honest(port)
            print(f"{name:10} {rate:8,.0f} {1000 * longest:7.1f} ms {connections.value:12,}", flush=True)


@contextlib.contextmanager
def running() -> Iterator[tuple[int, str]]:
    """The port of a file server, and a ticket for its file."""
    with tempfile.TemporaryDirectory(prefix="flood-") as home:
        installation = Installation(Path(home), Path(home) / "files")
        installation.migrate()
        random_file(installation.files / "small.bin", SIZE)
        code = (
            "from files_app.access import tickets; from fileserver.rights import Principal; "
            "print(tickets.make('small.bin', Principal('local', address='127.0.0.1')))"
        )
        made = subprocess.run(
            installation.manage("shell", "--no-imports", "-c", code),
            check=True,
            env={**os.environ, **installation.settings},
            capture_output=True,
            text=True,
        )
        with installation.server():
            yield installation.server_port, made.stdout.split()[-1]


def honest(port: int) -> tuple[float, float]:
    """Requests a second, and the longest time that one took."""
    count, longest = 0, 0.0
    with connected(port) as sock, sock.makefile("rb") as answers:
        begun = before = time.perf_counter()
        while before - begun < SECONDS:
            sock.sendall(b"GET small.bin\n")
            assert answers.readline().startswith(b"OK ")
            assert len(answers.read(SIZE)) == SIZE
            assert answers.readline().startswith(b"END ")
            now = time.perf_counter()
            count, longest, before = count + 1, max(longest, now - before), now
    return count / (before - begun), longest


@contextlib.contextmanager
def flooding(port: int, flood: "Flood | None", ticket: str) -> Iterator["Synchronized[int]"]:
    context = multiprocessing.get_context("spawn")
    connections = context.Value("i", 0)
    if flood is None:
        yield connections
        return
    first, again = (part.replace(b"TICKET", ticket.encode()) for part in (flood.first, flood.again))
    child = context.Process(target=_flood, args=(port, first, again * (PIECE // len(again)), connections))
    child.start()
    try:
        yield connections
    finally:
        child.terminate()
        child.join()


def _flood(port: int, first: bytes, again: bytes, connections: "Synchronized[int]") -> None:
    while True:
        with contextlib.suppress(OSError), connected(port) as sock:
            connections.value += 1
            drain = threading.Thread(target=_throw_away, args=(sock,), daemon=True)
            drain.start()
            sock.sendall(first)
            while True:
                sock.sendall(again)


def _throw_away(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 20):
            pass
        sock.shutdown(socket.SHUT_RDWR)


def connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


if __name__ == "__main__":
    main(sys.argv[1:])
