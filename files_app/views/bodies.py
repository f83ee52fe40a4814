"""The body of a request that uploads something: how long it is, and its bytes as they come in."""

import re
from collections.abc import AsyncIterator
from typing import Any

from django.http import HttpRequest

PIECE = 256 * 1024  # bytes


def extensions_of(request: HttpRequest) -> dict[str, Any]:
    """What the web server adds to ASGI; others, and Django's test client, have nothing of it."""
    found: dict[str, Any] = getattr(request, "scope", {}).get("extensions", {})
    return found


def length_of(request: HttpRequest) -> int | None:
    """Bytes of the body, or ``None`` if the request does not say."""
    return number_in(request.META.get("CONTENT_LENGTH") or "")


def packing_of(request: HttpRequest) -> str:
    """How a body was packed, which nobody here undoes (``gzip``, say); empty if it was not."""
    packing = request.headers.get("Content-Encoding", "").strip()
    return "" if packing.lower() == "identity" else packing


def number_in(text: str) -> int | None:
    """A number of bytes as a header says it, or ``None`` if it is none that could be meant."""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) else None


async def body_of(request: HttpRequest) -> AsyncIterator[bytes]:
    """As it comes in, where the web server can do that; else from where Django has put it."""
    stream = extensions_of(request).get("cfsite.webserver.body")
    if stream is not None:
        async for piece in stream:
            yield piece
    while piece := request.read(PIECE):
        yield piece
