"""The body of an upload on its way from the browser to the application, a little of it at a time.

Twisted gathers a body in a file before the application may start: an upload would be on the disk twice, and
its progress a fiction. Here the application starts with the headers, and the browser is held up (the socket
is not read) while the application is behind.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

AHEAD = 1 << 20  # bytes that may wait for the application before the browser has to


class BodyLost(ConnectionError):
    """The browser went away before its last byte."""


class Body:
    """Fed by the channel, iterated once by the application; ``pause`` and ``resume`` are of the reading.

    ``wanted`` is called when the application asks for the first piece and none is there yet.
    """

    def __init__(
        self,
        pause: Callable[[], None],
        resume: Callable[[], None],
        wanted: Callable[[], None] = lambda: None,
    ) -> None:
        self._pause = pause
        self._resume = resume
        self._wanted = wanted
        self._pieces: deque[bytes] = deque()
        self._waiting = 0  # bytes in the pieces
        self._paused = False
        self._news = asyncio.Event()
        self.complete = False
        self.lost = False

    @property
    def holds_back(self) -> bool:
        """Whether the browser waits for the application now."""
        return self._paused

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)
        self._waiting += len(data)
        self._news.set()
        if self._waiting >= AHEAD and not self._paused:
            self._paused = True
            self._pause()

    def end(self) -> None:
        self.complete = True
        self._news.set()

    def lose(self) -> None:
        """The connection is gone; what has come is still handed out if it is all."""
        self.lost = True
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces in order. Raises ``BodyLost`` if the last one will never come."""
        if not (self._pieces or self.complete or self.lost):
            self._wanted()
        while True:
            while self._pieces:
                data = self._pieces.popleft()
                self._waiting -= len(data)
                if self._paused and self._waiting < AHEAD // 2:
                    self._paused = False
                    self._resume()
                yield data
            if self.complete:
                return
            if self.lost:
                raise BodyLost("the browser left before the end of its upload")
            self._news.clear()
            await self._news.wait()
