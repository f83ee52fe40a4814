"""Who uses this machine itself may do all without a login, on servers that no other machine reaches."""

import functools
import socket
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port

from files_app.access.proxies import PROXIED
from fileserver.net.address import is_loopback, read_address


@functools.lru_cache(64)
def is_this_machine(host: str) -> bool:
    """Whether ``host``, an address or a name, leads to this machine and to no other."""
    if read_address(host) is not None:
        return is_loopback(host)
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # the latter for what cannot be a name at all
        return False
    return bool(found) and all(is_loopback(str(entry[4][0])) for entry in found)


def is_local_request(request_or_scope: HttpRequest | dict[str, Any], address: str) -> bool:
    """Whether somebody at this machine asks a site that no other machine reaches."""
    return is_this_machine(settings.WEB_HOST) and comes_from_here(request_or_scope, address)


def comes_from_here(request_or_scope: HttpRequest | dict[str, Any], address: str) -> bool:
    """Whether somebody at this machine asks, as far as can be told.

    A proxy on this machine is at a loopback address too, so nothing may hint at one, and the name that was
    asked for must be one of this machine itself: a page elsewhere can have its own name lead here (DNS
    rebinding). A proxy that passes on none of that cannot be told from a person.
    """
    if not is_loopback(address) or _scope_of(request_or_scope).get(PROXIED):
        return False
    names = _header_names(request_or_scope)
    return not any(map(_tells_of_a_proxy, names)) and _is_own_name(_host_of(request_or_scope))


# Each tells of somebody else for whom a proxy asks (RFC 7239, RFC 9110 section 7.6.3, and what is in use).
_FORWARDING = frozenset({"forwarded", "via", "client-ip", "true-client-ip", "remote-user"})
_FORWARDING_PREFIXES = (
    "x-forwarded",
    "x-real-",
    "x-original-",
    "x-client-",
    "x-cluster-",
    "x-remote-",
    "cf-",
)


def _tells_of_a_proxy(header: str) -> bool:
    return header in _FORWARDING or header.startswith(_FORWARDING_PREFIXES)


def _scope_of(request_or_scope: HttpRequest | dict[str, Any]) -> dict[str, Any]:
    if isinstance(request_or_scope, HttpRequest):
        found: dict[str, Any] = getattr(request_or_scope, "scope", {})
        return found
    return request_or_scope


def _header_names(request_or_scope: HttpRequest | dict[str, Any]) -> list[str]:
    if isinstance(request_or_scope, HttpRequest):
        return [name.lower() for name in request_or_scope.headers]
    return [name.decode("latin-1").lower() for name, _ in request_or_scope.get("headers", ())]


def _host_of(request_or_scope: HttpRequest | dict[str, Any]) -> str:
    if isinstance(request_or_scope, HttpRequest):
        host = request_or_scope.META.get("HTTP_HOST", "localhost")
    else:
        given = (value for name, value in request_or_scope.get("headers", ()) if name == b"host")
        host = next(given, b"localhost").decode("latin-1")
    return split_domain_port(host)[0]


def _is_own_name(domain: str) -> bool:
    return domain == "localhost" or is_loopback(domain)
