"""A second store, without a disk: what the server needs of a store and no more.

Short and slow on purpose. ``test_contract`` runs the same cases against it and against the folder.
"""

import contextlib
import hashlib
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

from fileserver.names import BadName, check_portable, check_safe, composed, numbered, shown
from fileserver.storage.ages import Ages
from fileserver.storage.base import Content, Entry, UploadRequest, UploadStatus
from fileserver.storage.claims import Claim, Claims, no_wake
from fileserver.storage.place import ANY_STATE, not_in_that_state
from fileserver.wire.replies import ErrorReply


class MemoryContent:
    """A file as it was when it was opened. Nobody writes to it: another one takes its place."""

    def __init__(self, entry: Entry, data: bytes) -> None:
        self.name, self.size, self.mtime, self.etag = entry.name, entry.size, entry.mtime, entry.etag
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def fileno(self) -> None:
        return None

    def has_changed(self) -> bool:
        return False

    def sha256(self, check: Callable[[], None]) -> str:
        check()
        return hashlib.sha256(self._data).hexdigest()

    def close(self) -> None:
        pass

    def __enter__(self) -> "MemoryContent":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class MemoryStore:
    def __init__(self) -> None:
        self.changing = threading.RLock()  # a look at the state of a file and its change are one step
        self._files: dict[str, tuple[Entry, bytes]] = {}
        self._hashes: dict[str, tuple[str, str]] = {}
        self._folders: set[str] = set()
        self._etags = itertools.count(1)

    def require(self) -> None:
        pass

    def fault(self) -> str:
        return ""

    def has(self, name: str) -> bool:
        return name in self._files

    def open(self, name: str) -> MemoryContent:
        with self.changing:
            return MemoryContent(*self._files[self.real_name(name)])

    def stat(self, name: str) -> Entry:
        with self.changing:
            return self._files[self.real_name(name)][0]

    def identity(self, name: str) -> str:
        with self.changing:
            if name and not name.endswith("/"):
                return str(id(self._files[self.real_name(name)][0]))
            if name and not any(real.startswith(name) for real in (*self._files, *self._folders)):
                raise ErrorReply("not-found", f"There is no file {shown(name)}.")
            return f"folder {name}"

    def entries(
        self, prefix: str = "", after: str = "", unread: Callable[[str], None] = lambda key: None
    ) -> Generator[Entry]:
        with self.changing:
            entries = [entry for entry, _ in self._files.values()]
        for entry in sorted(entries, key=lambda entry: entry.name.encode()):
            if entry.name.startswith(prefix) and entry.name > after:
                yield entry

    def sha256_of(self, entry: Entry | Content) -> str | None:
        etag, sha256 = self._hashes.get(entry.name, ("", ""))
        return sha256 if etag == entry.etag else None

    def remember_hash(self, name: str, etag: str, sha256: str) -> None:
        self._hashes[name] = (etag, sha256)

    def make_folder(self, name: str) -> str:
        name = composed(name.removesuffix("/"))
        try:
            check_portable(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        with self.changing:
            parts = name.split("/")
            if any("/".join(parts[:count]) in self._files for count in range(1, len(parts) + 1)):
                raise ErrorReply("not-a-file", f"{shown(name)} cannot be made.")
            self._folders.add(f"{name}/")
        return f"{name}/"

    def delete(self, name: str, etag: str | None = None) -> str:
        with self.changing:
            name = self.real_name(name)
            self.require_state(name, etag)
            del self._files[name]
        self._hashes.pop(name, None)
        return name

    def uploads(
        self,
        keep_seconds: float = 86400.0,
        clock: Callable[[], float] = time.monotonic,
        min_free: int = 0,
    ) -> "MemoryUploads":
        return MemoryUploads(self, keep_seconds, clock)

    # --- for uploads

    def real_name(self, name: str) -> str:
        """The name of a file that is there, in the form that it has; else ``not-found`` or ``not-a-file``."""
        if name not in self._files:
            name = composed(name)
        try:
            check_safe(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        for real in self._files:
            if composed(real) == composed(name):
                return real
        if any(real.startswith(name + "/") for real in self._files):
            raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
        raise ErrorReply("not-found", f"There is no file {shown(name)}.")

    def free_name(self, name: str, exists: str, etag: str | None) -> str:
        """The name that a file gets that is put now."""
        parts = name.split("/")
        if any("/".join(parts[:count]) in self._files for count in range(1, len(parts))):
            raise ErrorReply("not-a-file", f"{shown(name)} cannot be made: a part of its path is a file.")
        self.require_state(name, etag)
        if exists == "replace" and self._is_taken(name):
            return self.real_name(name)
        candidates = [name, *(numbered(name, number) for number in range(1, 1000))]
        for candidate in candidates if exists == "rename" else [name]:
            if not self._is_taken(candidate):
                return candidate
        raise ErrorReply("exists", f"There is a file {shown(name)} already.")

    def _is_taken(self, name: str) -> bool:
        return any(f"{composed(real)}/".startswith(f"{composed(name)}/") for real in self._files)

    def require_state(self, name: str, etag: str | None) -> None:
        if etag is not None and (
            name not in self._files or etag not in (ANY_STATE, self._files[name][0].etag)
        ):
            raise not_in_that_state(name)

    def put(self, name: str, data: bytes) -> Entry:
        entry = Entry(name, len(data), time.time(), f"{next(self._etags):x}")
        self._files[name] = (entry, data)
        return entry


@dataclass
class Partial:
    """An upload that is no file yet, or that became the file ``published``."""

    description: UploadRequest
    data: bytearray = field(default_factory=bytearray)
    touched: float = field(default_factory=time.time)
    published: str | None = None
    sha256: str | None = None


class MemoryUploads:
    def __init__(self, store: MemoryStore, keep_seconds: float, clock: Callable[[], float]) -> None:
        self.store = store
        self.keep_seconds = keep_seconds
        self.claims = Claims()
        self.partials: dict[str, Partial] = {}
        self._ages = Ages(keep_seconds, clock)

    def begin(self, request: UploadRequest, wake: Callable[[], None] = no_wake) -> "MemoryWriter":
        try:
            check_portable(request.name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        with self.store.changing:
            self.store.free_name(request.name, request.exists, request.etag)
        upload_id = secrets.token_hex(16)
        claim = self.claims.take(upload_id, wake)
        self.partials[upload_id] = Partial(request)
        return MemoryWriter(self, claim)

    def resume(
        self, upload_id: str, offset: int, check: Callable[[], None], wake: Callable[[], None] = no_wake
    ) -> "MemoryWriter | UploadStatus":
        claim = self.claims.take(upload_id, wake, lambda: self.state(upload_id).offset == offset)
        try:
            check()
            state = self.state(upload_id)
            if offset != state.offset:
                message = f"The server has {state.offset} bytes of this upload, not {offset}."
                raise ErrorReply("offset", message, offset=state.offset)
        except BaseException:
            self._release(upload_id)
            raise
        if not state.published:
            return MemoryWriter(self, claim)
        self._release(upload_id)
        return state

    def state(self, upload_id: str) -> UploadStatus:
        partial = self._partial(upload_id)
        request = partial.description
        return UploadStatus(
            id=upload_id,
            name=request.name,
            size=request.size,
            offset=request.size if partial.published else len(partial.data),
            published=partial.published,
            sha256=partial.sha256,
            expires=partial.touched + self.keep_seconds,
            metadata=request.metadata,
            may_replace=request.may_replace,
        )

    def delete(self, upload_id: str) -> str:
        name = self._partial(upload_id).description.name
        if not self.claims.give_up(upload_id):
            self.partials.pop(upload_id, None)
            self._release(upload_id)
        return name

    def forget(self, upload_id: str) -> None:
        self.partials.pop(upload_id, None)

    def sweep(self) -> int:
        removed = 0
        self._ages.forget_all_but(self.partials)
        for upload_id, partial in list(self.partials.items()):
            if not self._ages.is_old(upload_id, partial.touched):
                continue
            with contextlib.suppress(ErrorReply):  # one that is written
                self.claims.take(upload_id, no_wake)
                del self.partials[upload_id]
                removed += 1
                self._release(upload_id)
        return removed

    def release(self, upload_id: str) -> None:
        """Its writer is done with it."""
        self._ages.note_written(upload_id)
        self._release(upload_id)

    def _release(self, upload_id: str) -> None:
        if not self.claims.release(upload_id):
            self.partials.pop(upload_id, None)
            self.claims.clear(upload_id)

    def _partial(self, upload_id: str) -> Partial:
        if upload_id not in self.partials:
            raise ErrorReply("not-found", f"There is no upload {shown(upload_id, 40)}.")
        return self.partials[upload_id]


class MemoryWriter:
    def __init__(self, uploads: MemoryUploads, claim: Claim) -> None:
        self.id = claim.upload_id
        self._uploads = uploads
        self._claim = claim
        self._partial = uploads.partials[self.id]
        self.offset = len(self._partial.data)
        self.description = self._partial.description
        self.name = self.description.name
        self.replaced = False

    @property
    def expires(self) -> float:
        return time.time() + self._uploads.keep_seconds

    @property
    def sha256(self) -> str:
        return self._partial.sha256 or hashlib.sha256(self._partial.data).hexdigest()

    def write(self, data: memoryview) -> None:
        self._partial.data += data
        self._partial.touched = time.time()
        self.offset += len(data)

    def check(self) -> None:
        self._claim.check()

    def settle(self) -> None:
        self._uploads.claims.settle(self._claim)

    def publish(self, exists: str, etag: str | None = None) -> Entry:
        if self._uploads.claims.is_given_up(self.id):
            raise ErrorReply("not-found", f"The upload of {shown(self.name)} was given up.")
        store, partial = self._uploads.store, self._partial
        with store.changing:
            name = store.free_name(self.name, exists, etag)
            partial.published, partial.sha256 = name, self.sha256
            self.replaced = store.has(name)
            entry = store.put(name, bytes(partial.data))
            store.remember_hash(name, entry.etag, partial.sha256)
        return entry

    def discard(self) -> None:
        self._uploads.forget(self.id)

    def close(self) -> None:
        self._uploads.release(self.id)
