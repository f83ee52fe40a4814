"""The site from the outside: HTTP requests to its ASGI application, and the cut of one in the middle."""

import asyncio
import gc
import json
import warnings
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar
from urllib.parse import unquote

from cfsite.asgi import application

T = TypeVar("T")
SECONDS = 10.0
HOST = "localhost:8000"


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


class Answer:
    def __init__(self, start: dict[str, Any], body: bytes) -> None:
        self.status: int = start["status"]
        self.all_headers = [(k.decode().lower(), v.decode("latin-1")) for k, v in start["headers"]]
        self.headers = dict(self.all_headers)
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def cookies(self) -> dict[str, str]:
        pair = self.headers.get("set-cookie", "").partition(";")[0]
        return dict([pair.split("=", 1)]) if pair else {}


class Exchange:
    """One request. What the application sends waits here until it is taken, as in a browser that does not
    read; ``cut`` is the browser's going away."""

    def __init__(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        host: str = HOST,
        client: tuple[str, int] = ("127.0.0.1", 50_000),
        scheme: str = "http",
        delivered: bool | None = None,
        can_abort: bool = False,
        holds_body: bool = False,
        stream: AsyncIterator[bytes] | None = None,
    ) -> None:
        path, _, query = url.partition("?")
        given = {"host": host, **(headers or {})}
        if body or method in ("PUT", "POST"):
            given.setdefault("content-length", str(len(body)))
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": scheme,
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
            "client": client,
            "server": ("127.0.0.1", 8000),
        }
        extensions = {
            "cfsite.delivered": self._delivered if delivered is not None else None,
            "cfsite.abort": self._abort if can_abort else None,
            "cfsite.webserver.body": stream,  # as our web server hands it out: while it comes in
        }
        self.scope["extensions"] = {name: value for name, value in extensions.items() if value is not None}
        self.was_reset = False
        self._is_delivered = delivered
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=1)
        if not holds_body:
            self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.task = asyncio.create_task(application(self.scope, self._incoming.get, self._outgoing.put))

    async def _delivered(self) -> bool | None:
        return self._is_delivered

    def _abort(self) -> None:
        self.was_reset = True

    async def next(self) -> dict[str, Any]:
        """The next message of the application; its exception if it ends instead."""
        taking = asyncio.ensure_future(self._outgoing.get())
        await asyncio.wait({taking, self.task}, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            return taking.result()
        taking.cancel()
        assert self.task.done(), "the application says nothing"
        self.task.result()
        raise AssertionError("the application ended without a whole response")

    async def answer(self) -> Answer:
        start, body, more = await self.next(), b"", True
        while more:
            message = await self.next()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await asyncio.wait_for(self.task, SECONDS)
        return Answer(start, body)

    async def cut(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(self.task, SECONDS)
        with warnings.catch_warnings():
            # Django leaves the body of a request whose client has gone to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


async def ask(method: str, url: str, **kwargs: Any) -> Answer:
    return await Exchange(method, url, **kwargs).answer()


def fetch(method: str, url: str, **kwargs: Any) -> Answer:
    """A whole request from a test that is not asynchronous itself."""
    return run(ask(method, url, **kwargs))
