"""One connection of the web port under `flow.FlowServer`, from the head of a request to the closing.

It decides on a request's body before that is read, stops reading while the application is behind with one,
and closes so that the client can still read why.
"""

# mypy: disable-error-code="no-untyped-call"

from typing import Any
from urllib.parse import unquote

from cfsite.webserver.guard import GuardedChannel

LINGER_SECONDS = 5.0  # for how long a refused client may go on sending before it is reset…
LINGER_BYTES = 256 * 1024 * 1024  # …and how much of it is read and thrown away


class FlowChannel(GuardedChannel):
    _networkProducer: Any
    _path: Any  # bytes, whatever Twisted's annotation says
    _handlingRequest: bool
    _savedTimeOut: float | None = None
    lingering: int | None = None  # bytes still to be thrown away

    def request_line(self) -> tuple[bytes, bytes, bytes]:
        return self._command, self._path, self._version

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        path = unquote(self._path.partition(b"?")[0].decode("ascii", "replace"))
        request.limit = request.server.body_limit(self._command.decode("ascii", "replace"), path)
        if request.limit is not None and (self.length or 0) > request.limit:
            request.refuse()  # and no "100 Continue"
            return
        super().allHeadersReceived()
        # Of a chunked body nobody knows the length yet, and an upload has to begin with it.
        if self.length and request.server.streams_body(self._command.decode("ascii", "replace"), path):
            request.start_streaming()
        else:
            request.say_continue()

    def _send100Continue(self) -> None:
        """Twisted would say it here, before anybody has looked at the request."""
        self.requests[-1].expects_continue = True

    def allContentReceived(self) -> None:
        if self.lingering is None:
            super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        if self.lingering is None:
            super().rawDataReceived(data)
            return
        self.lingering -= len(data)
        if self.lingering <= 0:
            self._networkProducer.pauseProducing()

    def hold_back(self) -> None:
        """Read nothing, for the application is behind with a body: the silence is not the client's fault."""
        self._networkProducer.pauseProducing()
        self._savedTimeOut = self.setTimeout(None) or self._savedTimeOut

    def let_on(self) -> None:
        self._networkProducer.resumeProducing()
        if not self._handlingRequest:  # else the body is whole, and Twisted does so after the response
            self.setTimeout(self._savedTimeOut)

    def linger(self) -> None:
        """Closing with bytes unread means a reset, and the reset overtakes the answer (RFC 9112, 9.6)."""
        if self.lingering is None:
            self.lingering = LINGER_BYTES
            self.server.limiter.wait(self.transport)
            self.transport.loseWriteConnection()
            self._networkProducer.resumeProducing()  # the client may have been held back
            self.callLater(LINGER_SECONDS, self.transport.abortConnection)
