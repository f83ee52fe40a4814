"""What moves now, the counts, and whom to tell. JSON and what a watcher has been told are in ``watch``."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fileserver.events import Observer, Outcome, TransferFacts, TransferFinished, TransferStarted
from fileserver.names import composed
from fileserver.rights import May
from fileserver.transfers.rates import RateMeter
from fileserver.transfers.transfer import NOBODY, Control, Owner, Stopped, Transfer
from fileserver.transfers.watch import Row, Watcher, row_of
from fileserver.wire.replies import ErrorReply


class Registry:
    """All live transfers, the counts, and the watchers. For any thread."""

    def __init__(self, observer: Observer, max_clients: int) -> None:
        self.observer = observer
        self.max_clients = max_clients
        self.files: int | None = None  # in the folder; whoever keeps count says so with files_changed
        self._folder_error = ""
        self._born = time.monotonic()
        self._lock = threading.Lock()
        self.news = threading.Condition(self._lock)  # taken by its lock, which is quicker
        self.transfers: dict[int, Transfer] = {}
        self._watchers: set[Watcher] = set()
        self._clients = 0
        self._last_id = 0
        self._moved = {"download": 0, "upload": 0}  # bytes of ended transfers
        self._meters = {direction: RateMeter(0, self._born) for direction in self._moved}
        self.closed = False
        self._stopped = ""  # why all are stopped, those too that have not quite begun

    # --- transfers

    def start(self, facts: TransferFacts, control: Control, owner: Owner = NOBODY) -> Transfer:
        """A new live transfer; it gets its id here."""
        with self._lock:
            self._last_id += 1
            started = TransferStarted(self._last_id, *facts[1:])  # the first is the id
            transfer = Transfer(started, control, self.observer, owner)
            self.transfers[started.id] = transfer
            reason = self._stopped
            self._tell(Watcher.look)
        self.observer(started)
        if reason:
            control.stop(reason)
        return transfer

    def resume(
        self, upload: str, thread: str, wake: Callable[[], None], owner: Owner = NOBODY
    ) -> Transfer | None:
        """The transfer of an upload that waits for its next part, now in the hands of ``thread``."""
        with self._lock:
            for transfer in self.transfers.values():
                control = transfer.control
                if transfer.facts.upload == upload and control.waiting_since is not None:
                    control.waiting_since = None
                    transfer.thread, transfer.owner, control.wake = thread, owner, wake
                    self._tell(Watcher.look)
                    return transfer
        return None

    def find(self, transfer_id: int) -> Transfer | None:
        """A live transfer."""
        with self._lock:
            return self.transfers.get(transfer_id)

    def end_waiting(self, longer_than: float, outcome: Outcome, error: str) -> None:
        """Give an ending to uploads that have waited ``longer_than`` seconds for their next part."""
        limit = time.monotonic() - longer_than
        for transfer in self._claim_waiting(lambda t: (t.control.waiting_since or 0.0) <= limit):
            self.finish(transfer, outcome, error)

    def _claim_waiting(self, wanted: Callable[[Transfer], bool]) -> list[Transfer]:
        """Waiting transfers, from here on in the hands of the caller, who must finish them."""
        with self._lock:
            found = [t for t in self.transfers.values() if t.state == "waiting" and wanted(t)]
            for transfer in found:
                transfer.control.waiting_since = None
                transfer.control.close()
            return found

    def finish(
        self, transfer: Transfer, outcome: Outcome, error: str = "", verified: bool | None = None
    ) -> None:
        """The one ending of a transfer; called by its own thread."""
        now = time.monotonic()
        seconds = now - transfer.begun
        with self._lock:
            del self.transfers[transfer.id]
            self._moved[transfer.facts.direction] += transfer.moved
            if self._watchers:
                row = row_of(transfer, now) | {
                    "outcome": outcome,
                    "seconds": round(seconds, 3),
                    "error": error,
                }
                self._tell(lambda watcher: watcher.see_end(transfer, row))
        self.observer(
            TransferFinished(
                transfer.id, transfer.name, transfer.done, outcome, error, verified, seconds, time.time()
            )
        )

    def cancel(self, transfer_id: int) -> str:
        """End a live transfer; the upload whose bytes are of no use any more, or an empty text."""
        found = self.find(transfer_id)
        if found is None or not self._stop(found, "cancelled"):
            raise ErrorReply("not-running", f"There is no live transfer {transfer_id}.")
        return found.facts.upload

    def cancel_upload(self, upload: str) -> None:
        for transfer in self.live():
            if transfer.facts.upload == upload:
                self._stop(transfer, "cancelled")

    def recheck(self, may: May) -> None:
        """End the transfers whose owners may not have them any more."""
        for transfer in self.live():
            principal, needs = transfer.owner
            if not all(may(principal, right, composed(transfer.name)) for right in needs):
                self._stop(transfer, "revoked")

    def _stop(self, transfer: Transfer, reason: str) -> bool:
        if not transfer.control.stop(reason):
            return False
        # From here on it cannot begin to wait; if it did before, no thread is there to end it.
        for waiting in self._claim_waiting(lambda t: t is transfer):
            self.finish(waiting, *Stopped(reason).ending)
        return True

    def stop_all(self, reason: str) -> None:
        """End all live transfers, and each that begins from now on."""
        with self._lock:
            self._stopped = reason
        for transfer in self.live():
            transfer.control.stop(reason)

    def live(self) -> list[Transfer]:
        with self._lock:
            return list(self.transfers.values())

    # --- counts

    def clients_changed(self, count: int) -> None:
        with self._lock:
            self._clients = count
            self._tell(Watcher.look)

    def files_changed(self, count: int | None = None) -> None:
        """The folder has changed; ``count`` files are in it now, if somebody has counted."""
        with self._lock:
            if count is not None:
                self.files = count
            self._tell(Watcher.see_files)

    def folder_is(self, error: str) -> None:
        """Why the folder cannot be read now, as a sentence; empty if it can."""
        with self._lock:
            if error != self._folder_error:
                self._folder_error = error
                self._tell(Watcher.look)

    def ping(self) -> Row:
        with self._lock:
            return {
                "uptime": round(time.monotonic() - self._born, 3),
                "clients": self._clients,
                "max_clients": self.max_clients,
                "transfers": len(self.transfers),
                "folder_error": self._folder_error or None,
            }

    # --- watchers

    @contextmanager
    def watching(self, may_see: Callable[[Transfer], bool] = lambda transfer: True) -> Iterator[Watcher]:
        """A watcher of the transfers that its viewer ``may_see``."""
        watcher = Watcher(self, may_see)
        with self._lock:
            self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers.discard(watcher)

    def close(self) -> None:
        """End every wait of a watcher: ``next_line`` returns ``None`` from now on."""
        with self._lock:
            self.closed = True
            self.news.notify_all()

    def _tell(self, what: Callable[[Watcher], None]) -> None:
        if self._watchers:
            for watcher in self._watchers:
                watcher.look()
                what(watcher)
            self.news.notify_all()

    def status(self, now: float) -> Row:
        totals = dict(self._moved)
        for transfer in self.transfers.values():
            totals[transfer.facts.direction] += transfer.moved
        rates = {direction: meter.rate(totals[direction], now) for direction, meter in self._meters.items()}
        return {
            "uptime": round(now - self._born, 3),
            "clients": self._clients,
            "max_clients": self.max_clients,
            "transfers": len(self.transfers),
            "waiting": sum(transfer.state == "waiting" for transfer in self.transfers.values()),
            "files": self.files,
            "folder_error": self._folder_error or None,
            "send_rate": rates["download"],
            "receive_rate": rates["upload"],
            "sent": totals["download"],
            "received": totals["upload"],
        }
