"""Changes under conditions (RFC 9110, section 13): a PUT or DELETE of one state of a file.

The headers are judged on a ``STAT``; what follows names the etag of it, so the file server makes the change
only if nobody else has changed the file meanwhile.
"""

from django.http import HttpRequest

from files_app.views.relay import lowered, on_behalf_of
from fileserver.client.aio import AsyncClient
from fileserver.names import shown
from fileserver.storage.place import ANY_STATE, not_in_that_state
from fileserver.wire.lines import Fields
from fileserver.wire.replies import ErrorReply
from fileserver.wire.selection import names_any, permits

CONDITIONS = {"if-match", "if-none-match", "if-unmodified-since"}
MAX_LOOKS = 5  # at a file that is replaced each time between the look and what follows


def exists_of(request: HttpRequest) -> str:
    """What a ``PUT`` is to do with a name that is taken.

    ``If-Match`` names the file that is to be replaced, so nothing else need say that it may be.
    """
    return request.GET.get("exists", "replace" if "if-match" in request.headers else "fail")


async def terms_of_put(request: HttpRequest, client: AsyncClient, name: str) -> Fields:
    """``exists`` and ``etag`` for a ``PUT``. Raises ``changed`` if the request's conditions do not hold."""
    headers, exists = lowered(request), exists_of(request)
    if CONDITIONS.isdisjoint(headers):
        return {"exists": exists}
    state = await _stat_or_none(client, name)
    _require_permitted(headers, state, name)
    if only_if_new(request):
        return {"exists": "fail"}
    if state is None or exists != "replace":
        return {"exists": exists}
    is_any = names_any(headers.get("if-match", "")) and "if-none-match" not in headers
    return {"exists": exists, "etag": ANY_STATE if is_any else state["etag"]}


def only_if_new(request: HttpRequest) -> bool:
    """Whether a ``PUT`` must not replace anything: then a name that is taken is a condition that fails."""
    return names_any(lowered(request).get("if-none-match", ""))


async def delete(request: HttpRequest, client: AsyncClient, name: str) -> None:
    """Delete a file in a state that the request asks for. Raises ``changed`` if it is in another."""
    headers, fields = lowered(request), {"name": name, **on_behalf_of(request)}
    if CONDITIONS.isdisjoint(headers):
        await client.request("DELETE", **fields)
        return
    for _ in range(MAX_LOOKS):
        state = await client.request("STAT", name=name)
        _require_permitted(headers, state, name)
        try:
            await client.request("DELETE", **fields, etag=state["etag"])
            return
        except ErrorReply as error:
            if error.code != "changed":
                raise
    raise restless(name)


def restless(name: str) -> ErrorReply:
    return ErrorReply("busy", f"{shown(name)} changes again and again; try again later.")


async def _stat_or_none(client: AsyncClient, name: str) -> Fields | None:
    """``None`` if there is no file of that name."""
    try:
        return await client.request("STAT", name=name)
    except ErrorReply as error:
        if error.code in ("not-found", "not-a-file"):
            return None
        raise


def _require_permitted(headers: dict[str, str], state: Fields | None, name: str) -> None:
    etag, mtime = (None, 0.0) if state is None else (state["etag"], state["mtime"])
    if not permits(headers, etag=etag, mtime=mtime):
        raise not_in_that_state(name)
