"""``manage.py upload``: files to the file server, each checked by its hash."""

import hashlib
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import BaseCommand, CommandError

from files_app.options import add_server_address
from files_app.terminal import console, file_server, progress_bars
from fileserver.client import Client


class Command(BaseCommand):
    help = "Uploads files to the file server."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", type=Path)
        parser.add_argument("--as", dest="name", help="the name it gets there (one file only)")
        parser.add_argument(
            "--exists",
            choices=("fail", "replace", "rename"),
            default="fail",
            help="what to do if the name is taken (default: %(default)s)",
        )
        add_server_address(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        paths: list[Path] = options["paths"]
        if options["name"] and len(paths) > 1:
            raise CommandError("--as can name one file only.")
        for path in paths:
            _require_file(path)
        with file_server(options) as client:
            for path in paths:
                self._upload(client, path, options["name"] or path.name, options["exists"])

    def _upload(self, client: Client, path: Path, name: str, exists: str) -> None:
        try:
            source = path.open("rb")
        except OSError as error:
            raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
        with source, progress_bars() as bars:
            size = path.stat().st_size
            bar = bars.add_task(name, total=size)
            hashing = _HashingReader(source)
            done = client.put(name, hashing, size, exists=exists, progress=lambda n: bars.advance(bar, n))
        if done["sha256"] != hashing.sha256:
            raise CommandError(f"{path} was changed while it was sent, or arrived wrong: upload it again.")
        console.print(f"{path} is there as {done['name']}", markup=False, highlight=False, soft_wrap=True)


def _require_file(path: Path) -> None:
    try:
        if path.is_file():
            return
        raise CommandError(f"{path} is {'not a file' if path.exists() else 'not there'}.")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None


class _HashingReader:
    """Hashes what is read through it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()
