"""A proxy in front: who really asks, how, and under which path. Only of proxies that the settings trust.

What the others send in ``X-Forwarded-For`` and its like changes nothing, but that whoever sends it is no
person at this machine (``loopback``). Of two headers that may say who asks only one is believed
(``PROXY_HEADER``): a proxy that sets one passes the other on as any client has written it.

``X-Forwarded-Host`` is never read: a proxy must pass on ``Host``.
"""

import functools
import ipaddress
import re
from typing import Any

from django.conf import settings

from fileserver.net.address import is_loopback, read_address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PROXIED = "cfs.is_proxied"  # in the scope: a proxy asks, whatever its headers say
REMOTE_USER = "cfs.remote_user"
MAX_HOPS = 50  # that are looked at, from the nearest one

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@functools.lru_cache(4)
def _networks(texts: tuple[str, ...]) -> list[Network]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def is_trusted(address: str) -> bool:
    found, trusted = read_address(address), tuple(settings.TRUSTED_PROXIES)
    return found is not None and any(found in network for network in _networks(trusted))


def hops(header: str, values: list[str]) -> list[str]:
    """The addresses that the header names, as they stand there, the nearest one last."""
    found = [part.strip() for part in ",".join(values).split(",")[-MAX_HOPS:]]
    return found if header == "x-forwarded" else [_parameter(part, "for") for part in found]


def _parameter(element: str, name: str) -> str:
    """Of an element of ``Forwarded`` (RFC 7239, section 4); empty if it has none of that name."""
    for pair in element.split(";"):
        key, _, value = pair.strip().partition("=")
        if key.lower() == name:
            quoted = _QUOTED.fullmatch(value)
            return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else value
    return ""


def address_in(hop: str) -> str:
    """The address of a hop, without its port; empty for one that is hidden, unknown, or nonsense."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return str(read_address(text) or "") if len(text) < 64 else ""


def client_of(found: list[str]) -> str:
    """The nearest hop that is no trusted proxy; empty if that is not told."""
    for hop in reversed(found):
        address = address_in(hop)
        if not address or not is_trusted(address):
            return address
    return address_in(found[0]) if found else ""


class BehindProxies:
    """ASGI middleware around everything else."""

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> Any:
        if scope["type"] in ("http", "websocket"):
            scope = _below_prefix(_seen_through(scope))
        return await self._application(scope, receive, send)


def _seen_through(scope: dict[str, Any]) -> dict[str, Any]:
    peer = str((scope.get("client") or ["127.0.0.1"])[0])
    trusted = is_trusted(peer)
    if not trusted and not (settings.HTTPS and is_loopback(peer)):
        return scope
    changes: dict[str, Any] = {}
    if proto := _proto(scope):
        changes["scheme"] = proto if scope["type"] == "http" else {"https": "wss"}.get(proto, "ws")
    if trusted:
        changes |= {"client": [_client(scope), 0], PROXIED: True}
        if settings.REMOTE_USER_HEADER:
            changes[REMOTE_USER] = next(iter(_values(scope, settings.REMOTE_USER_HEADER.lower())), "")
    return {**scope, **changes}


def _client(scope: dict[str, Any]) -> str:
    """``unknown`` for one that is not told: no rule and no person is at that address."""
    header = settings.PROXY_HEADER
    values = _values(scope, "x-forwarded-for" if header == "x-forwarded" else "forwarded")
    return client_of(hops(header, values)) or "unknown"


def _proto(scope: dict[str, Any]) -> str:
    if settings.PROXY_HEADER == "forwarded":
        elements = ",".join(_values(scope, "forwarded")).split(",")
        found = _parameter(elements[-1], "proto")
    else:
        found = ",".join(_values(scope, "x-forwarded-proto")).split(",")[-1]
    found = found.strip().lower()
    return found if found in ("http", "https") else ""


def _values(scope: dict[str, Any], wanted: str) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.decode("latin-1") == wanted]


def _below_prefix(scope: dict[str, Any]) -> dict[str, Any]:
    """Of a site in a sub-path. A proxy may have taken it off, or not."""
    prefix = settings.FORCE_SCRIPT_NAME
    if not prefix:
        return scope
    path = scope["path"] if _is_below(scope["path"], prefix) else prefix + scope["path"]
    return {**scope, "path": path, "root_path": prefix}


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def inner_path(path: str) -> str:
    """A path without the sub-path of the site."""
    prefix = settings.FORCE_SCRIPT_NAME
    return path.removeprefix(prefix) if prefix and _is_below(path, prefix) else path
