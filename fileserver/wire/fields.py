"""What a field of a request may hold: a reader for each kind of value, which refuses all others."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from fileserver.pacing import MAX_CHUNK, MAX_PAUSE, Pace
from fileserver.rights import Kind
from fileserver.wire.replies import ErrorReply

MAX_NUMBER = 2**63 - 1
MAX_LIST = 10_000
MAX_METADATA = 4096  # characters that are kept with an upload; they must fit into a line

Reader = Callable[[str, Any], Any]


def text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ErrorReply("bad-request", f"The field '{field}' must be a text.")
    return value


_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,999})", re.ASCII)


def count(field: str, value: Any, most: int = MAX_NUMBER) -> int:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ErrorReply("bad-request", f"The field '{field}' must be a whole number.")
    if not 0 <= value <= most:
        raise ErrorReply("bad-range", f"The field '{field}' must be from 0 to {most}.")
    return value


def json_count(field: str, value: Any, most: int = MAX_NUMBER) -> int:
    if isinstance(value, str):
        raise ErrorReply("bad-request", f"The field '{field}' must be a whole number.")
    return count(field, value, most)


def flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ErrorReply("bad-request", f"The field '{field}' must be true or false.")
    return value


def list_limit(field: str, value: Any) -> int:
    count = json_count(field, value, MAX_LIST)
    if not count:  # a client that pages would ask for the same for ever
        raise ErrorReply("bad-range", f"The field '{field}' must be from 1 to {MAX_LIST}.")
    return count


def pace(field: str, value: Any) -> Pace | None:
    if not isinstance(value, dict) or set(value) != {"chunk", "pause"}:
        raise ErrorReply(
            "bad-request", f'The field \'{field}\' must be null or {{"chunk": bytes, "pause": seconds}}.'
        )
    chunk = json_count("chunk", value["chunk"], MAX_CHUNK)
    pause = value["pause"]
    if isinstance(pause, bool) or not isinstance(pause, int | float) or not math.isfinite(pause):
        raise ErrorReply("bad-request", "The field 'pause' must be a number of seconds.")
    if chunk < 1 or not 0 <= pause <= MAX_PAUSE:
        raise ErrorReply(
            "bad-range", f"A pace needs a chunk of at least 1 byte and a pause from 0 to {MAX_PAUSE:g} s."
        )
    return Pace(chunk, float(pause)) if pause else None


_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)


def sha256(field: str, value: Any) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ErrorReply("bad-request", f"The field '{field}' must be 64 hexadecimal digits.")
    return value.lower()


_PRINCIPAL = re.compile(r"local|guest|(?:user|token|link):[1-9][0-9]{0,17}", re.ASCII)


def principal(field: str, value: Any) -> tuple[Kind, int]:
    """Kind and key of somebody for whom a relay speaks."""
    if not isinstance(value, str) or not _PRINCIPAL.fullmatch(value):
        message = f"The field '{field}' must be local, guest, or user, token or link with a colon and a key."
        raise ErrorReply("bad-request", message)
    kind, _, key = value.partition(":")
    return cast(Kind, kind), int(key or 0)


_METADATA = re.compile(r"[ -~]*", re.ASCII)


def metadata(field: str, value: Any) -> str:
    given = text(field, value)
    if len(given) > MAX_METADATA or not _METADATA.fullmatch(given):
        raise ErrorReply(
            "bad-request", f"The field '{field}' must be up to {MAX_METADATA} printable ASCII characters."
        )
    return given


def choice(*words: str) -> Reader:
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
