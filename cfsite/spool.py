"""Files that long bodies wait in, let go of beside the event loop.

To remove a gibibyte takes a disk a tenth of a second, in which no other page would be answered.
"""

import threading
from typing import Any


class Spool:
    """A temporary file whose ``close`` returns at once; all else is the file's own."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def close(self) -> None:
        threading.Thread(target=self._file.close, name="Spool").start()
