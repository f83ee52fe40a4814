"""Ours and all peers with the same folder of files, for the scenarios of downloads."""

import contextlib
import hashlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ftplib import FTP
from pathlib import Path
from socket import MSG_TRUNC
from urllib.parse import urlsplit

from benchmarks import peers
from benchmarks.load import LoadFailed
from benchmarks.measure import MEBIBYTE, Contender, Run, random_file, timed
from benchmarks.result import Bench
from benchmarks.servers import Installation, ours
from fileserver.client.blocking import Client

OURS = "this server"
PIECE = 256 * 1024
SIZES = {
    "big.bin": (1024 * MEBIBYTE, 4 * MEBIBYTE),
    "middle.bin": (16 * MEBIBYTE, MEBIBYTE),
    "small.bin": (10 * 1024, 10 * 1024),
}


@dataclass(frozen=True)
class Stand:
    """Files are made, and their content is compared, when a scenario first asks for them."""

    bench: Bench
    files: Path
    ours: Installation
    ports: dict[str, int]  # of the peers that are here

    def size(self, name: str) -> int:
        full, quick = SIZES[name]
        return self.bench.pick(full, quick)

    def make(self, name: str) -> None:
        if not (self.files / name).exists():
            random_file(self.files / name, self.size(name))
            check_content(self, name)

    def tcp(self, name: str, **options: int) -> Contender:
        """Our own protocol."""
        return self._loading(OURS, "cfs", self.ours.server_port, name, name, options)

    def http(self, names: list[str], name: str, **options: int) -> list[Contender]:
        """Those of the peers ``names`` that are here."""
        here = [peer for peer in names if peer in self.ports]
        return [self._loading(peer, "http", self.ports[peer], f"/{name}", name, options) for peer in here]

    def relayed(self, name: str, **options: int) -> Contender:
        """Through our site."""
        return self._loading(OURS, "http", self.ours.web_port, f"/files/{name}", name, options)

    def straight(self, name: str) -> Contender | None:
        """What a browser's link does: the site is asked, and sends it on to the server; both are counted."""
        self.make(name)
        if self._link(name) is None:
            return None

        def run() -> Run:
            asked = timed(lambda: found.append(self._link(name)), 0)
            link = found.pop()
            assert link is not None, "the site has stopped to send browsers on to the server"
            return _after(asked, self.bench.load("http", *link, length=self.size(name)))

        found: list[tuple[int, str] | None] = []
        return Contender(OURS, run)

    def ftp(self, name: str) -> list[Contender]:
        """pyftpdlib, if it is here; its bytes are thrown away in the same manner."""
        port = self.ports.get(peers.PYFTPDLIB.name)
        run = lambda: timed(lambda: _retrieve(port, name, self.size(name)), self.size(name))  # noqa: E731
        return [Contender(peers.PYFTPDLIB.name, run)] if port else []

    def _loading(
        self, who: str, protocol: str, port: int, target: str, name: str, options: dict[str, int]
    ) -> Contender:
        self.make(name)

        def run() -> Run:
            return self.bench.load(protocol, port, target, length=self.size(name), **options)

        return Contender(who, run)

    def _link(self, name: str) -> tuple[int, str] | None:
        """Port and path of the direct download, which had another name once; ``None`` if there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ours.web_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", f"/files/{name}?direct=1&straight=1")
            location = urlsplit(connection.getresponse().headers["Location"] or "")
        if not location.port:
            return None
        return location.port, location.path + (f"?{location.query}" if location.query else "")


def _after(first: Run, then: Run) -> Run:
    seconds, cpu = first.seconds + then.seconds, first.cpu + then.cpu
    return Run(seconds, then.bytes, then.requests, cpu, seconds, seconds, seconds, seconds, seconds)


def _retrieve(port: int | None, name: str, size: int) -> None:
    with FTP() as ftp:
        ftp.connect("127.0.0.1", port or 0)
        ftp.login()
        ftp.voidcmd("TYPE I")  # else it turns LF into CR LF
        data, left = ftp.transfercmd(f"RETR {name}"), size
        with data:
            buffer = bytearray(MEBIBYTE)
            while piece := data.recv_into(buffer, MEBIBYTE, MSG_TRUNC):
                left -= piece
        ftp.voidresp()
    if left:
        raise LoadFailed(f"pyftpdlib sent {size - left} of {size} bytes")


@contextlib.contextmanager
def downloads(bench: Bench) -> Iterator[Stand]:
    files = bench.home / "files"
    files.mkdir()
    with contextlib.ExitStack() as running:
        installation = running.enter_context(ours(bench.home, files))
        wanted = [peer for peer in peers.PEERS if peer is not peers.UPLOADSERVER and peers.is_here(peer)]
        ports = {peer.name: running.enter_context(peer.start(bench.home, files)) for peer in wanted}
        yield Stand(bench, files, installation, ports)


def check_content(stand: Stand, name: str) -> None:
    """The measuring client throws the bytes away unseen, so they are looked at once, before."""
    with (stand.files / name).open("rb") as file:
        right = hashlib.file_digest(file, "sha256").hexdigest()
    for who, pieces in _ways(stand, name):
        digest = hashlib.sha256()
        for piece in pieces():
            digest.update(piece)
        if digest.hexdigest() != right:
            raise LoadFailed(f"{who} sends another {name} than the one on the disk")


def _ways(stand: Stand, name: str) -> Iterator[tuple[str, Callable[[], Iterator[bytes | memoryview]]]]:
    yield OURS, lambda: _by_tcp(stand.ours.server_port, name)
    yield f"{OURS}, relayed", lambda: _by_http(stand.ours.web_port, f"/files/{name}")
    for peer, port in stand.ports.items():
        if peer != peers.PYFTPDLIB.name:
            yield peer, lambda port=port: _by_http(port, f"/{name}")  # type: ignore[misc]


def _by_tcp(port: int, name: str) -> Iterator[memoryview]:
    with Client("127.0.0.1", port) as client:
        yield from client.get(name)


def _by_http(port: int, path: str) -> Iterator[bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        while piece := answer.read(PIECE):
            yield piece
