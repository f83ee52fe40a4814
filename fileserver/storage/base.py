"""What the server asks of a store, whatever the store keeps its files in."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as a listing has it: size in bytes, time in Unix seconds, and the etag of this state of it."""

    name: str
    size: int
    mtime: float
    etag: str


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What an upload is to become.

    ``exists`` says what happens if the name is taken: ``fail``, ``replace`` or ``rename``. With an ``etag``,
    the upload replaces the file of its name only in that state; ``metadata`` is the client's own.
    """

    name: str
    size: int
    exists: str = "fail"
    sha256: str | None = None
    etag: str | None = None
    metadata: str | None = None

    @property
    def may_replace(self) -> bool:
        return self.exists == "replace" or self.etag is not None


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
    may_replace: bool = False  # it was begun to replace a file of that name


class Content(Protocol):
    """One file that is open for reading, as it was when it was opened. For one thread at a time; close it."""

    name: str
    size: int
    mtime: float
    etag: str

    def read(self, offset: int, size: int) -> bytes | bytearray:
        """Up to ``size`` bytes; fewer do not mean the end, none do."""
        ...

    def fileno(self) -> int | None:
        """A descriptor to send from; ``None`` if there is none: then the content is read piece by piece."""
        ...

    def has_changed(self) -> bool:
        """Whether this very file was written to since it was opened. Ask often: see ``OpenFile``."""
        ...

    def sha256(self, check: Callable[[], None]) -> str:
        """The hash of the content, read now; ``check`` is called between pieces and may raise to give up."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Opener(Protocol):
    """Of a store, or of something that stands before one."""

    def open(self, name: str) -> Content: ...


class Writer(Protocol):
    """An upload in the hands of its one writer. ``close`` it, whether it was published, discarded or kept."""

    id: str
    offset: int
    replaced: bool  # whether ``publish`` has put it in the place of another file

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> UploadRequest: ...

    @property
    def expires(self) -> float:
        """Unix seconds until which it can be resumed, if nothing more comes."""
        ...

    @property
    def sha256(self) -> str:
        """Of all that has come."""
        ...

    def write(self, data: memoryview) -> None:
        """Append all of ``data``. Raises ``no-space``, ``too-large`` or ``internal`` if it cannot be kept."""

    def check(self) -> None:
        """Raise ``Displaced`` if another client resumes it: nothing more may be written."""

    def settle(self) -> None:
        """From here on nobody takes over. Raises ``Displaced`` if somebody has asked before."""

    def publish(self, exists: str, etag: str | None = None) -> Entry:
        """Make it a file, in one step. Raises ``exists`` if the name is taken by now, and ``changed`` if the
        file to be replaced is not in the state ``etag`` any more; then the bytes are kept."""
        ...

    def discard(self) -> None:
        """Keep nothing of it."""

    def close(self) -> None:
        """Let the next writer have it. What has come is kept."""


class Uploads(Protocol):
    """All uploads of a store. For any thread; each upload has one writer at a time."""

    def begin(self, request: UploadRequest, wake: Callable[[], None] = ...) -> Writer:
        """A new upload; refuses what cannot end well. ``wake`` ends its writer's wait for the next byte."""
        ...

    def resume(
        self, upload_id: str, offset: int, check: Callable[[], None], wake: Callable[[], None] = ...
    ) -> Writer | UploadStatus:
        """Resume an upload at ``offset``; its state if it has ended well by now.

        A client that names the right offset takes over from another writer, which is asked to release it.
        Raises ``busy`` if that keeps the upload, or ``offset`` is not the right one while it writes; else
        ``offset`` with the right one. ``check`` may give up a long look at what has come.
        """
        ...

    def state(self, upload_id: str) -> UploadStatus:
        """How far it is. Raises ``not-found`` for what never was, was deleted, or is too old."""
        ...

    def delete(self, upload_id: str) -> str:
        """Throw an upload away, at the latest when its writer releases it; the name it was for."""
        ...

    def forget(self, upload_id: str) -> None:
        """Keep nothing of an upload that was published and whose client knows it."""

    def sweep(self) -> int:
        """Remove uploads that nobody has resumed for long; how many they were."""
        ...


class Store(Protocol):
    """What is served. For any thread.

    Every method takes names from outside and raises ``ErrorReply`` with the code of the protocol. One that
    looks for a file finds it in either of Unicode's forms and answers with the name that it has in the store.
    """

    def require(self) -> None:
        """Raise ``unavailable`` if nothing can be read now."""

    def fault(self) -> str:
        """A sentence that says why nothing can be read now; empty if it can."""
        ...

    def open(self, name: str) -> Content: ...

    def stat(self, name: str) -> Entry: ...

    def identity(self, name: str) -> str:
        """Of a file; of a folder if ``name`` ends in a slash or is empty. No other has the same, or ever had.

        Raises ``not-found`` for a folder that is not there.
        """
        ...

    def entries(
        self, prefix: str = "", after: str = "", unread: Callable[[str], None] = ...
    ) -> Generator[Entry]:
        """Entries whose names start with ``prefix``, in the byte order of UTF-8, those behind ``after``.

        ``unread`` is called with each folder (its name and ``/``) and file that cannot be read, in place of
        its entries. Close it if you do not take all.
        """
        ...

    def sha256_of(self, entry: Entry | Content) -> str | None:
        """The hash of this state of the file, if it is known."""
        ...

    def remember_hash(self, name: str, etag: str, sha256: str) -> None: ...

    def make_folder(self, name: str) -> str:
        """Make a folder, and those above it, that stays when it is empty; its name, with a slash behind.

        One that is there already stays from now on, too.
        """
        ...

    def delete(self, name: str, etag: str | None = None) -> str:
        """Remove a file; the name that it had. With ``etag``, only in that state: else ``changed``."""
        ...

    def uploads(
        self, keep_seconds: float = ..., clock: Callable[[], float] = ..., min_free: int = ...
    ) -> Uploads:
        """Those to come; ``keep_seconds`` after its last byte one may be removed. ``min_free`` bytes of what
        the store could take are left to others."""
        ...
