"""How the site speaks to the file server, and what the server's answers mean over HTTP."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

from files_app.access.policy import NeedsLogin, NotAllowed
from files_app.access.principals import principal_of, relay_token
from files_app.access.public import server_address
from files_app.hosting.certificates import BadCertificate, context_for_own_server
from files_app.views.temporary import NoRoom
from fileserver.client.aio import AsyncClient
from fileserver.client.blocking import CHUNK, Client
from fileserver.net.address import address_text, where_reached
from fileserver.wire.http import STATUS_OF_CODE
from fileserver.wire.replies import BadReply, ErrorReply

log = logging.getLogger(__name__)

# Mistakes that are not the browser's: seen from there, this site is a gateway with a bad answer behind it.
HTTP_STATUS = {**STATUS_OF_CODE, "internal": 502, "unknown-verb": 502}

View = Callable[..., Any]  # a coroutine function; django-stubs knows views that return responses only


CONNECT_SECONDS = 5.0


class Offline(Exception):
    """The file server cannot be used now; the text is a sentence that says what to do."""


async def connect(limit: int = CHUNK // 2) -> AsyncClient:
    """A connection on which we may speak for others; a line may have ``limit`` bytes. Raises ``Offline``.

    For a browser that does not read, up to twice ``limit`` waits in our memory.
    """
    address = server_address()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await AsyncClient.connect(
                where_reached(settings.SERVER_HOST),
                settings.SERVER_PORT,
                token=relay_token(),
                limit=limit,
                tls=context_for_own_server(),
            )
    except TimeoutError as error:
        raise Offline(f"The file server at {address} does not answer. Restart it.") from error
    except (ssl.SSLError, BadCertificate) as error:
        hint = "Give both the same TLS_CERT, and restart them."
        raise Offline(f"The file server at {address} does not speak TLS as this site does. {hint}") from error
    except (OSError, ValueError, OverflowError) as error:  # the latter for hosts and ports that cannot be
        hint = "Start it with: python manage.py runfileserver"
        raise Offline(f"The file server at {address} is not running. {hint}") from error
    except BadReply as error:
        raise Offline(f"What answers at {address} is not the file server. Look at SERVER_PORT.") from error
    except ErrorReply as error:
        if error.code == "denied":
            hint = "Give both the same SECRET_KEY, and restart them."
            raise Offline(f"The file server at {address} does not know this site. {hint}") from error
        raise Offline(error.message) from error


def blocking_client() -> Client:
    """The same for a view that is not asynchronous."""
    try:
        return Client(
            where_reached(settings.SERVER_HOST),
            settings.SERVER_PORT,
            token=relay_token(),
            tls=context_for_own_server(),
        )
    except BadCertificate as error:
        raise Offline(str(error)) from error
    except (OSError, BadReply) as error:
        raise Offline(f"The file server at {server_address()} cannot be reached; try again.") from error


def on_behalf_of(request: HttpRequest) -> dict[str, Any]:
    """The fields that tell the file server on whose behalf we ask."""
    host, port = request.META.get("REMOTE_ADDR", ""), request.META.get("REMOTE_PORT")
    client, principal = address_text(host, port) if port else host, principal_of(request)
    return {"client": client, "user": principal.user, "principal": str(principal), "via": "web"}


def lowered(request: HttpRequest) -> dict[str, str]:
    """The headers of a request by their names in lower case."""
    return {name.lower(): value for name, value in request.headers.items()}


def handle_errors(view: View) -> View:
    """What a person did wrong, and what the file server refuses, becomes a status and one sentence."""

    @wraps(view)
    async def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response: HttpResponseBase = await view(request, *args, **kwargs)
            return response
        except ErrorReply as error:
            return error_response(request, HTTP_STATUS.get(error.code, 502), error.message)
        except Offline as error:
            return error_response(request, 503, str(error))
        except (ConnectionError, TimeoutError, BadReply):
            return error_response(request, 502, "The file server broke off the connection; try again.")
        except PermissionDenied as error:
            return refused(request, error)
        except NoRoom as error:
            log.warning("%s", error)
            return error_response(request, 507, str(error))

    return answer


TITLES = {
    400: "That cannot be done",
    401: "Not without a login",
    403: "Not allowed",
    404: "Not found",
    405: "Not like that",
    409: "The name is taken",
    412: "The file has changed",
    413: "Too large",
    415: "Not in this form",
    503: "The file server is not available",
    507: "There is no room for it",
}


def error_response(request: HttpRequest, status: int, message: str, title: str = "") -> HttpResponse:
    """One sentence: a page for a browser that navigates, plain text for scripts and ``curl``."""
    if request.get_preferred_type(["text/plain", "text/html"]) == "text/html":
        title = title or TITLES.get(status, "That did not work")
        context = {"status": status, "title": title, "message": message}
        response = render(request, "error.html", context, status=status)
    else:
        response = HttpResponse(message + "\n", status=status, content_type="text/plain; charset=utf-8")
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="files"'  # RFC 9110, section 11.6.1
    return response


def refused(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer to what somebody may not do. A guest may perhaps after a login, and is led there."""
    message = str(error) or "You may not do this."
    is_guest = isinstance(error, NotAllowed) and principal_of(request).kind == "guest"
    if not is_guest and not isinstance(error, NeedsLogin):
        return error_response(request, 403, message)
    if request.method in ("GET", "HEAD") and is_navigation(request):
        return redirect_to_login(request.get_full_path())
    return error_response(request, 401, message)


def is_navigation(request: HttpRequest) -> bool:
    """Whether a person's browser shows what we answer as a page of its own."""
    prefers_page = request.get_preferred_type(["text/plain", "text/html"]) == "text/html"
    return prefers_page and "HX-Request" not in request.headers


def unpacked_only(request: HttpRequest, packing: str) -> HttpResponse:
    """A file that comes packed would be kept so, and handed out to everybody without a word about it."""
    response = error_response(
        request, 415, f"A file is kept as it comes: send it as it is, not as {packing}."
    )
    response["Accept-Encoding"] = "identity"  # RFC 9110, section 12.5.3
    return response
