"""The served folder: the only place where a name from outside becomes an open file.

A name is followed part by part with ``dir_fd`` and ``O_NOFOLLOW``, so no symbolic link is ever followed and
nothing outside the folder can be reached, whatever others rename meanwhile. Where a system has no ``dir_fd``
(Windows) each part is looked at before it is used. Uploads are written to hidden partial files and appear
under their name at once, by a link or a rename.
"""

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from fileserver.names import MAX_NAME_BYTES, BadName, check_portable, check_safe, is_safe, numbered, shown
from fileserver.protocol import ErrorReply

log = logging.getLogger(__name__)

PARTIALS = ".cfs-partial"
PARTIAL_AGE = 24 * 3600  # seconds that an abandoned partial file is kept
HAS_DIR_FD = {os.open, os.stat, os.mkdir, os.unlink, os.rename, os.link} <= os.supports_dir_fd
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ_FILE = _READ | getattr(os, "O_NONBLOCK", 0)  # a FIFO put in a file's place must not block the thread
_READ_FOLDER = _READ | getattr(os, "O_DIRECTORY", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _READ & ~os.O_RDONLY
_MOST_NUMBERS = 10_000
_RETRIES = 5


class FolderError(Exception):
    """The folder cannot be served; the text says why, for whoever starts the server."""


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    size: int
    mtime: float
    etag: str


class OpenFile:
    """A regular file, open for reading, as it was when it was opened. Close it."""

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        self._stat = os.fstat(fd)
        self.size = self._stat.st_size
        self.mtime = self._stat.st_mtime
        self.etag = etag_of(self._stat)

    def has_changed(self) -> bool:
        """Whether this very file was written to since it was opened; one put in its place does not count."""
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns)

    def read_at(self, offset: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.fd, size, offset)
        os.lseek(self.fd, offset, os.SEEK_SET)
        return os.read(self.fd, size)

    def sha256(self, check: Callable[[], None]) -> str:
        """The hash of the content, read now; ``check`` is called between pieces and may raise to give up."""
        digest, offset = hashlib.sha256(), 0
        while piece := self.read_at(offset, 1 << 20):
            check()
            digest.update(piece)
            offset += len(piece)
        return digest.hexdigest()

    def close(self) -> None:
        os.close(self.fd)

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a name leads: ``path`` seen from ``dir_fd`` (with ``None``, an absolute path)."""

    dir_fd: int | None
    path: str

    def lstat(self) -> os.stat_result:
        return os.stat(self.path, dir_fd=self.dir_fd, follow_symlinks=False)

    def sync_folder(self) -> None:
        if self.dir_fd is not None:
            os.fsync(self.dir_fd)


class Storage:
    """Every method takes names from outside and raises ``ErrorReply`` with the code of the protocol."""

    def __init__(self, root: str | os.PathLike[str], *, use_dir_fd: bool = HAS_DIR_FD) -> None:
        self.root = Path(root).resolve()
        self._use_dir_fd = use_dir_fd
        self._hashes: dict[str, tuple[str, str]] = {}
        self._named: set[str] = set()
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

    def open(self, name: str) -> OpenFile:
        with self._at(name) as place:
            # Looked at before it is opened: opening a device or a FIFO has effects of its own.
            self._require_regular(place, name)
            fd = os.open(place.path, _READ_FILE, dir_fd=place.dir_fd)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
            return OpenFile(fd, name)
        except BaseException:
            os.close(fd)
            raise

    def stat(self, name: str) -> Entry:
        with self._at(name) as place:
            return _entry(name, self._require_regular(place, name))

    def entries(self, prefix: str = "", after: str = "") -> Iterator[Entry]:
        """Entries whose names start with ``prefix``, in the byte order of UTF-8, those behind ``after``."""
        return self._walk("", prefix, after.encode("utf-8", "surrogatepass"))

    def sha256_of(self, entry: Entry | OpenFile) -> str | None:
        """The hash of this state of the file, if it is known."""
        etag, digest = self._hashes.get(entry.name, ("", ""))
        return digest if etag == entry.etag else None

    def remember_hash(self, name: str, etag: str, sha256: str) -> None:
        self._hashes[name] = (etag, sha256)

    # --- changing

    def delete(self, name: str) -> None:
        with self._at(name) as place:
            self._require_regular(place, name)
            os.unlink(place.path, dir_fd=place.dir_fd)
        self._hashes.pop(name, None)
        self._remove_empty_folders(name)

    def begin_upload(self, name: str, size: int, exists: str) -> "Upload":
        """A partial file for ``size`` bytes that is to become ``name``; refuses what cannot end well."""
        try:
            check_portable(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        self._require_free(name, exists)
        free = shutil.disk_usage(self.root).free
        if size > free:
            raise ErrorReply("no-space", f"{shown(name)} needs {size} bytes, but only {free} are free.")
        with self._partials(make=True) as folder:
            upload_id = secrets.token_hex(16)
            path = os.path.join(folder.path, upload_id)
            fd = os.open(path, _CREATE, 0o666, dir_fd=folder.dir_fd)
        return Upload(self, upload_id, fd, name, exists)

    def sweep(self, older_than: float = PARTIAL_AGE) -> int:
        """Remove partial files that nobody has written to for ``older_than`` seconds; how many they were."""
        removed = 0
        with contextlib.suppress(ErrorReply), self._partials(make=False) as folder:
            limit = time.time() - older_than
            for name in self._scan_names(folder):
                path = os.path.join(folder.path, name)
                if os.stat(path, dir_fd=folder.dir_fd, follow_symlinks=False).st_mtime <= limit:
                    os.unlink(path, dir_fd=folder.dir_fd)
                    removed += 1
        return removed

    def publish(self, upload: "Upload") -> str:
        """Give the partial file its name, at once and only if it is free (or may be replaced)."""
        for name in self._candidates(upload):
            try:
                self._publish_as(upload, name)
            except FileExistsError:
                continue
            return name
        raise ErrorReply("exists", f"There is a file {shown(upload.name)} already.")

    @staticmethod
    def _candidates(upload: "Upload") -> Iterator[str]:
        yield upload.name
        if upload.exists == "rename":
            for number in range(1, _MOST_NUMBERS):
                yield numbered(upload.name, number)

    def _publish_as(self, upload: "Upload", name: str) -> None:
        # A folder that is emptied by a delete meanwhile is removed between our mkdir and our link: once more.
        for attempt in range(_RETRIES):
            try:
                with self._at(name, make=True) as place, self._partials(make=False) as folder:
                    partial = _Place(folder.dir_fd, os.path.join(folder.path, upload.id))
                    if upload.exists == "replace":
                        self._replace(partial, place, name)
                    else:
                        _link(partial, place)
                    place.sync_folder()
                    folder.sync_folder()
                return
            except ErrorReply as error:
                if error.code != "not-found" or attempt == _RETRIES - 1:
                    raise

    def _replace(self, partial: _Place, place: _Place, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(place.lstat().st_mode):
                raise ErrorReply("not-a-file", f"{shown(name)} is there already and is not a regular file.")
        os.replace(partial.path, place.path, src_dir_fd=partial.dir_fd, dst_dir_fd=place.dir_fd)

    def _require_free(self, name: str, exists: str) -> None:
        """Refuse at the start what the rename at the end would refuse."""
        try:
            with self._at(name) as place:
                found = place.lstat()
        except ErrorReply as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return
            if error.code == "not-found":
                message = f"{shown(name)} cannot be made: a part of its path is a file or a link."
                raise ErrorReply("not-a-file", message) from None
            raise
        if exists == "fail":
            raise ErrorReply("exists", f"There is a file {shown(name)} already.")
        if exists == "replace" and not stat.S_ISREG(found.st_mode):
            raise ErrorReply("not-a-file", f"{shown(name)} is there already and is not a regular file.")

    def discard(self, upload: "Upload") -> None:
        with contextlib.suppress(ErrorReply), self._partials(make=False) as folder:
            os.unlink(os.path.join(folder.path, upload.id), dir_fd=folder.dir_fd)

    def _remove_empty_folders(self, name: str) -> None:
        """Folders exist for their files only: one that a delete has emptied goes too."""
        while "/" in name:
            name = name.rpartition("/")[0]
            try:
                with self._at(name) as place:
                    os.rmdir(place.path, dir_fd=place.dir_fd)
            except (ErrorReply, OSError):
                return

    # --- from a name to a place

    @contextlib.contextmanager
    def _at(self, name: str, make: bool = False) -> Iterator[_Place]:
        """The place of a safe name; ``OSError`` inside becomes the ``ErrorReply`` that it means."""
        try:
            check_safe(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        *folders, last = name.split("/")
        try:
            with self._descend(folders, make) as folder:
                yield _Place(
                    folder.dir_fd, last if folder.dir_fd is not None else os.path.join(folder.path, last)
                )
        except FileExistsError:
            raise
        except OSError as error:
            _refuse(error, name)

    @contextlib.contextmanager
    def _descend(self, folders: list[str], make: bool) -> Iterator[_Place]:
        if self._root_fd is None:
            yield _Place(None, self._checked_path(folders, make))
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
            yield _Place(fd, "")
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

    @contextlib.contextmanager
    def _partials(self, make: bool) -> Iterator[_Place]:
        try:
            with self._descend([PARTIALS], make) as folder:
                yield folder
        except FileExistsError:
            raise
        except OSError as error:
            _refuse(error, "the upload")

    def _require_regular(self, place: _Place, name: str) -> os.stat_result:
        found = place.lstat()
        if not stat.S_ISREG(found.st_mode) or _is_reparse_point(found):
            raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
        return found

    # --- walking

    def _walk(self, folder: str, prefix: str, after: bytes) -> Iterator[Entry]:
        # A folder sorts as its name with '/': then the walk itself is in the byte order of whole names.
        for key, name, is_folder in sorted(self._children(folder)):
            if is_folder:
                branch = name + "/"
                wanted = branch.startswith(prefix) or prefix.startswith(branch)
                if wanted and (key > after or after.startswith(key)):
                    yield from self._walk(name, prefix, after)
            elif key > after and name.startswith(prefix):
                with contextlib.suppress(ErrorReply):  # gone meanwhile
                    yield self.stat(name)

    def _children(self, folder: str) -> Iterator[tuple[bytes, str, bool]]:
        parts = folder.split("/") if folder else []
        try:
            with self._descend(parts, make=False) as place, os.scandir(_scannable(place)) as found:
                for child in found:
                    if child.name.startswith(".") or child.is_symlink():
                        continue
                    name = f"{folder}/{child.name}" if folder else child.name
                    is_folder = child.is_dir(follow_symlinks=False)
                    if not is_folder and not child.is_file(follow_symlinks=False):
                        continue
                    if not is_safe(name):
                        self._name_once(name)
                        continue
                    yield (name + "/" * is_folder).encode(), name, is_folder
        except OSError as error:
            self._name_once(folder, f"cannot be read: {os.strerror(error.errno or 0)}")

    def _scan_names(self, place: _Place) -> list[str]:
        with os.scandir(_scannable(place)) as found:
            return [child.name for child in found]

    def _name_once(self, name: str, reason: str = "has a name that is not safe to serve") -> None:
        if name not in self._named and len(self._named) < _MOST_NUMBERS:
            self._named.add(name)
            log.warning("left out of listings: %s %s", shown(name, MAX_NAME_BYTES), reason)


class Upload:
    """A partial file that belongs to one writer. End it with ``publish`` or ``discard``, then ``close``."""

    def __init__(self, storage: Storage, upload_id: str, fd: int, name: str, exists: str) -> None:
        self._storage = storage
        self.id = upload_id
        self.fd = fd
        self.name = name
        self.exists = exists
        self._hash = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        """Append all of ``data``. Raises ``ErrorReply`` when the disk is full or broken."""
        self._hash.update(data)
        try:
            while data:
                data = data[os.write(self.fd, data) :]
        except OSError as error:
            _refuse(error, self.name)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def publish(self) -> Entry:
        try:
            os.fsync(self.fd)
            found = os.fstat(self.fd)
            self.close()  # Windows renames no open file
        except OSError as error:
            _refuse(error, self.name)
        entry = _entry(self._storage.publish(self), found)
        self._storage.remember_hash(entry.name, entry.etag, self.sha256)
        return entry

    def discard(self) -> None:
        """Remove the partial file; nothing happens if it was published or is gone."""
        self._storage.discard(self)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def etag_of(found: os.stat_result) -> str:
    """Names one state of a file: another size, time or inode is another state."""
    return f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}"


def _entry(name: str, found: os.stat_result) -> Entry:
    return Entry(name, found.st_size, found.st_mtime, etag_of(found))


def _scannable(place: _Place) -> int | str:
    return place.path if place.dir_fd is None else place.dir_fd


def _make_folder(path: str, dir_fd: int | None) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, dir_fd=dir_fd)
        if dir_fd is not None:
            os.fsync(dir_fd)


def _link(partial: _Place, place: _Place) -> None:
    """Give a file a second name, or raise ``FileExistsError``; then take the first one away."""
    try:
        if partial.dir_fd is None:
            os.link(partial.path, place.path)
        else:
            os.link(
                partial.path,
                place.path,
                src_dir_fd=partial.dir_fd,
                dst_dir_fd=place.dir_fd,
                follow_symlinks=False,
            )
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
            raise
        _rename_if_free(partial, place)  # FAT and some network folders have no links
    else:
        os.unlink(partial.path, dir_fd=partial.dir_fd)


def _rename_if_free(partial: _Place, place: _Place) -> None:
    # Two of our own uploads cannot both find the name free; against other programs there is no better way.
    with _looking_and_renaming:
        with contextlib.suppress(FileNotFoundError):
            place.lstat()
            raise FileExistsError(errno.EEXIST, "exists", place.path)
        os.rename(partial.path, place.path, src_dir_fd=partial.dir_fd, dst_dir_fd=place.dir_fd)


_looking_and_renaming = threading.Lock()


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


def _refuse(error: OSError, name: str) -> NoReturn:
    """Raise what ``error`` means in the protocol, without a path of our disk."""
    code, sentence = _MEANINGS.get(error.errno or 0, ("internal", "The server's disk failed with {}."))
    if code == "internal":
        log.error("disk error with %s: %s", shown(name), os.strerror(error.errno or 0))
    raise ErrorReply(code, sentence.format(shown(name))) from error
