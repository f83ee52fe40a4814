"""The files that long bodies wait in are let go of beside the event loop."""

import asyncio
import io
import os
import threading
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from cfsite.asgi import Handler
from cfsite.webserver.exchange import FlowRequest
from cfsite.webserver.spool import LONG, Spool
from tests.servers import wait_until


class SlowToClose(io.BytesIO):
    def __init__(self) -> None:
        super().__init__()
        self.may_close = threading.Event()

    def close(self) -> None:
        self.may_close.wait(10)
        super().close()


def test_nobody_waits_until_a_long_spool_is_closed() -> None:
    file = SlowToClose()
    spool = Spool(file)
    spool.write(bytes(LONG - 3) + b"abc")
    spool.seek(-3, os.SEEK_END)
    assert spool.read() == b"abc"
    spool.close()
    spool.close()  # while it is being closed
    assert not file.closed
    file.may_close.set()
    wait_until(lambda: file.closed)
    spool.close()  # may be called again


@pytest.mark.parametrize("size", [0, LONG - 1])
def test_a_short_one_is_closed_without_a_thread(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", None)
    spool = Spool(io.BytesIO(bytes(size)))
    spool.close()
    assert spool.closed


def test_where_there_is_no_thread_it_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    spool = Spool(io.BytesIO(bytes(LONG)))
    spool.close()
    assert spool.closed


@pytest.mark.parametrize(
    ("length", "is_long"), [(0, False), (99_999, False), (1_000_000, True), (None, True)]
)
def test_what_twisted_puts_on_the_disk_is_a_spool(length: int | None, is_long: bool) -> None:
    channel = mock.Mock(factory=SimpleNamespace(server=mock.Mock()))
    request = FlowRequest(channel)
    request.gotLength(length)
    assert isinstance(request.content, Spool) is is_long
    request.content.write(b"abc")
    request.content.close()
    wait_until(lambda: request.content.closed)


@pytest.mark.parametrize(("pieces", "is_long"), [(1, False), (40, True)])
def test_what_django_puts_on_the_disk_is_a_spool(pieces: int, is_long: bool) -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": bytes(100_000), "more_body": True} for _ in range(pieces)
    ]
    messages.append({"type": "http.request", "body": b"end", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    body = asyncio.run(Handler().read_body(receive))
    assert isinstance(body, Spool) is is_long
    content = body.read()
    assert (len(content), content[-3:]) == (pieces * 100_000 + 3, b"end")
    body.close()
    wait_until(lambda: body.closed)
