"""Files that can be had without waiting for the disk, because the kernel has them in its caches.

Linux says so by itself (from 5.12 on openat2(2) with ``RESOLVE_CACHED``; preadv2(2) with ``RWF_NOWAIT``).
Elsewhere, and for what it does not have, the answer is ``None``, and the usual way is to be gone. On a disk
of this machine to open takes a microsecond then, so the interpreter is kept meanwhile: to let it go and take
it again would cost more. Whoever calls has to know that it is one (``can_tell``).
"""

import ctypes
import errno
import os
import stat
import sys
from typing import Any

_NOWAIT: int | None = getattr(os, "RWF_NOWAIT", None)
_OPENAT2 = 437  # its number on all common processors; elsewhere there is no call of that number
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH, _CACHED = 0x01, 0x02, 0x04, 0x08, 0x20
# Nor into another file system, which may be a network's.
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH | _CACHED


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _found_syscall() -> Any:
    """The C library's ``syscall``, if a folder can be opened in this way; else ``None``."""
    if not sys.platform.startswith("linux") or _NOWAIT is None:
        return None
    syscall = ctypes.PyDLL(None).syscall
    syscall.argtypes = [
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(_How),
        ctypes.c_size_t,
    ]
    syscall.restype = ctypes.c_long
    fd = syscall(_OPENAT2, -100, b".", _How(os.O_PATH | os.O_CLOEXEC, 0, _CACHED), ctypes.sizeof(_How))
    if fd < 0:
        return None
    os.close(fd)
    return syscall


_syscall = _found_syscall()
_HOW_SIZE = ctypes.sizeof(_How)
_LOOK = _How(getattr(os, "O_PATH", 0) | getattr(os, "O_CLOEXEC", 0), 0, _RESOLVE)
_READ = _How(os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), 0, _RESOLVE)


def is_regular(dir_fd: int, path: str) -> bool:
    """Whether ``path`` below ``dir_fd``, with no symbolic link on the way, is known to be a regular file.

    To be asked before it is opened: opening a device or a FIFO has effects of its own.
    """
    fd = _open(dir_fd, path, _LOOK)
    if fd is None:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def open_file(dir_fd: int, path: str) -> int | None:
    """Its descriptor, which the caller closes."""
    return _open(dir_fd, path, _READ)


def _open(dir_fd: int, path: str, how: _How) -> int | None:
    if _syscall is None:
        return None
    fd: int = _syscall(_OPENAT2, dir_fd, os.fsencode(path), how, _HOW_SIZE)
    return None if fd < 0 else fd


def can_tell(fd: int) -> bool:
    """Whether the file system of ``fd``, a file, says what it has in memory: those of networks do not."""
    if _NOWAIT is None:
        return False
    try:
        os.preadv(fd, [bytearray(1)], 0, _NOWAIT)
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def read(fd: int, offset: int, size: int) -> bytearray | None:
    """``size`` bytes at ``offset``, or ``None`` if not all of them are here."""
    if _NOWAIT is None:
        return None
    data = bytearray(size)
    try:
        count = os.preadv(fd, [data], offset, _NOWAIT)
    except OSError:
        return None
    return data if count == size else None
