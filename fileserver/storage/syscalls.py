"""Steps on the disk that Python's ``os`` does not have: by the C library, and in a plain way elsewhere."""

import ctypes
import errno
import os
import sys
import threading
from typing import Any

from fileserver.storage.place import Place

_NOREPLACE = 1
_AT_FDCWD = -100
_EMPTY_PATH = 0x1000
_NOFOLLOW = 0x100
_BTIME = 0x800  # STATX_BTIME
_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin, and do not wait for the end
_looking_and_renaming = threading.Lock()


def _function(name: str, *argument_types: Any) -> Any:
    """A function of the C library, or ``None`` where it has none of that name."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.argtypes = argument_types
    return function


class _StatX(ctypes.Structure):
    """struct statx of linux/stat.h, as far as it matters here; its size is 256 bytes."""

    _fields_ = [
        ("mask", ctypes.c_uint32),
        ("before", ctypes.c_uint8 * 76),
        ("born_seconds", ctypes.c_int64),
        ("born_nanoseconds", ctypes.c_uint32),
        ("behind", ctypes.c_uint8 * 164),
    ]


_renameat2 = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_statx = _function(
    "statx", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_StatX)
)
_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def rename(source: Place, target: Place) -> None:
    """One step, in which a file that is there already is replaced."""
    os.replace(source.path, target.path, src_dir_fd=source.dir_fd, dst_dir_fd=target.dir_fd)


def rename_if_free(source: Place, target: Place) -> None:
    """One step that fails with ``FileExistsError`` if the name is taken, where the system has such a step."""
    if sys.platform == "win32":
        os.rename(source.path, target.path)  # never replaces there
    elif not _rename_noreplace(source, target):
        _look_and_rename(source, target)


def _rename_noreplace(source: Place, target: Place) -> bool:
    """Linux's renameat2(2) with RENAME_NOREPLACE; False where the system or the file system has none."""
    if _renameat2 is None:
        return False
    old, new = os.fsencode(source.path), os.fsencode(target.path)
    if not _renameat2(_fd_or_cwd(source), old, _fd_or_cwd(target), new, _NOREPLACE):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), target.path)


def _fd_or_cwd(place: Place) -> int:
    return _AT_FDCWD if place.dir_fd is None else place.dir_fd


def _look_and_rename(source: Place, target: Place) -> None:
    # Two of our own uploads cannot both find the name free; against other programs there is no better way.
    with _looking_and_renaming:
        try:
            target.lstat()
        except FileNotFoundError:
            os.rename(source.path, target.path, src_dir_fd=source.dir_fd, dst_dir_fd=target.dir_fd)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target.path)


def birth_ns(place: Place) -> int | None:
    """When what is there was made, in nanoseconds of Unix time, by statx(2); ``None`` if nobody knows."""
    if _statx is None:
        return None
    found = _StatX()
    path = os.fsencode(place.path)
    if _statx(_fd_or_cwd(place), path, _NOFOLLOW | _EMPTY_PATH, _BTIME, ctypes.byref(found)):
        return None
    if not found.mask & _BTIME:
        return None
    return int(found.born_seconds) * 1_000_000_000 + int(found.born_nanoseconds)


def begin_write_out(fd: int, offset: int, count: int) -> None:
    """Have the disk begin with these bytes now: an ``fsync`` at the end of a long file then waits for few.

    Only a hint: what goes wrong with the disk, ``fsync`` will say.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, count, _WRITE)
