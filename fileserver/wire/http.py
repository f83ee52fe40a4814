"""HTTP/1.1 without I/O: the head of a request becomes values, values become the head of an answer (RFC 9112).

Only what a direct download needs: ``GET`` and ``HEAD`` of ``/get/<ticket>/<name>``. Whatever is not exactly
as expected is ``Refused``. No socket is opened here; the conversation is in ``sessions/http``.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import quote, unquote_to_bytes

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

# What each code of the protocol is over HTTP.
STATUS_OF_CODE = {
    "bad-request": 400,
    "bad-name": 400,
    "too-long": 400,
    "auth-required": 401,
    "denied": 403,
    "not-found": 404,
    "not-a-file": 404,
    "not-running": 404,
    "exists": 409,
    "offset": 409,
    "changed": 412,
    "too-large": 413,
    "bad-range": 416,
    "checksum": 422,
    "internal": 500,
    "unknown-verb": 501,
    "busy": 503,
    "shutting-down": 503,
    "timeout": 503,
    "unavailable": 503,
    "no-space": 507,
    "quota": 507,
}
_COMMON = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}
SENTENCE_HEADERS = {
    **_COMMON,
    "Content-Type": "text/plain; charset=utf-8",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",
}
# The page of another origin may read this answer, if it has a ticket: it says that the server is here.
PRESENCE_HEADERS = {
    **_COMMON,
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "no-store",
    "Connection": "close",  # a page asks once: its thread need not wait for more
}


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
    """Whether a request line of HTTP asks for a download, ``/get/…``."""
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
        # A blank at the beginning would continue the line before; one before the colon would hide a header.
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


def sentence_of(refusal: Refused, with_body: bool = True) -> bytes:
    """The whole answer with which a request is refused."""
    body = f"{refusal}\n".encode("utf-8", "replace")
    headers = {**SENTENCE_HEADERS, **refusal.headers, "Content-Length": str(len(body))}
    return head_of(refusal.status, headers) + (body if with_body else b"")


def date_text(seconds: float) -> str:
    """Unix time as HTTP writes it, the nearest date that it knows."""
    return formatdate(math.floor(min(max(0, seconds), _LAST_DATE)), usegmt=True)


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
        "Last-Modified": date_text(mtime),
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
