"""Uploads that are not files yet: hidden partial files, which can be gone on with and are published at once.

In the hidden folder lie, for each upload, ``<id>`` with the bytes that have come (its size *is* the offset)
and ``<id>.json`` with what is to become of them. The last step of an upload is one rename of ``<id>`` to its
name, so a crash leaves the whole file or none; what remains, a description without bytes, says under which
name the upload has ended, for a client that did not hear it.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from fileserver.names import BadName, check_portable, shown
from fileserver.storage import syscalls as disk
from fileserver.storage.ages import Ages
from fileserver.storage.claims import Claim, Claims, no_wake
from fileserver.storage.content import Entry, OpenFile, entry_of, has_same_content
from fileserver.storage.folder import PARTIALS, Storage
from fileserver.storage.free_names import candidates, require_free, require_replaceable
from fileserver.storage.place import Place, not_in_that_state, refuse, require_state
from fileserver.wire.verbs import ErrorReply

log = logging.getLogger(__name__)

KEEP_SECONDS = 24 * 3600.0  # that an upload is kept after its last byte
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# A link in the hidden folder leads nowhere, and a FIFO there holds nobody up.
_SAFE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_READ = os.O_RDONLY | _SAFE | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_APPEND = os.O_RDWR | os.O_APPEND | _SAFE | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_ID = re.compile(r"[0-9a-f]{32}")
_DESCRIPTION = ".json"
_DRAFT = ".draft"
_HASHES_KEPT = 1000
_RETRIES = 50
_WRITE_OUT = 64 << 20  # bytes after which the disk is told to begin with them


@dataclass(frozen=True, slots=True)
class Description:
    """What an upload is to become; ``final`` is the name that the last rename gives it, once decided.

    With an ``etag``, it replaces the file of its name only in that state; ``metadata`` is the client's own.
    """

    name: str
    size: int
    exists: str
    sha256: str | None
    etag: str | None = None
    metadata: str | None = None
    final: str | None = None
    hashed: str | None = None


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """Of an upload: ``offset`` bytes are here; ``published`` is its name if it is a file already."""

    id: str
    name: str
    size: int
    offset: int
    published: str | None
    sha256: str | None
    expires: float  # Unix seconds
    metadata: str | None = None


class UploadStore:
    """All uploads of one served folder. For any thread; each upload has one writer at a time."""

    def __init__(
        self,
        storage: Storage,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self.keep_seconds = keep_seconds
        self._ages = Ages(keep_seconds, clock)
        self._claims = Claims()
        self._lock = threading.Lock()  # of the hashes
        # Of uploads between two parts: bytes hashed, and the hash so far. Without it all would be read again.
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    # --- for sessions

    def begin(
        self,
        name: str,
        size: int,
        exists: str,
        sha256: str | None,
        etag: str | None = None,
        metadata: str | None = None,
        wake: Callable[[], None] = no_wake,
    ) -> "UploadWriter":
        """A new upload; refuses what cannot end well. ``wake`` ends its writer's wait for the next byte."""
        try:
            check_portable(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        self._storage.require()
        require_free(self._storage, name, exists, etag)
        self._require_room(name, size)
        upload_id = secrets.token_hex(16)
        description = Description(name, size, exists, sha256, etag, metadata)
        with self._claimed(upload_id, wake) as claim, self._folder(make=True, name=name) as folder:
            fd = os.open(folder.child(upload_id), _CREATE, 0o666, dir_fd=folder.dir_fd)
            try:
                _write_description(folder, upload_id, description)
            except BaseException:
                os.close(fd)
                _remove(folder, *_files_of(upload_id))
                raise
        return UploadWriter(self, claim, fd, description, 0, hashlib.sha256())

    def resume(
        self, upload_id: str, offset: int, check: Callable[[], None], wake: Callable[[], None] = no_wake
    ) -> "UploadWriter | UploadStatus":
        """Go on with an upload at ``offset``; its state if it has ended well by now.

        Who names the right offset takes over from another writer, which is asked to let go. Raises ``busy``
        if that keeps the upload, or ``offset`` is not the right one while it writes; else ``offset`` with
        the right one. ``check`` may give up a long look at what has come.
        """

        def is_proven() -> bool:
            return self.state(upload_id).offset == offset

        with self._claimed(upload_id, wake, is_proven) as claim, self._folder(upload_id) as folder:
            description, state = self._look(folder, upload_id)
            if offset != state.offset:
                message = f"The server has {state.offset} bytes of this upload, not {offset}."
                raise ErrorReply("offset", message, offset=state.offset)
            if not state.published:
                self._require_room(state.name, state.size - offset)
                fd = _open(folder, upload_id, _APPEND)
                try:
                    digest = self._hash_so_far(upload_id, fd, offset, check, claim)
                except BaseException:
                    os.close(fd)
                    raise
                return UploadWriter(self, claim, fd, description, offset, digest)
        self._release(upload_id)
        return state

    def state(self, upload_id: str) -> UploadStatus:
        """How far it is. Raises ``not-found`` for what never was, was deleted, or is too old."""
        with self._folder(upload_id) as folder:
            return self._look(folder, upload_id)[1]

    def delete(self, upload_id: str) -> str:
        """Throw an upload away, at the latest when its writer lets go of it; the name it was for."""
        with self._folder(upload_id) as folder:
            name = _described(folder, upload_id).name
            if self._claims.give_up(upload_id):
                return name
            try:
                _remove(folder, *_files_of(upload_id))
            finally:
                self._release(upload_id)
        return name

    def forget(self, upload_id: str) -> None:
        """Keep nothing of an upload that was published and whose client knows it."""
        with contextlib.suppress(ErrorReply, FileNotFoundError), self._folder(upload_id) as folder:
            os.unlink(folder.child(upload_id + _DESCRIPTION), dir_fd=folder.dir_fd)

    def sweep(self) -> int:
        """Remove uploads that nobody has gone on with for long; how many they were."""
        removed = 0
        with contextlib.suppress(ErrorReply), self._folder() as folder:
            files: dict[str, list[str]] = {}
            for name in self._storage.names_in(folder):
                files.setdefault(name.partition(".")[0], []).append(name)
            self._ages.forget_all_but(files)
            for upload_id, names in files.items():
                with contextlib.suppress(ErrorReply, OSError):  # one that is written, or cannot be removed
                    is_old = self._is_old(folder, upload_id, names)
                    removed += is_old and self._remove_old(folder, upload_id, names)
        return removed

    def _is_old(self, folder: Place, upload_id: str, names: list[str]) -> bool:
        return self._ages.is_old(upload_id, max(_lstat(folder, name).st_mtime for name in names))

    def _remove_old(self, folder: Place, upload_id: str, names: list[str]) -> bool:
        with self._claimed(upload_id):
            # Once more, now that nobody can go on with it.
            is_old = self._is_old(folder, upload_id, names)
            if is_old:
                _remove(folder, *names)
        self._release(upload_id)
        return is_old

    # --- for uploads

    def publish(self, upload: "UploadWriter", exists: str, etag: str | None = None) -> str:
        """Give the partial file its name, at once and only if that may be taken; which name it got."""
        if self._claims.is_given_up(upload.id):
            raise ErrorReply("not-found", f"The upload of {shown(upload.name)} was given up.")
        for name in candidates(self._storage, upload.name, exists):
            with contextlib.suppress(FileExistsError):
                self._publish_as(upload, name, exists, etag)
                return name
        raise ErrorReply("exists", f"There is a file {shown(upload.name)} already.")

    def _publish_as(self, upload: "UploadWriter", name: str, exists: str, etag: str | None) -> None:
        # A folder that a delete has emptied is removed between our mkdir and our rename: once more.
        for attempt in range(_RETRIES):
            try:
                with self._storage.at(name, make=etag is None) as place, self._folder() as folder:
                    require_replaceable(place, name, exists)
                    partial = Place(folder.dir_fd, folder.child(upload.id))
                    partial.lstat()
                    # From here on a description without its bytes means: published, under this name.
                    described = replace(upload.description, final=name, hashed=upload.sha256)
                    _write_description(folder, upload.id, described)
                    if exists == "replace":
                        with self._storage.changing:
                            require_state(place, name, etag)
                            disk.rename(partial, place)
                    else:
                        disk.rename_if_free(partial, place)
                    place.sync_folder()
                    folder.sync_folder()
                return
            except ErrorReply as error:
                if error.code == "not-found" and etag is not None:  # its folder went with the file
                    raise not_in_that_state(name) from None
                if error.code != "not-found" or attempt == _RETRIES - 1:
                    raise

    def discard(self, upload: "UploadWriter") -> None:
        with contextlib.suppress(ErrorReply), self._folder() as folder:
            _remove(folder, *_files_of(upload.id))

    def let_go(self, upload: "UploadWriter", digest: tuple[int, Any] | None) -> None:
        """The writer is done with it, for now or for good; ``digest`` is the hash of so many bytes."""
        self._ages.note_written(upload.id)
        with self._lock:
            if digest is not None:
                self._hashes[upload.id] = digest
            if len(self._hashes) > _HASHES_KEPT:
                self._hashes.popitem(last=False)
        self._release(upload.id)

    # --- beneath

    def _require_room(self, name: str, size: int) -> None:
        free = shutil.disk_usage(self._storage.root).free
        if size > free:
            raise ErrorReply("no-space", f"{shown(name)} needs {size} bytes, but only {free} are free.")

    @contextlib.contextmanager
    def _claimed(
        self,
        upload_id: str,
        wake: Callable[[], None] = no_wake,
        may_take_over: Callable[[], bool] = lambda: False,
    ) -> Iterator[Claim]:
        """One writer at a time. It stays claimed, until ``let_go``, unless the block fails."""
        claim = self._claims.take(upload_id, wake, may_take_over)
        try:
            yield claim
        except BaseException:
            self._release(upload_id)
            raise

    def _release(self, upload_id: str) -> None:
        if self._claims.release(upload_id):
            return
        with contextlib.suppress(ErrorReply), self._folder() as folder:
            _remove(folder, *_files_of(upload_id))
        with self._lock:
            self._hashes.pop(upload_id, None)
        self._claims.clear(upload_id)

    @contextlib.contextmanager
    def _folder(
        self, upload_id: str = "0" * 32, make: bool = False, name: str = "the upload"
    ) -> Iterator[Place]:
        """The hidden folder. ``not-found`` for an id that cannot be one: it becomes a name on the disk."""
        if not _ID.fullmatch(upload_id):
            raise ErrorReply("not-found", f"There is no upload {shown(upload_id, 40)}.")
        try:
            with self._storage.folder([PARTIALS], make) as folder:
                yield folder
        except FileExistsError:
            raise
        except OSError as error:
            self._storage.require()  # while the folder is away, no upload in it is lost
            if isinstance(error, FileNotFoundError) and not make:
                raise ErrorReply("not-found", f"There is no upload {upload_id}.") from None
            refuse(error, name)

    def _look(self, folder: Place, upload_id: str) -> tuple[Description, UploadStatus]:
        # The bytes first: if they are renamed meanwhile, the description that is read then says to what.
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = _stat_file(folder, upload_id)
        described = _described(folder, upload_id)
        offset, published, touched = described.size, described.final, time.time()
        if found is not None:
            offset, published, touched = found.st_size, None, found.st_mtime
        elif published is None:
            raise FileNotFoundError(errno.ENOENT, "no bytes", upload_id)
        expires = touched + self.keep_seconds
        return described, UploadStatus(
            upload_id,
            described.name,
            described.size,
            offset,
            published,
            described.hashed,
            expires,
            described.metadata,
        )

    def _hash_so_far(
        self, upload_id: str, fd: int, offset: int, check: Callable[[], None], claim: Claim
    ) -> Any:
        def check_both() -> None:
            check()
            claim.check()

        with self._lock:
            hashed, digest = self._hashes.pop(upload_id, (0, None))
        if digest is not None and hashed == offset:
            return digest
        return OpenFile(fd, upload_id).digest(check_both)


class UploadWriter:
    """An upload in the hands of its one writer. ``close`` it, whether it was published, discarded or kept."""

    def __init__(
        self, uploads: UploadStore, claim: Claim, fd: int, description: Description, offset: int, digest: Any
    ) -> None:
        self._uploads = uploads
        self._claim = claim
        self.id = claim.upload_id
        self._fd = fd
        self.description = description
        self.offset = offset
        self._hash = digest
        self._hashed = offset
        self._writing_out = offset  # up to here the disk is at it, or done
        self._is_over = False

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def expires(self) -> float:
        """Unix seconds until which it can be gone on with, if nothing more comes."""
        return time.time() + self._uploads.keep_seconds

    @property
    def sha256(self) -> str:
        """Of all that has come."""
        return str(self._hash.hexdigest())

    def write(self, data: memoryview) -> None:
        """Append all of ``data``. Raises ``ErrorReply`` when the disk is full or broken."""
        self._hash.update(data)
        self._hashed += len(data)
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
        """Raise ``Displaced`` if somebody else goes on with it: nothing more may be written."""
        self._claim.check()

    def settle(self) -> None:
        """From here on nobody takes over. Raises ``Displaced`` if somebody has asked before."""
        self._uploads._claims.settle(self._claim)

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
        name = self._uploads.publish(self, exists, etag)
        entry = entry_of(name, self._renamed(found))
        self._close_file()
        self._is_over = True
        self._uploads._storage.remember_hash(entry.name, entry.etag, self.sha256)
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
        self._uploads.discard(self)

    def close(self) -> None:
        """Let the next writer have it. What has come is kept."""
        self._close_file()
        # After a failed write the hash is of other bytes than the file's.
        is_of_use = self._hashed == self.offset and not self._is_over
        self._uploads.let_go(self, (self._hashed, self._hash) if is_of_use else None)

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


# --- steps on the disk


def _write_description(folder: Place, upload_id: str, description: Description) -> None:
    """Whole or not at all, and on the disk before anything that relies on it."""
    draft = folder.child(upload_id + _DRAFT)
    with contextlib.suppress(FileNotFoundError):  # of a crash
        os.unlink(draft, dir_fd=folder.dir_fd)
    fd = os.open(draft, _CREATE, 0o600, dir_fd=folder.dir_fd)
    try:
        with open(fd, "wb") as file:
            file.write(json.dumps(asdict(description)).encode())
            file.flush()
            os.fsync(fd)
        final = folder.child(upload_id + _DESCRIPTION)
        os.replace(draft, final, src_dir_fd=folder.dir_fd, dst_dir_fd=folder.dir_fd)
    except BaseException:
        os.unlink(draft, dir_fd=folder.dir_fd)
        raise


def _described(folder: Place, upload_id: str) -> Description:
    with open(_open(folder, upload_id + _DESCRIPTION, _READ), "rb") as file:
        try:
            return Description(**json.load(file))
        except (ValueError, TypeError):
            raise FileNotFoundError(errno.ENOENT, "no description", upload_id) from None


def _lstat(folder: Place, name: str) -> os.stat_result:
    return os.stat(folder.child(name), dir_fd=folder.dir_fd, follow_symlinks=False)


def _stat_file(folder: Place, name: str) -> os.stat_result:
    found = _lstat(folder, name)
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "not a file", name)
    return found


def _open(folder: Place, name: str, flags: int) -> int:
    _stat_file(folder, name)
    return os.open(folder.child(name), flags, dir_fd=folder.dir_fd)


def _files_of(upload_id: str) -> tuple[str, ...]:
    return upload_id, upload_id + _DESCRIPTION, upload_id + _DRAFT


def _remove(folder: Place, *names: str) -> None:
    # The description first: bytes without one are nobody's, but a description without bytes is a success.
    for name in sorted(names, key=lambda name: not name.endswith(_DESCRIPTION)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder.child(name), dir_fd=folder.dir_fd)
