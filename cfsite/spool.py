"""Files that long bodies wait in, let go of beside the event loop.

To remove a gibibyte takes a disk a tenth of a second, in which no other page would be answered.
"""

import os
import threading
from typing import Any

LONG = 1 << 20  # bytes that are worth a thread


class Spool:
    """A temporary file whose ``close`` returns at once; all else is the file's own."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._open = (
            threading.Lock()
        )  # taken by the first who closes: Django and Twisted do it more than once

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        if not self._open.acquire(blocking=False):
            return
        if self._file.seek(0, os.SEEK_END) >= LONG:
            try:
                threading.Thread(target=self._file.close, name="Spool").start()
                return
            except RuntimeError:  # no more threads are to be had, or the program is ending
                pass
        self._file.close()
