"""How long nobody has written to an upload: told by a clock that nobody sets, as far as it goes."""

import threading
import time
from collections.abc import Callable, Collection

GRACE_SECONDS = 3600.0  # after a start, in which nothing is too old: its sender can still resume it


class Ages:
    """For any thread; ``is_old`` and ``forget_all_but`` for one at a time.

    The times of files follow the system's clock, which may be set: by hours on a machine that starts without
    one. Of what was written in this process the monotonic clock knows the age. Of what an earlier one has
    left, the times of the files tell; they are believed after a grace.
    """

    def __init__(self, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}
        self._found: dict[str, float] = {}  # when it was first seen, where it was not written

    def note_written(self, upload_id: str) -> None:
        with self._lock:
            self._written[upload_id] = self._clock()

    def is_old(self, upload_id: str, modified: float) -> bool:
        """Whether it may be removed; ``modified``, in Unix seconds, is the newest time of its files."""
        now = self._clock()
        with self._lock:
            written = self._written.get(upload_id)
        if written is not None:
            return now - written >= self._keep_seconds
        here = now - self._found.setdefault(upload_id, now)
        looks_old = modified <= time.time() - self._keep_seconds
        # Without the second limit, one that is dated to the future would stay for ever.
        return here >= (min(GRACE_SECONDS, self._keep_seconds) if looks_old else self._keep_seconds)

    def forget_all_but(self, upload_ids: Collection[str]) -> None:
        # One that was begun while the folder was listed is not in the list.
        begun = self._clock() - GRACE_SECONDS
        with self._lock:
            self._written = {key: at for key, at in self._written.items() if key in upload_ids or at > begun}
        self._found = {key: at for key, at in self._found.items() if key in upload_ids}
