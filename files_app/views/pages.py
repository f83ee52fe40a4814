"""The pages, the files and the JSON behind them. Function views that return early.

Nothing here opens a served file: downloads, uploads and deletes are requests to the file server, so each of
them has a thread there, a limit, a live row and a row in the history.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from django.core.exceptions import DisallowedHost
from django.core.paginator import Page, Paginator
from django.db.models import Count, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from files_app.access.origin import require_own_page
from files_app.access.policy import is_allowed, require, require_put
from files_app.models import File, Transfer
from files_app.models.files import url_of
from files_app.views import conditions
from files_app.views import files as downloads
from files_app.views.bodies import body_of, length_of, packing_of
from files_app.views.direct import base_of, direct_url, may_try
from files_app.views.relay import (
    connect,
    error_response,
    handle_errors,
    on_behalf_of,
    server_address,
    unpacked_only,
)
from files_app.views.temporary import NoRoom
from fileserver.pacing import SLOW_MOTION
from fileserver.rights import CONTROL, DELETE, LIST, WATCH
from fileserver.wire.replies import ErrorReply

PER_PAGE = 50
RECENT = 12


# --- pages


@require_safe
@vary_on_headers("HX-Request")
def index(request: HttpRequest) -> HttpResponse:
    require(request, LIST)
    context = _files_context(request)
    if request.headers.get("HX-Request"):
        return render(request, "_files.html", context)
    context |= {
        "address": server_address(),
        "recent": Transfer.objects.ended()[:RECENT] if is_allowed(request, WATCH) else [],
    }
    if base_of(request) is None:
        return render(request, "index.html", context)
    context["probe"] = direct_url(request, "")
    return may_try(render(request, "index.html", context), context["probe"])


@require_safe
@vary_on_headers("HX-Request")
def history(request: HttpRequest) -> HttpResponse:
    require(request, WATCH)
    template = "_history.html" if request.headers.get("HX-Request") else "history.html"
    return render(request, template, _history_context(request))


@require_safe
def recent(request: HttpRequest) -> HttpResponse:
    require(request, WATCH)
    return render(request, "_recent.html", {"recent": Transfer.objects.ended()[:RECENT]})


def _files_context(request: HttpRequest) -> dict[str, Any]:
    query, sort = request.GET.get("q", "").strip(), request.GET.get("sort", "name")
    files = File.objects.matching(query).sorted_by(sort).with_downloads()
    totals = File.objects.aggregate(total=Count("*"), total_size=Coalesce(Sum("size"), 0))
    return {
        "page": _page(request, files, None if query else totals["total"]),
        "query": query,
        "sort": sort if sort in File.objects.all().SORTS else "name",
        **totals,
        "slow_motion": str(SLOW_MOTION),
    }


def _history_context(request: HttpRequest) -> dict[str, Any]:
    query = request.GET.get("q", "").strip()
    choices = {"outcome": Transfer.Outcome, "direction": Transfer.Direction, "via": Transfer.Via}
    chosen = {field: request.GET.get(field, "") for field in choices}
    chosen = {field: value if value in choices[field].values else "" for field, value in chosen.items()}
    transfers = Transfer.objects.newest().matching(text=query, **chosen).select_related("file")
    lists = {f"{field}s": kinds.choices for field, kinds in choices.items()}
    return {"page": _page(request, transfers), "query": query, **chosen, **lists, "address": server_address()}


def _page(request: HttpRequest, rows: QuerySet[Any], count: int | None = None) -> "Page[Any]":
    paginator = Paginator(rows, PER_PAGE)
    if count is not None:  # known already: it is not asked for again
        paginator.count = count
    return paginator.get_page(request.GET.get("page"))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What ``access`` refuses in a view that has no other answer to it; the admin says no word about it."""
    return error_response(request, 403, str(exception) or "You may not do this.")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What Django refuses by itself; its log has a line about it."""
    if isinstance(exception, NoRoom):
        return error_response(request, 507, str(exception))
    if isinstance(exception, DisallowedHost):
        hint = "Whoever runs it can add the name to ALLOWED_HOSTS."
        return error_response(request, 400, f"This site does not answer to the name in your address. {hint}")
    return error_response(
        request, 400, "Something in the address or in what was sent is not as it should be."
    )


# --- the same as JSON


@require_GET
def api_files(request: HttpRequest) -> JsonResponse:
    require(request, LIST)
    context = _files_context(request)
    fields = ("name", "size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by", "downloads")
    rows = [_fields(file, fields) | {"url": file.get_absolute_url()} for file in context["page"]]
    return JsonResponse({"files": rows, "total_size": context["total_size"], **_paging(context["page"])})


@require_GET
def api_history(request: HttpRequest) -> JsonResponse:
    require(request, WATCH)
    page = _history_context(request)["page"]
    fields = (
        *("id", "name", "direction", "size", "offset", "length", "done", "client", "user", "via", "thread"),
        *("pace", "started_at", "finished_at", "outcome", "error", "verified", "seconds", "rate"),
    )
    return JsonResponse({"transfers": [_fields(row, fields) for row in page], **_paging(page)})


@require_GET
@handle_errors
async def api_status(request: HttpRequest) -> JsonResponse:
    require(request, WATCH)
    async with await connect() as client:
        return JsonResponse({"address": server_address(), **await client.request("PING")})


def _fields(row: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _paging(page: "Page[Any]") -> dict[str, int]:
    return {"count": page.paginator.count, "page": page.number, "pages": page.paginator.num_pages}


# --- files


@csrf_exempt  # the methods that change something ask for more than a token: see require_own_page
@handle_errors
async def served_file(request: HttpRequest, name: str) -> HttpResponseBase:
    handler = FILE_METHODS.get(request.method or "")
    if handler is None:
        response = error_response(request, 405, f"{request.method} is not possible here.")
        response["Allow"] = ", ".join(FILE_METHODS)
        return response
    return await handler(request, name)


async def _upload(request: HttpRequest, name: str) -> HttpResponse:
    require_own_page(request)
    require_put(request, conditions.exists_of(request), name)
    if "Content-Range" in request.headers:  # RFC 9110, section 14.5: a part must not be taken for the whole
        message = "A file is put whole: parts (Content-Range) can be sent to /uploads/ only, by tus."
        return error_response(request, 400, message)
    if packing := packing_of(request):
        return unpacked_only(request, packing)
    size = length_of(request)
    if size is None:
        return error_response(request, 411, "An upload must say how long it is (Content-Length).")
    async with await connect() as client:
        terms = await conditions.terms_of_put(request, client, name)
        try:
            state = await client.put(name, size, body_of(request), **terms, **on_behalf_of(request))
        except ErrorReply as error:
            if error.code == "exists" and conditions.only_if_new(request):
                return error_response(request, 412, error.message)
            raise
    answer = {"name": state["name"], "size": state["size"], "url": url_of(state["name"])}
    if state.get("replaced"):  # RFC 9110, section 9.3.4
        return JsonResponse(answer)
    return JsonResponse(answer, status=201, headers={"Location": answer["url"]})


async def _delete(request: HttpRequest, name: str) -> HttpResponse:
    require_own_page(request)
    require(request, DELETE, name)
    async with await connect() as client:
        await conditions.delete(request, client, name)
    return HttpResponse(status=204)


FILE_METHODS: dict[str, Callable[[HttpRequest, str], Awaitable[HttpResponseBase]]] = {
    "GET": downloads.download,
    "HEAD": downloads.head,
    "PUT": _upload,
    "DELETE": _delete,
}


@require_POST
@handle_errors
async def cancel(request: HttpRequest, transfer_id: int) -> HttpResponse:
    require(request, CONTROL)
    async with await connect() as client:
        await client.request("CANCEL", id=transfer_id)
    return HttpResponse(status=204)
