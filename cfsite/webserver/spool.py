"""Files that long bodies wait in, released beside the event loop.

To remove a gibibyte takes a disk a tenth of a second, in which no other page would be answered.
"""

import contextlib
import os
import threading
from typing import Any

LONG = 1 << 20  # bytes that are worth a thread


class Spool:
    """A temporary file whose ``close`` returns at once; all else is the file's own."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self._open = (
            threading.Lock()
        )  # taken by the first who closes: Django and Twisted do it more than once

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def close(self) -> None:
        if not self._open.acquire(blocking=False):
            return
        if self._is_long():
            try:
                threading.Thread(target=self._close, name="Spool").start()
                return
            except RuntimeError:  # no more threads are to be had, or the program is ending
                pass
        self._close()

    # On a full disk the last bytes are still in memory, and each of these tries once more to write them.

    def _is_long(self) -> bool:
        try:
            return bool(self.file.seek(0, os.SEEK_END) >= LONG)
        except OSError:
            return True

    def _close(self) -> None:
        with contextlib.suppress(OSError):  # the file is closed, and so removed, all the same
            self.file.close()
