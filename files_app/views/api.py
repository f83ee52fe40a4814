"""The same as the pages show, as JSON."""

from typing import Any

from django.core.paginator import Page
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from files_app.access.policy import require, require_somewhere
from files_app.access.public import server_address
from files_app.views.lists import files_context, history_context, require_history
from files_app.views.relay import connect, handle_errors
from fileserver.rights import LIST, WATCH


@require_GET
def api_files(request: HttpRequest) -> JsonResponse:
    require_somewhere(request, LIST)
    context = files_context(request)
    fields = ("name", "size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by", "downloads")
    rows = [_fields(file, fields) | {"url": file.get_absolute_url()} for file in context["page"]]
    return JsonResponse({"files": rows, "total_size": context["total_size"], **_paging(context["page"])})


@require_GET
def api_history(request: HttpRequest) -> JsonResponse:
    require_history(request)
    page = history_context(request)["page"]
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
