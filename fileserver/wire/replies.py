"""What the server answers, written and read: ``OK``, ``END`` and ``ERR`` lines."""

import json
from typing import Any, Protocol

from fileserver.wire.lines import Fields, encode_line

# After these the server closes: what follows on the connection cannot be trusted to be a request.
CLOSING_CODES = frozenset({"unknown-verb", "too-long", "busy", "timeout", "shutting-down"})


class ErrorReply(Exception):
    """An ``ERR`` line: the server raises it to refuse, the client raises it when it was refused."""

    def __init__(self, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.extra = extra
        self.closes = code in CLOSING_CODES

    def line(self) -> bytes:
        return encode_line("ERR", {"code": self.code, "message": self.message, **self.extra})


def over_quota(message: str) -> ErrorReply:
    """For whoever decides about quotas (``Access.reserve``), which the server itself knows nothing of."""
    return ErrorReply("quota", message)


# --- writing

_quoted = json.encoder.encode_basestring  # what ``encode_json`` does with a text


def ok(**fields: Any) -> bytes:
    return encode_line("OK", fields)


class FileFacts(Protocol):
    """What a reply says of the file whose bytes follow."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def mtime(self) -> float: ...

    @property
    def etag(self) -> str: ...


def content_ok(id: int, file: FileFacts, offset: int, length: int, sha256: str | None) -> bytes:
    """The ``OK`` line before the bytes of a file: as ``ok`` would write it, in a third of the time."""
    line = (
        f'OK {{"id": {id}, "name": {_quoted(file.name)}, "size": {file.size}, "mtime": {file.mtime!r}, '
        f'"etag": {_quoted(file.etag)}, "offset": {offset}, "length": {length}, '
        f'"sha256": {_quoted(sha256) if sha256 else "null"}}}\n'
    )
    return line.encode()


def content_end(id: int, sent: int) -> bytes:
    return b'END {"id": %d, "sent": %d}\n' % (id, sent)


def end(**fields: Any) -> bytes:
    return encode_line("END", fields)


# --- reading


class BadReply(Exception):
    """The other side does not speak CFS/1."""


def parse_reply(line: bytes) -> Fields:
    """The fields of an ``OK`` or ``END`` line. Raises ``ErrorReply`` for ``ERR``, else ``BadReply``."""
    word, _, rest = line.partition(b" ")
    if word not in (b"OK", b"END", b"ERR"):
        raise BadReply("The other side does not answer as a CFS/1 server does.")
    fields = parse_bare(rest)
    if word != b"ERR":
        return fields
    code, message = str(fields.pop("code", "internal")), str(fields.pop("message", "No reason was given."))
    raise ErrorReply(code, message, **fields)


def parse_bare(line: bytes) -> Fields:
    try:
        value = json.loads(line)
    except ValueError:
        raise BadReply("The other side sent a line that is not JSON.") from None
    if not isinstance(value, dict):
        raise BadReply("The other side sent a line that is not a JSON object.")
    return value
