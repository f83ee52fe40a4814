"""What each verb is asked with: its fields as values, read and checked by the table in ``verbs``."""

from typing import NamedTuple

from fileserver.pacing import Pace
from fileserver.rights import Kind


class Nothing(NamedTuple):
    """A verb without fields."""


class Auth(NamedTuple):
    token: str


class List(NamedTuple):
    """Names that begin with ``prefix`` and come behind ``after``, at most ``limit`` of them."""

    prefix: str
    after: str
    limit: int


class Stat(NamedTuple):
    """One of the two: a file by its name, or an upload by its id. ``identity`` is asked of folders, too."""

    name: str | None
    upload: str | None
    identity: bool

    @property
    def is_about_folder(self) -> bool:
        return self.identity and self.name is not None and (not self.name or self.name.endswith("/"))


class Get(NamedTuple):
    """Bytes from ``offset``, up to the end without a ``length``; only in the state ``etag`` if there is one.

    ``client``, ``user``, ``via`` and ``principal`` are for a relay: whom it speaks for.
    """

    name: str
    offset: int
    length: int | None
    etag: str | None
    pace: Pace | None
    client: str | None
    user: str | None
    via: str | None
    principal: tuple[Kind, int] | None


class Receipt(NamedTuple):
    id: int
    sha256: str | None


class Put(NamedTuple):
    """``size`` of the whole file, of which the bytes from ``offset`` follow, ``length`` of them in this part.

    ``upload`` is the id of one to resume; ``etag`` that of the file to be replaced.
    """

    name: str
    size: int
    offset: int
    length: int | None
    upload: str | None
    sha256: str | None
    exists: str | None
    etag: str | None
    metadata: str | None
    client: str | None
    user: str | None
    via: str | None
    principal: tuple[Kind, int] | None

    @property
    def bytes_that_follow(self) -> int:
        rest = max(0, self.size - self.offset)
        return rest if self.length is None else min(rest, self.length)


class Delete(NamedTuple):
    """One of the two: a file by its name, in the state ``etag`` if there is one, or an upload by its id."""

    name: str | None
    upload: str | None
    etag: str | None
    client: str | None
    user: str | None
    via: str | None
    principal: tuple[Kind, int] | None


class MakeFolder(NamedTuple):
    name: str
    client: str | None
    user: str | None
    via: str | None
    principal: tuple[Kind, int] | None


class Cancel(NamedTuple):
    id: int
    client: str | None
    user: str | None
    via: str | None
    principal: tuple[Kind, int] | None


# A request on behalf of somebody else names them with these fields.
RelayRequest = Get | Put | Delete | MakeFolder | Cancel
Fields = Nothing | Auth | List | Stat | Get | Receipt | Put | Delete | MakeFolder | Cancel
