"""Unix time as dates."""

from datetime import UTC, datetime

FIRST = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)  # a day before the calendar ends: every time zone can show it


def to_datetime(seconds: float) -> datetime:
    """Unix time as a date, the nearest one there is: a file may be dated to any year."""
    return datetime.fromtimestamp(min(max(FIRST.timestamp(), seconds), LAST.timestamp()), UTC)
