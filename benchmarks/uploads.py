"""1 GiB to the server: by our command beside ``cp``, and over HTTP beside other servers."""

import contextlib
import hashlib
import http.client
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from benchmarks import peers
from benchmarks.load import LoadFailed
from benchmarks.measure import MEBIBYTE, Contender, random_file, ratio, take_turns, timed
from benchmarks.result import Bench, Family, Result, Scenario, Target, bytes_table, ratio_to_best
from benchmarks.servers import Installation, ours

PART = 64 * MEBIBYTE  # of one request, as static/js/upload/tus.js has it
COPYPARTY = f"{peers.COPYPARTY.name}, curl -T"
CP = "cp and fsync"
CP_AND_HASHES = "cp, fsync, SHA-256 twice"
UPLOADSERVER = f"{peers.UPLOADSERVER.name}, curl -F"


@dataclass(frozen=True)
class Stand:
    bench: Bench
    source: Path
    ours: Installation

    @property
    def size(self) -> int:
        return self.source.stat().st_size

    def contender(self, name: str, send: Callable[[], object], target: Path) -> Contender:
        """``target`` is where the file must be when ``send`` returns."""

        def run() -> None:
            send()
            if target.stat().st_size != self.size:
                raise LoadFailed(f"{name}: {target.stat().st_size} of {self.size} bytes are there")

        # What the client needs of the processor tells nothing here: it hashes and copies, as it should.
        measured = lambda: replace(timed(run, self.size), cpu=0.0)  # noqa: E731
        return Contender(name, measured, lambda: _make_room(target))


def _make_room(target: Path) -> None:
    target.unlink(missing_ok=True)
    os.sync()  # so that nobody pays for what another has left for the disk to do


@contextlib.contextmanager
def stand(bench: Bench) -> Iterator[Stand]:
    source = random_file(bench.home / "source.bin", bench.pick(1024, 4) * MEBIBYTE)
    with ours(bench.home, bench.home / "ours") as installation:
        yield Stand(bench, source, installation)


def by_command(stand: Stand) -> Result:
    """The command runs in this process, so that the start of an interpreter is not counted."""
    upload, copy = stand.ours.files / "command.bin", stand.bench.home / "copy.bin"
    send = _command(stand)
    contenders = [
        stand.contender("manage.py upload", send, upload),
        stand.contender(CP, lambda: _copy(stand.source, copy), copy),
        stand.contender(CP_AND_HASHES, lambda: _copy_and_hash_twice(stand.source, copy), copy),
    ]
    rounds = take_turns(contenders, stand.bench.rounds)
    copy.unlink()
    command, plain, bound = rounds
    target = Target("≥ 0.8 of cp with fsync", ratio(command, plain), 0.8)
    return bytes_table(rounds, [target], [_BOUND.format(ratio(bound, plain))])


_BOUND = (
    "The last line is a bound and no contender: no server, no socket, only what `cp` does while the file's "
    "SHA-256 is computed twice beside it, as both ends of an upload must. It reaches {:.2f} of `cp`; an "
    "upload moves the bytes through a socket too. Tried, and not better than to read, send, receive, write "
    "and hash one piece after another in each process: a second thread that hashes, hashing from mapped "
    "memory, `sendfile` in the client, `splice` in the server, `fallocate`, `SO_RCVLOWAT`. Kept: the disk "
    "begins while the bytes come, pieces of 2 MiB (0.47 of `cp` with shorter ones), and a short buffer "
    "of the socket (in turns with a long one: 1.3 s in place of 1.8). Where rounds differ by 2 times, `perf` "
    "shows the server at copying into pages that are new to this virtual machine."
)


def _command(stand: Stand) -> Callable[[], object]:
    os.environ.update(stand.ours.settings, DJANGO_SETTINGS_MODULE="cfsite.settings")
    import django
    from django.core.management import call_command

    django.setup()

    def send() -> None:
        with contextlib.redirect_stdout(StringIO()):
            call_command("upload", str(stand.source), name="command.bin", port=stand.ours.server_port)

    return send


def over_http(stand: Stand) -> Result:
    source, files, url = stand.source, stand.ours.files, stand.ours.url
    contenders = [
        stand.contender("page's path (tus)", lambda: _tus(stand), files / "tus.bin"),
        stand.contender("curl -T", lambda: _curl("-T", source, f"{url}/files/curl.bin"), files / "curl.bin"),
    ]
    with contextlib.ExitStack() as running:
        contenders += _copyparty(stand, running) + _uploadserver(stand, running)
        rounds = take_turns(contenders, stand.bench.rounds)
    best = ratio_to_best(rounds, [COPYPARTY, UPLOADSERVER])
    return bytes_table(rounds, [Target("the page's path ≥ copyparty and uploadserver", best, 1)])


def _copyparty(stand: Stand, running: contextlib.ExitStack) -> list[Contender]:
    if not peers.is_here(peers.COPYPARTY):
        return []
    folder = _folder(stand, "copyparty")
    port = running.enter_context(peers.copyparty(stand.bench.home, folder, "rwmd"))
    send = lambda: _curl("-T", stand.source, f"http://127.0.0.1:{port}/curl.bin")  # noqa: E731
    return [stand.contender(COPYPARTY, send, folder / "curl.bin")]


def _uploadserver(stand: Stand, running: contextlib.ExitStack) -> list[Contender]:
    if not peers.is_here(peers.UPLOADSERVER):
        return []
    folder = _folder(stand, "uploadserver")
    port = running.enter_context(peers.uploadserver(stand.bench.home, folder))
    form = f"files=@{stand.source};filename=curl.bin"
    send = lambda: _curl("-F", form, f"http://127.0.0.1:{port}/upload")  # noqa: E731
    return [stand.contender(UPLOADSERVER, send, folder / "curl.bin")]


def _folder(stand: Stand, name: str) -> Path:
    folder = stand.bench.home / name
    folder.mkdir()
    return folder


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _copy_and_hash_twice(source: Path, target: Path) -> None:
    """What a copy costs whose both ends prove it: ``hashlib`` lets other threads run meanwhile."""
    with ThreadPoolExecutor(2) as hashers:
        digests = [hashers.submit(_sha256, source) for _ in range(2)]
        _copy(source, target)
    assert digests[0].result() == digests[1].result()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _curl(*arguments: object) -> None:
    """Without ``Expect``: curl would wait a second for those who do not know it."""
    options = ["--silent", "--show-error", "--fail", "--output", os.devnull, "--header", "Expect:"]
    subprocess.run(["curl", *options, *map(str, arguments)], check=True)


# --- tus, as the page does it: one POST, then a PATCH for each part


def _tus(stand: Stand) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stand.ours.web_port, blocksize=256 * 1024)
    with contextlib.closing(connection), stand.source.open("rb") as body:
        announced = {"Upload-Length": str(stand.size), "Upload-Metadata": f"filename {_encoded('tus.bin')}"}
        where = _request(connection, "POST", "/uploads/", 201, announced)["Location"]
        for offset in range(0, stand.size, PART):
            end = min(offset + PART, stand.size)
            headers = {
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
                "Content-Length": str(end - offset),
            }
            answer = _request(connection, "PATCH", where, 204, headers, _part(body, end - offset))
            assert answer["Upload-Offset"] == str(end), answer["Upload-Offset"]


def _part(body: object, size: int) -> Iterator[bytes]:
    while size:
        piece = body.read(min(256 * 1024, size))  # type: ignore[attr-defined]
        size -= len(piece)
        yield piece


def _request(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    status: int,
    headers: dict[str, str],
    body: Iterator[bytes] | None = None,
) -> http.client.HTTPMessage:
    connection.request(method, path, body, {"Tus-Resumable": "1.0.0", **headers})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != status:
        raise LoadFailed(f"{method} {path}: {answer.status} {text[:200]!r}")
    return answer.headers


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


SCENARIOS = [
    Scenario(
        "upload-command",
        "1 GiB upload by the command",
        "`manage.py upload` beside `cp` and `fsync`, to the same disk. The command hashes on both ends, and "
        "its server calls `fsync` before it answers; the file to be written is not there before.",
        by_command,
    ),
    Scenario(
        "upload-http",
        "1 GiB upload over HTTP",
        "tus in parts of 64 MiB, as the page does it, and `curl -T`; beside what others take by `curl`. Ours "
        "are on the disk (`fsync`) when the answer comes.",
        over_http,
    ),
]

FAMILY = Family(stand, SCENARIOS)
