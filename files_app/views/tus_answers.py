"""The answers of tus: what every one of them has, and what the errors of a method become."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from files_app.access.origin import require_own_page
from files_app.views import tus_headers as tus
from files_app.views.doors import Door
from files_app.views.relay import error_response, handle_errors
from files_app.views.tus_headers import Refused
from fileserver.wire.replies import ErrorReply

# Where tus wants another status than the rest of the site.
STATUSES = {"busy": 423, "exists": 409, "offset": 409, "bad-range": 400}


Method = Callable[..., Awaitable[HttpResponse]]


async def serve(methods: dict[str, Method], door: Door, request: HttpRequest, *args: str) -> HttpResponseBase:
    """The answer of one of the methods, with the errors and the headers of tus."""
    method = request.headers.get("X-HTTP-Method-Override", request.method or "")
    try:
        response: HttpResponseBase = await _answer(methods, method, request, door, *args)
    except Refused as error:
        response = error_response(request, error.status, str(error))
        for header, value in error.headers.items():
            response[header] = value
    return with_tus(response)


def with_tus(response: HttpResponseBase) -> HttpResponseBase:
    response["Tus-Resumable"] = tus.VERSION
    response["Cache-Control"] = "no-store"  # of refusals too: a cache may keep a 404
    return response


def speaks_tus(methods: dict[str, Method]) -> Any:
    """A view of these methods, with the versions and the errors of tus."""

    @handle_errors
    async def answer(request: HttpRequest, *args: str) -> HttpResponseBase:
        return await serve(methods, Door(), request, *args)

    @csrf_exempt  # what changes something asks for more than a token: see require_own_page
    async def view(request: HttpRequest, **names: str) -> HttpResponseBase:
        return with_tus(await answer(request, *names.values()))

    return view


async def _answer(
    methods: dict[str, Method], method: str, request: HttpRequest, door: Door, *args: str
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
        return await methods[method](request, door, *args)
    except ErrorReply as error:
        told = door.told_error(error)
        if told.code in STATUSES:
            raise Refused(STATUSES[told.code], told.message, **_headers_of(told)) from error
        raise told from error


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
