"""Uploads that are not files yet: hidden partial files, which can be resumed and are published at once.

In the hidden folder lie, for each upload, ``<id>`` with the bytes that have come (its size *is* the offset)
and ``<id>.json`` with what is to become of them. The last step of an upload is one rename of ``<id>`` to its
name, so a crash leaves the whole file or none; what remains, a description without bytes, says under which
name the upload has ended, for a client that did not hear it.
"""

import contextlib
import hashlib
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from fileserver.names import BadName, check_portable, shown
from fileserver.storage import descriptions, partial_files
from fileserver.storage.ages import Ages
from fileserver.storage.base import UploadRequest, UploadStatus
from fileserver.storage.claims import Claim, Claims, no_wake
from fileserver.storage.content import OpenFile
from fileserver.storage.descriptions import Description, Published
from fileserver.storage.free_names import require_free
from fileserver.storage.hidden import HiddenFolder
from fileserver.storage.partial_files import DESCRIPTION
from fileserver.storage.paths import Paths
from fileserver.storage.place import Place
from fileserver.storage.publishing import Publisher
from fileserver.storage.room import Room
from fileserver.storage.writer import UploadWriter
from fileserver.wire.replies import ErrorReply

KEEP_SECONDS = 24 * 3600.0  # that an upload is kept after its last byte
_HASHES_KEPT = 1000
FLOOR_SHARE = 20  # of a disk, at most the twentieth part is kept free


class UploadStore:
    """All uploads of one served folder. For any thread; each upload has one writer at a time."""

    def __init__(
        self,
        paths: Paths,
        remember_hash: Callable[[str, str, str], None],
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        min_free: int = 0,
    ) -> None:
        self._paths = paths
        self._hidden = HiddenFolder(paths)
        self._publisher = Publisher(paths, self._hidden)
        self.remember_hash = remember_hash  # given name, etag and hash of a file that was published
        self.keep_seconds = keep_seconds
        self._ages = Ages(keep_seconds, clock)
        self._claims = Claims()
        # A small disk has not so much to spare.
        self._room = Room(paths.free_space, lambda: min(min_free, paths.size_of_disk() // FLOOR_SHARE))
        self._lock = threading.Lock()  # of the hashes
        # Of uploads between two parts: bytes hashed, and the hash so far. Without it all would be read again.
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()

    # --- for sessions

    def begin(self, request: UploadRequest, wake: Callable[[], None] = no_wake) -> UploadWriter:
        """A new upload; refuses what cannot end well. ``wake`` ends its writer's wait for the next byte."""
        try:
            check_portable(request.name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        self._paths.require()
        require_free(self._paths, request.name, request.exists, request.etag)
        upload_id = secrets.token_hex(16)
        description = Description(**asdict(request))
        with self._claimed(upload_id, wake) as claim:
            self._room.reserve(upload_id, request.name, request.size)
            with self._hidden.made(request.name) as folder:
                fd = partial_files.create(folder, upload_id)
                try:
                    descriptions.write(folder, upload_id, description)
                except BaseException:
                    os.close(fd)
                    partial_files.remove_upload(folder, upload_id)
                    raise
        return UploadWriter(self, claim, fd, description, 0, hashlib.sha256())

    def resume(
        self, upload_id: str, offset: int, check: Callable[[], None], wake: Callable[[], None] = no_wake
    ) -> UploadWriter | UploadStatus:
        """Resume an upload at ``offset``; its state if it has ended well by now.

        A client that names the right offset takes over from another writer, which is asked to release it.
        Raises ``busy`` if that keeps the upload, or ``offset`` is not the right one while it writes; else
        ``offset`` with the right one. ``check`` may give up a long look at what has come.
        """

        def is_proven() -> bool:
            return self.state(upload_id).offset == offset

        with self._claimed(upload_id, wake, is_proven) as claim, self._hidden.open(upload_id) as folder:
            description, state = descriptions.look(folder, upload_id, self.keep_seconds)
            if offset != state.offset:
                message = f"The server has {state.offset} bytes of this upload, not {offset}."
                raise ErrorReply("offset", message, offset=state.offset)
            if not state.published:
                self._room.reserve(upload_id, state.name, state.size - offset)
                fd = partial_files.open_file(folder, upload_id, partial_files.APPEND)
                try:
                    digest = self._hash_so_far(fd, offset, check, claim)
                except BaseException:
                    os.close(fd)
                    raise
                return UploadWriter(self, claim, fd, description, offset, digest)
        self._release(upload_id)
        return state

    def state(self, upload_id: str) -> UploadStatus:
        """How far it is. Raises ``not-found`` for what never was, was deleted, or is too old."""
        with self._hidden.open(upload_id) as folder:
            return descriptions.look(folder, upload_id, self.keep_seconds)[1]

    def delete(self, upload_id: str) -> str:
        """Throw an upload away, at the latest when its writer releases it; the name it was for."""
        with self._hidden.open(upload_id) as folder:
            name = descriptions.read(folder, upload_id).name
            if self._claims.give_up(upload_id):
                return name
            try:
                partial_files.remove_upload(folder, upload_id)
            finally:
                self._release(upload_id)
        return name

    def forget(self, upload_id: str) -> None:
        """Keep nothing of an upload that was published and whose client knows it."""
        with contextlib.suppress(ErrorReply), self._hidden.open(upload_id) as folder:
            partial_files.remove(folder, upload_id + DESCRIPTION)

    def sweep(self) -> int:
        """Remove uploads that nobody has resumed for long; how many they were."""
        removed = 0
        with contextlib.suppress(ErrorReply), self._hidden.open() as folder:
            files: dict[str, list[str]] = {}
            for name in self._paths.names_in(folder):
                files.setdefault(name.partition(".")[0], []).append(name)
            self._ages.forget_all_but(files)
            for upload_id, names in files.items():
                with contextlib.suppress(ErrorReply, OSError):  # one that is written, or cannot be removed
                    is_old = self._is_old(folder, upload_id, names)
                    removed += is_old and self._remove_old(folder, upload_id, names)
        return removed

    def _is_old(self, folder: Place, upload_id: str, names: list[str]) -> bool:
        modified = max(partial_files.lstat(folder, name).st_mtime for name in names)
        return self._ages.is_old(upload_id, modified)

    def _remove_old(self, folder: Place, upload_id: str, names: list[str]) -> bool:
        with self._claimed(upload_id):
            # Once more, now that nobody can resume it.
            is_old = self._is_old(folder, upload_id, names)
            if is_old:
                partial_files.remove(folder, *names)
        self._release(upload_id)
        return is_old

    # --- for its writers

    def settle(self, claim: Claim) -> None:
        self._claims.settle(claim)

    def publish(self, upload_id: str, description: Description, exists: str, etag: str | None) -> Published:
        """Give the partial file its name, at once and only if that may be taken."""
        if self._claims.is_given_up(upload_id):
            raise ErrorReply("not-found", f"The upload of {shown(description.name)} was given up.")
        return self._publisher.publish(upload_id, description, exists, etag)

    def wrote(self, upload_id: str, name: str, count: int) -> None:
        """So many more bytes of it are on the disk. Raises ``no-space`` if it is nearly full."""
        self._room.took(upload_id, name, count)

    def discard(self, upload_id: str) -> None:
        with contextlib.suppress(ErrorReply), self._hidden.open() as folder:
            partial_files.remove_upload(folder, upload_id)

    def release(self, upload_id: str, digest: tuple[int, Any] | None) -> None:
        """The writer is done with it, for now or for good; ``digest`` is the hash of so many bytes."""
        self._ages.note_written(upload_id)
        with self._lock:
            if digest is not None:
                self._hashes[upload_id] = digest
            if len(self._hashes) > _HASHES_KEPT:
                self._hashes.popitem(last=False)
        self._release(upload_id)

    # --- beneath

    @contextlib.contextmanager
    def _claimed(
        self,
        upload_id: str,
        wake: Callable[[], None] = no_wake,
        may_take_over: Callable[[], bool] = lambda: False,
    ) -> Iterator[Claim]:
        """One writer at a time. It stays claimed, until ``release``, unless the block fails."""
        claim = self._claims.take(upload_id, wake, may_take_over)
        try:
            yield claim
        except BaseException:
            self._release(upload_id)
            raise

    def _release(self, upload_id: str) -> None:
        self._room.release(upload_id)
        if self._claims.release(upload_id):
            return
        self.discard(upload_id)  # it was given up while it was written
        with self._lock:
            self._hashes.pop(upload_id, None)
        self._claims.clear(upload_id)

    def _hash_so_far(self, fd: int, offset: int, check: Callable[[], None], claim: Claim) -> Any:
        def check_both() -> None:
            check()
            claim.check()

        with self._lock:
            hashed, digest = self._hashes.pop(claim.upload_id, (0, None))
        if digest is not None and hashed == offset:
            return digest
        return OpenFile(fd, claim.upload_id).digest(check_both)
