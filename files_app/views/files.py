"""Downloads as browsers and download managers expect them: whole, conditional or a range (RFC 9110).

The bytes and the headers of an answer belong to one state of the file. A request with conditions or a range
is decided on a ``STAT``, and the ``GET`` that follows names the etag of it. A plain one needs no ``STAT``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from files_app.access.policy import require
from files_app.access.principals import principal_of
from files_app.views.bodies import extensions_of
from files_app.views.conditions import MAX_LOOKS, restless
from files_app.views.direct import sent_to_server
from files_app.views.relay import connect, error_response, lowered, on_behalf_of
from files_app.views.streaming import Streaming
from fileserver.client.aio import AsyncClient, AsyncDownload
from fileserver.names import shown
from fileserver.pacing import SLOW_MOTION
from fileserver.rights import GET
from fileserver.wire.http import file_headers
from fileserver.wire.lines import Fields
from fileserver.wire.replies import ErrorReply
from fileserver.wire.selection import Selection, select

log = logging.getLogger(__name__)

PACES = {"": None, "slow-motion": SLOW_MOTION.as_json()}
# Each of these alone can lead to another answer than the whole file; ``If-Range`` cannot without ``Range``.
DECIDING = {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "range"}


class Meter:
    """Told of the bytes of a download, before the first one leaves and after the last. This one is told in
    vain."""

    moved = 0  # bytes that have left

    async def begin(self, size: int, chosen: Selection) -> None:
        """Some bytes of a file of ``size`` are about to leave. May raise, to keep them here."""

    def end(self) -> None:
        """The request has ended, in whatever way; nothing is awaited."""


async def download(request: HttpRequest, name: str, meter: Meter | None = None) -> HttpResponseBase:
    """``meter``: for a download that is counted, whose bytes all pass here."""
    require(request, GET, name)
    pace = request.GET.get("pace", "")
    if pace not in PACES:
        return error_response(request, 400, "The only pace that can be asked for is slow-motion.")
    if meter is None and (direct := await sent_to_server(request, name, PACES[pace])):
        return direct
    client = await connect()
    # However the request ends: nobody runs the `finally` of a relay that has not begun when it does.
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda task: client.close())
    if meter is not None:
        task.add_done_callback(lambda task: meter.end())
    fields = {"name": name, "pace": PACES[pace], **on_behalf_of(request)}
    if meter is None and DECIDING.isdisjoint(lowered(request)):
        return _sent(request, client, await client.get(**fields), Selection(200), Meter())
    return await _selected(request, client, fields, meter or Meter())


async def head(request: HttpRequest, name: str) -> HttpResponse:
    require(request, GET, name)
    async with await connect() as client:
        state = await client.request("STAT", name=name)
    selection = _select(request, state)
    return _empty(state, 200) if selection.status == 200 else _unsent(request, state, selection)


async def _selected(
    request: HttpRequest, client: AsyncClient, fields: Fields, meter: Meter
) -> HttpResponseBase:
    for _ in range(MAX_LOOKS):
        state = await client.request("STAT", name=fields["name"])
        chosen = _select(request, state)
        if chosen.status not in (200, 206):
            return _unsent(request, state, chosen)
        await meter.begin(state["size"], chosen)
        try:
            part = {"offset": chosen.offset, "length": chosen.length, "etag": state["etag"]}
            return _sent(request, client, await client.get(**fields, **part), chosen, meter)
        except ErrorReply as error:
            if error.code != "changed":
                raise
    raise restless(fields["name"])


def _select(request: HttpRequest, state: Fields) -> Selection:
    facts = {key: state[key] for key in ("etag", "mtime", "size")}
    return select(request.method or "", lowered(request), **facts)


# --- answers


def _sent(
    request: HttpRequest, client: AsyncClient, download: AsyncDownload, selection: Selection, meter: Meter
) -> HttpResponseBase:
    headers = {**_headers(download.header), "Content-Length": str(download.length)}
    if selection.status == 206:
        headers["Content-Range"] = selection.content_range(download.header["size"])
    return Streaming(_relay(client, download, request, meter), status=selection.status, headers=headers)


async def _relay(
    client: AsyncClient, download: AsyncDownload, request: HttpRequest, meter: Meter
) -> AsyncIterator[bytes]:
    """The bytes of a download, and its receipt once the browser's system has them all."""
    extensions = extensions_of(request)
    delivered, abort = extensions.get("cfsite.delivered"), extensions.get("cfsite.abort")
    try:
        async for piece in download:
            yield piece
            meter.moved += len(piece)
        if delivered is None or await delivered():
            await client.request("RECEIPT", id=download.id)
    except (ConnectionError, TimeoutError, ErrorReply) as error:
        log.warning("the download of %s broke off: %s", shown(download.header["name"]), error)
        if abort is None:
            raise
        abort()  # the browser must not take what it has for the whole
    finally:
        client.close()


def _unsent(request: HttpRequest, state: Fields, selection: Selection) -> HttpResponse:
    name, size = state["name"], state["size"]
    if principal_of(request).kind == "link":  # whose visitor must not learn in which folder of ours it is
        name = name.rpartition("/")[2]
    name = shown(name)
    if selection.status == 304:
        return _empty(state, 304)
    if selection.status == 412:
        return error_response(request, 412, f"{name} is not in the state that was asked for.")
    response = error_response(request, 416, f"{name} has {size} bytes, and none in that range.")
    response["Content-Range"] = selection.content_range(size)
    return response


def _empty(state: Fields, status: int) -> HttpResponse:
    """Headers alone, as of the whole file: with a 304 they take the place of those in a cache."""
    return HttpResponse(status=status, headers={**_headers(state), "Content-Length": str(state["size"])})


def _headers(state: Fields) -> dict[str, str]:
    return file_headers(state["name"], state["etag"], state["mtime"])
