"""What happens in the file server, as values: tuples, as they are made for each short transfer.

The server tells its observer every fact below, in the thread that did the thing. An observer must neither
block nor raise. Every ``TransferStarted`` is followed by exactly one ``TransferFinished``.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

Direction = Literal["download", "upload"]
Outcome = Literal["complete", "aborted", "cancelled", "failed"]


class ClientConnected(NamedTuple):
    client: str
    thread: str


class ClientRefused(NamedTuple):
    """A connection that was closed at once because a limit was reached."""

    client: str
    reason: str


class ClientDisconnected(NamedTuple):
    client: str
    thread: str


class TransferFacts(NamedTuple):
    """What is known of a transfer from its start. Sizes and offsets are in bytes, times in Unix seconds.

    ``length`` is what is to move. An upload that is resumed begins again with the same ``upload``, and with
    ``done`` bytes. ``principal`` is whose it is, as text: ``guest``, ``user:17``.
    """

    id: int
    direction: Direction
    name: str
    size: int
    offset: int
    length: int
    client: str
    user: str | None
    via: str
    thread: str
    pace: str
    at: float
    upload: str = ""
    done: int = 0
    principal: str = ""


class TransferStarted(TransferFacts):
    """A transfer is live, with these facts."""

    __slots__ = ()


class TransferProgressed(NamedTuple):
    """Told every few seconds while a transfer runs; ``done`` only grows. ``seconds`` since it began."""

    id: int
    name: str
    done: int
    length: int
    paced: bool
    seconds: float


class TransferFinished(NamedTuple):
    """The one ending. ``error`` is a word of the protocol such as ``stalled``, or empty."""

    id: int
    name: str
    done: int
    outcome: Outcome
    error: str
    verified: bool | None
    seconds: float
    at: float


class TransferVerified(NamedTuple):
    """The receiver of a finished download gave the hash of what it has: right or wrong."""

    id: int
    name: str
    verified: bool


class FilePublished(NamedTuple):
    name: str
    size: int
    mtime: float
    etag: str
    sha256: str
    user: str | None


class FileHashed(NamedTuple):
    """The content of a file that was there already is now known."""

    name: str
    etag: str
    sha256: str


class FileDeleted(NamedTuple):
    name: str
    client: str
    user: str | None


Event = (
    ClientConnected
    | ClientRefused
    | ClientDisconnected
    | TransferStarted
    | TransferProgressed
    | TransferFinished
    | TransferVerified
    | FilePublished
    | FileHashed
    | FileDeleted
)
Observer = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The observer of a server that nobody observes."""
