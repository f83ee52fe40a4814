"""Who is asking, and what may they do.

There are no accounts for files yet: everybody on a loopback address is a guest with all rights, and nobody
else gets in. What stands between "open on localhost" and "open to any web page in a browser on this machine"
is here too: a change must come from our own page, or from no page at all.
"""

import functools
import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import markcoroutinefunction
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.crypto import salted_hmac

from files_app.access import tickets
from fileserver.rights import GET, Access, Principal, Right

RELAY = Principal("relay")


def relay_token() -> str:
    """What the site shows the file server: both derive it from the secret key."""
    return salted_hmac("files_app.access.relay", "relay", algorithm="sha256").hexdigest()


def authenticate(token: str | None, host: str) -> Principal | None:
    """Who a client at ``host`` is; ``None`` for what is neither a known token nor a ticket that is good
    there."""
    if token is None:
        return Principal("guest", address=host)
    given = token.encode("utf-8", "surrogatepass")  # JSON can hold what UTF-8 cannot
    if hmac.compare_digest(given, relay_token().encode()):
        return RELAY
    ticket = tickets.read(token, host)
    return Principal("ticket", address=host, ticket=ticket) if ticket else None


def may(principal: Principal, right: Right, name: str) -> bool:
    """The policy of the server and of the site: on this machine everybody may do all, nobody else
    anything."""
    if principal.ticket is not None:
        return right == GET and name == principal.ticket.name
    return principal.kind != "guest" or is_loopback(principal.address)


ACCESS = Access(authenticate, may)


def is_loopback(host: str) -> bool:
    """Whether ``host``, an address or a name, means this machine and nobody else."""
    known = _is_loopback_address(host)
    if known is not None:
        return known
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter for what cannot be a name at all
        return False
    return bool(found) and all(ipaddress.ip_address(str(entry[4][0])).is_loopback for entry in found)


@functools.lru_cache(1024)  # to read one takes longer than to open a file, and each client has one
def _is_loopback_address(host: str) -> bool | None:
    """``None`` for what is no address, but a name perhaps."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return None


def require_loopback(host: str, setting: str) -> None:
    """Raise ``CommandError`` for an address that others on the network could reach."""
    if not is_loopback(host):
        raise CommandError(
            f"Refusing to listen on {host}: everybody who reached it could change and delete all files. "
            "Access control comes first. "
            f"Until there are accounts, set {setting} to 127.0.0.1, ::1 or localhost."
        )


# --- a change must come from our own page


def is_own_origin(origin: str, host: str, secure: bool) -> bool:
    """Whether ``Origin`` names the very scheme, host and port under which we are asked (RFC 6454)."""
    own = f"{'https' if secure else 'http'}://{host}"
    return origin.lower() == own.lower() or origin in settings.CSRF_TRUSTED_ORIGINS


def comes_from_us(headers: Mapping[str, str], host: str, secure: bool) -> bool:
    """Whether a request was made by our own page, or by a program that is no browser at all.

    A browser names the page's origin with every change it makes. Without an origin there must be nothing else
    of a browser's either: no cookie, no ``Sec-Fetch-Site``.
    """
    origin = headers.get("origin")
    if origin is not None:
        return is_own_origin(origin, host, secure)
    return "cookie" not in headers and "sec-fetch-site" not in headers


def require_own_page(request: HttpRequest) -> None:
    """Raise ``PermissionDenied`` unless a change without Django's token may be made."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    if not comes_from_us(headers, request.get_host(), request.is_secure()):
        raise PermissionDenied("This change was asked for by another site's page, so it was not made.")


class OwnOriginOnly:
    """ASGI middleware for websockets: the same host list and the same origin rule as for changes."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        domain, _ = split_domain_port(host)
        known = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
        from_here = is_loopback((scope.get("client") or ["127.0.0.1"])[0])
        if known and from_here and comes_from_us(headers, host, _is_secure(scope, headers)):
            return await self._application(scope, receive, send)
        return await WebsocketDenier()(scope, receive, send)


def _is_secure(scope: dict[str, Any], headers: Mapping[str, str]) -> bool:
    proxy = settings.SECURE_PROXY_SSL_HEADER
    if proxy:
        name, value = proxy
        return headers.get(name.removeprefix("HTTP_").replace("_", "-").lower()) == value
    return scope.get("scheme") in ("https", "wss")


class LoopbackOnlyMiddleware:
    """Nobody but this machine, however the site was started. Async, so that downloads stay async."""

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if is_loopback(request.META.get("REMOTE_ADDR") or "127.0.0.1"):
            return await self._get_response(request)
        message = "This site can only be used on the machine it runs on: access control comes first."
        context = {"status": 403, "title": "Not from here", "message": message}
        return TemplateResponse(request, "error.html", context, status=403).render()
