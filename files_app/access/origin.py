"""A change must come from our own page, or from no page at all.

This stands between "open on localhost" and "open to any web page in a browser on this machine".
"""

from collections.abc import Mapping
from typing import Any

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from files_app.access.principals import visitor
from files_app.access.sessions import user_of


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
        if known and comes_from_us(headers, host, _is_secure(scope, headers)):
            principal = visitor(scope, await user_of(headers.get("cookie", "")))
            return await self._application({**scope, "principal": principal}, receive, send)
        return await WebsocketDenier()(scope, receive, send)


def _is_secure(scope: dict[str, Any], headers: Mapping[str, str]) -> bool:
    """As Django finds it out for requests: what the proxy says, if there is one that says it."""
    if settings.SECURE_PROXY_SSL_HEADER:
        name, value = settings.SECURE_PROXY_SSL_HEADER
        told = headers.get(name.removeprefix("HTTP_").replace("_", "-").lower())
        if told is not None:
            return told == value
    return scope.get("scheme") in ("https", "wss")
