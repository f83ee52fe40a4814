"""What moves now and who watches it.

A ``Transfer`` belongs to the thread that moves its bytes: only that thread changes ``done``. Others may look
at it (``row``) and stop it (``stop``). A ``Watcher`` turns the changes since its last line into the next one:
newest state, never a backlog.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fileserver.events import (
    Direction,
    Observer,
    Outcome,
    TransferFinished,
    TransferProgressed,
    TransferStarted,
)
from fileserver.pacing import Pace
from fileserver.wire.verbs import ErrorReply

TICK = 0.25  # seconds between two lines to a watcher, at least
HEARTBEAT = 5.0  # seconds between two lines to a watcher, at most
MAX_ROWS = 500  # in one line
RATE_WINDOW = 3.0  # seconds that a rate looks back
PROGRESS_INTERVAL = 2.0  # seconds between two TransferProgressed

Row = dict[str, Any]


class Stopped(Exception):
    """Somebody ended this transfer: the text is ``cancelled`` or ``shutting-down``."""


class RateMeter:
    """Bytes a second over the last seconds, from a count that only grows. Not for several threads at once."""

    def __init__(self, total: int, now: float) -> None:
        self._samples = deque([(now, total)])

    def rate(self, total: int, now: float) -> float:
        samples = self._samples
        since = now - samples[-1][0]
        if since >= TICK / 2:
            samples.append((now, total))
        while len(samples) > 1 and now - samples[1][0] >= RATE_WINDOW:
            samples.popleft()
        then, before = samples[0]
        if since >= RATE_WINDOW:
            # Nobody has looked for so long: this once the mean must do, but it must not blur what follows.
            samples.popleft()
        return round((total - before) / max(now - then, TICK), 1)


def _locked() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(slots=True, eq=False)
class Transfer:
    """One file on its way. Sizes are in bytes, ``started`` in Unix seconds."""

    id: int
    direction: Direction
    name: str
    size: int
    offset: int
    length: int
    client: str
    user: str | None
    via: str
    thread: str
    pace: Pace | None
    wake: Callable[[], None]
    observer: Observer
    upload: str = ""
    done: int = 0
    started: float = field(default_factory=time.time)
    begun: float = field(default_factory=time.monotonic)
    waiting_since: float | None = None  # monotonic; of an upload between two parts
    _base: int = field(init=False)  # bytes that had moved before this transfer began
    _reason: str = ""
    _ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: "threading.Lock | None" = None  # of one that sleeps: opened by who stops it
    _meter: RateMeter | None = None  # of one that somebody has looked at
    _next_report: float = field(init=False)

    def __post_init__(self) -> None:
        self._base = self.done
        self._next_report = self.begun + PROGRESS_INTERVAL

    # --- for the thread that moves it

    def advance(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + PROGRESS_INTERVAL
            paced, seconds = self.pace is not None, now - self.begun
            self.observer(TransferProgressed(self.id, self.name, self.done, self.length, paced, seconds))

    def check(self) -> None:
        """Raise ``Stopped`` if somebody has stopped this transfer."""
        if self._reason:
            raise Stopped(self._reason)

    def sleep(self, seconds: float) -> None:
        """Wait, or raise ``Stopped`` as soon as somebody stops this transfer."""
        # A tenth of the cost of an Event, ten thousand times a second with two thousand slow transfers.
        if self._running is None:
            with self._lock:  # from here on who stops it opens this
                self._running = _locked()
        self.check()
        if seconds > 0 and self._running.acquire(timeout=seconds):
            self._running.release()
        self.check()

    def wait(self) -> str:
        """Nobody moves it until the next part comes; the reason if somebody has stopped it instead."""
        with self._lock:
            if not self._reason:
                self.waiting_since = time.monotonic()
                self.wake = _nobody
            return self._reason

    def close(self) -> str:
        """From here on nobody can stop it; the reason if somebody already has."""
        with self._lock:
            self._ended = True
            return self._reason

    # --- for others

    @property
    def moved(self) -> int:
        """Bytes that moved in this transfer, without those of an earlier try."""
        return self.done - self._base

    def stop(self, reason: str) -> bool:
        """End it from any thread; False if it has ended or was stopped before."""
        with self._lock:
            if self._ended or self._reason:
                return False
            self._reason = reason
            if self._running is not None:
                self._running.release()
            # Under the lock: a moment later the connection may be about another request.
            self.wake()
            return True

    def row(self, now: float) -> Row:
        """What can be seen of it. Not for several threads at once."""
        if self._meter is None:
            self._meter = RateMeter(self._base, self.begun)
        return {
            "id": self.id,
            "direction": self.direction,
            "name": self.name,
            "size": self.size,
            "offset": self.offset,
            "length": self.length,
            "done": self.done,
            "rate": self._meter.rate(self.done, now),
            "state": "running" if self.waiting_since is None else "waiting",
            "pace": self.pace and self.pace.as_json(),
            "client": self.client,
            "user": self.user,
            "via": self.via,
            "thread": self.thread,
            "started": self.started,
        }


def _nobody() -> None:
    """The wake of a transfer that no thread is moving."""


class Registry:
    """All live transfers, the counts, and the watchers. For any thread."""

    def __init__(self, observer: Observer, max_clients: int) -> None:
        self.observer = observer
        self.max_clients = max_clients
        self.files: int | None = None  # in the folder; whoever keeps count says so with files_changed
        self._folder_error = ""
        self._born = time.monotonic()
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)  # taken by its lock, which is quicker
        self._live: dict[int, Transfer] = {}
        self._watchers: set[Watcher] = set()
        self._clients = 0
        self._last_id = 0
        self._moved = {"download": 0, "upload": 0}  # bytes of ended transfers
        self._meters = {direction: RateMeter(0, self._born) for direction in self._moved}
        self._closed = False

    # --- transfers

    def start(self, **facts: Any) -> Transfer:
        """A new live transfer; the keywords are the fields of ``Transfer`` but ``id`` and ``observer``."""
        with self._lock:
            self._last_id += 1
            transfer = Transfer(id=self._last_id, observer=self.observer, **facts)
            self._live[transfer.id] = transfer
            self._tell(Watcher.look)
        self._observe_start(transfer)
        return transfer

    def _observe_start(self, transfer: Transfer) -> None:
        self.observer(
            TransferStarted(
                transfer.id,
                transfer.direction,
                transfer.name,
                transfer.size,
                transfer.offset,
                transfer.length,
                transfer.client,
                transfer.user,
                transfer.via,
                transfer.thread,
                str(transfer.pace or ""),
                transfer.started,
                transfer.upload,
                transfer.done,
            )
        )

    def go_on(self, upload: str, thread: str, wake: Callable[[], None]) -> Transfer | None:
        """The transfer of an upload that waits for its next part, now in the hands of ``thread``."""
        with self._lock:
            for transfer in self._live.values():
                if transfer.upload == upload and transfer.waiting_since is not None:
                    transfer.waiting_since = None
                    transfer.thread, transfer.wake = thread, wake
                    self._tell(Watcher.look)
                    return transfer
        return None

    def end_waiting(self, longer_than: float, outcome: Outcome, error: str) -> None:
        """Give an ending to uploads that have waited ``longer_than`` seconds for their next part."""
        limit = time.monotonic() - longer_than
        for transfer in self._claim_waiting(lambda t: (t.waiting_since or 0.0) <= limit):
            self.finish(transfer, outcome, error)

    def _claim_waiting(self, wanted: Callable[[Transfer], bool]) -> list[Transfer]:
        """Waiting transfers, from here on in the hands of the caller, who must finish them."""
        with self._lock:
            found = [t for t in self._live.values() if t.waiting_since is not None and wanted(t)]
            for transfer in found:
                transfer.waiting_since = None
                transfer.close()
            return found

    def finish(
        self, transfer: Transfer, outcome: Outcome, error: str = "", verified: bool | None = None
    ) -> None:
        """The one ending of a transfer; called by its own thread."""
        now = time.monotonic()
        seconds = now - transfer.begun
        with self._lock:
            del self._live[transfer.id]
            self._moved[transfer.direction] += transfer.moved
            if self._watchers:
                row = transfer.row(now) | {"outcome": outcome, "seconds": round(seconds, 3), "error": error}
                self._tell(lambda watcher: watcher.ended.append(row))
        self.observer(
            TransferFinished(
                transfer.id, transfer.name, transfer.done, outcome, error, verified, seconds, time.time()
            )
        )

    def cancel(self, transfer_id: int) -> str:
        """End a live transfer; the upload whose bytes are of no use any more, or an empty text."""
        with self._lock:
            found = self._live.get(transfer_id)
        if found is None or not self._cancel(found):
            raise ErrorReply("not-running", f"There is no live transfer {transfer_id}.")
        return found.upload

    def cancel_upload(self, upload: str) -> None:
        for transfer in self.live():
            if transfer.upload == upload:
                self._cancel(transfer)

    def _cancel(self, transfer: Transfer) -> bool:
        if not transfer.stop("cancelled"):
            return False
        # From here on it cannot begin to wait; if it did before, no thread is there to end it.
        for waiting in self._claim_waiting(lambda t: t is transfer):
            self.finish(waiting, "cancelled")
        return True

    def stop_all(self, reason: str) -> None:
        for transfer in self.live():
            transfer.stop(reason)

    def live(self) -> list[Transfer]:
        with self._lock:
            return list(self._live.values())

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
                "transfers": len(self._live),
                "folder_error": self._folder_error or None,
            }

    # --- watchers

    @contextmanager
    def watching(self) -> Iterator["Watcher"]:
        watcher = Watcher(self)
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
            self._closed = True
            self._news.notify_all()

    def _tell(self, what: "Callable[[Watcher], None]") -> None:
        if self._watchers:
            for watcher in self._watchers:
                watcher.look()
                what(watcher)
            self._news.notify_all()

    def _status(self, now: float) -> Row:
        totals = dict(self._moved)
        for transfer in self._live.values():
            totals[transfer.direction] += transfer.moved
        rates = {direction: meter.rate(totals[direction], now) for direction, meter in self._meters.items()}
        return {
            "uptime": round(now - self._born, 3),
            "clients": self._clients,
            "max_clients": self.max_clients,
            "transfers": len(self._live),
            "waiting": sum(transfer.waiting_since is not None for transfer in self._live.values()),
            "files": self.files,
            "folder_error": self._folder_error or None,
            "send_rate": rates["download"],
            "receive_rate": rates["upload"],
            "sent": totals["download"],
            "received": totals["upload"],
        }


class Watcher:
    """What one ``WATCH`` has been told, and what it has not been told yet. Owned by its session's thread."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._told: dict[int, Row] = {}
        self._told_at = float("-inf")
        self._told_rates = (0.0, 0.0)
        self._moving = False
        self._full = True
        self._news = True
        self._files_changed = False
        self.ended: deque[Row] = deque(maxlen=MAX_ROWS)

    # Called by the registry, under its lock.

    def look(self) -> None:
        self._news = True

    def see_files(self) -> None:
        self._files_changed = True

    def next_line(self, patience: float) -> Row | None:
        """The next line when it is due, or ``None`` if none was within ``patience`` seconds."""
        registry = self._registry
        deadline = time.monotonic() + patience
        with registry._news:
            while not registry._closed:
                now = time.monotonic()
                since = now - self._told_at
                if since >= TICK and (self._news or self._moving or since >= HEARTBEAT):
                    line = self._line(now)
                    if line is not None:
                        return line
                if now >= deadline:
                    return None
                registry._news.wait(min(deadline - now, self._next_look(since)))
        return None

    def _next_look(self, since: float) -> float:
        if self._news and since < TICK:
            return TICK - since
        # Bytes on their way tell nobody: while something moves there is a look at each tick.
        return TICK if self._moving else max(HEARTBEAT - since, TICK)

    def _line(self, now: float) -> Row | None:
        registry = self._registry
        if len(self.ended) == MAX_ROWS:  # others may have been pushed out: only the whole tells of their end
            self._full, self._told = True, {}
        status = registry._status(now)
        newest = sorted(registry._live.values(), key=lambda transfer: -transfer.id)[:MAX_ROWS]
        rows = {transfer.id: transfer.row(now) for transfer in newest}
        changed = [row for key, row in rows.items() if self._told.get(key) != row]
        rates = (status["send_rate"], status["receive_rate"])
        self._moving = bool(registry._live) or any(rates)  # rates fall for a while after the last transfer
        is_news = changed or self._news or self._full or rates != self._told_rates
        if not is_news and now - self._told_at < HEARTBEAT:
            return None
        line = {
            "type": "live",
            "full": self._full,
            "status": status,
            "transfers": changed,
            "ended": list(self.ended),
            "files_changed": self._files_changed,
        }
        self._told, self._told_at, self._told_rates = rows, now, rates
        self._full = self._news = self._files_changed = False
        self.ended.clear()
        return line
