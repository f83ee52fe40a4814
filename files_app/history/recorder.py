"""Writes what the file server's observer is told into the database: one queue, one writer thread.

The threads that move bytes only put events on the queue, which takes microseconds; measured with 200 threads
on SQLite, a write in each of them loses rows or waits for seconds. The writer takes what has gathered and
writes it in one transaction. Whatever else has to be written in the server's process goes through it too
(``submit``).

A transfer that ends before the writer has seen its beginning is made into its row by the thread that ends it:
to it the facts are at hand, while the writer, on another core, has to fetch each of them from memory.

While the database cannot be written, what comes waits in memory. When that takes long, or becomes much, or
when the server ends, it is put aside into a file (``spill``), which is written first as soon as that works.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import groupby, islice
from typing import Any
from uuid import uuid4

from django.db import OperationalError, connection, connections, transaction

from files_app.database import is_out_of_service, sentence_of, sqlite_file
from files_app.history.batch import Batch, FinishedRow, Item, Job, Rows, record_of
from files_app.history.spill import Line, Spill, set_aside, spill_path
from files_app.models import ServerRun
from files_app.models.dates import to_datetime
from fileserver import events

log = logging.getLogger(__name__)

BATCH = 5000  # items in one transaction, at most
REST = 0.05  # seconds from one transaction to the next: one by one, short transfers would wait for their rows
BUSY = 200  # items in one transaction, after which there is the longer rest
BUSY_REST = 0.25  # seconds: the fewer and longer the writes, the less the bytes are held up
SIGN_OF_LIFE = 1.0  # seconds between two, while transfers run
RETRY_PAUSES = (0.1, 0.5, 1.0)  # seconds; the last one again and again
BUSY_TIMEOUT = 1.0  # seconds that SQLite waits for a lock, in place of the settings' time: a stop is noticed
SPILL_AFTER = 5.0  # seconds that the database could not be written, after which endings are put aside
MAX_IN_MEMORY = 10_000  # items
SPILL_BATCH = 500  # of what was put aside, in one transaction
WRITE_SECONDS = 5.0  # that a stop leaves for writing
STOP_SECONDS = WRITE_SECONDS + BUSY_TIMEOUT + 2.0  # that a stop takes at the most, putting aside included

WRITTEN = {events.TransferStarted, events.TransferProgressed, events.TransferVerified}
WAKE = Job(lambda: None, lambda: None)  # wakes the writer where it waits for the queue; never in a batch


class Recorder:
    """An observer. ``start`` it before the server, ``stop`` it after: then all is written, or on the disk for
    the next start, which is to ``recover`` it."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="Recorder")
        self._stopping = threading.Event()
        self._deadline = float("inf")  # monotonic seconds; from then on nothing is tried any more
        self._listeners: dict[type, Callable[[Any], None]] = {}
        # What the writer has not seen yet. Where it waits for the queue it is woken by a WAKE.
        self._begun: dict[int, events.TransferStarted] = {}
        self._is_waiting = False
        self._rows = Rows()
        self._rested = 0.0  # monotonic seconds
        self._flush_now = threading.Event()
        self._run_key = uuid4().hex
        self._seen_due = 0.0  # monotonic seconds
        self._spill = Spill(spill_path())
        self._file: tuple[int, int] | None = None  # device and number of the database's file
        self._failing_since: float | None = None  # monotonic seconds
        self._failures = 0

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.TransferStarted) and not event.upload:  # which may have a row already
            self._begun[event.id] = event
            if self._is_waiting:
                self._queue.put(WAKE)
        elif isinstance(event, events.TransferFinished):
            # Who takes its beginning out writes it.
            begun = self._begun.pop(event.id, None)
            self._queue.put(FinishedRow(event.id, record_of(begun, event, begun.at)) if begun else event)
        elif type(event) in WRITTEN or type(event) in self._listeners:
            self._queue.put(event)

    def submit(self, write: Callable[[], None], settled: Callable[[], None] = lambda: None) -> None:
        """Have ``write`` run in the writer thread, in a transaction, behind what is on the queue already."""
        self._queue.put(Job(write, settled))
        self._flush_now.set()  # it is many rows already, and somebody waits for them

    def listen(self, kind: type, listener: Callable[[Any], None]) -> None:
        """Have ``listener`` called in the writer thread, in its transaction, for each event of ``kind``."""
        self._listeners[kind] = listener

    def recover(self) -> None:
        """Write what an earlier server had to put aside, before its rows are closed as interrupted.

        Raises ``DatabaseError`` when that cannot be written now; it is kept then.
        """
        self._write_spilled()

    def register(self) -> None:
        """Give the first sign of life: from here on what is found running is of this server."""
        self._give_sign_of_life()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is on the queue, or put it aside when that takes too long; then end the thread."""
        self._deadline = time.monotonic() + WRITE_SECONDS
        self._stopping.set()
        self._queue.put(None)
        self._flush_now.set()
        self._thread.join()

    # --- the writer thread

    def _run(self) -> None:
        # In place of the settings, which other threads share.
        options = connection.settings_dict["OPTIONS"]
        if connection.vendor == "sqlite":
            options = {**options, "timeout": BUSY_TIMEOUT}
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        left: list[Item] = []  # what the database has not taken
        ended = False
        try:
            while left or not ended:
                if not ended:
                    more, ended = self._gather(left)
                    left += more
                count = len(left)
                left = self._write(left)
                self._rested = time.monotonic() + (REST if count < BUSY else BUSY_REST)
                if left:
                    left = self._outlast(left)
        finally:
            connections.close_all()

    def _gather(self, left: list[Item]) -> tuple[list[Item], bool]:
        """What has come since the last batch, and whether it was the end. Waits if nothing is ``left``."""
        batch: list[Item] = []
        item = WAKE if left else self._wait()
        if self._queue.qsize() < BATCH and not left:
            self._flush_now.wait(self._rested - time.monotonic())
        self._flush_now.clear()
        # While nothing can be written, all of it: what waits in memory is counted in one place.
        most = BATCH if self._failing_since is None else BATCH + self._queue.qsize()
        while item is not None:
            if item is not WAKE:
                batch.append(item)
            if len(batch) >= most:
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
            if self._begun:
                return WAKE
            # What runs is told to be alive; with nothing left to write there is nothing to wake up for.
            return self._queue.get(timeout=SIGN_OF_LIFE if self._rows.live or self._spill else None)
        except queue.Empty:
            return WAKE
        finally:
            self._is_waiting = False

    def _write(self, items: list[Item]) -> list[Item]:
        """Write; what is left if the database is out of service. No poisonous event takes others with it."""
        if time.monotonic() >= self._deadline:
            return items
        try:
            items = self._begin_again_elsewhere() + items
            self._write_spilled()
            self._commit(items)
        except Exception as error:
            if is_out_of_service(error):
                self._fail(error)
                return items
            if len(items) > 1:
                return self._write_one_by_one(items)
            log.exception("left out of the history: %r", items[0] if items else None)
        else:
            self._succeed()
        _settle(items)
        return []

    def _write_one_by_one(self, items: list[Item]) -> list[Item]:
        for number, item in enumerate(items):
            if left := self._write([item]):
                return left + items[number + 1 :]
        return []

    def _commit(self, items: list[Item]) -> None:
        now = time.monotonic()
        is_due = bool(self._rows.live or items) and now >= self._seen_due
        if not items and not is_due and self._failing_since is None:
            return
        batch = Batch(self._rows, self._listeners, items)
        with transaction.atomic():
            batch.write()
            if is_due:
                self._give_sign_of_life()
        if is_due:
            self._seen_due = now + SIGN_OF_LIFE
        batch.remember()

    def _give_sign_of_life(self) -> None:
        now = to_datetime(time.time())
        if not ServerRun.objects.filter(key=self._run_key).update(seen_at=now):
            ServerRun.objects.create(key=self._run_key, started_at=now, seen_at=now)

    def _begin_again_elsewhere(self) -> list[Item]:
        """Raise if the file of the database is gone; what runs is written once more if it is another one now.

        An open file that was removed takes writes as if nothing had happened.
        """
        path = sqlite_file()
        if path is None:
            return []
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise OperationalError(f"{path} is gone") from error
        before, self._file = self._file, (found.st_dev, found.st_ino)
        if before in (None, self._file):
            return []
        connections.close_all()
        self._seen_due = 0.0
        return list(self._rows.begin_again())

    # --- out of service

    def _fail(self, error: Exception) -> None:
        connections.close_all()  # one to a database that was restarted would stay broken
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            kept = "Transfers go on; what is to be written is kept meanwhile"
            log.error("%s %s, in %s if it takes long.", sentence_of(error), kept, self._spill.path)

    def _succeed(self) -> None:
        if self._failing_since is not None:
            seconds = time.monotonic() - self._failing_since
            log.warning("the database can be written again, after %.0f s; nothing was lost", seconds)
            self._failing_since, self._failures = None, 0

    def _outlast(self, left: list[Item]) -> list[Item]:
        """Wait until the next try. In the end, after long, or when there is much, put aside what may be."""
        now = time.monotonic()
        if now >= self._deadline:
            return self._put_aside(left, at_the_end=True)
        assert self._failing_since is not None
        if now - self._failing_since > SPILL_AFTER or len(left) > MAX_IN_MEMORY:
            left = self._put_aside(left, at_the_end=False)
        pause = min(RETRY_PAUSES[min(self._failures, len(RETRY_PAUSES)) - 1], self._deadline - now)
        if self._stopping.is_set():
            time.sleep(min(pause, RETRY_PAUSES[0]))
        else:
            self._stopping.wait(pause)
        return left

    def _put_aside(self, items: list[Item], at_the_end: bool) -> list[Item]:
        lines, kept = set_aside(items, self._rows, self._run_key, self._listeners, at_the_end)
        try:
            if lines:
                self._spill.append(lines)
        except OSError as error:
            log.error("%d events of the history cannot be put aside (%s)", len(lines), error)
            if not at_the_end:
                return items
            log.error("the server ends: they are lost")
        else:
            if at_the_end and lines:
                where = self._spill.path
                log.warning("%d events of the history wait in %s for the next start", len(lines), where)
        if at_the_end:
            _settle(kept)
            return []
        return kept

    def _write_spilled(self) -> None:
        """Write what was put aside, in its order, and remove the file when all of it is committed."""
        if not self._spill:
            return
        count, rows = 0, {self._run_key: self._rows}
        known = set(ServerRun.objects.values_list("key", flat=True))
        with closing(self._spill.lines()) as found:
            for run, lines in groupby(found, lambda line: line.run):
                own = rows.setdefault(run, Rows())
                for some in _slices(lines):
                    if run in known:  # else its rows are of another database
                        own.ended |= _rows_of_receipts(some)
                    count += self._write_again(own, [line.item for line in some])
        self._spill.remove()
        log.info("%d events of the history that were put aside are written", count)

    def _write_again(self, rows: Rows, items: list[Item]) -> int:
        batch = Batch(rows, self._listeners, items, again=True)
        try:
            with transaction.atomic():
                batch.write()
        except Exception as error:
            if is_out_of_service(error):
                raise
            if len(items) > 1:
                return sum(self._write_again(rows, [item]) for item in items)
            log.exception("left out of the history: %r", items[0])
            return 0
        batch.remember()
        return len(items)


def _slices(lines: Iterator[Line]) -> Iterator[list[Line]]:
    while some := list(islice(lines, SPILL_BATCH)):
        yield some


def _rows_of_receipts(lines: list[Line]) -> dict[int, int]:
    receipts = [(line.item, line.row) for line in lines if line.row]
    return {item.id: row for item, row in receipts if isinstance(item, events.TransferVerified)}


def _settle(items: list[Item]) -> None:
    for item in items:
        if isinstance(item, Job):
            item.settled()
