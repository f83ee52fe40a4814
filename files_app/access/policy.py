"""What may somebody do: one function decides, for every door of both servers."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from files_app.access.loopback import is_this_machine
from files_app.access.principals import authenticate, is_known, principal_of
from files_app.access.quotas import Ledger
from files_app.access.rules import Subject
from files_app.access.snapshot import SERVER_RIGHTS, Person, snapshots
from fileserver.names import composed
from fileserver.net.address import host_of
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
    is_ticket_for,
)
from fileserver.wire.replies import ErrorReply

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
    if principal.ticket is not None and not is_ticket_for(principal.ticket, right, name):
        return False
    if principal.kind == "link":
        return _may_by_link(principal.key, right, name)
    if principal.kind == "token":
        return _may_by_token(principal, right, name)
    if may_all(principal):
        return True
    subject, person = _who(principal)
    if right in SERVER_RIGHTS:
        return person is not None and right in person.server_rights
    return right in snapshots.newest.rules.verdict(subject, name).rights


def _may_by_link(key: int, right: Right, name: str) -> bool:
    """What a link is for, as long as its maker may do it and may share it."""
    link = snapshots.newest.links.get(key)
    if link is None or not link.gives(right, name):
        return False
    maker = Principal("user", key=link.maker)
    return is_known(maker) and may(maker, SHARE, name) and may(maker, right, name)


def _may_by_token(principal: Principal, right: Right, name: str) -> bool:
    """What a token is for, as long as its owner may do it."""
    facts = snapshots.newest.tokens_by_key.get(principal.key)
    if facts is None or not is_known(principal) or not facts.gives(right, name):
        return False
    return may(Principal("user", key=facts.owner), right, name)


def may_somewhere(principal: Principal, right: Right, prefix: str) -> bool:
    """Whether somebody has a right in any folder that may hold names that begin so."""
    if principal.kind == "link":  # the site lists what it leads to, name by name
        return may(principal, right, prefix)
    if principal.kind == "token":
        return _token_may_somewhere(principal, right, prefix)
    return may_all(principal) or snapshots.newest.rules.may_somewhere(_who(principal)[0], right, prefix)


def _token_may_somewhere(principal: Principal, right: Right, prefix: str) -> bool:
    facts = snapshots.newest.tokens_by_key.get(principal.key)
    if facts is None or not is_known(principal) or right not in facts.rights:
        return False
    within = f"{facts.folder}/" if facts.folder else ""
    if not (prefix.startswith(within) or within.startswith(prefix)):
        return False
    return may_somewhere(Principal("user", key=facts.owner), right, max(prefix, within, key=len))


def may_list_folder(principal: Principal) -> Callable[[str], bool] | None:
    """Whether files of a folder (its name ends in a slash) may be listed; ``None``: those of all folders."""
    if may_all(principal):
        return None
    if principal.kind == "token":
        return lambda folder: may(principal, LIST, composed(folder))
    subject, _ = _who(principal)
    rules = snapshots.newest.rules
    return lambda folder: LIST in rules.verdict(subject, folder).rights


def may_see(principal: Principal, transfer: Mapping[str, Any]) -> bool:
    """Whether somebody may see a live transfer, a row of ``WATCH``: everybody may see their own."""
    return is_own(principal, transfer) or may(principal, WATCH, transfer["name"])


def is_own(principal: Principal, transfer: Mapping[str, Any]) -> bool:
    kind, _, key = transfer["principal"].partition(":")
    owner = Principal(kind, transfer["user"], host_of(transfer["client"]), key=int(key or 0))
    return principal.is_same_as(owner)


def may_all(principal: Principal) -> bool:
    """Whether there is nothing to decide. Of a relay it is asked a second time, for whom it speaks."""
    if principal.kind in ("local", "relay"):
        return True
    person = snapshots.newest.people.get(principal.key) if principal.kind == "user" else None
    return person is not None and person.is_superuser


NOBODY: tuple[Subject, None] = (Subject(), None)  # as all who have no account, or one that is closed


def _who(principal: Principal) -> tuple[Subject, Person | None]:
    person = snapshots.newest.people.get(principal.key) if principal.kind == "user" else None
    return (person.subject, person) if person else NOBODY


def access_of(host: str, identity: Callable[[str], str]) -> Access:
    """The seam of a file server that listens on ``host``. ``identity``: see ``Storage``."""
    authenticate_here = partial(authenticate, is_private=is_this_machine(host))
    may_here = partial(_may_here, identity)
    return Access(authenticate_here, may_here, may_somewhere, is_known, Ledger().reserve)


def _may_here(identity: Callable[[str], str], principal: Principal, right: Right, name: str) -> bool:
    """``may``, where it can be seen whether a link still leads to what it was made for."""
    if principal.kind == "link" and principal.key not in snapshots.newest.links:
        snapshots.look_again()  # the site knows it: it was made a moment ago
    if not may(principal, right, name):
        return False
    if principal.kind != "link":
        return True
    link = snapshots.newest.links.get(principal.key)
    try:
        return link is not None and identity(link.target) == link.identity
    except ErrorReply:
        return False


def is_allowed(request_or_scope: HttpRequest | dict[str, Any], right: Right, name: str = "") -> bool:
    return may(principal_of(request_or_scope), right, composed(name))


class NotAllowed(PermissionDenied):
    """Whoever asks lacks a right: somebody else may do it, or they themselves after a login."""


class NeedsLogin(NotAllowed):
    """Only somebody with an account may do it, whoever may do all without one neither."""


def require_person(request: HttpRequest, why: str) -> User:
    """Who is logged in; raises ``NeedsLogin`` with ``why`` if nobody is. A token is no login."""
    if not isinstance(request.user, User):
        raise NeedsLogin(why)
    return request.user


def require(request: HttpRequest, right: Right, name: str = "") -> None:
    """Raise ``NotAllowed``, with a sentence, unless whoever asks has the right.

    Each view and each handler of an upload calls it before it does anything with a name.
    """
    if not is_allowed(request, right, name):
        raise NotAllowed(REFUSALS[right])


def require_somewhere(request: HttpRequest, *rights: Right) -> None:
    """Raise ``NotAllowed`` unless whoever asks has one of the rights in some folder."""
    principal = principal_of(request)
    if not any(may_somewhere(principal, right, "") for right in rights):
        raise NotAllowed(REFUSALS[rights[0]])


def require_put(request: HttpRequest, exists: str | None, name: str) -> None:
    """``require`` for an upload, which may replace a file or be a new one if ``exists`` is ``replace``."""
    require(request, ADD, name)
    if exists == "replace":
        require(request, REPLACE, name)
