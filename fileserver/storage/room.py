"""Room on the disk: what uploads that are on their way will still take, and a floor that none may pass.

Whoever has all bytes of free space leaves none to the system, and none to the database on the same disk. An
upload reserves what it has still to bring, so that two together cannot pass the floor either. One that waits
to be resumed reserves nothing: it asks again.
"""

import threading
from collections.abc import Callable

from fileserver.names import shown
from fileserver.wire.replies import ErrorReply

LOOK_BYTES = 16 << 20  # written by one upload, after which it is looked what others have taken


class Room:
    """For any thread. ``free`` and ``floor`` in bytes; a file system tells the first within microseconds."""

    def __init__(self, free: Callable[[], int], floor: Callable[[], int]) -> None:
        self._free = free
        self._floor = floor
        self._lock = threading.Lock()
        self._reserved: dict[str, int] = {}  # bytes that are still to come, by upload
        self._since_look: dict[str, int] = {}

    def reserve(self, upload_id: str, name: str, size: int) -> None:
        """Raises ``no-space`` if so many bytes would not leave the floor."""
        with self._lock:
            left = self._free() - self._floor() - sum(self._reserved.values())
            if size > left:
                message = f"{shown(name)} needs {size} bytes, but only {max(0, left)} are free."
                raise ErrorReply("no-space", message)
            self._reserved[upload_id], self._since_look[upload_id] = size, 0

    def took(self, upload_id: str, name: str, count: int) -> None:
        """So many bytes of it are written. Raises ``no-space`` if others have left less than the floor."""
        with self._lock:
            self._reserved[upload_id] = max(0, self._reserved.get(upload_id, 0) - count)
            self._since_look[upload_id] = self._since_look.get(upload_id, 0) + count
            if self._since_look[upload_id] < LOOK_BYTES:
                return
            self._since_look[upload_id] = 0
            if self._free() >= self._floor():
                return
        raise ErrorReply("no-space", f"The disk is nearly full: {shown(name)} does not fit any more.")

    def release(self, upload_id: str) -> None:
        with self._lock:
            self._reserved.pop(upload_id, None)
            self._since_look.pop(upload_id, None)
