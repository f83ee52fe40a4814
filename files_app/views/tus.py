"""tus 1.0 (https://tus.io/protocols/resumable-upload): uploads that are resumed after any break.

A thin coat over ``PUT``: each PATCH is one part of an upload of the file server, which alone knows how far it
is. So an upload is one live row and one row in the history, however many parts, breaks and restarts it takes.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

from files_app.access.origin import require_own_page
from files_app.access.policy import require, require_put
from files_app.views import tus_headers as tus
from files_app.views.bodies import length_of
from files_app.views.relay import (
    HTTP_STATUS,
    Offline,
    connect,
    error_response,
    handle_errors,
    on_behalf_of,
)
from files_app.views.tus_bodies import Body, checked_body, part_of
from files_app.views.tus_headers import Refused
from fileserver.client.aio import AsyncClient
from fileserver.client.blocking import Incomplete
from fileserver.rights import ADD
from fileserver.wire.http import date_text
from fileserver.wire.lines import Fields
from fileserver.wire.replies import BadReply, ErrorReply

# Where tus wants another status than the rest of the site.
STATUSES = {"busy": 423, "exists": 409, "offset": 409, "bad-range": 400}

Method = Callable[..., Awaitable[HttpResponse]]


def _speaks_tus(methods: dict[str, Method]) -> Any:
    """A view of these methods, with the versions and the errors of tus."""

    @handle_errors
    async def answer(request: HttpRequest, **names: str) -> HttpResponseBase:
        method = request.headers.get("X-HTTP-Method-Override", request.method or "")
        try:
            return await _answer(methods, method, request, **names)
        except Refused as error:
            response = error_response(request, error.status, str(error))
            for header, value in error.headers.items():
                response[header] = value
            return response

    @csrf_exempt  # what changes something asks for more than a token: see require_own_page
    async def view(request: HttpRequest, **names: str) -> HttpResponseBase:
        response: HttpResponseBase = await answer(request, **names)
        response["Tus-Resumable"] = tus.VERSION
        response["Cache-Control"] = "no-store"  # of refusals too: a cache may keep a 404
        return response

    return view


async def _answer(
    methods: dict[str, Method], method: str, request: HttpRequest, **names: str
) -> HttpResponse:
    if method == "OPTIONS":
        return _options()
    if method not in methods:
        raise Refused(405, f"{method} is not possible here.", Allow=", ".join(["OPTIONS", *methods]))
    if request.headers.get("Tus-Resumable") != tus.VERSION:
        raise Refused(412, f"This server speaks tus {tus.VERSION}.", **{"Tus-Version": tus.VERSION})
    if method != "HEAD":
        require_own_page(request)
    tus.require_offered(request)
    try:
        return await methods[method](request, **names)
    except ErrorReply as error:
        if error.code in STATUSES:
            raise Refused(STATUSES[error.code], error.message, **_headers_of(error)) from error
        raise


def _headers_of(error: ErrorReply) -> dict[str, str]:
    headers = {}
    if error.code == "exists":  # the other 409 of tus, a wrong offset, is one to try again
        headers["Conflict"] = "exists"
    if "offset" in error.extra:
        headers["Upload-Offset"] = str(error.extra["offset"])
    return headers


def _options() -> HttpResponse:
    headers = {
        "Tus-Version": tus.VERSION,
        "Tus-Extension": ",".join(tus.EXTENSIONS),
        "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
    }
    if settings.MAX_UPLOAD_SIZE:
        headers["Tus-Max-Size"] = str(settings.MAX_UPLOAD_SIZE)
    return HttpResponse(headers=headers)  # 200: allowed as 204 is, and many clients know no other


# --- the methods


async def _create(request: HttpRequest) -> HttpResponse:
    size, metadata = tus.number(request, "Upload-Length"), tus.metadata(request)
    name, exists = tus.text_in(metadata, "filename"), tus.text_in(metadata, "exists")
    if not name:
        raise Refused(400, "Upload-Metadata must have a filename.")
    require_put(request, exists, name)
    if settings.MAX_UPLOAD_SIZE and size > settings.MAX_UPLOAD_SIZE:
        raise Refused(413, f"The file has {size} bytes; the limit is {settings.MAX_UPLOAD_SIZE}.")
    length = length_of(request) or 0
    if length:
        tus.require_part(request)
    tus.require_fitting(length, size)
    given = {"metadata": request.headers["Upload-Metadata"], "exists": exists, "length": length}
    async with checked_body(request, length) as body, await connect() as client:
        end = await client.put(name, size, body, **given, **on_behalf_of(request))
    response = _progress(201, end, size)
    response["Location"] = reverse("upload", args=[client.upload])
    return response


async def _look(request: HttpRequest, upload_id: str) -> HttpResponse:
    # Clients take most refusals but 423 for the end of the upload, and begin again from nothing.
    try:
        state = await _stat_upload(upload_id)
    except ErrorReply as error:
        if HTTP_STATUS.get(error.code, 502) < 500:
            raise
        raise Refused(423, error.message) from error
    except Offline as error:
        raise Refused(423, str(error)) from error
    except (ConnectionError, TimeoutError, BadReply) as error:
        raise Refused(423, "The file server broke off the connection; try again.") from error
    require(request, ADD, state["name"])
    response = _progress(200, state, state["size"])
    response["Upload-Length"] = str(state["size"])
    # As it was given here, or in its place the name, of an upload that began in a terminal.
    named = "filename " + base64.b64encode(state["name"].encode()).decode()
    response["Upload-Metadata"] = state["metadata"] or named
    return response


async def _append(request: HttpRequest, upload_id: str) -> HttpResponse:
    tus.require_part(request)
    offset, length = tus.number(request, "Upload-Offset"), length_of(request)
    if length is None:
        raise Refused(411, "A part must say how long it is (Content-Length).")
    async with await connect() as client:
        state = await client.request("STAT", upload=upload_id)
        require_put(request, request.headers.get("Upload-Exists"), state["name"])
        tus.require_same_length(request, state["size"])
        if offset == state["offset"]:
            tus.require_fitting(length, state["size"] - offset)
        if "Upload-Checksum" not in request.headers:
            return await _send_part(request, client, state, offset, length, part_of(request, length))
    # Gathered first, for longer perhaps than a connection may be silent.
    async with checked_body(request, length) as body, await connect() as client:
        return await _send_part(request, client, state, offset, length, body)


async def _send_part(
    request: HttpRequest, client: AsyncClient, state: Fields, offset: int, length: int, body: Body
) -> HttpResponse:
    part = {"upload": state["upload"], "offset": offset, "length": length}
    part["exists"] = request.headers.get("Upload-Exists")
    try:
        end = await client.put(state["name"], state["size"], body, **part, **on_behalf_of(request))
    except Incomplete:
        await _require_there(state["upload"])
        raise
    except ErrorReply as error:
        if error.code == "exists":  # it has all bytes, and no name
            error.extra["offset"] = state["size"]
        raise
    return _progress(204, end, state["size"])


async def _require_there(upload_id: str) -> None:
    """Raise if an upload was given up, by somebody else: clients must not begin it again by themselves."""
    try:
        await _stat_upload(upload_id)
    except ErrorReply as error:
        if error.code == "not-found":
            raise Refused(410, "The upload was cancelled; nothing of it was kept.") from error


async def _stat_upload(upload_id: str) -> Fields:
    async with await connect() as client:
        return await client.request("STAT", upload=upload_id)


async def _terminate(request: HttpRequest, upload_id: str) -> HttpResponse:
    async with await connect() as client:
        state = await client.request("STAT", upload=upload_id)
        require(request, ADD, state["name"])
        await client.request("DELETE", upload=upload_id, **on_behalf_of(request))
    return HttpResponse(status=204)


def _progress(status: int, state: dict[str, Any], size: int) -> HttpResponse:
    """``state`` is an ``END`` or a ``STAT``: without an offset the file is published, under ``name``."""
    response = HttpResponse(status=status)
    response["Upload-Offset"] = str(state.get("offset", size))
    if "expires" in state:
        response["Upload-Expires"] = date_text(state["expires"])
    if "offset" not in state or state.get("published"):
        # Another name than was asked for, if that was taken and both were to be kept.
        response["Stored-Name"] = quote(state.get("published") or state["name"])
    return response


uploads = _speaks_tus({"POST": _create})
upload = _speaks_tus({"HEAD": _look, "PATCH": _append, "DELETE": _terminate})
