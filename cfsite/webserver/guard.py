"""One connection of the web port up to the end of each request's head: its time, its form, and its place.

Twisted renews its time-out with each byte, so a head that comes a byte at a time would live for ever; here
its time runs from its first byte. What is wrong with it is answered with a status and a sentence, and the
connection is closed. `limiter` says whether there is a place for what has come.
"""

# mypy: disable-error-code="no-untyped-call"

from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from cfsite.webserver.heads import MAX_HEAD, MAX_LINE, MAX_LINES, BadHead, Head
from fileserver.net.address import neighbourhood

LATE_HEADS = "connections whose request did not come to its end in time"
LATE_BODIES = "connections whose request had a body that came too slowly"
DISPLACED = "connections without a request, to make room for others"
NO_PLACE = "requests for which there was no place"


def error_response(status: int, sentence: str, *, with_body: bool = True, **more: str) -> bytes:
    """A whole response of HTTP/1.1 that says one thing and closes the connection; ``more``: headers."""
    text = f"{sentence}\n".encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(text)}",
        "Cache-Control: no-store",
        "Connection: close",
        *(f"{name}: {value}" for name, value in more.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + (text if with_body else b"")


class GuardedChannel(HTTPChannel):
    """Its factory has a ``server`` with ``limiter``, ``tally`` and ``head_timeout``."""

    factory: Any
    transport: Any
    timeOut: Any  # seconds, perhaps with a fraction; None for none
    requests: list[Any]
    MAX_LENGTH = MAX_LINE
    totalHeadersSize = MAX_HEAD
    maxHeaders = MAX_LINES
    in_head = False  # a byte of a head has come, and its end has not
    rejected = False
    _timeout_between: float | None = None  # what holds outside of heads

    def linger(self) -> None:
        """Close the connection without losing what has been written."""
        raise NotImplementedError

    def connectionMade(self) -> None:
        self.server = self.factory.server
        self.head = Head()
        super().connectionMade()
        host = str(getattr(self.transport.getPeer(), "host", ""))
        host = "127.0.0.1" if self.server.is_shared(host) else neighbourhood(host)
        self.server.tally.add(DISPLACED, self.server.limiter.add(self.transport, host))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.server.limiter.remove(self.transport)
        super().connectionLost(reason)

    # From the first byte of a head to its end

    def dataReceived(self, data: bytes) -> None:
        if self.line_mode and not self.in_head:
            self.in_head = True
            self._timeout_between = self.setTimeout(self.server.head_timeout)
        super().dataReceived(data)

    def resetTimeout(self) -> None:
        if not self.in_head:
            super().resetTimeout()

    def lineReceived(self, line: bytes) -> None:
        try:
            is_whole = self.head.add(line)
        except BadHead as error:
            self.reject(error.status, error.sentence)
            return
        if not is_whole or self._has_place():
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        error = self.head.too_large()
        self.reject(error.status, error.sentence)

    def _has_place(self) -> bool:
        self.in_head = False
        self.setTimeout(self._timeout_between)
        if self.server.limiter.begin(self.transport, self.head.opens_socket):
            return True
        self.server.tally.add(NO_PLACE)
        self.reject(503, "The server has all the connections that it takes; try again in a moment.")
        return False

    def requestDone(self, request: Request) -> None:
        self.server.limiter.wait(self.transport)
        super().requestDone(request)

    # Refusals

    def reject(self, status: int, sentence: str) -> None:
        """The last words on this connection. The rest of what comes is thrown away."""
        if self.rejected:  # by one thing that is wrong, and there is another behind it
            return
        self.rejected = True
        self.in_head = False
        self.setTimeout(None)
        self.setRawMode()
        self.transport.write(
            error_response(status, sentence, with_body=self.head.method != b"HEAD"),
        )
        self.linger()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.reject(400, "The body of this request cannot be understood.")

    def timeoutConnection(self) -> None:
        if self.in_head:
            self.server.tally.add(LATE_HEADS)
            self.reject(408, f"The request did not come to its end within {self.server.head_timeout:g} s.")
        elif self.requests:
            self.requests[-1].give_up_body()
        else:
            super().timeoutConnection()

    def drop(self) -> None:
        """Close after a time-out, where nothing can be said any more."""
        super().timeoutConnection()
