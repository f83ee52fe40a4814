"""Direct downloads: ``GET`` and ``HEAD`` of ``/get/<ticket>/<name>`` over HTTP/1.1 (RFC 9112), no more.

A browser that the site has given a ticket fetches its bytes here by itself. ``authorize`` says what a ticket
is good for. Who opens this port's address in a browser is sent to the page. Any web page can make a browser
send requests to this port, so whatever is not exactly as expected is answered with one sentence and cut off:
no body is read, and no line of it becomes a verb.
"""

import logging
import time

from fileserver.names import composed, shown
from fileserver.net.stall import PeerGone, Stalled
from fileserver.rights import GET, Principal, Ticket
from fileserver.sessions.peer import Peer
from fileserver.storage.base import Content
from fileserver.transfers.copying import FileChanged, send
from fileserver.transfers.transfer import Stopped, Transfer
from fileserver.wire.http import (
    MAX_HEAD_BYTES,
    MAX_HEADER_LINES,
    PRESENCE_HEADERS,
    STATUS_OF_CODE,
    Refused,
    Request,
    file_headers,
    head_of,
    is_direct,
    parse_head,
    sentence_of,
    turned_away,
)
from fileserver.wire.replies import ErrorReply
from fileserver.wire.selection import Selection, select

log = logging.getLogger(__name__)


def _anything(line: bytes) -> None:
    """No line is foreign here: what is wrong with one is said in HTTP."""


class HttpConversation:
    """All requests over HTTP on one connection."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._connection = peer.connection
        self._context = peer.context

    def run(self, line: bytes) -> None:
        """Answer the request that begins with ``line``, and those behind it, until either side is done."""
        lines = [line]
        while self._answer_http(lines):
            if self._peer.is_stopping or not self._connection.has_input(self._context.limits.keep_alive):
                return
            lines = []

    def _answer_http(self, lines: list[bytes]) -> bool:
        """Whether another request may follow. ``lines``: what has been read of this one."""
        try:
            # To check a ticket takes longer than most requests: after each, the others have their turns.
            self._connection.expect_to_block()
            self._read_head(lines)
            self._connection.begin_request()
            if not (self._context.options.direct and lines and is_direct(lines[0])):
                raise turned_away(lines, self._context.options.page_url())
            request = parse_head(lines)
            return self._serve(request) and not request.closes
        except Refused as refusal:
            self._refuse(lines, refusal)
        except ErrorReply as error:
            self._refuse(lines, Refused(STATUS_OF_CODE.get(error.code, 500), error.message))
        except (PeerGone, Stalled):
            raise
        except Exception:
            log.exception("a request over HTTP failed")
            self._refuse(lines, Refused(500, "The server made a mistake; its log says more."))
        return False

    def _read_head(self, lines: list[bytes]) -> None:
        """Add the lines of the head up to the empty one; all of it has the time and the room of one limit."""
        seconds = self._context.limits.line
        deadline = time.monotonic() + seconds
        while line := self._next_head_line(deadline, is_first=not lines):
            lines.append(line)
            if len(lines) > 1 + MAX_HEADER_LINES or sum(map(len, lines)) > MAX_HEAD_BYTES:
                raise Refused(431, "The header of the request is too large.")

    def _next_head_line(self, deadline: float, is_first: bool) -> bytes:
        left = max(0.0, deadline - time.monotonic())
        try:
            line = self._connection.read_line(left, left, _anything)
        except ErrorReply as error:
            self._peer.check_stopping()  # else it broke off because we stopped reading
            if error.code == "timeout":
                raise Refused(408, "The request did not come to its end in time.") from None
            if error.code == "too-long":
                raise Refused(431, error.message) from None
            raise
        if line is None:
            if not is_first:  # who has asked for nothing is told nothing
                self._peer.check_stopping()
            raise PeerGone("The other side has no more requests.")
        return line

    def _refuse(self, lines: list[bytes], refusal: Refused) -> None:
        is_head = bool(lines) and lines[0].startswith(b"HEAD ")
        self._connection.send(sentence_of(refusal, with_body=not is_head))

    # --- one request

    def _serve(self, request: Request) -> bool:
        """Whether all was sent that was promised."""
        self._peer.check_stopping()
        holder, ticket = self._redeem(request)
        if not request.name:
            self._connection.send(head_of(204, PRESENCE_HEADERS))
            return False
        with self._context.opener.open(request.name) as file:
            found = _select(request, file)
            head = head_of(found.status, _headers_for(request, file, found))
            if request.method == "GET" and found.status in (200, 206):
                with self._connection.breakable():
                    transfer = self._begin(file, found, holder, ticket)
                    return self._send_file(file, transfer, head)
        self._connection.send(head)
        return True

    def _begin(self, file: Content, found: Selection, holder: Principal, ticket: Ticket) -> Transfer:
        span = (file.size, found.offset, found.length)
        pace = self._peer.allowed_pace(ticket.pace)
        return self._peer.start_ticketed(file.name, span, pace, holder)

    def _redeem(self, request: Request) -> tuple[Principal, Ticket]:
        """Who has this ticket, and what it is good for. Raises ``Refused``."""
        access, found = (
            self._context.access,
            self._context.access.authenticate(request.ticket, self._peer.host),
        )
        ticket = found.ticket if found else None
        if found is None or ticket is None or ticket.name != request.name:
            sentence = "This link is not valid, or not any more; go back to the page and click again."
            raise Refused(403, sentence)
        if ticket.name and not access.may(found, GET, composed(ticket.name)):
            raise Refused(403, f"{shown(ticket.name)} may not be downloaded any more.")
        return found, ticket

    def _send_file(self, file: Content, transfer: Transfer, head: bytes) -> bool:
        try:
            send(self._connection, file, transfer, head)
            transfer.control.settle()
        except BaseException as error:
            if not isinstance(error, ErrorReply | PeerGone | Stalled | Stopped | FileChanged):
                log.exception("%s could not be sent", shown(file.name))
            # Bytes are promised, and only a break says to every browser that they will not come.
            self._connection.reset()
            self._peer.end(transfer, error)
            return False
        self._peer.end(transfer)
        return True


def _headers_for(request: Request, file: Content, found: Selection) -> dict[str, str]:
    headers = file_headers(file.name, file.etag, file.mtime)
    if found.status == 304:
        del headers["Content-Type"]  # it is about what the browser has, and that has its type
    else:
        headers["Content-Length"] = str(found.length)
    if found.status == 206:
        headers["Content-Range"] = found.content_range(file.size)
    if request.closes:
        headers["Connection"] = "close"
    return headers


def _select(request: Request, file: Content) -> Selection:
    found = select(request.method, request.headers, etag=file.etag, mtime=file.mtime, size=file.size)
    if found.status == 412:
        raise Refused(412, f"{shown(file.name)} is not in the state that was asked for.")
    if found.status == 416:
        complaint = f"{shown(file.name)} has only {file.size} bytes."
        raise Refused(416, complaint, Content_Range=found.content_range(file.size))
    return found
