"""One file of the served folder, as it is on the disk at one moment: its size, its time, its etag."""

import hashlib
import os
import stat
import sys
from collections.abc import Callable
from typing import Any

from fileserver.storage.base import Entry

# Windows has the moment of creation in this field. Elsewhere the system sets it at every change, and no
# program can set it back.
_CTIME_IS_OF_CHANGE = sys.platform != "win32"


class OpenFile:
    """A file that is open for reading, as it was when it was opened. Close it.

    ``is_at(name, found)`` says whether ``name`` still leads to the file of ``found``; without it the file is
    taken to stay where it is.
    """

    def __init__(
        self, fd: int, name: str, is_at: Callable[[str, os.stat_result], bool] = lambda name, found: True
    ) -> None:
        self.fd = fd
        self.name = name
        self._is_at = is_at
        self._stat = self._seen = os.fstat(fd)
        self._was_in_place = True
        self._was_written = False
        self.size = self._stat.st_size
        self.mtime = self._stat.st_mtime
        self.etag = etag_of(self._stat)

    @property
    def device(self) -> int:
        return self._stat.st_dev

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self._stat.st_mode)

    def has_changed(self) -> bool:
        """Whether this very file was written to since it was opened; one put in its place does not count.

        Asked often, it tells more: what explains a change hides what else has happened since the last look.
        """
        if not self._was_written:
            now = os.fstat(self.fd)
            self._was_written = self._is_written(now)
            self._seen = now
        return self._was_written

    def _is_written(self, now: os.stat_result) -> bool:
        seen = self._seen
        if not has_same_content(seen, now):
            return True
        if not _CTIME_IS_OF_CHANGE or now.st_ctime_ns == seen.st_ctime_ns:
            return False
        # Its size and its time are as before, and yet something was done to it. New rights, another owner, a
        # link more or less (a delete, a file put in its place) are no writes. Nor is a rename, which can be
        # seen only by its name. What nothing explains is taken for a write with the time put back.
        was_in_place, self._was_in_place = self._was_in_place, self._is_at(self.name, now)
        return _rights_and_links(now) == _rights_and_links(seen) and self._was_in_place == was_in_place

    def read(self, offset: int, size: int) -> bytes:
        return read_at(self.fd, offset, size)

    def sha256(self, check: Callable[[], None]) -> str:
        """The hash of the content, read now; ``check`` is called between pieces and may raise to give up."""
        return str(self.digest(check).hexdigest())

    def digest(self, check: Callable[[], None]) -> Any:
        """The same, as an object of ``hashlib`` to which more can be added."""
        digest, offset = hashlib.sha256(), 0
        while piece := self.read(offset, 1 << 20):
            check()
            digest.update(piece)
            offset += len(piece)
        return digest

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_at(fd: int, offset: int, size: int) -> bytes:
    """Up to ``size`` bytes of an open file; none at its end."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, size)


def etag_of(found: os.stat_result) -> str:
    """Names one state of a file: another size, time, inode or moment of the last change is another state.

    A strong validator must be another when the content is (RFC 9110, section 8.8.1), and a time can be put
    back; so the moment of the last change is in it, which cannot. New rights or one more link change the
    etag too, without need, which the RFC allows.
    """
    etag = f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"
    return f"{etag}-{found.st_ctime_ns:x}" if _CTIME_IS_OF_CHANGE else etag


def is_older_form(older: str, etag: str) -> bool:
    """Whether ``older`` is ``etag`` as it was before it had the moment of the last change in it."""
    return older.count("-") == 2 and etag.startswith(older + "-")


def entry_of(name: str, found: os.stat_result) -> Entry:
    return Entry(name, found.st_size, found.st_mtime, etag_of(found))


def has_same_content(before: os.stat_result, after: os.stat_result) -> bool:
    """As far as size and time tell."""
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _rights_and_links(found: os.stat_result) -> tuple[int, ...]:
    return found.st_mode, found.st_uid, found.st_gid, found.st_nlink
