"""One HTTP request and its response under `flow.FlowServer`: where bytes wait, are counted, and are given up.

The application's `send` ends in `handle_reply` and `drained`, its `receive` is `receive`; Twisted and Daphne
call the other methods. Private name in use (Daphne 4.2): `_response_started` of its request.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
import tempfile
from io import BytesIO
from typing import Any

from daphne.http_protocol import WebRequest
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers

from cfsite.webserver.body import Body
from cfsite.webserver.guard import LATE_BODIES
from cfsite.webserver.limiter import StallWatch
from cfsite.webserver.spool import Spool
from cfsite.webserver.unsent import unsent
from files_app.views.temporary import NoRoom

logger = logging.getLogger(__name__)

Message = dict[str, Any]

BODY_PIECE = 64 * 1024  # bytes of a request body in one `receive`
IN_MEMORY = 100_000  # bytes of a request body; a longer one waits in a temporary file
GONE_GRACE = 1.0  # seconds an application has to act on `http.disconnect` before its `send` raises
# Seconds: the first pause between two looks at the kernel's queue, and the longest.
DELIVERY_POLL = (0.001, 0.05)


class ClientGone(ConnectionResetError):
    """Raised by `send` when nobody is left to read (ASGI 2.4: a subclass of OSError)."""


class FlowRequest(WebRequest):
    """Also the push producer which Twisted pauses while its buffer is full."""

    content: Any  # the file that Twisted gathers a body in

    def __init__(self, channel: Any, queued: Any = 0) -> None:
        self.limit: int | None = None  # bytes of body
        self.stream: Body | None = None  # of a body that goes to the application as it comes in
        self.received = 0  # bytes of body
        self.refused = False
        self.body_complete = False
        self.expects_continue = False
        self.body_read = False
        self.emptiness_told = False
        self.writable = asyncio.Event()
        self.writable.set()
        self.ended = asyncio.Event()  # finished or lost: the application has nothing more to do
        self.lost = False
        self.aborted = False
        self.left_behind: int | None = None  # bytes unsent when the connection went
        self.left_content = False  # the client went with all it was promised, before the application was done
        self.body_watch: StallWatch | None = None
        self.reply_watch: StallWatch | None = None
        # Twisted would parse forms in memory: 300 MB take 4 GB and stop the event loop
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

    # The body, from Twisted to the application

    def start_streaming(self) -> None:
        """Start the application now, with the headers. `receive` shows no body: it is in ``stream``."""
        self.stream = Body(self.channel.hold_back, self.channel.let_on, self.say_continue)
        self.body_read = True
        super().requestReceived(*self.channel.request_line())

    def say_continue(self) -> None:
        """To a client that asks before it sends (RFC 9110, 10.1.1), unless it has its answer by now."""
        if self.expects_continue and not self.startedWriting:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.expects_continue = False

    def gotLength(self, length: int | None) -> None:
        """Twisted would make a file here, at once and for a body that is not gathered, too."""
        if length is not None and length < IN_MEMORY:
            self.content = BytesIO()
        else:
            self.content = Spool(tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115, closed by Twisted

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        self.body_complete = True
        if self.stream is not None:
            self.stream.end()
            return
        try:
            self.content.flush()  # else a full disk is noticed where nobody is answered any more
        except OSError as error:
            self.refuse_for_lack_of_room(error)
        else:
            super().requestReceived(command, path, version)

    def handleContentChunk(self, data: bytes) -> None:
        if self.refused or self.finished:
            return
        self.received += len(data)
        if self.stream is not None:
            self.stream.feed(data)
        elif self.limit is not None and self.received > self.limit:
            self.refuse()
        else:
            try:
                super().handleContentChunk(data)
            except OSError as error:
                self.refuse_for_lack_of_room(error)

    def refuse(self, status: int = 413, sentence: str = "") -> None:
        """Answer before the application has started, perhaps while the body is still coming in."""
        self.refused = True
        if self.content is not None:
            self.content.close()
        too_large = f"The body of this request is larger than the {self.limit} bytes that are accepted here."
        self.channel.reject(status, sentence or too_large)

    def refuse_for_lack_of_room(self, error: OSError) -> None:
        logger.warning("%s", NoRoom(error))
        self.refuse(507, str(NoRoom(error)))

    def give_up_body(self) -> None:
        """The rest of it does not come, or too slowly."""
        self.channel.server.tally.add(LATE_BODIES)
        if self.stream is None:
            self.refuse(408, "The body of this request came too slowly.")
        else:
            self.channel.drop()  # and so the application hears of it

    def tell_length(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Of a chunked body the length is known by now: the application gets it like any other."""
        if self.received and not any(name == b"content-length" for name, _ in headers):
            headers.append((b"content-length", b"%d" % self.received))

    async def receive(self) -> Message:
        if self.stream is not None and not self.emptiness_told:
            self.emptiness_told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        if not self.body_read:
            await asyncio.sleep(0)  # reading a long body must not keep other requests waiting
            if not self.ended.is_set():
                body = self.content.read(BODY_PIECE)
                self.body_read = len(body) < BODY_PIECE
                return {"type": "http.request", "body": body, "more_body": not self.body_read}
        await self.ended.wait()
        return {"type": "http.disconnect"}

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
            )  # an application that goes on after the end must not keep the loop to itself

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

    def is_early(self) -> bool:
        """Whether an answer comes before the body has: what is left of that is thrown away."""
        return self.stream is not None and not self.stream.complete

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

    def check_body(self) -> None:
        self.body_watch = self.body_watch or StallWatch(self.server.stall_timeout)
        is_ours_to_act = self.refused or (self.stream is not None and self.stream.holds_back)
        if self.body_watch.is_stalled(self.received, not is_ours_to_act):
            self.give_up_body()

    def check_reply(self) -> None:
        """A slow peer may go a while without room for a write, so what the kernel sends is progress, too."""
        self.reply_watch = self.reply_watch or StallWatch(self.server.stall_timeout)
        waiting = unsent(self.transport)
        if self.reply_watch.is_stalled(self.sentLength - waiting, waiting > 0):
            logger.warning("Dropped %s, which read nothing more of %r", self.client_addr, self.uri)
            self.abort()
