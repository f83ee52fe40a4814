"""What is wrong with the database, in a sentence, wherever it shows: in the log, on a page, in a command."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, OperationalError, connection

ANEW = "Stop the servers, put a backup in its place or remove it, with its -wal and -shm, and start again"
# What SQLite says (a number) or PostgreSQL (a state), and what to do.
_SENTENCES: dict[int | str, str] = {
    "25006": "The database {name} is read-only now. Make it writable, or set DATABASE_URL to one that is.",
    "42501": "The database {name} may not be written. Look at the rights of its user.",
    "55P03": "The database {name} is locked by another program: wait until that has ended.",
    sqlite3.SQLITE_BUSY: "The database {name} is locked by another program: wait until that has ended.",
    sqlite3.SQLITE_LOCKED: "The database {name} is locked by another program: wait until that has ended.",
    sqlite3.SQLITE_CORRUPT: f"The database {{name}} is damaged. {ANEW}.",
    sqlite3.SQLITE_NOTADB: f"The database {{name}} is damaged. {ANEW}.",
    sqlite3.SQLITE_FULL: "The disk is full, so the database {name} cannot be written. Make room there.",
    sqlite3.SQLITE_READONLY: "The database {name} may not be written. Look at the rights of the file.",
}
# States of PostgreSQL, or their beginnings, that are no fault of what was to be written, and yet to psycopg
# no OperationalError: read-only as a standby is, no right to write, no table, no column, a fault of its own.
_NOT_OF_THE_DATA = ("25", "42501", "42P01", "42703", "XX")
_GONE = "There is no database {name}. Put a backup there, or make a new one: python manage.py migrate"
_LACKS = ("42P01", "42703")  # a table, a column: for PostgreSQL a fault of the statement
_TABLES = "The database {name} lacks tables. Put a backup in its place, or run: python manage.py migrate"


class OutOfService(OperationalError):
    """Nothing can be written now; the text is a sentence that says why."""


def is_out_of_service(error: BaseException) -> bool:
    """Whether the database is at fault, and not what was to be written: the same may work later."""
    # What SQLite says of a damaged file is a DatabaseError and none of its kinds, which are about the data.
    if isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError:
        return True
    return (_state_of(error) or "").startswith(_NOT_OF_THE_DATA)


def _state_of(error: BaseException) -> str | None:
    """What PostgreSQL calls it (SQLSTATE)."""
    return getattr(error.__cause__, "sqlstate", None)


def sqlite_file() -> Path | None:
    """The file of the database; ``None`` if it is none."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or name.startswith("file:") or name == ":memory:":
        return None
    return Path(name)


def _is_gone(file: Path) -> bool:
    try:
        return not file.exists()
    except OSError:  # nobody can tell
        return False


def sentence_of(error: BaseException, short: bool = False) -> str:
    """What is wrong and what to do about it; ``short``: with the name of the file, not the path."""
    if isinstance(error, OutOfService):
        return str(error)
    file = sqlite_file()
    name = str(connection.settings_dict["NAME"]) if file is None or not short else file.name
    if file and _is_gone(file):
        return _GONE.format(name=name)
    if "no such table" in str(error) or "no such column" in str(error) or _state_of(error) in _LACKS:
        return _TABLES.format(name=name)
    code = getattr(error.__cause__, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # without details
    if known := _SENTENCES.get(_state_of(error) or code):
        return known.format(name=name)
    # PostgreSQL says more in further lines: at which place of which statement.
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    subject = f"The database {name}" if file else "The database"
    return f"{subject} cannot be used: {reason}."


@contextlib.contextmanager
def as_command_errors() -> Iterator[None]:
    """In a command: what the database refuses becomes a ``CommandError``."""
    try:
        yield
    except DatabaseError as error:
        if not is_out_of_service(error):
            raise
        raise CommandError(sentence_of(error)) from error
