"""Who is asking, as the site and the file server see it."""

import hmac
from dataclasses import replace
from typing import Any

from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from files_app.access import tickets, tokens, wrong_tokens
from files_app.access.loopback import is_local_request
from files_app.access.snapshot import snapshots
from fileserver.net.address import is_loopback
from fileserver.rights import Principal


def relay_token() -> str:
    """What the site shows the file server: both derive it from the secret key."""
    return salted_hmac("files_app.access.relay", "relay", algorithm="sha256").hexdigest()


def authenticate(token: str | None, address: str, is_private: bool) -> Principal | None:
    """Who a client of the file server at ``address`` is.

    ``is_private``: no other machine reaches this server, so that whoever is on this one may do all. ``None``
    for what is neither a known token nor a ticket that is good there.
    """
    if token is None:
        return Principal("local" if is_private and is_loopback(address) else "guest", address=address)
    given = token.encode("utf-8", "surrogatepass")  # JSON can hold what UTF-8 cannot
    if hmac.compare_digest(given, relay_token().encode()):
        return Principal("relay", address=address)
    if shown := token_principal(token, address):
        return shown
    holder = tickets.read(token, address)
    if holder is None and ":" not in token:  # a ticket that is too old is nobody's guess
        wrong_tokens.count(address)
    person = snapshots.newest.people.get(holder.key) if holder and holder.kind == "user" else None
    return replace(holder, user=person.name) if holder and person else holder


def token_principal(text: str, address: str) -> Principal | None:
    """Who shows this token; ``None`` if it is none, or not good any more."""
    facts = tokens.found_by(text, snapshots.newest.tokens)
    owner = snapshots.newest.people.get(facts.owner) if facts else None
    if facts is None or owner is None:
        return None
    tokens.note_use(facts.key, address)
    return Principal("token", owner.name, address, key=facts.key)


def is_known(principal: Principal) -> bool:
    """Whether somebody is still who they were: an account may have been closed, a token revoked."""
    newest = snapshots.newest
    if principal.kind == "token":
        facts = newest.tokens_by_key.get(principal.key)
        return facts is not None and not facts.is_over and facts.owner in newest.people
    return principal.kind != "user" or principal.key in newest.people


def principal_of(request_or_scope: HttpRequest | dict[str, Any]) -> Principal:
    """Who asks the site, as ``AccessMiddleware`` or ``OwnOriginOnly`` found out; without them, a guest."""
    if isinstance(request_or_scope, HttpRequest):
        found = getattr(request_or_scope, "principal", None)
    else:
        found = request_or_scope.get("principal")
    return found or visitor(request_or_scope)


def visitor(request_or_scope: HttpRequest | dict[str, Any], user: Any = None) -> Principal:
    """The principal of a request by ``user``, if somebody is logged in."""
    address = address_of(request_or_scope)
    name = user.get_username() if user else None
    if is_local_request(request_or_scope, address):
        return Principal("local", name, address)
    return Principal("user", name, address, key=user.pk) if user else Principal(address=address)


def address_of(request_or_scope: HttpRequest | dict[str, Any]) -> str:
    """Where the request, or the websocket of this ASGI scope, comes from.

    A Unix socket has no address, and is on this machine.
    """
    if isinstance(request_or_scope, HttpRequest):
        return request_or_scope.META.get("REMOTE_ADDR") or "127.0.0.1"
    return str((request_or_scope.get("client") or ["127.0.0.1"])[0])
