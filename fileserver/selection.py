"""Which bytes of a file an HTTP request asks for: conditions (RFC 9110, section 13) and ranges (section 14).

For the straight downloads of the server and for the relayed ones of the site: one rule, two callers.
"""

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate

_RANGE = re.compile(r"\s*(\d{0,19})-(\d{0,19})\s*", re.ASCII)
_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


@dataclass(frozen=True, slots=True)
class Selection:
    """``status`` is 200, 206, 304, 412 or 416; only with the first two there are bytes to send."""

    status: int
    offset: int = 0
    length: int = 0


def select(method: str, headers: Mapping[str, str], *, etag: str, mtime: float, size: int) -> Selection:
    """What a ``GET`` or ``HEAD`` with these ``headers`` (names in lower case) is answered.

    ``etag`` comes without quotes and is strong; ``mtime`` is in Unix seconds. The order of the conditions is
    that of RFC 9110, section 13.2.2. A range that cannot be read is ignored, as the RFC asks, and so are
    several ranges at once, which it allows: then the whole file is the answer.
    """
    modified = int(mtime)  # HTTP's dates have whole seconds
    if "if-match" in headers:
        if not _lists(headers["if-match"], etag, weakly=False):
            return Selection(412)
    elif _is_after(modified, headers.get("if-unmodified-since")):
        return Selection(412)
    if "if-none-match" in headers:
        if _lists(headers["if-none-match"], etag, weakly=True):
            return Selection(304)
    elif _is_after(modified, headers.get("if-modified-since")) is False:
        return Selection(304)
    if method == "GET" and "range" in headers and _is_same(headers.get("if-range"), etag, modified):
        return _ranged(headers["range"], size)
    return Selection(200, 0, size)


def _lists(value: str, etag: str, weakly: bool) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` names this state of the file."""
    if value.strip() == "*":
        return True
    return any(found == etag and (weakly or not weak) for weak, found in _ETAG.findall(value))


def _is_after(modified: int, date: str | None) -> bool | None:
    """``None`` where there is no date, or none that can be read: such a header is ignored."""
    limit = _seconds(date)
    return None if limit is None else modified > limit


def _is_same(if_range: str | None, etag: str, modified: int) -> bool:
    if if_range is None:
        return True
    given = if_range.strip()
    if _ETAG.fullmatch(given):
        return given == f'"{etag}"'
    return _seconds(given) == modified


def _seconds(date: str | None) -> int | None:
    try:
        parsed = parsedate(date) if date else None
        return calendar.timegm(parsed) if parsed else None
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _ranged(value: str, size: int) -> Selection:
    unit, _, given = value.partition("=")
    ranges = [part for part in given.split(",") if part.strip()]
    found = _RANGE.fullmatch(ranges[0]) if len(ranges) == 1 else None
    whole = Selection(200, 0, size)
    if unit.strip().lower() != "bytes" or found is None or found.group(0).strip() == "-":
        return whole
    first, last = found.groups()
    if not first:  # the last so many
        length = min(int(last), size)
        return Selection(206, size - length, length) if length else Selection(416)
    if last and int(last) < int(first):
        return whole
    if int(first) >= size:
        return Selection(416)
    stop = min(int(last) + 1, size) if last else size
    return Selection(206, int(first), stop - int(first))
