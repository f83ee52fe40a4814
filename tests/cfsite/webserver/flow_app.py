"""The ASGI application behind `test_flow.py`: serves itself with `FlowServer` and prints its port.

`/state` tells what the application saw: bytes it yielded, generators that were closed, what `delivered` said.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CHUNK = 64 * 1024
state: dict[str, Any] = {}
ZERO = {
    "messages": 0,
    "yielded": 0,
    "closed": 0,
    "disconnects": 0,
    "errors": 0,
    "read": 0,
    "lost": 0,
    "waiting": 0,
}
gate = asyncio.Event()  # before which nothing of a body is read
orphans: list[asyncio.Future[None]] = []


def numbered_lines(start: int, count: int) -> bytes:
    """`count` bytes of a file whose every 16 bytes say where they are."""
    return b"".join(b"%015d\n" % n for n in range(start // 16, (start + count + 15) // 16))[:count]


async def chunks(size: int | None) -> AsyncIterator[bytes]:
    sent = 0
    block = bytes(CHUNK)
    try:
        while size is None or sent < size:
            piece = block if size is None else numbered_lines(sent, min(CHUNK, size - sent))
            sent += len(piece)
            state["yielded"] += len(piece)
            yield piece
    finally:
        state["closed"] += 1


def reset() -> None:
    state.update({**ZERO, "delivered": []})
    gate.clear()


async def start(send: Send, status: int = 200, length: int | None = None) -> None:
    headers = [(b"content-type", b"application/octet-stream")]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def reply(send: Send, value: Any) -> None:
    body = json.dumps(value).encode()
    await start(send, length=len(body))
    await send({"type": "http.response.body", "body": body})


async def stream(send: Send, size: int | None, length: int | None) -> None:
    await start(send, length=length)
    async for chunk in chunks(size):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def listen(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    state["disconnects"] += 1


async def until_disconnect(receive: Receive, work: Awaitable[None]) -> None:
    """As Django's handler does it: the view is cancelled when the client leaves."""
    view, watch = asyncio.ensure_future(work), asyncio.ensure_future(listen(receive))
    try:
        await asyncio.wait([view, watch], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (view, watch):
            task.cancel()
        await asyncio.gather(view, watch, return_exceptions=True)


async def get_state(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    await reply(send, state)
    if query.get("reset"):
        reset()


async def get_whole(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    """The whole response in one message: finished at once, most of it still in the server's buffer."""
    await start(send, length=query["size"])
    await send({"type": "http.response.body", "body": bytes(query["size"])})


async def get_endless(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    await until_disconnect(receive, stream(send, None, None))


async def get_deaf(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    """Never listens for `http.disconnect`: only its `send` can tell it."""
    try:
        await stream(send, None, None)
    except OSError:
        state["errors"] += 1
        raise


async def get_file(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    await stream(send, query["size"], query["size"] if query.get("length", 1) else None)
    await send({"type": "http.response.body"})


async def get_delivered(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    await stream(send, query["size"], query["size"])
    state["delivered"].append(await scope["extensions"]["cfsite.delivered"]())
    await send({"type": "http.response.body"})


async def post_hash(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    digest, size, largest = hashlib.sha256(), 0, 0
    more = True
    while more:
        message = await receive()
        digest.update(message["body"])
        size, largest = size + len(message["body"]), max(largest, len(message["body"]))
        more = message["more_body"]
    await reply(send, {"sha256": digest.hexdigest(), "size": size, "largest": largest, "memory": memory()})


async def read_stream(scope: Scope, digest: Any, most: int | None = None) -> None:
    """Up to ``most`` bytes of the body, as they come in."""
    try:
        async for piece in scope["extensions"]["cfsite.webserver.body"]:
            digest.update(piece)
            state["read"] += len(piece)
            if most is not None and state["read"] >= most:
                return
    except ConnectionError:
        state["lost"] += 1
        raise


async def stream_hash(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    """Waits for the gate, if asked to, and says what it has read."""
    digest = hashlib.sha256()
    if query.get("gate"):
        state["waiting"] += 1
        await gate.wait()
    message = await receive()
    assert (message["type"], message["body"], message["more_body"]) == ("http.request", b"", False)
    await read_stream(scope, digest)
    await reply(send, {"sha256": digest.hexdigest(), "size": state["read"], "memory": memory()})


async def stream_early(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    """An answer after so many bytes of the body, perhaps after none at all; perhaps not before the gate."""
    if query["after"]:
        await read_stream(scope, hashlib.sha256(), query["after"])
    if query.get("gate"):
        state["waiting"] += 1
        await gate.wait()
    body = b"no, thank you" * 1000
    await start(send, 409, len(body))
    await send({"type": "http.response.body", "body": body})


async def stream_abort(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    await read_stream(scope, hashlib.sha256(), 1)
    scope["extensions"]["cfsite.abort"]()
    await start(send, 200, 0)
    await send({"type": "http.response.body"})


async def open_gate(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    gate.set()
    await reply(send, state)


async def headers(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    while (await receive())["more_body"]:
        pass
    given = {name.decode(): value.decode() for name, value in scope["headers"]}
    await reply(send, {"headers": given, "streamed": "cfsite.webserver.body" in scope["extensions"]})


async def get_boom(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    if query.get("started") or query.get("sent"):
        await start(send, length=1000)
    if query.get("sent"):
        await send({"type": "http.response.body", "body": b"x" * query["sent"], "more_body": True})
        await scope["extensions"]["cfsite.delivered"]()
    if query.get("quietly"):
        return
    if query.get("finish"):
        await send({"type": "http.response.body"})
    raise ValueError("boom")


async def get_orphan(scope: Scope, receive: Receive, send: Send, query: dict[str, int]) -> None:
    async def orphan() -> None:
        try:
            async for _ in chunks(None):
                await asyncio.sleep(60)
        finally:
            print("orphan: ended", file=sys.stderr, flush=True)

    orphans.append(asyncio.ensure_future(orphan()))
    await reply(send, None)


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.receive":
            state["messages"] += 1
            if scope["path"] == "/ws/gate":
                await gate.wait()
            if scope["path"] == "/ws/large":
                message["text"] = "x" * 3_000_000
            await send({"type": "websocket.send", "text": message.get("text") or "bytes"})
        elif message["type"] == "websocket.disconnect":
            print("websocket: disconnect", file=sys.stderr, flush=True)
            return


ROUTES = {
    "/state": get_state,
    "/whole": get_whole,
    "/endless": get_endless,
    "/deaf": get_deaf,
    "/file": get_file,
    "/delivered": get_delivered,
    "/hash": post_hash,
    "/boom": get_boom,
    "/orphan": get_orphan,
    "/stream/hash": stream_hash,
    "/stream/early": stream_early,
    "/stream/abort": stream_abort,
    "/stream/headers": headers,
    "/gate": open_gate,
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
        return
    query = {key: int(values[0]) for key, values in parse_qs(scope["query_string"].decode()).items()}
    await ROUTES[scope["path"]](scope, receive, send, query)


def memory() -> int:
    """Resident bytes of this process, 0 where there is no /proc."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def django_application() -> Any:
    """Two streaming views under Django's own ASGI handler."""
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    class Streaming(StreamingHttpResponse):
        """Django closes only its own generator around the view's, whose `finally` then waits for the garbage
        collector: its handler leaves the response in a cycle of references."""

        _iterator: Any

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async with aclosing(self._iterator) as content:
                async for part in content:
                    yield self.make_bytes(part)

    async def delivered(request: Any) -> AsyncIterator[bytes]:
        async for chunk in chunks(1_000_000):
            yield chunk
        state["delivered"].append(await request.scope["extensions"]["cfsite.delivered"]())

    async def endless_view(request: HttpRequest) -> StreamingHttpResponse:
        return Streaming(chunks(None))

    async def delivered_view(request: HttpRequest) -> StreamingHttpResponse:
        return Streaming(delivered(request), headers={"Content-Length": "1000000"})

    async def state_view(request: HttpRequest) -> HttpResponse:
        return JsonResponse(state)

    views = {"endless": endless_view, "delivered": delivered_view, "state": state_view}
    urls = [path(name, view) for name, view in views.items()]
    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=type("urls", (), {"urlpatterns": urls}), SECRET_KEY="test"
    )
    django.setup(set_prefix=False)
    return get_asgi_application()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stall", type=float, default=60.0)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--head", type=float, default=10.0)
    parser.add_argument("--descriptors", type=int, default=None)
    parser.add_argument("--temporary", default=None)
    parser.add_argument("--django", action="store_true")
    parser.add_argument("--no-kernel-queue", action="store_true")
    options = parser.parse_args()

    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from cfsite.webserver import flow, unsent

    if options.descriptors:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (options.descriptors, options.descriptors))
    tempfile.tempdir = options.temporary
    if options.no_kernel_queue:
        unsent.unacknowledged_bytes = lambda fd: 0

    def announce() -> None:
        print(server.listening_addresses[0][1], flush=True)

    class Server(flow.FlowServer):
        stall_timeout = options.stall
        head_timeout = options.head
        body_limit = staticmethod(lambda method, path: options.limit)
        streams_body = staticmethod(lambda method, path: path.startswith("/stream"))

        def listen_success(self, port: Any) -> None:
            super().listen_success(port)
            state["listens_with"] = type(port.factory).__mro__[1].__name__  # see Factory below
            state["sockets"] = self.ws_factory.protocol.__name__

    class Factory(flow.FlowFactory):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.timeOut = options.idle

    flow.FlowFactory = Factory  # type: ignore[misc]
    reset()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    server: Any = Server(
        django_application() if options.django else application,
        endpoints=["tcp:0:interface=127.0.0.1"],
        ready_callable=announce,
    )
    server.run()
    print("ended", flush=True)


if __name__ == "__main__":
    main()
