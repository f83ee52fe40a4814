"""Direct downloads: ``GET`` and ``HEAD`` of ``/get/<ticket>/<name>`` over HTTP/1.1 (RFC 9112), no more.

A browser that the site has given a ticket fetches its bytes here by itself. ``authorize`` says what a ticket
is good for. Who opens this port's address in a browser is sent to the page. Any web page can make a browser
send requests to this port, so whatever is not exactly as expected is answered with one sentence and cut off:
no body is read, and no line of it becomes a verb.
"""

import logging
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import quote, unquote_to_bytes

from fileserver.context import Grant, Ticket
from fileserver.names import shown
from fileserver.net.connection import PeerGone, Stalled
from fileserver.pacing import Pace
from fileserver.sessions.base import Handler
from fileserver.storage.base import Content
from fileserver.transfers.copying import FileChanged, send
from fileserver.transfers.registry import Stopped, Transfer
from fileserver.wire.selection import Selection, select
from fileserver.wire.verbs import ErrorReply

log = logging.getLogger(__name__)

MAX_HEADER_LINES = 64
MAX_HEAD_BYTES = 32 * 1024  # all lines of a request together; each has the limit of a line besides

# What follows the verb begins as no name of a file does, and no JSON.
_HTTP = re.compile(rb"[!-~]+ (?:/|\*|[A-Za-z]+://).* HTTP/1\.[01]", re.DOTALL)
_LINE = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.([01])")
_DIRECT = re.compile(rb"[!-~]+ /get/")
_REQUEST = re.compile(rb"([!-~]+) /get/([!-.0-~]+)/([!-~]*) HTTP/1\.([01])")
_FIELD_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LAST_DATE = 253_402_300_799  # the end of the year 9999: HTTP's dates have four digits

STATUSES = {
    "bad-name": 400,
    "bad-request": 400,
    "denied": 403,
    "not-found": 404,
    "not-a-file": 404,
    "timeout": 408,
    "too-long": 431,
    "shutting-down": 503,
    "unavailable": 503,
}
_COMMON = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
_SENTENCE = {
    **_COMMON,
    "Content-Type": "text/plain; charset=utf-8",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}
# The page of another origin may see this, if it has a ticket: so it knows us from others on this port.
_HERE = {
    **_COMMON,
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "no-store",
    "Connection": "close",  # a page asks once: its thread need not wait for more
}


# --- bytes to values and back


class Refused(Exception):
    """A request that gets one sentence, after which the connection is closed."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    ticket: str
    name: str
    headers: Mapping[str, str]  # names in lower case
    closes: bool  # nothing will follow on this connection


def is_http(line: bytes) -> bool:
    """Whether ``line`` looks like a request line of HTTP, well-formed or not: it is answered in HTTP."""
    return _HTTP.fullmatch(line) is not None


def is_direct(line: bytes) -> bool:
    """Whether a request line of HTTP asks for what this module has."""
    return _DIRECT.match(line) is not None


def parse_head(lines: list[bytes]) -> Request:
    """A request from its lines, without their ends. Raises ``Refused``."""
    found = _REQUEST.fullmatch(lines[0]) if lines else None
    if found is None:
        raise Refused(400, "This port answers GET and HEAD of /get/<ticket>/<name> only.")
    method, ticket, path, minor = found.groups()
    headers = _checked_headers(method, minor, lines[1:])
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    return Request(
        method.decode(), ticket.decode(), _name_of(path), headers, minor == b"0" or "close" in options
    )


def turned_away(lines: list[bytes], page_url: str | None) -> Refused:
    """The answer to a request that is for no download: it says where the page is.

    ``lines`` as in ``parse_head``; ``page_url``, if it is known, is where ``GET /`` is redirected to. Raises
    ``Refused`` for what is wrong with any request.
    """
    found = _LINE.fullmatch(lines[0]) if lines else None
    if found is None:
        return Refused(400, "This request cannot be understood.")
    method, target, minor = found.groups()
    _checked_headers(method, minor, lines[1:])
    # Always this address, never one made of what the request says: the way must not lead to anywhere else.
    if page_url is None:
        return Refused(404, "This is the port of the file server, which has no pages: open that of the site.")
    sentence = f"The page is at {page_url}; this is the port of the file server."
    return Refused(303, sentence, Location=page_url) if target == b"/" else Refused(404, sentence)


def _checked_headers(method: bytes, minor: bytes, lines: list[bytes]) -> dict[str, str]:
    if method not in (b"GET", b"HEAD"):
        raise Refused(405, "Only GET and HEAD are possible here.", Allow="GET, HEAD")
    headers = _headers_of(lines)
    if headers.keys() & {"content-length", "transfer-encoding"}:
        raise Refused(400, "A request here has no body.")
    if "host" not in headers and minor == b"1":
        raise Refused(400, "The header Host is missing.")
    return headers


def _headers_of(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, rest = line.partition(b":")
        # A blank at the beginning would go on with the line before, one before the colon hide a header.
        if not colon or not _FIELD_NAME.fullmatch(name) or _CONTROL.search(rest):
            raise Refused(400, "A line of the request's header cannot be understood.")
        key, value = name.decode().lower(), rest.strip(b" \t").decode("latin-1")
        if key == "host" and key in headers:
            raise Refused(400, "The header Host is given twice.")
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def _name_of(path: bytes) -> str:
    try:
        return unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(400, "The name in the address is not valid UTF-8.") from None


def head_of(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Date: {formatdate(usegmt=True)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def file_headers(name: str, etag: str, mtime: float) -> dict[str, str]:
    """What every user's file is sent with: it is kept as a file, and never runs as a page."""
    return {
        **_COMMON,
        "Content-Type": "application/octet-stream",
        "Content-Disposition": content_disposition(name),
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",  # from a cache, three tabs would get one transfer
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        "Last-Modified": formatdate(min(max(0, math.floor(mtime)), _LAST_DATE), usegmt=True),
    }


def content_disposition(name: str) -> str:
    """``attachment``, with the last part of ``name`` (RFC 6266; RFC 8187 for what is not ASCII)."""
    last_part = name.rpartition("/")[2]
    encoded = f"filename*=utf-8''{quote(last_part)}"
    if not (last_part.isascii() and last_part.isprintable()):
        return f"attachment; {encoded}"
    escaped = last_part.replace("\\", "\\\\").replace('"', '\\"')
    plain = f'attachment; filename="{escaped}"'
    # Some browsers decode this in a plain name (RFC 6266, appendix D); all of them prefer the encoded one.
    return f"{plain}; {encoded}" if _ESCAPE.search(last_part) else plain


# --- the conversation


def _anything(line: bytes) -> None:
    """No line is foreign here: what is wrong with one is said in HTTP."""


class DirectDownloads(Handler):
    def converse_http(self, line: bytes) -> None:
        """Answer the request that begins with ``line``, and those behind it, until either side is done."""
        lines = [line]
        while self._answer_http(lines):
            if self._stopping or not self.connection.has_input(self.context.limits.keep_alive):
                return
            lines = []

    def _answer_http(self, lines: list[bytes]) -> bool:
        """Whether another request may follow. ``lines``: what has been read of this one."""
        try:
            # To check a ticket takes longer than most requests: after each, the others have their turns.
            self.connection.expect_to_block()
            self._read_head(lines)
            self.connection.begin_request()
            if not (self.context.options.direct and lines and is_direct(lines[0])):
                raise turned_away(lines, self.context.options.page_url)
            request = parse_head(lines)
            return self._serve(request) and not request.closes
        except Refused as refusal:
            self._refuse(lines, refusal)
        except ErrorReply as error:
            self._refuse(lines, Refused(STATUSES.get(error.code, 500), error.message))
        except (PeerGone, Stalled):
            raise
        except Exception:
            log.exception("a request over HTTP failed")
            self._refuse(lines, Refused(500, "The server made a mistake; its log says more."))
        return False

    def _read_head(self, lines: list[bytes]) -> None:
        """Add the lines of the head up to the empty one; all of it has the time and the room of one limit."""
        seconds = self.context.limits.line
        deadline = time.monotonic() + seconds
        while line := self._next_head_line(deadline, is_first=not lines):
            lines.append(line)
            if len(lines) > 1 + MAX_HEADER_LINES or sum(map(len, lines)) > MAX_HEAD_BYTES:
                raise Refused(431, "The header of the request is too large.")

    def _next_head_line(self, deadline: float, is_first: bool) -> bytes:
        left = max(0.0, deadline - time.monotonic())
        try:
            line = self.connection.read_line(left, left, _anything)
        except ErrorReply as error:
            self._check_stopping()  # else it broke off because we stopped reading
            if error.code == "timeout":
                raise Refused(408, "The request did not come to its end in time.") from None
            raise
        if line is None:
            if not is_first:  # who has asked for nothing is told nothing
                self._check_stopping()
            raise PeerGone("The other side has no more requests.")
        return line

    def _refuse(self, lines: list[bytes], refusal: Refused) -> None:
        body = f"{refusal}\n".encode("utf-8", "replace")
        head = head_of(refusal.status, {**_SENTENCE, **refusal.headers, "Content-Length": str(len(body))})
        is_head = bool(lines) and lines[0].startswith(b"HEAD ")
        self.connection.send(head if is_head else head + body)

    # --- one request

    def _serve(self, request: Request) -> bool:
        """Whether all was sent that was promised."""
        self._check_stopping()
        grant, ticket = self._redeem(request)
        if not request.name:
            self.connection.send(head_of(204, _HERE))
            return False
        with self.context.opener.open(request.name) as file:
            found = _select(request, file)
            head = head_of(found.status, _headers_for(request, file, found))
            if request.method == "GET" and found.status in (200, 206):
                with self.connection.breakable():
                    return self._send_file(file, self._begin(file, found, grant.user, ticket.pace), head)
        self.connection.send(head)
        return True

    def _begin(self, file: Content, found: Selection, user: str | None, pace: Pace | None) -> Transfer:
        ask = {"name": file.name, "client": None, "user": user, "via": "web"}
        facts = {"size": file.size, "offset": found.offset, "length": found.length}
        wake = self.connection.break_off
        return self._start("download", ask, wake, pace=self._allowed_pace(pace), **facts)

    def _redeem(self, request: Request) -> tuple[Grant, Ticket]:
        grant = self.context.authorize(request.ticket, self.host)
        if grant is None or grant.ticket is None or grant.ticket.name != request.name:
            sentence = "This link is not valid, or not any more; go back to the page and click again."
            raise Refused(403, sentence)
        return grant, grant.ticket

    def _send_file(self, file: Content, transfer: Transfer, head: bytes) -> bool:
        try:
            send(self.connection, file, transfer, head)
            if reason := transfer.close():  # somebody was quicker by a hair
                raise Stopped(reason)
        except BaseException as error:
            if not isinstance(error, ErrorReply | PeerGone | Stalled | Stopped | FileChanged):
                log.exception("%s could not be sent", shown(file.name))
            # Bytes are promised, and only a break says to every browser that they will not come.
            self.connection.reset()
            self._end(transfer, error)
            return False
        self._end(transfer)
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
