"""The values that the server and a store exchange, whatever the store keeps its files in."""

from dataclasses import dataclass


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
