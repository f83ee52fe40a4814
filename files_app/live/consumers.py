"""The websocket of a page: the newest state on connect, then the news.

A websocket's ``send`` never waits, so a page that does not read would let its news pile up in memory. Whoever
is behind gets nothing, and the whole state once it has caught up: newest state, never a backlog.

A page that asks again and again is answered four times a second. Its next question is not taken before, so
the web server stops reading its socket (``cfsite.webserver.sockets``).
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from channels.generic.websocket import AsyncWebsocketConsumer

from files_app.access.policy import REFUSALS, is_allowed
from files_app.live.feed import feed
from fileserver.rights import WATCH, Right

BEHIND = 256 * 1024  # bytes that wait in this process for the page's socket
ANSWER_PAUSE = 0.25  # seconds between two answers to one page; it asks each ten seconds


class LiveConsumer(AsyncWebsocketConsumer):
    _joined = False
    _answered = float("-inf")  # monotonic seconds of the last answer to a question
    _told = -1  # number of the last news that the page has

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # a consumer that is cancelled or fails gets no disconnect
            if self._joined:
                await feed.leave()

    async def connect(self) -> None:
        if not is_allowed(self.scope, WATCH):
            await self.close()  # before it is accepted: 403
            return
        await self.accept()
        await feed.join()
        self._joined = True
        await self.channel_layer.group_add(feed.group, self.channel_name)
        await self._send_state()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(feed.group, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        try:
            said = json.loads(text_data or "")
        except (ValueError, RecursionError):
            said = None
        known = MESSAGES.get(str(said.get("type"))) if isinstance(said, dict) else None
        if known is None:
            await self.close(4400, 'Only {"type": "refresh"} is understood here.')
        elif not is_allowed(self.scope, known.right):
            await self.close(4403, REFUSALS[known.right])
        else:
            await known.handle(self)

    async def refresh(self) -> None:
        await asyncio.sleep(self._answered + ANSWER_PAUSE - time.monotonic())
        self._answered = time.monotonic()
        # A page that slept for long may have been dropped from the group: asking puts it back.
        await self.channel_layer.group_add(feed.group, self.channel_name)
        await self._send_state()

    async def live_news(self, event: dict[str, Any]) -> None:
        if event["number"] <= self._told or self._is_behind():
            return
        if event["number"] == self._told + 1:
            self._told = event["number"]
            await self.send(event["text"])
        else:
            await self._send_state()

    async def _send_state(self) -> None:
        if not self._is_behind():
            self._told, text = feed.snapshot(self._told)
            await self.send(text)

    def _is_behind(self) -> bool:
        backlog = self.scope.get("extensions", {}).get("cfsite.backlog")
        return backlog is not None and backlog() > BEHIND


class Message(NamedTuple):
    right: Right  # that whoever sends it must have
    handle: Callable[[LiveConsumer], Awaitable[None]]


# What a page may say, by its ``type``.
MESSAGES = {"refresh": Message(WATCH, LiveConsumer.refresh)}
