"""One HTTP request under `flow.FlowServer` and the response to it: where bytes wait, and are given up.

The application's `send` ends in `handle_reply` and `drained`; Twisted and Daphne call the other methods. The
body of the request is in `incoming`.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
from typing import Any

from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers

from cfsite.webserver.incoming import IncomingRequest, Message
from cfsite.webserver.limiter import StallWatch
from cfsite.webserver.unsent import unsent

logger = logging.getLogger(__name__)

GONE_GRACE = 1.0  # seconds an application has to act on `http.disconnect` before its `send` raises
# Seconds: the first pause between two looks at the kernel's queue, and the longest.
DELIVERY_POLL = (0.001, 0.05)


class ClientGone(ConnectionResetError):
    """Raised by `send` when nobody is left to read (ASGI 2.4: a subclass of OSError)."""


class FlowRequest(IncomingRequest):
    """Also the push producer which Twisted pauses while its buffer is full."""

    def __init__(self, channel: Any, queued: Any = 0) -> None:
        self.writable = asyncio.Event()
        self.writable.set()
        self.lost = False
        self.aborted = False
        self.left_behind: int | None = None  # bytes unsent when the connection went
        self.left_content = False  # the client went with all it was promised, before the application was done
        self.reply_watch: StallWatch | None = None
        super().__init__(channel, queued)

    # The response, from the application to Twisted

    def handle_reply(self, message: Message) -> None:
        if self.finished or self.aborted or self.channel is None:
            return
        if message.get("type") == "http.response.start" and self.is_early():
            self.channel.persistent = False
            message = {**message, "headers": [*message.get("headers", []), (b"Connection", b"close")]}
        if message.get("type") == "http.response.body" and self._response_started:
            if self.method == b"HEAD" or self.code in http.NO_BODY_CODES:
                message = {"type": "http.response.body"}  # the end; Daphne would put later chunks on the wire
            else:
                self.check_length(message)
            if message.get("more_body") and self.producer is None:
                self.registerProducer(self, True)
        super().handle_reply(message)
        if not self.responseHeaders.hasHeader(b"date"):  # RFC 9110, section 6.6.1; Daphne gives none
            self.responseHeaders.setRawHeaders(b"date", [http.datetimeToString()])

    def check_length(self, message: Message) -> None:
        """On a connection that stays open, a body unlike its Content-Length hangs or confuses the client."""
        missing = self.missing()
        if missing is None:
            return
        missing -= len(message.get("body", b""))
        if missing < 0 or (missing and not message.get("more_body")):
            raise RuntimeError(f"Response to {self.uri!r} misses {missing} bytes of its Content-Length")

    def missing(self) -> int | None:
        """Bytes still to be written; None where no Content-Length says so."""
        declared = self.responseHeaders.getRawHeaders(b"content-length")
        return int(declared[0]) - self.sentLength if declared else None

    async def drained(self) -> None:
        """Wait until the transport can take more."""
        await self.writable.wait()
        if self.lost:
            # Who listens for http.disconnect is being cancelled right now: let that come first.
            await asyncio.sleep(GONE_GRACE)
            raise ClientGone("the client has closed the connection")
        if self.finished:
            await asyncio.sleep(
                0
            )  # an application that continues after the end must not keep the loop to itself

    async def delivered(self) -> bool:
        """Wait until the peer's system has every byte written so far; False if the connection goes first."""
        pause, longest = DELIVERY_POLL
        while not self.ended.is_set():
            if self.left_content or not unsent(self.transport):
                return True
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
        return False

    def pauseProducing(self) -> None:
        self.writable.clear()

    def resumeProducing(self) -> None:
        self.writable.set()

    def stopProducing(self) -> None:
        """Comes before `connectionLost`, while the socket can still be asked."""
        self.left_behind = unsent(self.transport)
        self.writable.set()

    # Endings

    def finish(self) -> None:
        if self.is_early():
            self.finished = True
            self.channel.linger()
            self.end()
            return
        if self.producer is not None:
            self.unregisterProducer()
        super().finish()
        self.end()

    def connectionLost(self, reason: Failure) -> None:
        """Many clients close upon the last byte of Content-Length, before the application says that it was
        the last one: that is no reason to cancel it."""
        if reason.check(ConnectionDone) and self.left_behind == 0 and self.missing() == 0:
            self.left_content = True
            self.channel.persistent = False
            return
        self.lost = True
        if self.stream is not None:
            self.stream.lose()
        super().connectionLost(reason)
        self.end()

    def is_over(self) -> bool:
        """Whether the response is out, or given up; its connection may still linger."""
        return bool(self.finished or self.aborted)

    def end(self) -> None:
        self.ended.set()
        self.writable.set()

    def abort(self) -> None:
        """Close with a reset: the client must not take what it has for the whole."""
        self.aborted = True
        if self.left_content:
            self.connectionLost(Failure(ConnectionAborted()))
        else:
            self.transport.abortConnection()

    def handle_exception(self, exception: BaseException) -> None:
        if self.finished or self.lost:
            return
        if self.startedWriting:
            self.abort()
            return
        self._response_started = False  # announced, but nothing is on the wire: there is still time for a 500
        self.responseHeaders = Headers({b"connection": [b"close"]})
        self.channel.persistent = False
        super().handle_exception(exception)

    def check_timeouts(self) -> None:
        """Daphne's `http_timeout` would end a begun response as if it were whole: here only a stall does."""
        if self.startedWriting:
            if not self.ended.is_set():
                self.check_reply()
        elif self.content is not None and not self.body_complete:
            self.check_body()
        else:
            super().check_timeouts()

    def check_reply(self) -> None:
        """A slow peer may go a while without room for a write, so what the kernel sends is progress, too."""
        self.reply_watch = self.reply_watch or StallWatch(self.server.stall_timeout)
        waiting = unsent(self.transport)
        if self.reply_watch.is_stalled(self.sentLength - waiting, waiting > 0):
            logger.warning("Dropped %s, which read nothing more of %r", self.client_addr, self.uri)
            self.abort()
