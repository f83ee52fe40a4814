"""What may somebody do: one function decides, for every door of both servers.

There are no accounts for files yet: everybody on a loopback address may do all, and nobody else gets in.
"""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from files_app.access.principals import authenticate, principal_of
from fileserver.names import composed
from fileserver.net.address import is_loopback
from fileserver.rights import (
    ADD,
    CONTROL,
    DELETE,
    GET,
    LIST,
    MANAGE,
    REPLACE,
    SHARE,
    WATCH,
    Access,
    Principal,
    Right,
)

REFUSALS: dict[Right, str] = {
    LIST: "You may not see which files there are.",
    GET: "You may not download this file.",
    ADD: "You may not upload a file of this name.",
    REPLACE: "You may not replace this file.",
    DELETE: "You may not delete this file.",
    SHARE: "You may not share this file.",
    WATCH: "You may not see the transfers.",
    CONTROL: "You may not stop transfers.",
    MANAGE: "You may not manage this server.",
}


def may(principal: Principal, right: Right, name: str) -> bool:
    """The policy. ``name``: of a file, composed (NFC); empty for the server, or all names."""
    if principal.ticket is not None:
        return right == GET and name == composed(principal.ticket.name)
    if principal.is_relay:  # which is asked about a second time, for whom it speaks
        return True
    return is_loopback(principal.address)


ACCESS = Access(authenticate, may)  # the file server's seam


def is_allowed(request_or_scope: HttpRequest | dict[str, Any], right: Right, name: str = "") -> bool:
    return may(principal_of(request_or_scope), right, composed(name))


def require(request_or_scope: HttpRequest | dict[str, Any], right: Right, name: str = "") -> None:
    """Raise ``PermissionDenied``, with a sentence, unless whoever asks has the right.

    Each view and each handler of an upload calls it before it does anything with a name.
    """
    if not is_allowed(request_or_scope, right, name):
        raise PermissionDenied(REFUSALS[right])


def require_put(request: HttpRequest, exists: str | None, name: str) -> None:
    """``require`` for an upload, which may replace a file or be a new one if ``exists`` is ``replace``."""
    require(request, ADD, name)
    if exists == "replace":
        require(request, REPLACE, name)
