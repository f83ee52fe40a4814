"""The files of uploads in their hidden folder: how they are named, opened safely, and removed.

Whoever can write to the served folder can also put links and FIFOs into the hidden one. So each file is
looked at before it is opened, and no link is followed.
"""

import contextlib
import errno
import os
import stat

from fileserver.storage.place import Place

PARTIALS = ".cfs-partial"  # hidden, as everything that begins with a dot
DESCRIPTION = ".json"
DRAFT = ".draft"

CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# A link in the hidden folder leads nowhere, and a FIFO there holds nobody up.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
READ = os.O_RDONLY | _SAFE | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
APPEND = os.O_RDWR | os.O_APPEND | _SAFE | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def lstat(folder: Place, name: str) -> os.stat_result:
    return os.stat(folder.child(name), dir_fd=folder.dir_fd, follow_symlinks=False)


def stat_file(folder: Place, name: str) -> os.stat_result:
    """Raises ``FileNotFoundError`` also for what is no regular file."""
    found = lstat(folder, name)
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a file", name)
    return found


def open_file(folder: Place, name: str, flags: int) -> int:
    stat_file(folder, name)
    return os.open(folder.child(name), flags, dir_fd=folder.dir_fd)


def create(folder: Place, name: str) -> int:
    return os.open(folder.child(name), CREATE, 0o666, dir_fd=folder.dir_fd)


def remove_upload(folder: Place, upload_id: str) -> None:
    remove(folder, upload_id, upload_id + DESCRIPTION, upload_id + DRAFT)


def remove(folder: Place, *names: str) -> None:
    # The description first: bytes without one are nobody's, but a description without bytes is a success.
    for name in sorted(names, key=lambda name: not name.endswith(DESCRIPTION)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.child(name), dir_fd=folder.dir_fd)
