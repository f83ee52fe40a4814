"""Where a name leads on the disk, and what the disk's errors mean in the protocol."""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from fileserver.names import shown
from fileserver.storage.content import etag_of
from fileserver.wire.replies import ErrorReply

log = logging.getLogger(__name__)

ANY_STATE = "*"  # as an etag, that of every file
HAS_DIR_FD = {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.link} <= os.supports_dir_fd
READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
READ_FILE = READ | getattr(os, "O_NONBLOCK", 0)  # a FIFO put in a file's place must not block the thread
READ_FOLDER = READ | getattr(os, "O_DIRECTORY", 0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name leads: ``path`` seen from ``dir_fd`` (with ``None``, an absolute path).

    That of a folder has an empty ``path`` if it has a ``dir_fd``.
    """

    dir_fd: int | None
    path: str

    def lstat(self) -> os.stat_result:
        return os.stat(self.path, dir_fd=self.dir_fd, follow_symlinks=False)

    def is_taken(self) -> bool:
        """Whether something is there."""
        try:
            self.lstat()
        except FileNotFoundError:
            return False
        return True

    def child(self, name: str) -> str:
        """The path of ``name`` in this folder, seen from its ``dir_fd``."""
        return os.path.join(self.path, name)

    @contextlib.contextmanager
    def scan(self) -> Iterator[Iterator["os.DirEntry[str]"]]:
        """What is in this folder."""
        if self.dir_fd is None:
            with os.scandir(self.path) as found:
                yield found
            return
        # By a descriptor of its own: copies of one share how far they have read, so of two threads that read
        # the served folder each would miss what the other gets.
        fd = os.open(self.path or ".", READ_FOLDER, dir_fd=self.dir_fd)
        try:
            with os.scandir(fd) as found:
                yield found
        finally:
            os.close(fd)

    def sync_folder(self) -> None:
        if self.dir_fd is not None:
            os.fsync(self.dir_fd)


def require_regular(place: Place, name: str) -> os.stat_result:
    found = place.lstat()
    if not stat.S_ISREG(found.st_mode) or is_reparse_point(found):
        raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
    return found


def require_state(place: Place, name: str, etag: str | None) -> None:
    """Raise ``changed`` unless a file is there in the state ``etag``; ``*`` means any, ``None`` no matter."""
    if etag is None:
        return
    found: str | None = None
    with contextlib.suppress(FileNotFoundError):
        found = etag_of(place.lstat())
    if found is None or etag not in (found, ANY_STATE):
        raise not_in_that_state(name)


def not_in_that_state(name: str) -> ErrorReply:
    return ErrorReply("changed", f"{shown(name)} is not in the state that was asked for.")


def is_reparse_point(found: os.stat_result) -> bool:
    """Windows: junctions lead elsewhere as links do, but do not look like them."""
    return bool(getattr(found, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0))


# The whole server lacks something for a moment: it says nothing about the file that was asked for.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

MEANINGS = {
    **dict.fromkeys(GONE, ("not-found", "There is no file {}.")),
    errno.EISDIR: ("not-a-file", "{} is not a regular file."),
    errno.ENAMETOOLONG: ("bad-name", "The name {} is too long for this disk."),
    errno.EINVAL: ("bad-name", "This disk cannot keep the name {}."),
    errno.EILSEQ: ("bad-name", "This disk cannot keep the name {}."),
    errno.EACCES: ("denied", "The server may not do that with {}."),
    errno.EPERM: ("denied", "The server may not do that with {}."),
    errno.EROFS: ("denied", "The disk of {} is read-only."),
    errno.ENOSPC: ("no-space", "The disk is full: {} does not fit."),
    errno.EDQUOT: ("no-space", "The disk quota is used up: {} does not fit."),
    errno.EFBIG: ("too-large", "{} is larger than this disk allows for one file."),
    errno.EMFILE: ("unavailable", "The server has too many files open to look at {}; try again in a moment."),
    errno.ENFILE: ("unavailable", "The system has too many files open to look at {}; try again in a moment."),
    errno.ENOMEM: ("unavailable", "The system lacks the memory to look at {}; try again in a moment."),
}


def refuse(error: OSError, name: str) -> NoReturn:
    """Raise what ``error`` means in the protocol, without a path of our disk."""
    code, sentence = MEANINGS.get(error.errno or 0, ("internal", "The server's disk failed with {}."))
    if code == "internal":
        log.error("disk error with %s: %s", shown(name), reason_of(error))
    raise ErrorReply(code, sentence.format(shown(name))) from error


def unavailable(error: OSError, folder: str = "") -> ErrorReply:
    """What to raise when a folder cannot be read, by default the served one: that does not make it empty."""
    which = f"folder {shown(folder)}" if folder else "server's folder"
    return ErrorReply("unavailable", f"The {which} cannot be read now: {reason_of(error)}.")


def reason_of(error: OSError) -> str:
    return os.strerror(error.errno or 0)
