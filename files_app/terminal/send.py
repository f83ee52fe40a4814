"""One file on its way to the file server: resumed after every break, in this run and in the next one.

Which upload a file belongs to is remembered in a small file of the user's own, until the upload is done.
"""

import contextlib
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from files_app.terminal.hashing import sha256_of_start
from fileserver.client.blocking import Client, Incomplete
from fileserver.wire.lines import Fields
from fileserver.wire.replies import ErrorReply

PATIENCE = 60.0  # seconds without a byte of progress, after which it is given up
PAUSES = (0.1, 0.3, 1.0, 2.0, 5.0)  # seconds between two tries
# The server is there, but not free: what had come over our last line may not be on the disk yet.
NOT_YET = ("busy", "offset", "shutting-down", "timeout")

Progress = Callable[[int], None]


class SendError(Exception):
    """The file could not be sent; the text is a sentence."""


class Send:
    """``connect`` makes a new connection; ``server`` names where it leads, for the memory."""

    def __init__(
        self, connect: Callable[[], Client], server: str, path: Path, name: str, exists: str
    ) -> None:
        self._connect = connect
        self._path = path
        self._name = name
        self._exists = exists
        self._state = _fingerprint(path)
        self._size, mtime = self._state
        self._memory = _Memory(f"{server}\0{name}\0{path.resolve()}\0{self._size}\0{mtime}")
        self._reached = -1  # bytes that the server has said to have
        self._deadline = time.monotonic() + PATIENCE
        self._tries = 0

    def run(self, progress: Progress) -> str:
        """Send it; the name that it got. ``progress`` is told how many of its bytes are there.

        Raises ``SendError``, and ``ErrorReply`` for what trying again would not mend.
        """
        with self._path.open("rb") as source:
            while True:
                try:
                    return self._try(source, progress)
                except ErrorReply as error:
                    if error.code not in NOT_YET:
                        raise
                    self._wait(error)
                except (ConnectionError, TimeoutError) as error:
                    if _fingerprint(self._path) != self._state:  # no try could end well
                        raise SendError(
                            f"{self._path} was changed while it was sent: upload it again."
                        ) from None
                    self._wait(error)

    def _try(self, source: BufferedReader, progress: Progress) -> str:
        with self._connect() as client:
            upload, offset = self._where_it_stands(client)
            try:
                digest = sha256_of_start(source, offset)
            except EOFError:
                raise Incomplete("The file became shorter while it was sent.") from None
            facts = {"name": self._name, "size": self._size, "exists": self._exists}
            begun = client.request("PUT", **facts, upload=upload, offset=offset)
            self._memory.keep(begun["upload"])
            self._note(offset)
            progress(offset)
            done = offset

            def sent(piece: memoryview) -> None:
                nonlocal done
                digest.update(piece)
                done += len(piece)
                progress(done)

            end = self._send_body(client, source, offset, sent)
        self._memory.forget()
        if end["sha256"] != digest.hexdigest():
            raise SendError(f"{self._path} was changed while it was sent, or arrived wrong: upload it again.")
        return str(end["name"])

    def _send_body(
        self, client: Client, source: BufferedReader, offset: int, sent: Callable[[memoryview], None]
    ) -> Fields:
        try:
            return client.send_body(source, self._size - offset, sent)
        except ErrorReply as error:
            if error.code != "busy":
                raise
            # Taken over while the line was whole: trying again would take it back, and so for ever.
            message = f"Somebody else goes on with the upload of {self._path}, perhaps the same command."
            raise SendError(message) from None

    def _where_it_stands(self, client: Client) -> tuple[str | None, int]:
        """The upload to resume, if there is one, and how many bytes of it are there."""
        upload = self._memory.upload
        if upload is None:
            return None, 0
        try:
            return upload, int(client.request("STAT", upload=upload)["offset"])
        except ErrorReply as error:
            if error.code != "not-found":
                raise
        self._memory.forget()
        if self._reached >= 0:  # it was there a moment ago: somebody does not want it
            raise SendError(
                f"The upload of {self._path} was cancelled at the server; nothing of it was kept."
            )
        return None, 0

    def _note(self, offset: int) -> None:
        if offset > self._reached:
            self._reached, self._tries = offset, 0
            self._deadline = time.monotonic() + PATIENCE

    def _wait(self, reason: Exception) -> None:
        # Never after a first break, however long the try before it took: the server may be there again.
        if self._tries and time.monotonic() > self._deadline:
            raise SendError(
                f"{self._path} could not be sent: {reason} "
                "What has arrived is kept: the same command goes on from there within a day."
            ) from None
        time.sleep(PAUSES[min(self._tries, len(PAUSES) - 1)])
        self._tries += 1


def _fingerprint(path: Path) -> tuple[int, int]:
    """What changes when a file is written to: its size, and when that was."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class _Memory:
    """Which upload a file belongs to, kept between two runs if there is a place to keep it."""

    def __init__(self, key: str) -> None:
        self._path = _cache_folder() / hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        self.upload: str | None = None
        with contextlib.suppress(OSError):
            text = self._path.read_bytes()[:100].decode("ascii", "replace")
            self.upload = text if re.fullmatch(r"[0-9a-f]{32}", text) else None

    def keep(self, upload: str) -> None:
        self.upload = upload
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(upload, "ascii")
        except OSError:
            return

    def forget(self) -> None:
        self.upload = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return


def _cache_folder() -> Path:
    """Where programs of this system keep what they can do without."""
    home = Path.home()
    places = {"win32": home / "AppData/Local", "darwin": home / "Library/Caches"}
    usual = places.get(sys.platform, home / ".cache")
    chosen = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    return (Path(chosen) if chosen else usual) / "concurrent-file-server" / "uploads"
