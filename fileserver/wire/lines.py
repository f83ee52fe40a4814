"""CFS/1, the lines: text and JSON become bytes, bytes become values.

The law of this room: bytes in, values out. It opens no socket, and the bytes of files never pass through it.
A request is one line, ``VERB`` or ``VERB argument`` (``verbs``); a reply is ``OK {json}`` or ``ERR {json}``
(``replies``). ``docs/protocol.md`` says it for people.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

NAME = "CFS/1"
DEFAULT_PORT = 9999
MAX_LINE_BYTES = 8192
Fields = dict[str, Any]


class ForeignProtocol(Exception):
    """The first bytes are of another protocol: the connection is cut, for a web page may be behind it."""

    def __init__(self, message: str, line: bytes) -> None:
        super().__init__(message)
        self.line = line


# --- writing

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def encode_json(value: Any) -> bytes:
    # A lone surrogate can only come from a name quoted in an error; its escape is valid JSON.
    return _ENCODER.encode(value).encode("utf-8", "backslashreplace")


def encode_line(word: str, fields: Mapping[str, Any]) -> bytes:
    return b"%s %s\n" % (word.encode("ascii"), encode_json(fields))


def bare(value: Mapping[str, Any]) -> bytes:
    """A line of JSON alone: an entry of ``LIST``, an event of ``WATCH``."""
    return encode_json(value) + b"\n"


def request_line(verb: str, **fields: Any) -> bytes:
    return encode_line(verb, fields) if fields else verb.encode("ascii") + b"\n"


# --- reading

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


def parse_object(text: str) -> Fields:
    """The JSON object in ``text``; raises ``ValueError`` for all that is not exactly one.

    json recurses in C: on a thread's small stack, refuse first what ``is_deep``.
    """
    return dict(json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant))


# An unfinished string is taken to the end: tried again from each of its quotes, a line would cost its square.
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)')


def is_deep(text: str) -> bool:
    """Whether JSON has a list in it, or an object in an object in an object."""
    bones = _STRINGS.sub("", text)
    return "[" in bones or bones.count("{") > 2


def _distinct(pairs: list[tuple[str, Any]]) -> Fields:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a field is given twice")
    return value


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")
