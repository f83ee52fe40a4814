"""The served folder itself: open as long as it is there, and opened anew when another takes its place.

A descriptor goes on leading to the folder that it was opened for, whatever has happened to its path since:
moved away, removed, covered by a mount. So path and descriptor are compared now and then, and always before
something is said to be missing.
"""

import contextlib
import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fileserver.storage.place import READ_FOLDER, Place, is_reparse_point, unavailable
from fileserver.wire.replies import ErrorReply

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # that the comparison of path and descriptor is good for


class FolderError(Exception):
    """The folder cannot be served; the text says why, for whoever starts the server."""


class Root:
    """For any thread."""

    def __init__(self, path: Path, use_dir_fd: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen_until = 0.0  # monotonic seconds
        self.generation = 0  # how often it was opened anew
        self._take: Callable[[int], None] = _take_freely
        try:
            with os.scandir(path):
                pass
            # One number as long as it is open: another folder is put under the same (``dup2``), so a thread
            # that is about to use it never finds it closed, or given to something else.
            self.fd: int | None = os.open(path, READ_FOLDER) if use_dir_fd else None
        except FileNotFoundError:
            raise FolderError(
                f"The folder {path} does not exist; create it or set FILES_DIRECTORY."
            ) from None
        except NotADirectoryError:
            raise FolderError(f"{path} is not a folder; set FILES_DIRECTORY to one.") from None
        except PermissionError:
            raise FolderError(f"The folder {path} cannot be read: permission denied.") from None

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def take_by(self, take: Callable[[int], None]) -> None:
        """From now on call ``take`` with the descriptor of each folder that is about to be served in the
        place of this one. It may lock it, or raise what keeps it from being served."""
        self._take = take

    # --- is it there?

    def refresh(self, now: float) -> None:
        """Open the folder anew if it was replaced; looked at once a second at most, ``now`` is monotonic.

        Raises ``unavailable`` if it is away.
        """
        if now < self._seen_until:
            return
        try:
            self._renew()
        except OSError as error:
            raise unavailable(error) from error

    def require(self) -> None:
        """Raise ``unavailable`` unless the folder can be read now, and is the one that is open."""
        try:
            self._renew()
            with os.scandir(self.path):  # asked anew: an open descriptor keeps what it was once allowed
                pass
            os.stat(os.path.join(self.path, "."))  # to look at what is in it is a right of its own
        except OSError as error:
            raise unavailable(error) from error

    def require_same(self, generation: int) -> None:
        """The same, and raise it too if since then something may have been looked for in another folder."""
        self.require()
        if self.generation != generation:
            raise ErrorReply("unavailable", "The server's folder was replaced a moment ago; try again.")

    def _renew(self) -> None:
        until = time.monotonic() + _LOOK_SECONDS
        found = os.stat(self.path)
        if self.fd is not None and not os.path.samestat(found, os.fstat(self.fd)):
            self._open_anew()
        self._seen_until = until

    def _open_anew(self) -> None:
        assert self.fd is not None
        with self._lock:
            if os.path.samestat(os.stat(self.path), os.fstat(self.fd)):  # another thread was quicker
                return
            fd = os.open(self.path, READ_FOLDER)
            try:
                self._take(fd)
                os.dup2(fd, self.fd, inheritable=False)
                self.generation += 1
            finally:
                os.close(fd)
        log.warning("another folder is in the place of the served one; it is served from now on")

    # --- from parts to a place

    @contextlib.contextmanager
    def folder(self, parts: list[str], make: bool = False) -> Iterator[Place]:
        """The folder with these parts, which nobody outside has named. Raises ``OSError``."""
        self.refresh(time.monotonic())
        if self.fd is None:
            yield Place(None, self._checked_path(parts, make))
            return
        fd = self.fd
        try:
            for part in parts:
                if make:
                    _make_folder(part, fd)
                below = os.open(part, READ_FOLDER, dir_fd=fd)
                if fd != self.fd:
                    os.close(fd)
                fd = below
            yield Place(fd, "")
        finally:
            if fd != self.fd:
                os.close(fd)

    def _checked_path(self, parts: list[str], make: bool) -> str:
        path = str(self.path)
        for part in parts:
            path = os.path.join(path, part)
            if make:
                _make_folder(path, None)
            if not stat.S_ISDIR(os.lstat(path).st_mode) or is_reparse_point(os.lstat(path)):
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", path)
        return path


def _take_freely(fd: int) -> None:
    """For whoever cares for no other server."""


def _make_folder(path: str, dir_fd: int | None) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, dir_fd=dir_fd)
        if dir_fd is not None:
            os.fsync(dir_fd)
