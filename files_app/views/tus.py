"""tus 1.0 (https://tus.io/protocols/resumable-upload): uploads that are resumed after any break.

A thin coat over ``PUT``: each PATCH is one part of an upload of the file server, which alone knows how far it
is. So an upload is one live row and one row in the history, however many parts, breaks and restarts it takes.
"""

import asyncio
import base64
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from files_app.access.policy import require, require_put
from files_app.views import tus_headers as tus
from files_app.views.bodies import length_of
from files_app.views.doors import Asked, Door
from files_app.views.relay import (
    HTTP_STATUS,
    Offline,
    connect,
    on_behalf_of,
)
from files_app.views.tus_answers import Method, speaks_tus
from files_app.views.tus_bodies import Body, checked_body, part_of
from files_app.views.tus_headers import Refused
from fileserver.client.aio import AsyncClient
from fileserver.client.blocking import Incomplete
from fileserver.rights import ADD
from fileserver.wire.http import date_text
from fileserver.wire.lines import Fields
from fileserver.wire.replies import BadReply, ErrorReply


async def _create(request: HttpRequest, door: Door) -> HttpResponse:
    size, metadata = tus.number(request, "Upload-Length"), tus.metadata(request)
    name, exists = tus.text_in(metadata, "filename"), tus.text_in(metadata, "exists")
    if not name:
        raise Refused(400, "Upload-Metadata must have a filename.")
    name, exists = await door.place(request, Asked(name, exists, size, metadata))
    try:
        require_put(request, exists, name)
        response, upload_id = await _begin(request, door, Asked(name, exists, size, metadata))
    except BaseException:
        await asyncio.shield(door.failed())
        raise
    response["Location"] = door.url_of(upload_id)
    return response


async def _begin(request: HttpRequest, door: Door, asked: Asked) -> tuple[HttpResponse, str]:
    """The answer to the announcement of an upload, with what has come of it, and its id."""
    name, exists, size, _ = asked
    if settings.MAX_UPLOAD_SIZE and size > settings.MAX_UPLOAD_SIZE:
        raise Refused(413, f"The file has {size} bytes; the limit is {settings.MAX_UPLOAD_SIZE}.")
    length = length_of(request) or 0
    if length:
        tus.require_part(request)
    tus.require_fitting(length, size)
    given = {"metadata": request.headers["Upload-Metadata"], "exists": exists, "length": length}
    async with checked_body(request, length) as body, await connect() as client:
        end = await client.put(name, size, body, **given, **on_behalf_of(request))
    await door.begun(client.upload)
    return await _progress(201, end, size, door, client.upload), client.upload


async def _look(request: HttpRequest, door: Door, upload_id: str) -> HttpResponse:
    # Clients take most refusals but 423 for the end of the upload, and begin again from nothing.
    await door.require_own(upload_id)
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
    response = await _progress(200, state, state["size"], door, upload_id)
    response["Upload-Length"] = str(state["size"])
    # As it was given here, or in its place the name, of an upload that began in a terminal.
    named = "filename " + base64.b64encode(door.told_name(state["name"]).encode()).decode()
    response["Upload-Metadata"] = state["metadata"] or named
    return response


async def _append(request: HttpRequest, door: Door, upload_id: str) -> HttpResponse:
    tus.require_part(request)
    offset, length = tus.number(request, "Upload-Offset"), length_of(request)
    if length is None:
        raise Refused(411, "A part must say how long it is (Content-Length).")
    await door.require_own(upload_id)
    async with await connect() as client:
        state = await client.request("STAT", upload=upload_id)
        require_put(request, request.headers.get("Upload-Exists"), state["name"])
        tus.require_same_length(request, state["size"])
        if offset == state["offset"]:
            tus.require_fitting(length, state["size"] - offset)
        if "Upload-Checksum" not in request.headers:
            return await _send_part(request, door, client, state, (offset, length), part_of(request, length))
    # Gathered first, for longer perhaps than a connection may be silent.
    async with checked_body(request, length) as body, await connect() as client:
        return await _send_part(request, door, client, state, (offset, length), body)


async def _send_part(
    request: HttpRequest, door: Door, client: AsyncClient, state: Fields, span: tuple[int, int], body: Body
) -> HttpResponse:
    """``span``: offset and length of the part, in bytes."""
    offset, length = span
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
    return await _progress(204, end, state["size"], door, state["upload"])


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


async def _terminate(request: HttpRequest, door: Door, upload_id: str) -> HttpResponse:
    await door.require_own(upload_id)
    async with await connect() as client:
        state = await client.request("STAT", upload=upload_id)
        require(request, ADD, state["name"])
        await client.request("DELETE", upload=upload_id, **on_behalf_of(request))
    await door.deleted(upload_id)
    return HttpResponse(status=204)


async def _progress(
    status: int, state: dict[str, Any], size: int, door: Door, upload_id: str
) -> HttpResponse:
    """``state`` is an ``END`` or a ``STAT``: without an offset the file is published, under ``name``."""
    response = HttpResponse(status=status)
    response["Upload-Offset"] = str(state.get("offset", size))
    if "expires" in state:
        response["Upload-Expires"] = date_text(state["expires"])
    if "offset" not in state or state.get("published"):
        # Another name than was asked for, if that was taken and both were to be kept.
        name = state.get("published") or state["name"]
        await door.ended(upload_id, name, state.get("sha256") or "")
        response["Stored-Name"] = quote(door.told_name(name))
    return response


ALL_UPLOADS: dict[str, Method] = {"POST": _create}
ONE_UPLOAD: dict[str, Method] = {"HEAD": _look, "PATCH": _append, "DELETE": _terminate}
uploads = speaks_tus(ALL_UPLOADS)
upload = speaks_tus(ONE_UPLOAD)
