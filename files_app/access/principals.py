"""Who is asking, as the site and the file server see it."""

import hmac
from typing import Any

from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from files_app.access import tickets
from fileserver.rights import Principal


def relay_token() -> str:
    """What the site shows the file server: both derive it from the secret key."""
    return salted_hmac("files_app.access.relay", "relay", algorithm="sha256").hexdigest()


def authenticate(token: str | None, address: str) -> Principal | None:
    """The file server's seam: who a client at ``address`` is.

    ``None`` for what is neither a known token nor a ticket that is good there.
    """
    if token is None:
        return Principal("guest", address=address)
    given = token.encode("utf-8", "surrogatepass")  # JSON can hold what UTF-8 cannot
    if hmac.compare_digest(given, relay_token().encode()):
        return Principal("relay", address=address)
    ticket = tickets.read(token, address)
    return Principal("local", address=address, ticket=ticket) if ticket else None


def principal_of(request_or_scope: HttpRequest | dict[str, Any]) -> Principal:
    """Who asks the site. There are no accounts for files yet: a login to the admin changes nothing."""
    return Principal("guest", address=address_of(request_or_scope))


def address_of(request_or_scope: HttpRequest | dict[str, Any]) -> str:
    """Where the request, or the websocket of this ASGI scope, comes from.

    A Unix socket has no address, and is on this machine.
    """
    if isinstance(request_or_scope, HttpRequest):
        return request_or_scope.META.get("REMOTE_ADDR") or "127.0.0.1"
    return str((request_or_scope.get("client") or ["127.0.0.1"])[0])
