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
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from files_app.access.policy import is_allowed, may_see
from files_app.access.principals import is_known, principal_of
from files_app.access.sessions import refresh_rights, user_of
from files_app.database import is_out_of_service
from files_app.live.feed import encode, feed
from fileserver.rights import WATCH

BEHIND = 256 * 1024  # bytes that wait in this process for the page's socket
ANSWER_PAUSE = 0.25  # seconds between two answers to one page; it asks each ten seconds
SESSION_LOOK = 3.0  # seconds between two looks whether the viewer is still logged in


class LiveConsumer(AsyncWebsocketConsumer):
    _joined = False
    _answered = float("-inf")  # monotonic seconds of the last answer to a question
    _told = -1  # number of the last news that the page has
    _sees_all = False  # as it was with the last news
    _session: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # a consumer that is cancelled or fails gets no disconnect
            if self._session:
                self._session.cancel()
            if self._joined:
                await feed.leave()

    async def connect(self) -> None:
        await self.accept()
        follow = {"user": self._follow_session, "token": self._follow_token}.get(
            principal_of(self.scope).kind
        )
        if follow is not None:
            self._session = asyncio.create_task(follow(), name="session of a page")
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
        else:
            await known(self)

    async def refresh(self) -> None:
        await asyncio.sleep(self._answered + ANSWER_PAUSE - time.monotonic())
        self._answered = time.monotonic()
        # A page that slept for long may have been dropped from the group: asking puts it back.
        await self.channel_layer.group_add(feed.group, self.channel_name)
        await self._send_state()

    async def live_news(self, event: dict[str, Any]) -> None:
        if event["number"] <= self._told or self._is_behind():
            return
        await self._refresh_rights()
        sees_all = is_allowed(self.scope, WATCH)
        if event["number"] != self._told + 1 or sees_all != self._sees_all:
            await self._send_state()
            return
        self._told = event["number"]
        if sees_all:
            await self.send(event["text"])
        elif line := feed.line(event["number"]):
            await self.send(encode(self._filtered(line)))
        else:  # others came meanwhile
            await self._send_state()

    async def _send_state(self) -> None:
        if not self._is_behind():
            await self._refresh_rights()
            self._sees_all = is_allowed(self.scope, WATCH)
            self._told, state = feed.snapshot(self._told)
            await self.send(encode(state if self._sees_all else self._filtered(state)))

    def _filtered(self, news: dict[str, Any]) -> dict[str, Any]:
        """Without the transfers that this page may not see. The counts of the server are for everybody."""
        principal = principal_of(self.scope)
        seen = {
            key: [row for row in news[key] if may_see(principal, row)]
            for key in ("transfers", "ended")
            if key in news
        }
        return news | seen

    async def _refresh_rights(self) -> None:
        try:
            await refresh_rights()
        except Exception as error:
            if not is_out_of_service(error):  # then what was known is still the best that is known
                raise

    async def _follow_session(self) -> None:
        """Close when the viewer is not logged in any more."""
        headers = dict(self.scope["headers"])
        cookies = headers.get(b"cookie", b"").decode("latin-1")
        while True:
            await asyncio.sleep(SESSION_LOOK)
            try:
                user = await user_of(cookies)
            except Exception as error:
                if not is_out_of_service(error):
                    raise
            else:
                if user is None or user.pk != principal_of(self.scope).key:
                    await self.close(4401, "You are not logged in any more.")
                    return

    async def _follow_token(self) -> None:
        """Close when the token is not good any more."""
        while is_known(principal_of(self.scope)):
            await asyncio.sleep(SESSION_LOOK)
            await self._refresh_rights()
        await self.close(4401, "This token is not good any more.")

    def _is_behind(self) -> bool:
        backlog = self.scope.get("extensions", {}).get("cfsite.backlog")
        return backlog is not None and backlog() > BEHIND


# What a page may say, by its ``type``. It is answered with what it may see.
MESSAGES: dict[str, Callable[[LiveConsumer], Awaitable[None]]] = {"refresh": LiveConsumer.refresh}
