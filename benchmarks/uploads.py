"""1 GiB to the server: by our command beside ``cp``, and over HTTP beside other servers."""

import http.client
import os
import shutil
import subprocess
from base64 import b64encode
from contextlib import ExitStack
from pathlib import Path

from benchmarks import servers
from benchmarks.measure import MEBIBYTE, Contender, Result, take_turns

SIZE = 1024 * MEBIBYTE


def by_command(home: Path) -> list[Result]:
    """``manage.py upload`` beside ``cp`` and ``fsync``, to the same disk.

    The command runs in this process, so that the start of an interpreter is not counted. It hashes on both
    ends, and its server calls ``fsync`` before it answers.
    """
    source = _source(home)
    with servers.ours(home) as ours:
        import django
        from django.core.management import call_command

        os.environ["DJANGO_SETTINGS_MODULE"] = "cfsite.settings"
        django.setup()
        options = {"name": "target.bin", "exists": "replace", "port": ours.server_port}
        contenders = [
            Contender("manage.py upload", lambda: call_command("upload", str(source), **options)),
            Contender("cp and fsync", lambda: _copy(source, ours.files.parent / "copy.bin")),
        ]
        return take_turns(contenders, SIZE)


def over_http(home: Path) -> list[Result]:
    """tus, as the page does it, and ``curl -T``; beside what others take by ``curl``."""
    source = _source(home)
    with ExitStack() as running:
        ours = running.enter_context(servers.ours(home))
        contenders = [
            Contender("page's path (tus)", lambda: _tus(ours, source)),
            Contender("curl -T", lambda: _curl("-T", source, f"{ours.url}/files/curl.bin?exists=replace")),
        ]
        if servers.is_installed("copyparty"):
            port = running.enter_context(servers.copyparty(home))
            target = home / "copyparty" / "curl.bin"
            contenders.append(
                Contender(
                    "copyparty, curl -T",
                    lambda: _curl("-T", source, f"http://127.0.0.1:{port}/curl.bin"),
                    lambda: target.unlink(missing_ok=True),
                )
            )
        if servers.is_installed("uploadserver"):
            other = running.enter_context(servers.uploadserver(home))
            form = f"files=@{source};filename=curl.bin"
            contenders.append(
                Contender(
                    "uploadserver, curl -F", lambda: _curl("-F", form, f"http://127.0.0.1:{other}/upload")
                )
            )
        return take_turns(contenders, SIZE)


def _source(home: Path) -> Path:
    """Random bytes, in the disk's cache."""
    path = home / "source.bin"
    if not path.exists():
        piece = os.urandom(MEBIBYTE)
        with path.open("wb") as file:
            for _ in range(SIZE // MEBIBYTE):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    return path


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())


def _curl(*arguments: object) -> None:
    command = ["curl", "--silent", "--show-error", "--fail", "--output", os.devnull, *map(str, arguments)]
    subprocess.run(command, check=True)


def _tus(ours: servers.Ours, source: Path) -> None:
    """What tus-js-client sends without a chunk size: one POST, then one PATCH with all of the file."""
    connection = http.client.HTTPConnection("127.0.0.1", ours.web_port)
    metadata = ",".join(f"{key} {b64encode(value).decode()}" for key, value in _METADATA.items())
    tus = {"Tus-Resumable": "1.0.0"}
    connection.request(
        "POST", "/uploads/", headers={**tus, "Upload-Length": str(SIZE), "Upload-Metadata": metadata}
    )
    answer = connection.getresponse()
    answer.read()
    part = {**tus, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    with source.open("rb") as body:
        connection.blocksize = 256 * 1024
        part["Content-Length"] = str(SIZE)
        connection.request("PATCH", answer.headers["Location"], body, part)
    done = connection.getresponse()
    done.read()
    connection.close()
    assert (done.status, done.headers["Upload-Offset"]) == (204, str(SIZE)), done.status


_METADATA = {"filename": b"tus.bin", "exists": b"replace"}
