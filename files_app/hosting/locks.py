"""One live file server for each folder, and one for each database: a second one is refused.

Two catalogues on one database would take each other's files for gone, and a server that starts closes what
dead servers of its name left running: both must know that nobody else is alive. Each lock is one of the
system or of PostgreSQL. It ends with the process that holds it, however that dies, so none is ever stale.
"""

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from django.db import connection

from files_app.database import sqlite_file
from fileserver.storage.folder import Storage
from fileserver.storage.partial_files import PARTIALS
from fileserver.wire.replies import ErrorReply

log = logging.getLogger(__name__)

POSTGRESQL_LOCK = 0x_CF5_0001  # of all numbers that programs on one database may lock, ours

_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


class AlreadyServed(Exception):
    """Another live file server has the folder, or the database; the text is a sentence."""


@contextlib.contextmanager
def only_server_of(storage: Storage) -> Iterator[None]:
    """Have the folder and the database of the settings for this process alone.

    Raises ``AlreadyServed``, or ``OSError`` if the file of a lock cannot be opened. A folder that takes the
    place of this one is locked too, before it is served.
    """
    with _locked_folder(storage), _locked_database():
        yield


def server_name(folder: Path) -> str:
    """By which a ``ServerRun`` knows again that it is the same server."""
    return os.fsencode(folder.resolve()).decode("utf-8", "backslashreplace")


def is_alone() -> bool:
    """Whether whoever holds the locks knows every other server of the database to be dead, whatever folder it
    had. A restart of PostgreSQL loses its lock, and a second server may have come in since."""
    return sqlite_file() is not None


@contextlib.contextmanager
def _locked_folder(storage: Storage) -> Iterator[None]:
    refusal = (
        f"The folder {storage.root} is served by another file server already. "
        "Stop that one, or set FILES_DIRECTORY (or --files) to another folder."
    )
    root = storage.paths.root
    if root.fd is None:  # Windows locks only files; this one is out of every client's sight
        hidden = storage.root / PARTIALS
        hidden.mkdir(exist_ok=True)
        with _locked_file(hidden / "server.lock", refusal):
            yield
        return
    # The folder itself, so that nothing is left in it and it may be read-only.
    _lock_or_refuse(root.fd, refusal)
    root.take_by(_take_in_its_place)
    try:
        yield
    finally:
        _unlock(root.fd)


def _take_in_its_place(fd: int) -> None:
    """Lock a folder that is about to take the place of the one that was served."""
    try:
        _lock_or_refuse(fd, "Another folder is in the place of the server's, and another server serves it.")
    except AlreadyServed as error:
        raise ErrorReply("unavailable", str(error)) from None


@contextlib.contextmanager
def _locked_database() -> Iterator[None]:
    refusal = (
        f"The database {connection.settings_dict['NAME']} is used by another file server already. "
        "Stop that one, or set DATABASE_URL to a database of its own."
    )
    with contextlib.ExitStack() as stack:
        # A file beside it, not the database itself: to close that would end the locks that SQLite has on it.
        if file := sqlite_file():
            file = file.resolve()  # as SQLite opens it: a link leads to the same lock
            stack.enter_context(_locked_file(file.with_name(f"{file.name}.lock"), refusal))
        elif connection.vendor == "postgresql":
            stack.enter_context(_locked_postgresql(refusal))
        yield


@contextlib.contextmanager
def _locked_file(path: Path, refusal: str) -> Iterator[None]:
    """A crash leaves the file, empty and with no lock on it; any other end removes it."""
    fd = _open_locked(path, refusal)
    while not _is_at(path, fd):  # its holder has removed it between our open and our lock
        os.close(fd)
        fd = _open_locked(path, refusal)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            path.unlink()
        os.close(fd)  # which ends the lock


def _open_locked(path: Path, refusal: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock_or_refuse(fd, refusal)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _lock_or_refuse(fd: int, refusal: str) -> None:
    try:
        _lock(fd)
    except OSError as error:
        if error.errno in _HELD:
            raise AlreadyServed(refusal) from None
        # Some network file systems know no locks; to refuse them all would be worse.
        log.warning("no lock (%s): see to it that no second file server runs here", error.strerror)


if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _unlock(fd: int) -> None:
        """Never called: there is no descriptor of a folder."""

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


@contextlib.contextmanager
def _locked_postgresql(refusal: str) -> Iterator[None]:
    """By a connection of its own. Should PostgreSQL be restarted the lock is gone until our next start; then
    a second server can come in, and still closes only the rows of its own name."""
    own = connection.copy()
    try:
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [POSTGRESQL_LOCK])
            if cursor.fetchone() != (True,):
                raise AlreadyServed(refusal)
        yield
    finally:
        own.close()
