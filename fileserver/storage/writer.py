"""An upload in the hands of its one writer, from its next byte to its file or to the next break."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from fileserver.storage import syscalls as disk
from fileserver.storage.base import Entry
from fileserver.storage.claims import Claim
from fileserver.storage.content import entry_of, has_same_content
from fileserver.storage.descriptions import Description, Published
from fileserver.storage.place import refuse

_WRITE_OUT = 64 << 20  # bytes after which the disk is told to begin with them


class Owner(Protocol):
    """What a writer needs of the store that its upload belongs to."""

    keep_seconds: float

    def settle(self, claim: Claim) -> None:
        """From here on nobody takes over. Raises ``Displaced`` if somebody has asked before."""

    def publish(self, upload_id: str, description: Description, exists: str, etag: str | None) -> Published:
        """Give the partial file its name, at once and only if that may be taken."""
        ...

    @property
    def remember_hash(self) -> Callable[[str, str, str], None]:
        """To be called with name, etag and hash of the file, once there is one."""
        ...

    def wrote(self, upload_id: str, name: str, count: int) -> None:
        """So many more bytes of it are on the disk. Raises ``no-space`` if that is nearly full."""

    def discard(self, upload_id: str) -> None:
        """Remove all files of the upload."""

    def release(self, upload_id: str, digest: tuple[int, Any] | None) -> None:
        """The writer is done with it, for now or for good; ``digest`` is the hash of so many bytes."""


class UploadWriter:
    """``close`` it, whether it was published, discarded or kept."""

    def __init__(
        self, owner: Owner, claim: Claim, fd: int, description: Description, offset: int, digest: Any
    ) -> None:
        self._owner = owner
        self._claim = claim
        self.id = claim.upload_id
        self._fd = fd
        self.description = description
        self.offset = offset
        self._hash = digest
        self._hashed = offset
        self._writing_out = offset  # up to here the disk is at it, or done
        self._is_over = False
        self.replaced = False

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def expires(self) -> float:
        """Unix seconds until which it can be resumed, if nothing more comes."""
        return time.time() + self._owner.keep_seconds

    @property
    def sha256(self) -> str:
        """Of all that has come."""
        return str(self._hash.hexdigest())

    def write(self, data: memoryview) -> None:
        """Append all of ``data``. Raises ``ErrorReply`` when the disk is full or broken."""
        self._hash.update(data)
        self._hashed += len(data)
        self._owner.wrote(self.id, self.name, len(data))
        try:
            while data:
                count = os.write(self._fd, data)
                self.offset += count
                data = data[count:]
        except OSError as error:
            refuse(error, self.name)
        if self.offset - self._writing_out >= _WRITE_OUT:
            disk.begin_write_out(self._fd, self._writing_out, self.offset - self._writing_out)
            self._writing_out = self.offset

    def check(self) -> None:
        """Raise ``Displaced`` if another client resumes it: nothing more may be written."""
        self._claim.check()

    def settle(self) -> None:
        """From here on nobody takes over. Raises ``Displaced`` if somebody has asked before."""
        self._owner.settle(self._claim)

    def publish(self, exists: str, etag: str | None = None) -> Entry:
        """Make it a file. Raises ``exists`` if the name is taken by now, and ``changed`` if the file to be
        replaced is not in the state ``etag`` any more; then the bytes are kept."""
        try:
            os.fsync(self._fd)
            found = os.fstat(self._fd)
            if sys.platform == "win32":
                self._close_file()  # no open file is renamed there
        except OSError as error:
            refuse(error, self.name)
        sha256 = self.sha256
        hashed = replace(self.description, hashed=sha256)
        name, self.replaced = self._owner.publish(self.id, hashed, exists, etag)
        entry = entry_of(name, self._renamed(found))
        self._close_file()
        self._is_over = True
        self._owner.remember_hash(entry.name, entry.etag, sha256)
        return entry

    def _renamed(self, before: os.stat_result) -> os.stat_result:
        """How the file is now: its new name is a change too, so it has another etag than a moment ago."""
        if self._fd < 0:
            return before
        now = os.fstat(self._fd)
        # Somebody may have written to it since. Then our hash is of a state that no file has any more.
        return now if has_same_content(before, now) else before

    def discard(self) -> None:
        self._close_file()
        self._is_over = True
        self._owner.discard(self.id)

    def close(self) -> None:
        """Let the next writer have it. What has come is kept."""
        self._close_file()
        # After a failed write the hash is of other bytes than the file's.
        is_of_use = self._hashed == self.offset and not self._is_over
        self._owner.release(self.id, (self._hashed, self._hash) if is_of_use else None)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
