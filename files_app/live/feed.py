"""The live feed: one task in each web process watches the file server and tells every open page.

The newest state is kept here, so that a page that opens in the middle of a transfer shows it at once. Each
news is encoded once, numbered, and sent to a group of this process. A refused connection *is* "offline".
"""

import asyncio
import json
import logging
from contextlib import aclosing
from typing import Any
from uuid import uuid4

from channels.layers import get_channel_layer

from files_app.access.public import is_on_network, page_url, server_address
from files_app.views.relay import Offline, connect
from fileserver.client.aio import AsyncClient
from fileserver.client.live import LiveState
from fileserver.wire.replies import BadReply, ErrorReply

log = logging.getLogger(__name__)

RECONNECT = 0.5  # seconds
LONGEST_LINE = 4 << 20  # bytes: 500 live rows and 500 endings with the longest names
SILENCE = 12.0  # seconds without a line, where the server promises one each 5: it hangs


class Feed:
    """Runs while at least one viewer has joined. For one event loop."""

    def __init__(self) -> None:
        # Each process has a feed of its own, so a group shared by processes would tell everything twice.
        self.group = f"live.{uuid4().hex}"
        self._viewers = 0
        self._task: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._number = 0
        self._online = False
        self._reason = ""
        self._state = LiveState()
        self._newest: dict[str, Any] = {}  # the last news

    async def join(self) -> None:
        """Count one more viewer; returns when the state is known."""
        self._viewers += 1
        if self._task is None:
            self._known = asyncio.Event()
            self._task = asyncio.create_task(self._run(), name="live feed")
        try:
            await self._known.wait()
        except asyncio.CancelledError:
            await self.leave()
            raise

    async def leave(self) -> None:
        """Count one viewer less; the last one ends the task."""
        self._viewers -= 1
        if self._viewers == 0 and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def line(self, number: int) -> dict[str, Any] | None:
        """The news of that number, if there is no newer one."""
        return self._newest if number == self._number else None

    def snapshot(self, told: int = 0) -> tuple[int, dict[str, Any]]:
        """The number of the last news, and the whole state after it, to be encoded for a websocket.

        For a page that has news up to the number ``told``: what it has missed may have been about files.
        """
        if not self._online:
            return self._number, {"online": False, "full": True, "message": self._reason}
        state = {"status": self._state.status, "transfers": list(self._state.transfers.values())}
        missed = told != self._number
        news = {"online": True, "full": True, **state, "ended": [], "files_changed": missed}
        return self._number, news

    # --- the task

    async def _run(self) -> None:
        while True:
            try:
                client = await connect(LONGEST_LINE)
            except Offline as error:
                await self._lost(str(error))
            else:
                try:
                    await self._follow(client)
                except (ConnectionError, TimeoutError, BadReply, ErrorReply):
                    await self._lost(f"The connection to the file server at {server_address()} broke.")
                except Exception:
                    log.exception("the live feed stumbled")
                    await self._lost("The live feed stumbled; the log of the site says why.")
                finally:
                    client.close()
            await asyncio.sleep(RECONNECT)

    async def _follow(self, client: AsyncClient) -> None:
        async with aclosing(client.watch()) as lines:
            while True:
                async with asyncio.timeout(SILENCE):
                    line = await anext(lines)
                # After an outage the folder and the history may both be other than what the pages show.
                line["files_changed"] = line["files_changed"] or (not self._online and self._known.is_set())
                self._state.absorb(line)
                self._online = True
                await self._tell({"online": True, **line})

    async def _lost(self, reason: str) -> None:
        if self._online or not self._known.is_set() or reason != self._reason:
            self._online, self._reason = False, reason
            self._state = LiveState()
            await self._tell({"online": False, "full": True, "message": reason})

    async def _tell(self, news: dict[str, Any]) -> None:
        self._number += 1
        self._newest = news
        text = encode(news)  # once for all who may see everything
        self._known.set()
        layer = get_channel_layer()
        try:
            await layer.group_send(self.group, {"type": "live.news", "number": self._number, "text": text})
        except Exception:  # a page that misses a number gets the whole state with the next one
            log.exception("the news of the live feed could not be passed on")


def encode(news: dict[str, Any]) -> str:
    """As the text for a websocket."""
    addresses = {"address": server_address()}
    if is_on_network():
        addresses["page"] = page_url()
    return json.dumps({"type": "live", **addresses, **news}, ensure_ascii=False)


feed = Feed()
