"""One websocket under `flow.FlowServer`: it is read no faster than the application takes its messages.

Daphne puts whatever comes onto a queue, and never stops reading: a peer in a loop fills the memory. Here a
few messages wait for the application, and then the socket is not read. Frames that lead to no message (pings,
pieces of one) have a rate, for the same reason. A message that is too long, or in too many pieces, closes the
websocket with a code of RFC 6455, 7.4.1.

Nothing is closed for being quick: a page that asks too often is answered more slowly, by TCP's own means.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import time
from typing import Any

from daphne.server import reactor
from daphne.ws_protocol import WebSocketProtocol

from cfsite.webserver.incoming import Message
from cfsite.webserver.limiter import StallWatch
from cfsite.webserver.unsent import buffered, unsent

MAX_WAITING = 8  # messages that wait for the application
MAX_MESSAGE = 16 * 1024  # bytes; our page sends twenty
MAX_FRAGMENTS = 64  # frames of one message
FRAMES = 100  # of any kind that are taken in a period, after which the socket rests to its end
PERIOD = 1.0  # seconds
PONG_BEHIND = 64 * 1024  # bytes that wait for the peer, above which its pings have no answer

TOO_BIG, POLICY = 1009, 1008
BROKEN_LIMITS = "websockets with a message that was too long"
STALLED = "websockets whose peer read nothing more"


class FlowSocket(WebSocketProtocol):
    factory: Any
    transport: Any
    has_request = False
    fragments = 0  # frames of the message that is coming in
    frames = 0  # in this period
    period_began = 0.0  # monotonic seconds
    rest: Any = None  # the call that ends it
    paused = False
    watch: StallWatch | None = None

    def connectionMade(self) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        super().connectionMade()

    def connectionLost(self, reason: Any) -> None:
        self.factory.server_class.limiter.remove(self.transport)
        if self.rest is not None:
            self.rest.cancel()
            self.rest = None
        super().connectionLost(reason)

    # From the peer to the application

    async def receive(self) -> Message:
        message = await self.queue.get()
        self.resume()
        return message

    def must_wait(self) -> bool:
        return self.rest is not None or self.queue.qsize() >= MAX_WAITING

    def resume(self) -> None:
        if self.paused and not self.must_wait():
            self.paused = False
            self.transport.resumeProducing()
            self.consumeData()

    def dataReceived(self, data: bytes) -> None:
        if self.failedByMe:  # what still comes is thrown away until the peer has read why
            return
        if self.has_request and self.state == self.STATE_CONNECTING:
            self.transport.abortConnection()  # it may not send before it has our answer (RFC 6455, 4.1)
            return
        self.has_request = True  # Daphne passes it on first
        super().dataReceived(data)

    def processData(self) -> bool:
        """One step of Autobahn's loop over what has come: False ends the loop, and what is left stays."""
        if self.failedByMe:
            return False
        if self.must_wait():
            self.paused = True
            self.transport.pauseProducing()
            return False
        return bool(super().processData())

    def onFrameEnd(self) -> Any:
        now = time.monotonic()
        if now - self.period_began >= PERIOD:
            self.period_began, self.frames = now, 0
        self.frames += 1
        if self.frames >= FRAMES and self.rest is None:
            self.rest = reactor.callLater(self.period_began + PERIOD - now, self.end_rest)
        return super().onFrameEnd()

    def end_rest(self) -> None:
        self.rest = None
        self.resume()

    def onMessageBegin(self, is_binary: bool) -> None:
        self.fragments = 0
        super().onMessageBegin(is_binary)

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        self.fragments += 1
        if self.message_data_total_length > MAX_MESSAGE:
            self.break_off(TOO_BIG, f"A message may have {MAX_MESSAGE} bytes.")
        elif self.fragments > MAX_FRAGMENTS:
            self.break_off(POLICY, f"A message may have {MAX_FRAGMENTS} frames.")

    def break_off(self, code: int, reason: str) -> None:
        self.factory.server_class.tally.add(BROKEN_LIMITS)
        self._fail_connection(code, reason)

    def _fail_connection(self, code: int = 1001, reason: str = "going away") -> None:
        """Say why in a close frame. Whoever does not answer it within a second is dropped by Autobahn."""
        if self.state == self.STATE_OPEN:
            self.failedByMe = True
            self.wasClean = False
            self.wasNotCleanReason = reason
            self.sendCloseFrame(code=code, reasonUtf8=reason.encode()[:120], isReply=False)
        else:
            super()._fail_connection(code, reason)

    def onMessage(self, payload: bytes, is_binary: bool) -> None:
        if self.state == self.STATE_OPEN:
            super().onMessage(payload, is_binary)

    def onPing(self, payload: bytes) -> None:
        if buffered(self.transport) < PONG_BEHIND:  # RFC 6455, 5.5.3: not each has to be answered
            super().onPing(payload)

    def onClose(self, was_clean: bool, code: int | None, reason: str | None) -> None:
        """What waits is of no interest any more: the application hears at once that its peer has left."""
        waiting = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        for message in waiting:
            if message["type"] != "websocket.receive":
                self.queue.put_nowait(message)
        super().onClose(was_clean, code, reason)

    # The peer as a reader

    def check_timeouts(self) -> None:
        """Daphne asks no peer that sends for a sign of life, so one that only sends could stay for ever."""
        server = self.factory.server_class
        self.watch = self.watch or StallWatch(server.stall_timeout)
        waiting = unsent(self.transport)
        if self.watch.is_stalled(self.trafficStats.outgoingOctetsWireLevel - waiting, waiting > 0):
            server.tally.add(STALLED)
            self.transport.abortConnection()
        else:
            super().check_timeouts()
