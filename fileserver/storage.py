"""The served folder: the only place where a name from outside becomes an open file.

A name is followed part by part with ``dir_fd`` and ``O_NOFOLLOW``, so no symbolic link is ever followed and
nothing outside the folder can be reached, whatever others rename meanwhile. Where a system has no ``dir_fd``
(Windows) each part is looked at before it is used.
"""

import contextlib
import errno
import hashlib
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fileserver import pagecache
from fileserver.names import MAX_NAME_BYTES, BadName, check_safe, is_safe, shown
from fileserver.protocol import ErrorReply

log = logging.getLogger(__name__)

PARTIALS = ".cfs-partial"  # hidden, as everything that begins with a dot
HAS_DIR_FD = {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.link} <= os.supports_dir_fd
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ_FILE = _READ | getattr(os, "O_NONBLOCK", 0)  # a FIFO put in a file's place must not block the thread
_READ_FOLDER = _READ | getattr(os, "O_DIRECTORY", 0)
_LOOK_SECONDS = 1.0  # that a look at a file is good for, which costs half as much as to open it
_QUICK = 0.005  # seconds that it may take to open what is in memory
_SLOW_ONES = 3  # that take longer, one after another, are not by chance
ANY_STATE = "*"  # as an etag, that of every file
_MOST_NAMED = 10_000  # names that the log has told to be left out


class FolderError(Exception):
    """The folder cannot be served; the text says why, for whoever starts the server."""


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    size: int
    mtime: float
    etag: str


class OpenFile:
    """A file that is open for reading, as it was when it was opened. Close it."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self._stat = os.fstat(fd)
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
        """Whether this very file was written to since it was opened; one put in its place does not count."""
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns)

    def read_at_once(self, offset: int, size: int) -> bytearray | None:
        """All ``size`` bytes, or ``None`` if the disk might have to be waited for."""
        return pagecache.read(self.fd, offset, size)

    def read_at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.fd, size, offset)
        os.lseek(self.fd, offset, os.SEEK_SET)
        return os.read(self.fd, size)

    def sha256(self, check: Callable[[], None]) -> str:
        """The hash of the content, read now; ``check`` is called between pieces and may raise to give up."""
        return str(self.digest(check).hexdigest())

    def digest(self, check: Callable[[], None]) -> Any:
        """The same, as an object of ``hashlib`` that can be gone on with."""
        digest, offset = hashlib.sha256(), 0
        while piece := self.read_at(offset, 1 << 20):
            check()
            digest.update(piece)
            offset += len(piece)
        return digest

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name leads: ``path`` seen from ``dir_fd`` (with ``None``, an absolute path).

    That of a folder has an empty ``path`` if it has a ``dir_fd``.
    """

    dir_fd: int | None
    path: str

    def lstat(self) -> os.stat_result:
        return os.stat(self.path, dir_fd=self.dir_fd, follow_symlinks=False)

    def child(self, name: str) -> str:
        """The path of ``name`` in this folder, seen from its ``dir_fd``."""
        return os.path.join(self.path, name)

    def sync_folder(self) -> None:
        if self.dir_fd is not None:
            os.fsync(self.dir_fd)


class Storage:
    """Every method takes names from outside and raises ``ErrorReply`` with the code of the protocol."""

    def __init__(self, root: str | os.PathLike[str], *, use_dir_fd: bool = HAS_DIR_FD) -> None:
        self.root = Path(root).resolve()
        self._use_dir_fd = use_dir_fd
        # Of who replaces or deletes a file: a look at its state and the change are one step.
        self.changing = threading.Lock()
        self._hashes: dict[str, tuple[str, str]] = {}
        self._named: set[str] = set()
        self._regular: set[str] = set()  # names that were regular files when they were last looked at
        self._regular_until = 0.0  # monotonic seconds; then they are looked at again
        self._slow_ones = 0
        self._is_quick: bool | None = (
            None  # whether what is in memory can be had at once; None: not known yet
        )
        try:
            with os.scandir(self.root):
                pass
            self._root_fd = os.open(self.root, _READ_FOLDER) if use_dir_fd else None
        except FileNotFoundError:
            raise FolderError(
                f"The folder {self.root} does not exist; create it or set FILES_DIRECTORY."
            ) from None
        except NotADirectoryError:
            raise FolderError(f"{self.root} is not a folder; set FILES_DIRECTORY to one.") from None
        except PermissionError:
            raise FolderError(f"The folder {self.root} cannot be read: permission denied.") from None

    def close(self) -> None:
        if self._root_fd is not None:
            os.close(self._root_fd)
            self._root_fd = None

    def __enter__(self) -> "Storage":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- reading

    def open(self, name: str, about_to_wait: Callable[[], None] = lambda: None) -> OpenFile:
        """``about_to_wait`` is called before anything for which the disk is known to be waited for."""
        fd = self._open_at_once(name)
        if fd is None:
            about_to_wait()
            with self.at(name) as place:
                # Looked at before it is opened: opening a device or a FIFO has effects of its own.
                self._require_regular(place, name)
                fd = os.open(place.path, _READ_FILE, dir_fd=place.dir_fd)
        try:
            file = OpenFile(fd, name)
            if not file.is_regular:
                raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
            if self._is_quick is None and self._root_fd is not None:
                self._learn_from(file)
            return file
        except BaseException:
            os.close(fd)
            raise

    def _open_at_once(self, name: str) -> int | None:
        """``None`` if the disk might have to be waited for, and for all that is wrong with the name."""
        if self._root_fd is None or not self._is_quick or not is_safe(name):
            return None
        begun = time.monotonic()
        if begun >= self._regular_until:
            self._regular, self._regular_until = set(), begun + _LOOK_SECONDS
        if name not in self._regular:
            if not pagecache.is_regular(self._root_fd, name):
                return None
            self._regular.add(name)
        fd = pagecache.open_file(self._root_fd, name)
        # A virus scanner may look at each file that is opened; one alone may have waited for a processor.
        self._slow_ones = self._slow_ones + 1 if time.monotonic() - begun > _QUICK else 0
        if self._slow_ones >= _SLOW_ONES:
            self._is_quick = False
        return fd

    def _learn_from(self, file: OpenFile) -> None:
        assert self._root_fd is not None
        if file.device == os.fstat(self._root_fd).st_dev:
            self._is_quick = pagecache.can_tell(file.fd)

    def stat(self, name: str) -> Entry:
        with self.at(name) as place:
            return entry_of(name, self._require_regular(place, name))

    def entries(self, prefix: str = "", after: str = "") -> Generator[Entry]:
        """Entries whose names start with ``prefix``, in the byte order of UTF-8, those behind ``after``.

        Close it if you do not take all: it may hold a folder open.
        """
        return self._walk("", prefix, after)

    def sha256_of(self, entry: Entry | OpenFile) -> str | None:
        """The hash of this state of the file, if it is known."""
        etag, digest = self._hashes.get(entry.name, ("", ""))
        return digest if etag == entry.etag else None

    def remember_hash(self, name: str, etag: str, sha256: str) -> None:
        self._hashes[name] = (etag, sha256)

    # --- changing

    def delete(self, name: str, etag: str | None = None) -> None:
        """With ``etag``, only while the file is in that state: ``changed`` if it is in another."""
        with self.at(name) as place, self.changing:
            self._require_regular(place, name)
            require_state(place, name, etag)
            os.unlink(place.path, dir_fd=place.dir_fd)
        self._hashes.pop(name, None)
        self._remove_empty_folders(name)

    def _remove_empty_folders(self, name: str) -> None:
        """Folders exist for their files only: one that a delete has emptied goes too."""
        *folders, _ = name.split("/")
        while folders:
            try:
                with self.folder(folders[:-1], make=False) as above:
                    os.rmdir(above.child(folders.pop()), dir_fd=above.dir_fd)
            except OSError:
                return

    # --- from a name to a place

    @contextlib.contextmanager
    def at(self, name: str, make: bool = False) -> Iterator[Place]:
        """The place of a safe name; ``OSError`` inside becomes the ``ErrorReply`` that it means."""
        try:
            check_safe(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        *folders, last = name.split("/")
        try:
            with self.folder(folders, make) as folder:
                yield Place(folder.dir_fd, folder.child(last))
        except FileExistsError:
            raise
        except OSError as error:
            refuse(error, name)

    @contextlib.contextmanager
    def folder(self, folders: list[str], make: bool) -> Iterator[Place]:
        """The folder with these parts, which nobody outside has named. Raises ``OSError``."""
        if self._root_fd is None:
            yield Place(None, self._checked_path(folders, make))
            return
        fd = self._root_fd
        try:
            for part in folders:
                if make:
                    _make_folder(part, fd)
                below = os.open(part, _READ_FOLDER, dir_fd=fd)
                if fd != self._root_fd:
                    os.close(fd)
                fd = below
            yield Place(fd, "")
        finally:
            if fd != self._root_fd:
                os.close(fd)

    def _checked_path(self, folders: list[str], make: bool) -> str:
        path = str(self.root)
        for part in folders:
            path = os.path.join(path, part)
            if make:
                _make_folder(path, None)
            if not stat.S_ISDIR(os.lstat(path).st_mode) or _is_reparse_point(os.lstat(path)):
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", path)
        return path

    def _require_regular(self, place: Place, name: str) -> os.stat_result:
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode) or _is_reparse_point(found):
            raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
        return found

    # --- walking

    def _walk(self, folder: str, prefix: str, after: str) -> Generator[Entry]:
        """What is below ``folder``, which is empty or ends in ``/``, as the keys of folders do here."""
        # So the walk itself is in the order of whole names: code points have the order of their UTF-8 bytes.
        keys = sorted(key for key in self._children(folder) if _leads_on(key, prefix, after))
        # The order first and the looking at each later: a page of a large folder looks at its own files only.
        for are_folders, run in itertools.groupby(filter(self._is_safe, keys), _is_folder):
            if are_folders:
                for key in run:
                    yield from self._walk(key, prefix, after)
            else:
                yield from self._files(folder, run)

    def _children(self, folder: str) -> Iterator[str]:
        try:
            with self._walked(folder) as place, os.scandir(_scannable(place)) as found:
                for child in found:
                    if child.name.startswith("."):
                        continue
                    if child.is_file(follow_symlinks=False):
                        yield folder + child.name
                    elif child.is_dir(follow_symlinks=False):
                        yield folder + child.name + "/"
        except OSError as error:
            self._name_once(folder.rstrip("/"), f"cannot be read: {os.strerror(error.errno or 0)}")

    def _files(self, folder: str, names: Iterable[str]) -> Iterator[Entry]:
        """The folder is followed to once for all of them."""
        try:
            with self._walked(folder) as place:
                for name in names:
                    with contextlib.suppress(ErrorReply):  # gone meanwhile
                        yield self._entry(Place(place.dir_fd, place.child(name[len(folder) :])), name)
        except OSError as error:
            with contextlib.suppress(ErrorReply):  # the whole folder is
                refuse(error, folder)

    def _entry(self, place: Place, name: str) -> Entry:
        try:
            return entry_of(name, self._require_regular(place, name))
        except OSError as error:
            refuse(error, name)

    def _walked(self, folder: str) -> contextlib.AbstractContextManager[Place]:
        return self.folder(folder.split("/")[:-1], make=False)

    def _is_safe(self, key: str) -> bool:
        name = key.removesuffix("/")
        if not is_safe(name):
            self._name_once(name)
            return False
        return True

    @staticmethod
    def names_in(place: Place) -> list[str]:
        with os.scandir(_scannable(place)) as found:
            return [child.name for child in found]

    def _name_once(self, name: str, reason: str = "has a name that is not safe to serve") -> None:
        if name not in self._named and len(self._named) < _MOST_NAMED:
            self._named.add(name)
            log.warning("left out of listings: %s %s", shown(name, MAX_NAME_BYTES), reason)


def etag_of(found: os.stat_result) -> str:
    """Names one state of a file: another size, time or inode is another state."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"


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


def entry_of(name: str, found: os.stat_result) -> Entry:
    return Entry(name, found.st_size, found.st_mtime, etag_of(found))


def _is_folder(key: str) -> bool:
    return key.endswith("/")


def _leads_on(key: str, prefix: str, after: str) -> bool:
    """Whether the file, or something in the folder, starts with ``prefix`` and comes behind ``after``."""
    if _is_folder(key):
        return (key > after or after.startswith(key)) and (key.startswith(prefix) or prefix.startswith(key))
    return key > after and key.startswith(prefix)


def _scannable(place: Place) -> int | str:
    return place.path if place.dir_fd is None else place.dir_fd


def _make_folder(path: str, dir_fd: int | None) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, dir_fd=dir_fd)
        if dir_fd is not None:
            os.fsync(dir_fd)


def _is_reparse_point(found: os.stat_result) -> bool:
    """Windows: junctions lead elsewhere as links do, but do not look like them."""
    return bool(getattr(found, "st_file_attributes", 0) & getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0))


_MEANINGS = {
    errno.ENOENT: ("not-found", "There is no file {}."),
    errno.ENOTDIR: ("not-found", "There is no file {}."),
    errno.ELOOP: ("not-found", "There is no file {}."),
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
}


def refuse(error: OSError, name: str) -> NoReturn:
    """Raise what ``error`` means in the protocol, without a path of our disk."""
    code, sentence = _MEANINGS.get(error.errno or 0, ("internal", "The server's disk failed with {}."))
    if code == "internal":
        log.error("disk error with %s: %s", shown(name), os.strerror(error.errno or 0))
    raise ErrorReply(code, sentence.format(shown(name))) from error
