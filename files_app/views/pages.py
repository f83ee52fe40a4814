"""The pages, and the files behind them. Function views that return early.

Nothing here opens a served file: downloads, uploads and deletes are requests to the file server, so each of
them has a thread there, a limit, a live row and a row in the history.
"""

from collections.abc import Awaitable, Callable

from django.core.exceptions import DisallowedHost
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from files_app.access.loopback import comes_from_here
from files_app.access.origin import require_own_page
from files_app.access.policy import (
    may_somewhere,
    require,
    require_put,
    require_somewhere,
)
from files_app.access.principals import address_of, principal_of
from files_app.access.public import is_on_network, page_url, server_address
from files_app.access.quotas import own_quotas
from files_app.models.files import url_of
from files_app.views import conditions
from files_app.views import files as downloads
from files_app.views.bodies import body_of, length_of, packing_of
from files_app.views.direct import base_of, direct_url, may_try
from files_app.views.lists import files_context, history_context, require_history, seen_transfers
from files_app.views.relay import (
    connect,
    error_response,
    handle_errors,
    on_behalf_of,
    refused,
    unpacked_only,
)
from files_app.views.temporary import NoRoom
from fileserver.rights import ADD, DELETE, LIST
from fileserver.wire.replies import ErrorReply

RECENT = 12


# --- pages


@require_safe
@vary_on_headers("HX-Request")
def index(request: HttpRequest) -> HttpResponse:
    require_somewhere(request, LIST, ADD)
    context = files_context(request)
    if request.headers.get("HX-Request"):
        return render(request, "_files.html", context)
    context |= {
        "address": server_address(),
        "recent": seen_transfers(request).ended()[:RECENT],
        "may_list": may_somewhere(principal_of(request), LIST, ""),
        "is_here": comes_from_here(request, address_of(request)),
        "may_add": may_somewhere(principal_of(request), ADD, ""),
        "quotas": own_quotas(principal_of(request)),
    }
    if base_of(request) is None:
        return render(request, "index.html", context)
    context["probe"] = direct_url(request, "")
    return may_try(render(request, "index.html", context), context["probe"])


@require_safe
@vary_on_headers("HX-Request")
def history(request: HttpRequest) -> HttpResponse:
    require_history(request)
    template = "_history.html" if request.headers.get("HX-Request") else "history.html"
    return render(request, template, history_context(request))


@require_safe
def recent(request: HttpRequest) -> HttpResponse:
    return render(request, "_recent.html", {"recent": seen_transfers(request).ended()[:RECENT]})


@require_safe
def address(request: HttpRequest) -> HttpResponse:
    """The page's address for others, of which there is none unless they reach it."""
    if not is_on_network():
        raise Http404
    return render(request, "_address.html", {"url": page_url()})


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """What ``access`` refuses in a view that has no other answer to it; the admin says no word about it."""
    return refused(request, exception)


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
    async with await connect() as client:  # the file server knows whose it is, and who may
        await client.request("CANCEL", id=transfer_id, **on_behalf_of(request))
    return HttpResponse(status=204)
