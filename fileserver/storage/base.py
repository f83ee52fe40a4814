"""What the server asks of a store, whatever the store keeps its files in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self


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
    def open(self, name: str) -> Content: ...
