"""Opens and reads what the kernel has in memory without a word, and announces everything else.

For servers whose threads must say when they may wait for the disk. It stands before ``Storage``, which works
without it.
"""

import os
import time
from collections.abc import Callable

from fileserver.names import is_safe
from fileserver.storage import pagecache
from fileserver.storage.content import OpenFile
from fileserver.storage.folder import Storage

MAX_CACHED_READ = 64 * 1024  # bytes; a longer read is worth the announcement
_LOOK_SECONDS = 1.0  # that a look at a file is good for, which costs half as much as to open it
_QUICK = 0.005  # seconds that it may take to open what is in memory
_SLOW_ONES = 3  # that take longer, one after another, are not by chance


class CachedOpener:
    """For any thread. ``before_blocking`` is called, in the caller's thread, before each wait for the disk.

    Its fields are read and written without a lock. The worst that comes of it is one more look at a file, or
    one file that is opened by waiting for it: whether a file is regular is checked again once it is open.
    """

    def __init__(self, storage: Storage, before_blocking: Callable[[], None]) -> None:
        self._storage = storage
        self._before_blocking = before_blocking
        self._generation = storage.paths.generation  # of the folder that the rest is known of
        # Whether this disk tells what is in memory, and gives that out at once; ``None``: not known yet.
        self._is_quick: bool | None = None
        self._slow_ones = 0
        self._regular: set[str] = set()  # names that were regular files when they were last looked at
        self._regular_until = 0.0  # monotonic seconds; then they are looked at again

    def open(self, name: str) -> "CachedContent":
        fd = self._open_at_once(name)
        if fd is not None:
            file = self._storage.opened(fd, name)
        else:
            self._before_blocking()
            file = self._storage.open(name)
            try:
                if self._has_moved() or self._is_quick is None:
                    self._learn_from(file)
            except BaseException:  # the folder is away meanwhile
                file.close()
                raise
        return CachedContent(file, self._before_blocking)

    def _open_at_once(self, name: str) -> int | None:
        """``None`` if the disk might have to be waited for, and for all that is wrong with the name."""
        if not self._is_quick or not is_safe(name):
            return None
        begun = time.monotonic()
        folder = self._storage.paths.descriptor(begun)
        if folder is None or self._has_moved():
            return None
        if begun >= self._regular_until:
            self._regular, self._regular_until = set(), begun + _LOOK_SECONDS
        if name not in self._regular:
            if not pagecache.is_regular(folder, name):
                return None
            self._regular.add(name)
        fd = pagecache.open_file(folder, name)
        # A virus scanner may look at each file that is opened; one alone may have waited for a processor.
        self._slow_ones = self._slow_ones + 1 if time.monotonic() - begun > _QUICK else 0
        if self._slow_ones >= _SLOW_ONES:
            self._is_quick = False
        return fd

    def _has_moved(self) -> bool:
        """Whether another folder is in the place of ours, perhaps on another disk: then forget this one."""
        if self._generation == self._storage.paths.generation:
            return False
        self._generation = self._storage.paths.generation
        self._is_quick, self._regular = None, set()
        return True

    def _learn_from(self, file: OpenFile) -> None:
        folder = self._storage.paths.descriptor(time.monotonic())
        if folder is not None and file.device == os.fstat(folder).st_dev:
            self._is_quick = pagecache.can_tell(file.fd)


class CachedContent:
    """An open file: a small piece that is in memory is read at once, and any other wait is announced."""

    def __init__(self, file: OpenFile, before_blocking: Callable[[], None]) -> None:
        self._file = file
        self._before_blocking = before_blocking
        self.name, self.size, self.mtime, self.etag = file.name, file.size, file.mtime, file.etag
        self.has_changed = file.has_changed
        self.sha256 = file.sha256
        self.close = file.close

    def read(self, offset: int, size: int) -> bytes | bytearray:
        if size <= MAX_CACHED_READ:
            data = pagecache.read(self._file.fd, offset, size)
            if data is not None:
                return data
        self._before_blocking()
        return self._file.read(offset, size)

    def fileno(self) -> int:
        """To be sent from, which may have to wait for the disk at any byte."""
        self._before_blocking()
        return self._file.fd

    def __enter__(self) -> "CachedContent":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
