"""Writes what the file server's observer is told into the database: one queue, one writer thread.

The threads that move bytes only put events on the queue, which takes microseconds; measured with 200 threads
on SQLite, a write in each of them loses rows or waits for seconds. The writer takes what has gathered and
writes it in one transaction. Whatever else has to be written in the server's process goes through it too
(``submit``).

A transfer that ends before the writer has seen its beginning is made into its row by the thread that ends it:
to it the facts are at hand, while the writer, on another core, has to fetch each of them from memory.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from django.db import InterfaceError, OperationalError, connections, transaction

from files_app.models import File, Record, Transfer, moment
from fileserver import events

log = logging.getLogger(__name__)

BATCH = 5000  # items in one transaction, at most
REST = 0.05  # seconds from one transaction to the next: one by one, short transfers would wait for their rows
BUSY = 200  # items in one transaction, after which there is the longer rest
BUSY_REST = 0.25  # seconds: the fewer and longer the writes, the less the bytes are held up
REMEMBERED = 10_000  # ended transfers, at least, whose receipt may still come
PROGRESS_WRITES = 10.0  # seconds between two writes of the progress of what runs
NO_ROW = 0  # no row has this key
RETRY_PAUSES = (0.1, 0.5, 2.0, 5.0)  # seconds; the last one again and again

WRITTEN = {events.TransferStarted, events.TransferProgressed, events.TransferVerified}


@dataclass(frozen=True, slots=True)
class Job:
    """Something else to be written; ``settled`` is called when it is committed, or given up for good."""

    write: Callable[[], None]
    settled: Callable[[], None]


LOOK = Job(lambda: None, lambda: None)  # wakes the writer where it waits for the queue; never in a batch


class Whole(NamedTuple):
    """A transfer that has ended: its row is written once."""

    id: int
    record: Record


Item = events.Event | Whole | Job


class Recorder:
    """An observer. ``start`` it before the server, ``stop`` it after: then everything is written."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="Recorder")
        self._stopping = threading.Event()
        self._listeners: dict[type, Callable[[Any], None]] = {}
        # What the writer has not seen yet. Where it waits for the queue it is woken by a LOOK.
        self._begun: dict[int, events.TransferStarted] = {}
        self._is_waiting = False
        self._rows: dict[int, int] = {}  # id of a live transfer → its row
        self._ended_rows: dict[int, int] = {}
        self._progress: dict[int, int] = {}
        self._progress_due = 0.0
        self._rested = 0.0  # monotonic seconds
        self._no_rest = threading.Event()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.TransferStarted) and not event.upload:  # which may have a row already
            self._begun[event.id] = event
            if self._is_waiting:
                self._queue.put(LOOK)
        elif isinstance(event, events.TransferFinished):
            # Who takes its beginning out writes it.
            begun = self._begun.pop(event.id, None)
            self._queue.put(Whole(event.id, _record(begun, event, begun.at)) if begun else event)
        elif type(event) in WRITTEN or type(event) in self._listeners:
            self._queue.put(event)

    def submit(self, write: Callable[[], None], settled: Callable[[], None] = lambda: None) -> None:
        """Have ``write`` run in the writer thread, in a transaction, behind what is on the queue already."""
        self._queue.put(Job(write, settled))
        self._no_rest.set()  # it is many rows already, and somebody waits for them

    def listen(self, kind: type, listener: Callable[[Any], None]) -> None:
        """Have ``listener`` called in the writer thread, in its transaction, for each event of ``kind``."""
        self._listeners[kind] = listener

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is on the queue, then end the thread."""
        self._stopping.set()
        self._queue.put(None)
        self._no_rest.set()
        self._thread.join()

    # --- the writer thread

    def _run(self) -> None:
        try:
            ended = False
            while not ended:
                batch, ended = self._gather()
                self._write_with_patience(batch)
                self._rested = time.monotonic() + (REST if len(batch) < BUSY else BUSY_REST)
                for item in batch:
                    if isinstance(item, Job):
                        item.settled()
        finally:
            connections.close_all()

    def _gather(self) -> tuple[list[Item], bool]:
        """What has come since the last batch; and whether it was the end."""
        batch: list[Item] = []
        item = self._wait()
        if self._queue.qsize() < BATCH:
            self._no_rest.wait(self._rested - time.monotonic())
        self._no_rest.clear()
        while item is not None:
            if item is not LOOK:
                batch.append(item)
            if len(batch) >= BATCH:
                break
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        # Looked for last, so that nothing overtakes them, and written first.
        taken = [self._begun.pop(key, None) for key in list(self._begun)]
        return [event for event in taken if event] + batch, item is None

    def _wait(self) -> Item | None:
        # Said before it looks, while others look whether it waits after they have put something there: so
        # either it sees what is there, or they see that it waits.
        self._is_waiting = True
        try:
            return LOOK if self._begun else self._queue.get()
        finally:
            self._is_waiting = False

    def _write_with_patience(self, items: list[Item]) -> None:
        """Write; wait out a locked or full database, and let no poisonous event take others with it."""
        for attempt in range(10_000):
            batch = _Batch(self, items)
            try:
                with transaction.atomic():
                    batch.write()
            except (OperationalError, InterfaceError) as error:
                connections.close_all()  # one to a database that was restarted would stay broken
                pause = RETRY_PAUSES[min(attempt, len(RETRY_PAUSES) - 1)]
                log.error("the history cannot be written (%s); trying again in %g s", error, pause)
                if self._stopping.wait(pause) and attempt >= len(RETRY_PAUSES):
                    log.error("the server ends: %d events of the history are lost", len(items))
                    return
            except Exception:
                if len(items) == 1:
                    log.exception("left out of the history: %r", items[0])
                    return
                for item in items:
                    self._write_with_patience([item])
                return
            else:
                batch.remember()
                return


class _Batch:
    """Some events on their way into the database, inside one transaction.

    The recorder remembers nothing of it before it is committed: after a rollback the same events come again.
    """

    def __init__(self, recorder: Recorder, items: list[Item]) -> None:
        self._recorder = recorder
        self._items = items
        self._whole: list[Whole] = []
        self._started: list[events.TransferStarted] = []
        self._new: dict[int, int] = {}  # id of a transfer that began → its row
        self._older: set[int] = set()  # tries of an upload that are not its last
        self._reopened: set[int] = set()
        self._ended: list[events.TransferFinished] = []
        self._ended_rows: dict[int, int] = {}
        self._verified: list[events.TransferVerified] = []

    def write(self) -> None:
        for item in self._items:
            self._take(item)
        self._insert()
        self._update()
        self._write_progress()

    def _take(self, item: Item) -> None:
        match item:
            case Whole():
                self._whole.append(item)
            case events.TransferStarted():
                self._started.append(item)
            case events.TransferFinished():
                self._ended.append(item)
            case events.TransferVerified():
                self._verified.append(item)
            case events.TransferProgressed():
                self._recorder._progress[item.id] = item.done
            case _ if type(item) in self._recorder._listeners:
                self._recorder._listeners[type(item)](item)
            case Job():
                item.write()

    def _insert(self) -> None:
        """Rows of what began in this batch; what also ended in it is written once, with its ending."""
        names = {event.name for event in self._started + self._ended} | {w.record.name for w in self._whole}
        self._files = dict(File.rows.filter(name__in=names).values_list("name", "pk")) if names else {}
        known = self._rows_of_uploads()
        endings = {event.id: event for event in self._ended}
        states: dict[int | str, Record] = {}  # of each row; all tries of an upload are one
        for event in self._started:
            key = event.upload or event.id
            begun = states[key].started_at if event.upload and key in states else event.at
            states[key] = _record(event, endings.get(event.id), begun)
        rows: dict[int | str, int] = {key: row.pk for key, row in known.items()}
        new = [key for key in states if key not in rows]
        records = [states[key] for key in new] + [whole.record for whole in self._whole]
        keys = Transfer.objects.record(records, self._files)
        rows |= zip(new, keys[: len(new)], strict=True)
        self._ended_rows = {whole.id: pk for whole, pk in zip(self._whole, keys[len(new) :], strict=True)}
        self._new = {event.id: rows[event.upload or event.id] for event in self._started}
        newest = {event.upload: event.id for event in self._started if event.upload}
        self._older = {e.id for e in self._started if e.upload and newest[e.upload] != e.id}
        self._reopen(known, states)

    def _reopen(self, known: dict[str, Transfer], states: dict[int | str, Record]) -> None:
        for upload, row in known.items():
            state = states[upload]
            for field in REOPENED:
                setattr(row, field, getattr(state, field))
            row.file_id = self._files.get(state.name)
            row.finished_at = None if state.finished_at is None else moment(state.finished_at)
        self._reopened = {row.pk for row in known.values()}
        if known:
            Transfer.objects.bulk_update(
                known.values(), [*REOPENED, "file_id", "finished_at"], batch_size=100
            )

    def _rows_of_uploads(self) -> dict[str, Transfer]:
        """Of uploads that go on after a break: they stay one row, from the first try to the last."""
        uploads = {event.upload for event in self._started if event.upload}
        return {row.upload: row for row in Transfer.objects.filter(upload__in=uploads)} if uploads else {}

    def _update(self) -> None:
        recorder = self._recorder
        for event in self._ended:
            recorder._progress.pop(event.id, None)
            pk = self._ended_rows[event.id] = self._live_row(event.id)
            # An ending that is older than a new beginning of the same upload says nothing any more.
            if event.id not in self._new and pk not in self._reopened:
                Transfer.objects.filter(pk=pk, finished_at=None).update(
                    name=event.name,
                    file_id=self._files.get(event.name),
                    done=event.done,
                    outcome=event.outcome,
                    error=event.error,
                    verified=event.verified,
                    finished_at=moment(event.at),
                )
        for receipt in self._verified:
            verdict: dict[str, Any] = {"verified": receipt.verified}
            if not receipt.verified:
                verdict |= {"outcome": Transfer.Outcome.FAILED, "error": "checksum"}
            pk = self._ended_rows.get(receipt.id) or recorder._ended_rows.get(receipt.id, 0)
            Transfer.objects.filter(pk=pk).update(**verdict)

    def _live_row(self, key: int) -> int:
        row = self._new.get(key)
        return self._recorder._rows[key] if row is None else row

    def remember(self) -> None:
        recorder = self._recorder
        # Of a row that an upload has reopened, the ending of an older try says nothing any more.
        for key, pk in recorder._rows.items():
            if pk in self._reopened:
                recorder._rows[key] = NO_ROW
        for event in self._ended:
            recorder._rows.pop(event.id, None)
        for key, row in self._new.items():
            if key not in self._ended_rows:
                recorder._rows[key] = NO_ROW if key in self._older else row
        recorder._ended_rows.update(self._ended_rows)
        too_many = len(recorder._ended_rows) - REMEMBERED
        if too_many > REMEMBERED:  # seldom, as it looks at all
            recorder._ended_rows = dict(islice(recorder._ended_rows.items(), too_many, None))

    def _write_progress(self) -> None:
        """Now and then, so that a row closed after a crash says about how much had moved."""
        recorder, now = self._recorder, time.monotonic()
        if not recorder._progress or now < recorder._progress_due:
            return
        recorder._progress_due = now + PROGRESS_WRITES
        rows = [
            Transfer(pk=self._live_row(key), done=done)
            for key, done in recorder._progress.items()
            if key in recorder._rows or key in self._new
        ]
        Transfer.objects.bulk_update(rows, ["done"], batch_size=200)
        recorder._progress.clear()


# What a row takes over from the next try of its upload, beside its file and its end.
REOPENED = ("name", "done", "client", "user", "via", "thread", "pace", "outcome", "error")


def _record(event: events.TransferStarted, ending: events.TransferFinished | None, begun: float) -> Record:
    name = (ending or event).name
    return Record(
        name,
        name,
        event.direction,
        event.size,
        event.offset,
        event.length,
        (ending or event).done,
        event.client[:100],
        (event.user or "")[:150],
        event.via,
        event.thread,
        event.pace,
        event.upload,
        begun,
        ending.at if ending else None,
        ending.outcome if ending else "running",
        ending.error if ending else "",
        ending.verified if ending else None,
    )
