"""The way in for somebody who has the address of a link, and nothing else."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.hashers import check_password
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render

from files_app.access.audit import Action, arecord, asking, record
from files_app.access.claims import NothingLeft
from files_app.access.links import RIGHTS, SESSION_KEY, find, is_unlocked, label_of, mark_of
from files_app.access.policy import may
from files_app.access.principals import address_of
from files_app.access.snapshot import snapshots
from files_app.access.throttle import TooManyTries, Who, checking, claim
from files_app.access.visitors import remember_visitor, visitor_of
from files_app.models.links import Link
from files_app.views.relay import connect, error_response, handle_errors, is_navigation
from fileserver.client.aio import AsyncClient
from fileserver.names import composed
from fileserver.rights import LIST, Principal, Right
from fileserver.wire.replies import ErrorReply

OVER = "This link does not lead anywhere any more. Ask whoever gave it to you for a new one."
# What the file server says has the names of our folders in it, which are nobody's business here.
SENTENCES = {
    "not-found": "There is no such file here.",
    "not-a-file": "There is no such file here.",
    "bad-name": "A file of this name cannot be here.",
    "denied": OVER,
    "auth-required": OVER,
    "exists": "There is a file of this name already.",
    "changed": "The file has changed meanwhile; begin again.",
    "no-space": "There is no room for it.",
    "quota": "There is no room for it.",
    "too-large": "The file is too large.",
}
GONE_CODES = frozenset({"denied", "auth-required"})


class LinkOver(Exception):
    """The link was good once; the text is a sentence that says what has become of it."""


class Locked(Exception):
    """The link has a password, and this visitor has not given it."""


def without_names(error: ErrorReply) -> ErrorReply:
    """What to raise in the place of an error of the file server. Raises ``LinkOver`` if it means that."""
    if error.code in GONE_CODES:
        raise LinkOver(OVER) from error
    sentence = SENTENCES.get(error.code, "The file server could not do that.")
    return ErrorReply(error.code, sentence, **error.extra)


# --- who comes in


def enter(request: HttpRequest, token: str, kind: str, to_the_end: bool) -> Link | None:
    """The link of this address, if it is still good; from here on its rights are those of the request.

    ``None`` if there never was one. ``to_the_end``: for what has begun in time. Raises ``LinkOver`` and
    ``Locked``. It asks the database.
    """
    link = find(token, kind)
    if link is None:
        return None
    if link.revoked_at is not None:
        raise LinkOver("This link was taken back.")
    if link.is_over and not to_the_end:
        raise LinkOver("The time of this link is over.")
    if not is_unlocked(link, request.session.get(SESSION_KEY, {}) if link.password else {}):
        raise Locked
    if link.pk not in snapshots.newest.links:  # it was made a moment ago
        snapshots.refresh()
    principal = Principal("link", label_of(link), address_of(request), key=link.pk)
    if not all(may(principal, right, composed(link.target)) for right in _needed(link)):
        raise LinkOver(OVER)
    request.principal = principal  # type: ignore[attr-defined]
    return link


def _needed(link: Link) -> frozenset[Right]:
    return RIGHTS[link.kind] if link.is_folder else RIGHTS[link.kind] - {LIST}


def by_link(kind: str, to_the_end: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For an asynchronous view ``(request, link, **names)`` whose URL has a ``token``. See ``enter``."""

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @handle_errors
        @wraps(view)
        async def answer(request: HttpRequest, token: str, **names: Any) -> HttpResponseBase:
            try:
                link = await sync_to_async(enter, thread_sensitive=False)(request, token, kind, to_the_end)
                if link is None:
                    return error_response(request, 404, "There is no such link.")
                asking.set(request.principal)  # type: ignore[attr-defined]
                response = await _through(view, request, link, **names)
            except Locked:
                response = password_page(request)
                remember_visitor(request, response)
                return response
            except (LinkOver, NothingLeft) as error:
                return over(request, error)
            if remember_visitor(request, response):
                await arecord(Action.LINK_USED, str(link))
            return response

        return answer

    return decorate


async def _through(
    view: Callable[..., Any], request: HttpRequest, link: Link, **names: Any
) -> HttpResponseBase:
    try:
        response: HttpResponseBase = await view(request, link, **names)
        return response
    except ErrorReply as error:
        raise without_names(error) from error


def over(request: HttpRequest, reason: Exception) -> HttpResponse:
    return error_response(request, 410, str(reason), title="This link is over")


async def require_same_target(client: AsyncClient, link: Link) -> None:
    """Raise ``LinkOver`` if something else has taken the place of what the link was made for."""
    try:
        state = await client.request("STAT", name=link.target, identity=True)
    except ErrorReply as error:
        if error.code not in SENTENCES:
            raise
        raise LinkOver(OVER) from error
    if state["identity"] != link.identity:
        raise LinkOver(OVER)


async def require_still_there(link: Link) -> None:
    async with await connect() as client:
        await require_same_target(client, link)


# --- the password


def password_page(request: HttpRequest, problem: str = "", status: int = 403) -> HttpResponse:
    """Whoever has not given the password learns nothing but that there is one."""
    if not is_navigation(request):
        return error_response(request, status, problem or "This link has a password. Open it in a browser.")
    return render(request, "link_password.html", {"problem": problem}, status=status)


def unlock(request: HttpRequest, token: str, kind: str) -> HttpResponse:
    """The answer to the form of ``password_page``."""
    link = find(token, kind)
    if link is None:
        return error_response(request, 404, "There is no such link.")
    if link.password:
        try:
            attempt = claim(Who("link", str(link.pk), address_of(request), visitor_of(request)))
        except TooManyTries as error:
            response = password_page(request, str(error), 429)
            response["Retry-After"] = str(error.seconds)
            return response
        with checking:
            is_right = check_password(request.POST.get("password", ""), link.password)
        if not is_right:
            record(Action.LINK_REFUSED, str(link))
            return password_page(request, "That is not the password.")
        attempt.succeeded()
        unlocked = request.session.get(SESSION_KEY, {})
        request.session[SESSION_KEY] = {**unlocked, str(link.pk): mark_of(link)}
    return redirect(request.path)
