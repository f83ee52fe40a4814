"""Who writes to which upload: one writer at a time, and the newest that proves itself takes over.

A connection can break without a sign. Its writer then waits for bytes that will never come, and the client's
next connection would have to wait until that one stalls. So it may ask the old writer to release the upload.
Only the holder of the claim may touch the bytes. The next writer gets it after the old one has released it.
"""

import threading
from collections.abc import Callable

from fileserver.wire.replies import ErrorReply

TAKE_OVER_SECONDS = 5.0  # that a writer has to release the upload, once it is asked to


def no_wake() -> None:
    """Of a writer that waits for nothing."""


class Displaced(ErrorReply):
    """Raised in the old writer: another client resumes its upload."""

    def __init__(self) -> None:
        super().__init__("busy", "Another client has resumed this upload.")


class Claim:
    """Of one writer to one upload; ``wake`` ends its wait for the next byte, from any thread."""

    def __init__(self, upload_id: str, wake: Callable[[], None]) -> None:
        self.upload_id = upload_id
        self._wake = wake
        self._is_wanted = False
        self.is_final = False

    def ask(self) -> None:
        """Ask the writer to release. Only while it has the claim: its connection may serve others later."""
        if not self._is_wanted and not self.is_final:
            self._is_wanted = True
            self._wake()

    def check(self) -> None:
        """Raise ``Displaced`` if the writer is asked to release the upload."""
        if self._is_wanted:
            raise Displaced


class Claims:
    """All claims of one served folder. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = threading.Condition(self._lock)
        self._held: dict[str, Claim] = {}
        self._given_up: set[str] = set()  # of those that are held: deleted as soon as their writer is done

    def __contains__(self, upload_id: str) -> bool:
        return upload_id in self._held

    def __len__(self) -> int:
        return len(self._held) + len(self._given_up)

    def take(
        self, upload_id: str, wake: Callable[[], None], may_take_over: Callable[[], bool] = lambda: False
    ) -> Claim:
        """The claim to an upload, until ``release``. Raises ``busy`` if another writer has it and keeps it.

        ``may_take_over`` says whether the caller has proved itself; only then the old writer is asked.
        """
        claim = Claim(upload_id, wake)
        with self._lock:
            old = self._held.setdefault(upload_id, claim)
        if old is claim:
            return claim
        if may_take_over():
            with self._released:
                if self._held.get(upload_id) is old:
                    old.ask()
                    self._released.wait_for(lambda: self._held.get(upload_id) is not old, TAKE_OVER_SECONDS)
                # Of two that wait for the same writer the second finds the first here.
                if self._held.setdefault(upload_id, claim) is claim:
                    return claim
        raise ErrorReply("busy", f"Somebody else is writing to the upload {upload_id}.")

    def settle(self, claim: Claim) -> None:
        """From here on nobody takes over from this writer. Raises ``Displaced`` if somebody has asked."""
        with self._lock:
            claim.check()
            claim.is_final = True

    def give_up(self, upload_id: str) -> bool:
        """Whether an upload has a writer, which learns of it on release; if not, the caller has the claim."""
        with self._lock:
            if upload_id in self._held:
                self._given_up.add(upload_id)
                return True
            self._held[upload_id] = Claim(upload_id, no_wake)
            return False

    def is_given_up(self, upload_id: str) -> bool:
        with self._lock:
            return upload_id in self._given_up

    def release(self, upload_id: str) -> bool:
        """Let the next writer in; False, and nothing is done, if the upload was given up meanwhile."""
        with self._lock:
            if upload_id in self._given_up:
                return False
            self._pass_on(upload_id)
            return True

    def clear(self, upload_id: str) -> None:
        """The same for an upload of which nothing is left."""
        with self._lock:
            self._given_up.discard(upload_id)
            self._pass_on(upload_id)

    def _pass_on(self, upload_id: str) -> None:
        self._held.pop(upload_id, None)
        self._released.notify_all()
