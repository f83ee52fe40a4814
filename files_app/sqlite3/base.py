"""Django's SQLite, but a database that is not there is an error and not an empty one.

SQLite makes the file that it does not find. When somebody has removed the database, the history would seem to
be empty, and rows would go into a file without tables. Only ``migrate`` may make one.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base

_creating = False  # while a command that makes the database runs, which is alone in its process


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        params: dict[str, Any] = super().get_connection_params()
        name = str(params["database"])
        if not _creating and name != ":memory:" and not name.startswith("file:"):
            params["database"] = f"{Path(name).absolute().as_uri()}?mode=rw"
        return params


@contextlib.contextmanager
def may_create() -> Iterator[None]:
    global _creating
    before, _creating = _creating, True
    try:
        yield
    finally:
        _creating = before
