"""Some events on their way into the database, in one transaction, and what is remembered after it.

Nothing is remembered before it is committed: after a rollback the same events come again.
"""

import time
from collections.abc import Sequence
from typing import Any

from files_app.history.items import FinishedRow, Item, Job, Listeners, Try
from files_app.history.rows import NO_ROW, Live, Rows, record_of
from files_app.models import File, Transfer, bulk
from files_app.models.dates import to_datetime
from files_app.models.transfers import NEAR, Record
from fileserver import events

PROGRESS_WRITES = 1.0  # seconds between two writes of the progress of what runs
# What a server that died may have left a row at, though its spill file or its journal knows more.
UNFINISHED = (Transfer.Outcome.RUNNING, Transfer.Outcome.INTERRUPTED)
# What a row takes over from the next try of its upload, beside its file and its end.
REOPENED = (
    *("name", "done", "client", "user", "principal", "via", "thread", "pace", "outcome", "error", "seconds"),
)


class Batch:
    """``write`` it in a transaction, and have it ``remember`` when that is committed.

    All of it is of one ``server``, a row of ``ServerRun``; ``None``: one that this database does not know.
    ``again``: its items come from a spill file. Some of them may be in the database already, whole or begun.
    """

    def __init__(
        self,
        rows: Rows,
        listeners: Listeners,
        items: Sequence[Item],
        server: int | None,
        again: bool = False,
    ) -> None:
        self._rows = rows
        self._listeners = listeners
        self._items = items
        self._server = server
        self._again = again
        self._whole: list[FinishedRow] = []
        self._started: list[events.TransferStarted] = []
        self._before: dict[int, float] = {}  # id of a transfer → seconds of earlier tries of its upload
        self._new: dict[int, Live] = {}
        self._older: set[int] = set()  # tries of an upload that are not its last
        self._reopened: set[int] = set()
        self._ended: list[events.TransferFinished] = []
        self._ended_rows: dict[int, int] = {}
        self._verified: list[events.TransferVerified] = []
        self._progress: dict[int, events.TransferProgressed] = {}
        self._progress_written_at: float | None = None  # monotonic seconds

    def write(self) -> None:
        for item in self._without_known() if self._again else self._items:
            self._take(item)
        self._insert()
        self._update()
        self._write_progress()

    def _take(self, item: Item) -> None:
        match item:
            case FinishedRow():
                self._whole.append(item)
            case Try(started, finished, before):
                self._started.append(started)
                self._ended.append(finished)
                if before is not None:
                    self._before[started.id] = before
            case events.TransferStarted():
                self._started.append(item)
            case events.TransferFinished():
                self._ended.append(item)
            case events.TransferVerified():
                self._verified.append(item)
            case events.TransferProgressed():
                self._progress[item.id] = item
            case _ if type(item) in self._listeners:
                self._listeners[type(item)](item)
            case Job():
                item.write()

    def _without_known(self) -> list[Item]:
        """Leave out what is written already: endings that a failed write left in the file twice, and the
        tries of an upload up to the one whose ending its row has, for it has all of them."""
        uploads = {item.started.upload for item in self._items if isinstance(item, Try)}
        ended = dict(Transfer.objects.filter(upload__in=uploads).values_list("upload", "finished_at"))
        left: list[Item] = []
        known: set[str] = set()
        ids = set(self._rows.ended)
        for item in reversed(self._items):
            if isinstance(item, FinishedRow | Try):
                if item.id in ids:
                    continue
                ids.add(item.id)
            if isinstance(item, Try):
                upload, own = item.started.upload, to_datetime(item.finished.at)
                if upload in known or ended.get(upload) in [own + shift for shift in NEAR]:
                    known.add(upload)
                    continue
            left.append(item)
        return left[::-1]

    def _insert(self) -> None:
        """Rows of what began in this batch; what also ended in it is written once, with its ending."""
        names = {event.name for event in self._started + self._ended} | {w.record.name for w in self._whole}
        self._files = dict(File.rows.filter(name__in=names).values_list("name", "pk")) if names else {}
        known = self._rows_of_uploads()
        states = self._states(known)
        rows: dict[int | str, int] = {key: row.pk for key, row in known.items()}
        new = [key for key in states if key not in rows]
        whole = self._not_begun()
        records = [states[key] for key in new] + [item.record for item in whole]
        keys = Transfer.objects.record(records, self._files, self._server)
        rows |= zip(new, keys[: len(new)], strict=True)
        self._ended_rows |= {item.id: pk for item, pk in zip(whole, keys[len(new) :], strict=True)}
        self._new = {
            event.id: Live(event, rows[event.upload or event.id], self._before.get(event.id, 0.0))
            for event in self._started
        }
        newest = {event.upload: event.id for event in self._started if event.upload}
        self._older = {e.id for e in self._started if e.upload and newest[e.upload] != e.id}
        self._reopen(known, states)

    def _states(self, known: "dict[str, Transfer]") -> dict[int | str, Record]:
        """What the row of each beginning is to say; all tries of an upload are one row."""
        endings = {event.id: event for event in self._ended}
        spent = {upload: row.seconds or 0.0 for upload, row in known.items()}
        for ending in self._ended:
            live = self._rows.live.get(ending.id)
            if live and live.started.upload in spent:  # more exact than what was written while it ran
                spent[live.started.upload] = live.before + ending.seconds
        states: dict[int | str, Record] = {}
        for event in self._started:
            key = event.upload or event.id
            before = self._before.setdefault(event.id, spent.get(event.upload, 0.0))
            begun = states[key].started_at if event.upload and key in states else event.at
            states[key] = record_of(event, endings.get(event.id), begun, before)
            if event.upload:
                spent[event.upload] = states[key].seconds or 0.0
        return states

    def _not_begun(self) -> list[FinishedRow]:
        """Those that have no row yet. What a spill file tells of may have one: it is given its ending."""
        if not self._again or not self._whole:
            return self._whole
        found = Transfer.objects.rows_of([whole.record.begun for whole in self._whole])
        missing = []
        for whole in self._whole:
            row = found.get(whole.record.begun)
            if row is None:
                missing.append(whole)
            else:
                self._ended_rows[whole.id] = row
                self._end(row, whole.record)
        return missing

    def _reopen(self, known: dict[str, Transfer], states: dict[int | str, Record]) -> None:
        for upload, row in known.items():
            state = states[upload]
            for field in REOPENED:
                setattr(row, field, getattr(state, field))
            row.file_id, row.server_id = self._files.get(state.name), self._server
            row.finished_at = None if state.finished_at is None else to_datetime(state.finished_at)
        self._reopened = {row.pk for row in known.values()}
        if known:
            Transfer.objects.bulk_update(
                known.values(), [*REOPENED, "file_id", "server_id", "finished_at"], batch_size=100
            )

    def _rows_of_uploads(self) -> dict[str, Transfer]:
        """Of uploads that are resumed after a break: they stay one row, from the first try to the last."""
        uploads = {event.upload for event in self._started if event.upload}
        return {row.upload: row for row in Transfer.objects.filter(upload__in=uploads)} if uploads else {}

    def _update(self) -> None:
        for event in self._ended:
            live = self._live(event.id)
            self._ended_rows[event.id] = live.row
            # An ending that is older than a new beginning of the same upload says nothing any more.
            if event.id not in self._new and live.row not in self._reopened:
                begun = live.started
                self._end(live.row, record_of(begun, event, begun.at, live.before))
        for receipt in self._verified:
            verdict: dict[str, Any] = {"verified": receipt.verified}
            if not receipt.verified:
                verdict |= {"outcome": Transfer.Outcome.FAILED, "error": "checksum"}
            pk = self._ended_rows.get(receipt.id) or self._rows.ended.get(receipt.id, NO_ROW)
            Transfer.objects.filter(pk=pk).update(**verdict)

    def _end(self, pk: int, record: Record) -> None:
        """Give a row its ending, also if somebody who took its server for dead has closed it meanwhile."""
        assert record.finished_at is not None
        Transfer.objects.filter(pk=pk, outcome__in=UNFINISHED).update(
            name=record.name,
            file_id=self._files.get(record.name),
            done=record.done,
            outcome=record.outcome,
            error=record.error,
            verified=record.verified,
            finished_at=to_datetime(record.finished_at),
            seconds=record.seconds,
        )

    def _live(self, key: int) -> Live:
        return self._new.get(key) or self._rows.live[key]

    def remember(self) -> None:
        rows = self._rows
        # Of a row that an upload has reopened, the ending of an older try says nothing any more.
        for key, live in rows.live.items():
            if live.row in self._reopened:
                rows.live[key] = live._replace(row=NO_ROW)
        for key, live in self._new.items():
            rows.live[key] = live._replace(row=NO_ROW) if key in self._older else live
        if self._progress_written_at is None:
            rows.progress |= self._progress
        else:
            rows.progress, rows.progress_due = {}, self._progress_written_at + PROGRESS_WRITES
        for key in self._ended_rows:
            rows.live.pop(key, None)
            rows.progress.pop(key, None)
        rows.remember_ended(self._ended_rows)

    def _write_progress(self) -> None:
        """Now and then, so that a row closed after a crash says about how much had moved, and how long."""
        now = time.monotonic()
        if now < self._rows.progress_due or not (self._progress or self._rows.progress):
            return
        self._progress_written_at = now
        told = []
        for key, event in (self._rows.progress | self._progress).items():
            live = self._new.get(key) or self._rows.live.get(key)
            if live and key not in self._ended_rows:
                told.append((event.done, live.before + event.seconds, live.row))
        bulk.update(Transfer, ("done", "seconds"), told)
