"""CFS/1 without I/O: lines from the wire become values, values become lines.

The law of this file: bytes in, values out. It opens no socket, and the bytes of files never pass through it.
A request is one line, ``VERB`` or ``VERB argument``; a reply is ``OK {json}`` or ``ERR {json}``. The table
``VERBS`` says what each verb takes; ``docs/protocol.md`` says it for people.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fileserver import rights
from fileserver.names import shown
from fileserver.pacing import MAX_CHUNK, MAX_PAUSE, Pace
from fileserver.rights import Right
from fileserver.wire import requests

NAME = "CFS/1"
DEFAULT_PORT = 9999
MAX_LINE_BYTES = 8192
MAX_NUMBER = 2**63 - 1
MAX_LIST = 10_000
MAX_METADATA = 4096  # characters that are kept with an upload; they must fit into a line
# The words of the protocol for the rights that the server asks for, in the order in which ``AUTH`` tells
# them.
RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "read": (rights.LIST, rights.GET),
    "write": (rights.ADD, rights.REPLACE),
    "delete": (rights.DELETE,),
    "watch": (rights.WATCH,),
    "control": (rights.CONTROL,),
}


def word_of(right: Right) -> str:
    """The word of the protocol for a right."""
    return next((word for word, asked in RIGHTS.items() if right in asked), right)


# After these the server closes: what follows on the connection cannot be trusted to be a request.
CLOSING_CODES = frozenset({"unknown-verb", "too-long", "busy", "timeout", "shutting-down"})

Fields = dict[str, Any]


class ErrorReply(Exception):
    """An ``ERR`` line: the server raises it to refuse, the client raises it when it was refused."""

    def __init__(self, code: str, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.extra = extra
        self.closes = code in CLOSING_CODES

    def line(self) -> bytes:
        return _line("ERR", {"code": self.code, "message": self.message, **self.extra})


class ForeignProtocol(Exception):
    """The first bytes are of another protocol: the connection is cut, for a web page may be behind it."""

    def __init__(self, message: str, line: bytes) -> None:
        super().__init__(message)
        self.line = line


class Request(NamedTuple):
    verb: str
    fields: requests.Fields


# --- writing ---------------------------------------------------------------------------------------------


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_quoted = json.encoder.encode_basestring  # what that encoder does with a text


def encode_json(value: Any) -> bytes:
    # A lone surrogate can only come from a name quoted in an error; its escape is valid JSON.
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")


def ok(**fields: Any) -> bytes:
    return _line("OK", fields)


def content_ok(
    id: int, name: str, size: int, mtime: float, etag: str, offset: int, length: int, sha256: str | None
) -> bytes:
    """The ``OK`` line before the bytes of a file: as ``ok`` would write it, in a third of the time."""
    line = (
        f'OK {{"id": {id}, "name": {_quoted(name)}, "size": {size}, "mtime": {mtime!r}, '
        f'"etag": {_quoted(etag)}, "offset": {offset}, "length": {length}, '
        f'"sha256": {_quoted(sha256) if sha256 else "null"}}}\n'
    )
    return line.encode()


def content_end(id: int, sent: int) -> bytes:
    return b'END {"id": %d, "sent": %d}\n' % (id, sent)


def end(**fields: Any) -> bytes:
    return _line("END", fields)


def bare(value: Mapping[str, Any]) -> bytes:
    """A line of JSON alone: an entry of ``LIST``, an event of ``WATCH``."""
    return encode_json(value) + b"\n"


def request_line(verb: str, **fields: Any) -> bytes:
    return _line(verb, fields) if fields else verb.encode("ascii") + b"\n"


def _line(word: str, fields: Mapping[str, Any]) -> bytes:
    return b"%s %s\n" % (word.encode("ascii"), encode_json(fields))


# --- reading requests ------------------------------------------------------------------------------------

_HTTP = re.compile(rb" HTTP/1\.[01]\Z")
_TLS_HELLO = b"\x16\x03"
_SSH_BANNER = b"SSH-"


def refuse_foreign(data: bytes) -> None:
    """Raise ``ForeignProtocol`` if ``data``, a line or the start of one, is HTTP, a TLS hello or SSH."""
    if _HTTP.search(data):
        message = "This port speaks CFS/1, not HTTP: open the address of the web page instead."
        raise ForeignProtocol(message, data)
    if data.startswith((_TLS_HELLO, _SSH_BANNER)):
        raise ForeignProtocol("This port speaks CFS/1, neither TLS nor SSH.", data)


def parse_request(line: bytes) -> Request:
    """Read one line without its end. Raises ``ErrorReply`` with a sentence for whoever typed it."""
    word, blank, rest = line.partition(b" ")
    name = word.decode("ascii", "replace").upper()
    verb = VERBS.get(name)
    if verb is None:
        raise ErrorReply("unknown-verb", f"There is no verb {shown(name, 24)}; HELP lists them.")
    try:
        argument = rest.decode("utf-8")
    except UnicodeDecodeError:
        raise ErrorReply("bad-request", f"The argument of {name} is not valid UTF-8.") from None
    if argument.startswith("{"):
        given = _parse_object(argument, name)
    elif argument and verb.main is None:
        raise ErrorReply("bad-request", f"{name} takes no argument.")
    else:
        given = {verb.main: argument} if verb.main and blank else {}
    return Request(name, verb.read(name, given))


def _parse_object(text: str, verb: str) -> Fields:
    # json recurses in C: on a thread's small stack a deep nest must be refused before it is parsed.
    if _deep(text):
        raise ErrorReply("bad-request", f"The JSON of {verb} is nested too deeply.")
    try:
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
    except ValueError as error:
        reason = str(error).split(":")[0][:100]
        raise ErrorReply("bad-request", f"The argument of {verb} is not a JSON object: {reason}.") from None
    return dict(value)


# An unfinished string is taken to the end: tried again from each of its quotes, a line would cost its square.
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)')


def _deep(text: str) -> bool:
    bones = _STRINGS.sub("", text)
    return "[" in bones or bones.count("{") > 2


def _distinct(pairs: list[tuple[str, Any]]) -> Fields:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field is given twice")
    return value


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


# --- what a field may hold -------------------------------------------------------------------------------

Reader = Callable[[str, Any], Any]


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ErrorReply("bad-request", f"The field '{field}' must be a text.")
    return value


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})", re.ASCII)


def _count(field: str, value: Any, most: int = MAX_NUMBER) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ErrorReply("bad-request", f"The field '{field}' must be a whole number.")
    if not 0 <= value <= most:
        raise ErrorReply("bad-range", f"The field '{field}' must be from 0 to {most}.")
    return value


def _json_count(field: str, value: Any, most: int = MAX_NUMBER) -> int:
    if isinstance(value, str):
        raise ErrorReply("bad-request", f"The field '{field}' must be a whole number.")
    return _count(field, value, most)


def _list_limit(field: str, value: Any) -> int:
    count = _json_count(field, value, MAX_LIST)
    if not count:  # a client that pages would ask for the same for ever
        raise ErrorReply("bad-range", f"The field '{field}' must be from 1 to {MAX_LIST}.")
    return count


def _pace(field: str, value: Any) -> Pace | None:
    if not isinstance(value, dict) or set(value) != {"chunk", "pause"}:
        raise ErrorReply(
            "bad-request", f'The field \'{field}\' must be null or {{"chunk": bytes, "pause": seconds}}.'
        )
    chunk = _json_count("chunk", value["chunk"], MAX_CHUNK)
    pause = value["pause"]
    if isinstance(pause, bool) or not isinstance(pause, int | float) or not math.isfinite(pause):
        raise ErrorReply("bad-request", "The field 'pause' must be a number of seconds.")
    if chunk < 1 or not 0 <= pause <= MAX_PAUSE:
        raise ErrorReply(
            "bad-range", f"A pace needs a chunk of at least 1 byte and a pause from 0 to {MAX_PAUSE:g} s."
        )
    return Pace(chunk, float(pause)) if pause else None


_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def _sha256(field: str, value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ErrorReply("bad-request", f"The field '{field}' must be 64 hexadecimal digits.")
    return value.lower()


_METADATA = re.compile(r"[ -~]*", re.ASCII)


def _metadata(field: str, value: Any) -> str:
    text = _text(field, value)
    if len(text) > MAX_METADATA or not _METADATA.fullmatch(text):
        raise ErrorReply(
            "bad-request", f"The field '{field}' must be up to {MAX_METADATA} printable ASCII characters."
        )
    return text


def _choice(*words: str) -> Reader:
    def read(field: str, value: Any) -> str:
        if value not in words:
            raise ErrorReply("bad-request", f"The field '{field}' must be one of {', '.join(words)}.")
        return str(value)

    return read


@dataclass(frozen=True, slots=True)
class Field:
    """How a field is read. A default of ``None`` also means that ``null`` may be sent."""

    read: Reader
    default: Any = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    help: str
    right: str | None = None  # one of ``RIGHTS``
    main: str | None = None
    fields: Mapping[str, Field] = field(default_factory=dict)
    request: Callable[..., requests.Fields] = requests.Nothing  # made of the fields
    one_of: tuple[str, ...] = ()  # of these, exactly one must be given
    may_block: bool = True  # before the first byte of its reply; if not, it announces by itself when it must

    def read(self, name: str, given: Fields) -> requests.Fields:
        unknown = given.keys() - self.fields.keys()
        if unknown:
            raise ErrorReply("bad-request", f"{name} has no field {shown(min(unknown), 40)}.")
        values = {}
        for key, rule in self.fields.items():
            if key in given and (given[key] is not None or rule.default is not None or rule.required):
                values[key] = rule.read(key, given[key])
            elif rule.required:
                raise ErrorReply("bad-request", f"{name} needs the field '{key}'; HELP shows how.")
            else:
                values[key] = rule.default
        if self.one_of and sum(values[key] is not None for key in self.one_of) != 1:
            raise ErrorReply(
                "bad-request", f"{name} needs either {' or '.join(self.one_of)}; HELP shows how."
            )
        return self.request(**values)


# Only the site, which proves itself with its own token, may speak for somebody else.
RELAY_FIELDS = {"client": Field(_text), "user": Field(_text), "via": Field(_choice("web"))}
_NAME = Field(_text, required=True)
_ID = Field(_count, required=True)

VERBS: Mapping[str, Verb] = {
    "PING": Verb("PING: is the server there, and how busy is it"),
    "HELP": Verb("HELP: this list"),
    "AUTH": Verb(
        "AUTH token: say who you are",
        main="token",
        fields={"token": Field(_text, required=True)},
        request=requests.Auth,
    ),
    "LIST": Verb(
        'LIST [prefix] or LIST {"prefix", "after", "limit"}: the files, sorted by name',
        "read",
        "prefix",
        {"prefix": Field(_text, ""), "after": Field(_text, ""), "limit": Field(_list_limit, 1000)},
        request=requests.List,
    ),
    "STAT": Verb(
        'STAT name or STAT {"upload"}: size, time, etag and hash of a file; how far an upload is',
        "read",
        "name",
        {"name": Field(_text), "upload": Field(_text)},
        one_of=("name", "upload"),
        request=requests.Stat,
    ),
    "GET": Verb(
        'GET name or GET {"name", "offset", "length", "etag", "pace"}: the bytes of a file',
        "read",
        "name",
        {
            "name": _NAME,
            "offset": Field(_json_count, 0),
            "length": Field(_json_count),
            "etag": Field(_text),
            "pace": Field(_pace),
            **RELAY_FIELDS,
        },
        may_block=False,  # most small files are in the system's memory
        request=requests.Get,
    ),
    "RECEIPT": Verb(
        'RECEIPT id or RECEIPT {"id", "sha256"}: I have stored all of that transfer',
        "read",
        "id",
        {"id": _ID, "sha256": Field(_sha256)},
        request=requests.Receipt,
    ),
    "PUT": Verb(
        'PUT {"name", "size", "offset", "length", "upload", "sha256", "exists", "etag", "metadata"}: then '
        "the bytes",
        "write",
        "name",
        {
            "name": _NAME,
            "size": Field(_json_count, required=True),
            "offset": Field(_json_count, 0),
            "length": Field(_json_count),
            "upload": Field(_text),
            "sha256": Field(_sha256),
            "exists": Field(_choice("fail", "replace", "rename")),
            "etag": Field(_text),
            "metadata": Field(_metadata),
            **RELAY_FIELDS,
        },
        request=requests.Put,
    ),
    "DELETE": Verb(
        'DELETE name or DELETE {"upload"} or {"name", "etag"}: remove a file; give up an upload',
        "delete",
        "name",
        {"name": Field(_text), "upload": Field(_text), "etag": Field(_text), **RELAY_FIELDS},
        one_of=("name", "upload"),
        request=requests.Delete,
    ),
    "WATCH": Verb("WATCH: everything that moves, a JSON line at a time, until you close", "watch"),
    "CANCEL": Verb(
        "CANCEL id: end a live transfer",
        "control",
        "id",
        {"id": _ID},
        request=requests.Cancel,
    ),
    "QUIT": Verb("QUIT: goodbye"),
}


# --- reading replies -------------------------------------------------------------------------------------


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
