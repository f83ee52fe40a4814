"""The body of one HTTP request under `flow.FlowServer`: where its bytes wait, are counted, and are refused.

The application's `receive` is `receive`; Twisted and Daphne call the other methods. `exchange` has the
response to it.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
import tempfile
from io import BytesIO
from typing import Any

from daphne.http_protocol import WebRequest

from cfsite.webserver.body import Body
from cfsite.webserver.guard import LATE_BODIES
from cfsite.webserver.limiter import StallWatch
from cfsite.webserver.spool import Spool
from files_app.views.temporary import NoRoom

logger = logging.getLogger(__name__)

Message = dict[str, Any]

BODY_PIECE = 64 * 1024  # bytes of a request body in one `receive`
IN_MEMORY = 100_000  # bytes of a request body; a longer one waits in a temporary file


class IncomingRequest(WebRequest):
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
        self.ended = asyncio.Event()  # finished or lost: the application has nothing more to do
        self.body_watch: StallWatch | None = None
        # Twisted would parse forms in memory: 300 MB take 4 GB and stop the event loop
        super().__init__(channel, queued, parsePOSTFormSubmission=False)

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

    def is_early(self) -> bool:
        """Whether an answer comes before the body has: what is left of that is thrown away."""
        return self.stream is not None and not self.stream.complete

    def check_body(self) -> None:
        self.body_watch = self.body_watch or StallWatch(self.server.stall_timeout)
        is_ours_to_act = self.refused or (self.stream is not None and self.stream.holds_back)
        if self.body_watch.is_stalled(self.received, not is_ours_to_act):
            self.give_up_body()
