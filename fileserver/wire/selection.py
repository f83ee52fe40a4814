"""Which bytes of a file an HTTP request asks for: conditions (RFC 9110, section 13) and ranges (section 14).

For the direct downloads of the server and for the relayed ones of the site: one rule, two callers.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

_BLANKS = " \t"
# One range, perhaps among empty elements of the list. ``int`` refuses thousands of digits, so we do.
_RANGE = re.compile(r"bytes=[ \t,]*(\d{0,999})-(\d{0,999})[ \t,]*", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TIME = r"(?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d|60)"
# Section 5.6.7: the date as it must be sent today, and the two older forms that must be understood.
_DATES = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_TIME} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]+day, (?P<day>\d\d)-(?P<month>\w{{3}})-(?P<year>\d\d) {_TIME} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]{{2}} (?P<month>\w{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})", re.ASCII),
)


@dataclass(frozen=True, slots=True)
class Selection:
    """``status`` is 200, 206, 304, 412 or 416; only with the first two there are bytes to send."""

    status: int
    offset: int = 0
    length: int = 0

    def content_range(self, size: int) -> str:
        """The ``Content-Range`` that a 206 or 416 for a file of ``size`` bytes has."""
        if self.status == 416:
            return f"bytes */{size}"
        return f"bytes {self.offset}-{self.offset + self.length - 1}/{size}"


def select(method: str, headers: Mapping[str, str], *, etag: str, mtime: float, size: int) -> Selection:
    """What a ``GET`` or ``HEAD`` with these ``headers`` (names in lower case) is answered.

    ``etag`` comes without quotes and is strong; ``mtime`` is in Unix seconds. The order of the conditions is
    that of RFC 9110, section 13.2.2. A range that cannot be read is ignored, as the RFC asks, and so are
    several ranges at once, which it allows: then the whole file is the answer.
    """
    modified = math.floor(mtime)  # HTTP's dates have whole seconds
    if not _is_the_state(headers, etag, modified):
        return Selection(412)
    if "if-none-match" in headers:
        if _lists(headers["if-none-match"], etag, weakly=True):
            return Selection(304)
    elif _is_after(modified, headers.get("if-modified-since")) is False:
        return Selection(304)
    # Ranges are defined for GET alone (section 14.2).
    if method == "GET" and "range" in headers and _is_same(headers.get("if-range"), etag, modified):
        return _ranged(headers["range"], size)
    return Selection(200, 0, size)


def permits(headers: Mapping[str, str], *, etag: str | None, mtime: float = 0.0) -> bool:
    """Whether a ``PUT`` or ``DELETE`` with these ``headers`` may change a file; if not, it is answered 412.

    ``etag`` and ``mtime`` as for ``select``; an ``etag`` of ``None``: there is no file of that name.
    """
    if etag is None:  # no state of it is named rightly, and each "none of these" holds
        return "if-match" not in headers
    if not _is_the_state(headers, etag, math.floor(mtime)):
        return False
    return "if-none-match" not in headers or not _lists(headers["if-none-match"], etag, weakly=True)


def names_any(value: str) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` names whatever there is."""
    return value.strip(_BLANKS) == "*"


# --- conditions


def _is_the_state(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    """The first two steps of section 13.2.2; an etag makes its date superfluous."""
    if "if-match" in headers:
        return _lists(headers["if-match"], etag, weakly=False)
    return not _is_after(modified, headers.get("if-unmodified-since"))


def _lists(value: str, etag: str, weakly: bool) -> bool:
    """Whether an ``If-Match`` or ``If-None-Match`` names this state of the file; what is no list does not."""
    if names_any(value):
        return True
    if _ETAG.sub("", value).strip(_BLANKS + ","):
        return False
    return any(found == etag and (weakly or not weak) for weak, found in _ETAG.findall(value))


def _is_after(modified: int, date: str | None) -> bool | None:
    """``None`` where there is no date, or none that can be read: such a header is ignored."""
    limit = None if date is None else _seconds(date)
    return None if limit is None else modified > limit


def _is_same(if_range: str | None, etag: str, modified: int) -> bool:
    """A weak etag is never the same enough for a range, and a date only if it is exactly that of the file."""
    if if_range is None:
        return True
    given = if_range.strip(_BLANKS)
    return given == f'"{etag}"' or _seconds(given) == modified


def _seconds(date: str) -> int | None:
    """Unix seconds of an HTTP date, ``None`` if it is none."""
    found = next(filter(None, (form.fullmatch(date.strip(_BLANKS)) for form in _DATES)), None)
    if found is None:
        return None
    try:
        month = _MONTHS.index(found["month"]) + 1
        midnight = datetime(_year(found["year"]), month, int(found["day"]), tzinfo=UTC)
    except ValueError:  # no such month, or no such day in it
        return None
    # Added, for the second of a leap minute may be the 60th.
    time_of_day = 3600 * int(found["hour"]) + 60 * int(found["minute"]) + int(found["second"])
    return int(midnight.timestamp()) + time_of_day


def _year(digits: str) -> int:
    """Of two digits that would be more than fifty years ahead the past is meant."""
    if len(digits) == 4:
        return int(digits)
    now = datetime.now(UTC).year
    year = now - now % 100 + int(digits)
    return year - 100 if year > now + 50 else year


# --- ranges


def _ranged(value: str, size: int) -> Selection:
    whole = Selection(200, 0, size)
    found = _RANGE.fullmatch(value.strip(_BLANKS))
    if found is None:
        return whole
    first, last = found.groups()
    if not first:
        return _suffix(int(last), size) if last else whole
    if last and int(last) < int(first):
        return whole
    if int(first) >= size:
        return Selection(416)
    stop = min(int(last) + 1, size) if last else size
    return Selection(206, int(first), stop - int(first))


def _suffix(length: int, size: int) -> Selection:
    """The last ``length`` bytes, or all if there are fewer."""
    if not length:
        return Selection(416)
    if not size:  # satisfiable by section 14.1.2, but Content-Range has no words for no bytes
        return Selection(200)
    return Selection(206, max(0, size - length), min(length, size))
