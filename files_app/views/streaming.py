"""A streaming response whose source is closed when the browser leaves, not when the garbage is collected."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from django.http import StreamingHttpResponse


class Streaming(StreamingHttpResponse):
    """Of an asynchronous generator. Django closes only its own wrapper around it, and the response lies in a
    reference cycle: without this, a view's ``finally`` would run at some later time."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        source: Any = self._iterator  # type: ignore[attr-defined]
        async with aclosing(source) as parts:
            async for part in parts:
                yield self.make_bytes(part)
