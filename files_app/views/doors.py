"""Where uploads by tus come in: what differs between the page's own uploads and those of a drop."""

from typing import NamedTuple

from django.http import HttpRequest
from django.urls import reverse

from fileserver.wire.replies import ErrorReply


class Asked(NamedTuple):
    """What a client asks for that announces an upload. ``size`` in bytes."""

    name: str
    exists: str | None
    size: int
    metadata: dict[str, bytes]


class Door:
    """Where uploads come in, and what becomes of them. This one is the page's: a file gets the name that it
    comes with. Other doors say more."""

    route = "upload"  # of the URL of one upload

    async def place(self, request: HttpRequest, asked: Asked) -> tuple[str, str | None]:
        """The name that a new upload gets, and what is to happen if that is taken. May refuse it."""
        return asked.name, asked.exists

    async def begun(self, upload_id: str) -> None:
        """The upload that was placed has this id."""

    async def failed(self) -> None:
        """The upload that was placed did not begin, or nobody knows its id."""

    async def require_own(self, upload_id: str) -> None:
        """Raise ``ErrorReply`` if an upload came in by another door."""

    async def ended(self, upload_id: str, name: str, sha256: str) -> None:
        """It is a file of that name now. May be told more than once."""

    async def deleted(self, upload_id: str) -> None:
        """It was given up."""

    def url_of(self, upload_id: str) -> str:
        return reverse(self.route, args=[upload_id])

    def told_name(self, name: str) -> str:
        """What the client is told of a file's name."""
        return name

    def told_error(self, error: ErrorReply) -> ErrorReply:
        """What the client is told of an error of the file server."""
        return error
