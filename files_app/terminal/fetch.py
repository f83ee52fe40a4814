"""One file on its way to this disk: resumed after a break, and checked before it gets its name.

Beside the target lie ``NAME.part`` with what has arrived and ``NAME.part.etag``, which says of which state of
the file it is a part, so that two states are never mixed.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from files_app.sizes import size_text
from files_app.terminal.hashing import sha256_of_start
from fileserver.client.blocking import Client
from fileserver.names import MAX_PART_BYTES
from fileserver.pacing import Pace
from fileserver.wire.replies import ErrorReply


class FetchError(Exception):
    """The file cannot be had like this; the text is a sentence."""


class Fetch:
    def __init__(self, client: Client, name: str, target: Path) -> None:
        self._client = client
        self._name = name
        self._target = target
        self._part = _beside(target, ".part")
        self._etag = _beside(target, ".part.etag")

    def forget(self) -> None:
        """Throw away what an earlier run has left."""
        for path in (self._part, self._etag):
            path.unlink(missing_ok=True)

    def what_is_kept(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            kept = self._part.stat().st_size
            return f"{size_text(kept)} are kept: the same command goes on from there."
        return "Nothing was kept."

    def run(self, pace: Pace | None) -> Iterator[tuple[int, int]]:
        """Fetch, check, and give the file its name; yields (bytes that are here, size) as they grow."""
        if self._target.exists():
            if self._is_there_already():
                return
            raise FetchError(f"{self._target} exists and is another file: remove it, or use --to.")
        download = self._begin(pace)
        self._etag.write_text(download.etag, "ascii")
        with self._part.open("r+b" if download.offset else "w+b") as part:
            try:
                digest, done = sha256_of_start(part, download.offset), download.offset
            except EOFError:
                raise FetchError("The part on this disk became shorter meanwhile: try again.") from None
            part.truncate()
            for piece in download:
                part.write(piece)
                digest.update(piece)
                done += len(piece)
                yield done, download.size
            part.flush()
            os.fsync(part.fileno())
        self._settle(download.id, download.sha256, digest.hexdigest())

    def _is_there_already(self) -> bool:
        state = self._client.request("STAT", name=self._name)
        if state["size"] != self._target.stat().st_size or not state["sha256"]:
            return False
        with self._target.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == str(state["sha256"])

    def _begin(self, pace: Pace | None) -> Any:
        try:
            etag, offset = self._etag.read_text("ascii"), self._part.stat().st_size
        except (FileNotFoundError, UnicodeDecodeError):
            return self._client.get(self._name, pace=pace)
        try:
            return self._client.get(self._name, offset=offset, etag=etag, pace=pace)
        except ErrorReply as error:
            if error.code not in ("changed", "bad-range"):
                raise
        self.forget()
        return self._client.get(self._name, pace=pace)

    def _settle(self, transfer: int, expected: str | None, sha256: str) -> None:
        verified = self._client.request("RECEIPT", id=transfer, sha256=sha256)["verified"]
        if verified is False or expected not in (None, sha256):
            self.forget()
            raise FetchError(f"{self._name} arrived with a wrong hash and was thrown away: try again.")
        os.replace(self._part, self._target)
        self._etag.unlink(missing_ok=True)


def _beside(target: Path, suffix: str) -> Path:
    """``target`` with ``suffix``, kept within what a file's name may have in bytes."""
    room = MAX_PART_BYTES - len(suffix)
    start = os.fsencode(target.name)[:room].decode("utf-8", "ignore")
    if start + suffix == target.name:  # a long name that ends in the suffix itself
        start = start[:-1]
    return target.with_name(start + suffix)
