"""Follows the rights of people while a file server runs, and has it end what is not allowed any more."""

import contextlib
import logging
import threading
from collections.abc import Iterator

from django.db import DatabaseError, connections

from files_app.access.audit import write_token_uses
from files_app.access.snapshot import MAX_AGE, snapshots
from files_app.access.tokens import are_uses_due
from files_app.database import as_command_errors, sentence_of
from fileserver.server import FileServer

log = logging.getLogger(__name__)


@contextlib.contextmanager
def following_rights(server: FileServer) -> Iterator[None]:
    """From here on the server knows what people may do, and a moment later what has changed.

    Raises ``CommandError`` if the database cannot be read.
    """
    with as_command_errors():
        snapshots.refresh()
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(server, done), name="Rights")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(server: FileServer, done: threading.Event) -> None:
    is_blind = False
    while not done.wait(MAX_AGE):
        try:
            if snapshots.refresh():
                server.recheck()
            if are_uses_due():
                write_token_uses()
        except DatabaseError as error:
            # What was known is still the best that is known: while nobody can read the database, nobody can
            # change it either. Said once.
            if not is_blind:
                log.error("rights stay as they are: %s", sentence_of(error))
            is_blind = True
        else:
            is_blind = False
        finally:
            # Its file may be replaced by a backup: a connection would go on reading the old one.
            connections.close_all()
