"""The pages, the files and the JSON behind them. Function views that return early.

Nothing here opens a served file: downloads, uploads and deletes are requests to the file server, so each of
them has a thread there, a limit, a live row and a row in the history.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.http import content_disposition_header, http_date
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from files_app.access import require_own_page
from files_app.bodies import body_of, extensions_of, length_of
from files_app.models import File, Transfer, moment, url_of
from files_app.relay import answers_in_sentences, connect, sentence, server_address, speaking_for
from files_app.straight import base_of, may_try, sent_straight, straight_url
from files_app.streaming import Streaming
from fileserver.aclient import AsyncClient, AsyncDownload
from fileserver.names import shown
from fileserver.pacing import SLOW_MOTION
from fileserver.protocol import ErrorReply

log = logging.getLogger(__name__)

PER_PAGE = 50
RECENT = 12
PACES = {"": None, "slow-motion": SLOW_MOTION.as_json()}


# --- pages


@require_safe
@vary_on_headers("HX-Request")
def index(request: HttpRequest) -> HttpResponse:
    context = _files_context(request)
    if request.headers.get("HX-Request"):
        return render(request, "_files.html", context)
    context |= {
        "online": None,  # the websocket tells, a moment after the page has opened
        "address": server_address(),
        "recent": Transfer.objects.newest()[:RECENT],
    }
    if base_of(request) is None:
        return render(request, "index.html", context)
    context["probe"] = straight_url(request, "")
    return may_try(render(request, "index.html", context), context["probe"])


@require_safe
@vary_on_headers("HX-Request")
def history(request: HttpRequest) -> HttpResponse:
    template = "_history.html" if request.headers.get("HX-Request") else "history.html"
    return render(request, template, _history_context(request))


@require_safe
def recent(request: HttpRequest) -> HttpResponse:
    return render(request, "_recent.html", {"recent": Transfer.objects.newest()[:RECENT]})


def _files_context(request: HttpRequest) -> dict[str, Any]:
    query, sort = request.GET.get("q", "").strip(), request.GET.get("sort", "name")
    files = File.objects.matching(query).sorted_by(sort).with_downloads()
    return {
        "page": _page(request, files),
        "query": query,
        "sort": sort if sort in File.objects.all().SORTS else "name",
        "total": File.objects.count(),
        "total_size": File.objects.aggregate(size=Sum("size"))["size"] or 0,
        "slow_motion": str(SLOW_MOTION),
    }


def _history_context(request: HttpRequest) -> dict[str, Any]:
    query = request.GET.get("q", "").strip()
    choices = {"outcome": Transfer.Outcome, "direction": Transfer.Direction, "via": Transfer.Via}
    chosen = {field: request.GET.get(field, "") for field in choices}
    chosen = {field: value if value in choices[field].values else "" for field, value in chosen.items()}
    transfers = Transfer.objects.newest().matching(text=query, **chosen).select_related("file")
    lists = {f"{field}s": kinds.choices for field, kinds in choices.items()}
    where = {"online": None, "address": server_address()}
    return {"page": _page(request, transfers), "query": query, **chosen, **lists, **where}


def _page(request: HttpRequest, rows: QuerySet[Any]) -> "Page[Any]":
    return Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))


# --- the same as JSON


@require_GET
def api_files(request: HttpRequest) -> JsonResponse:
    context = _files_context(request)
    fields = ("name", "size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by", "downloads")
    rows = [_fields(file, fields) | {"url": file.get_absolute_url()} for file in context["page"]]
    return JsonResponse({"files": rows, "total_size": context["total_size"], **_paging(context["page"])})


@require_GET
def api_history(request: HttpRequest) -> JsonResponse:
    page = _history_context(request)["page"]
    fields = (
        *("id", "name", "direction", "size", "offset", "length", "done", "client", "user", "via", "thread"),
        *("pace", "started_at", "finished_at", "outcome", "error", "verified", "seconds", "rate"),
    )
    return JsonResponse({"transfers": [_fields(row, fields) for row in page], **_paging(page)})


@require_GET
@answers_in_sentences
async def api_status(request: HttpRequest) -> JsonResponse:
    async with await connect() as client:
        return JsonResponse({"address": server_address(), **await client.request("PING")})


def _fields(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _paging(page: "Page[Any]") -> dict[str, int]:
    return {"count": page.paginator.count, "page": page.number, "pages": page.paginator.num_pages}


# --- files


@csrf_exempt  # the methods that change something ask for more than a token: see require_own_page
@answers_in_sentences
async def served_file(request: HttpRequest, name: str) -> HttpResponseBase:
    handler = FILE_METHODS.get(request.method or "")
    if handler is None:
        response = sentence(request, 405, f"{request.method} is not possible here.")
        response["Allow"] = ", ".join(FILE_METHODS)
        return response
    return await handler(request, name)


async def _download(request: HttpRequest, name: str) -> HttpResponseBase:
    pace = request.GET.get("pace", "")
    if pace not in PACES:
        return sentence(request, 400, "The only pace that can be asked for is slow-motion.")
    if straight := await sent_straight(request, name, PACES[pace]):
        return straight
    client = await connect()
    # However the request ends: nobody runs the `finally` of a relay that has not begun when it does.
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda task: client.close())
    download = await client.get(name, pace=PACES[pace], **speaking_for(request))
    response = Streaming(_relay(client, download, request), headers=_headers(download.header))
    response["Content-Length"] = str(download.length)
    return response


async def _relay(client: AsyncClient, download: AsyncDownload, request: HttpRequest) -> AsyncIterator[bytes]:
    """The bytes of a download, and its receipt once the browser's system has them all."""
    extensions = extensions_of(request)
    delivered, abort = extensions.get("cfsite.delivered"), extensions.get("cfsite.abort")
    try:
        async for piece in download:
            yield piece
        if delivered is None or await delivered():
            await client.request("RECEIPT", id=download.id)
    except (ConnectionError, TimeoutError, ErrorReply) as error:
        log.warning("the download of %s broke off: %s", shown(download.header["name"]), error)
        if abort is None:
            raise
        abort()  # the browser must not take what it has for the whole
    finally:
        client.close()


async def _head(request: HttpRequest, name: str) -> HttpResponse:
    async with await connect() as client:
        state = await client.request("STAT", name=name)
    return HttpResponse(headers={**_headers(state), "Content-Length": str(state["size"])})


def _headers(state: dict[str, Any]) -> dict[str, str]:
    """What every user's file is sent with: it is kept as a file, and never runs as a page of ours."""
    last_part = state["name"].rpartition("/")[2]
    return {
        "Content-Type": "application/octet-stream",
        "Content-Disposition": content_disposition_header(True, last_part) or "attachment",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-cache",
        "ETag": f'"{state["etag"]}"',
        "Last-Modified": http_date(moment(state["mtime"]).timestamp()),
    }


async def _upload(request: HttpRequest, name: str) -> HttpResponse:
    require_own_page(request)
    exists = request.GET.get("exists", "fail")
    size = length_of(request)
    if size is None:
        return sentence(request, 411, "An upload must say how long it is (Content-Length).")
    async with await connect() as client:
        state = await client.put(name, size, body_of(request), exists=exists, **speaking_for(request))
    answer = {"name": state["name"], "size": state["size"], "url": url_of(state["name"])}
    return JsonResponse(answer, status=201, headers={"Location": answer["url"]})


async def _delete(request: HttpRequest, name: str) -> HttpResponse:
    require_own_page(request)
    async with await connect() as client:
        await client.request("DELETE", name=name, **speaking_for(request))
    return HttpResponse(status=204)


FILE_METHODS: dict[str, Callable[[HttpRequest, str], Awaitable[HttpResponseBase]]] = {
    "GET": _download,
    "HEAD": _head,
    "PUT": _upload,
    "DELETE": _delete,
}


@require_POST
@answers_in_sentences
async def cancel(request: HttpRequest, transfer_id: int) -> HttpResponse:
    async with await connect() as client:
        await client.request("CANCEL", id=transfer_id)
    return HttpResponse(status=204)
