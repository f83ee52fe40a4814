"""Who watches: what each ``WATCH`` has been told, and what it has not been told yet, as JSON.

A ``Watcher`` turns the changes since its last line into the next one: newest state, never a backlog.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fileserver.transfers.rates import TICK, RateMeter
from fileserver.transfers.transfer import Transfer

HEARTBEAT = 5.0  # seconds between two lines to a watcher, at most
MAX_ROWS = 500  # in one line

Row = dict[str, Any]


def row_of(transfer: Transfer, now: float) -> Row:
    """What can be seen of a transfer at ``now`` (monotonic seconds). Not for several threads at once."""
    facts, pace = transfer.facts, transfer.control.pace
    if transfer.meter is None:
        transfer.meter = RateMeter(facts.done, transfer.begun)
    return {
        "id": facts.id,
        "direction": facts.direction,
        "name": transfer.name,
        "size": facts.size,
        "offset": facts.offset,
        "length": facts.length,
        "done": transfer.done,
        "rate": transfer.meter.rate(transfer.done, now),
        "state": transfer.state,
        "pace": pace and pace.as_json(),
        "client": facts.client,
        "user": facts.user,
        "principal": facts.principal,
        "via": facts.via,
        "thread": transfer.thread,
        "started": facts.at,
    }


class Watched(Protocol):
    """What a watcher asks of the registry. ``news`` is its lock: all else is read under it."""

    news: threading.Condition
    closed: bool

    @property
    def transfers(self) -> Mapping[int, Transfer]: ...

    def status(self, now: float) -> Row: ...


class Watcher:
    """What one ``WATCH`` has been told, and what it has not been told yet. Owned by its session's thread."""

    def __init__(self, watched: Watched, may_see: Callable[[Transfer], bool]) -> None:
        self._watched = watched
        self._may_see = may_see  # whether its viewer may
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

    def see_end(self, transfer: Transfer, row: Row) -> None:
        if self._may_see(transfer):
            self.ended.append(row)

    def see_files(self) -> None:
        self._files_changed = True

    def next_line(self, patience: float) -> Row | None:
        """The next line when it is due, or ``None`` if none was within ``patience`` seconds."""
        watched = self._watched
        deadline = time.monotonic() + patience
        with watched.news:
            while not watched.closed:
                now = time.monotonic()
                since = now - self._told_at
                if since >= TICK and (self._news or self._moving or since >= HEARTBEAT):
                    line = self._line(now)
                    if line is not None:
                        return line
                if now >= deadline:
                    return None
                watched.news.wait(min(deadline - now, self._next_look(since)))
        return None

    def _next_look(self, since: float) -> float:
        if self._news and since < TICK:
            return TICK - since
        # Bytes on their way tell nobody: while something moves there is a look at each tick.
        return TICK if self._moving else max(HEARTBEAT - since, TICK)

    def _line(self, now: float) -> Row | None:
        watched = self._watched
        if len(self.ended) == MAX_ROWS:  # others may have been pushed out: only the whole tells of their end
            self._full, self._told = True, {}
        status = watched.status(now)
        seen = [transfer for transfer in watched.transfers.values() if self._may_see(transfer)]
        newest = sorted(seen, key=lambda transfer: -transfer.id)[:MAX_ROWS]
        rows = {transfer.id: row_of(transfer, now) for transfer in newest}
        changed = [row for key, row in rows.items() if self._told.get(key) != row]
        rates = (status["send_rate"], status["receive_rate"])
        self._moving = bool(watched.transfers) or any(rates)  # rates fall for a while after the last transfer
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
