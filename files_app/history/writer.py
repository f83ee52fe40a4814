"""Writes items into the database, batch by batch, and keeps what the database does not take.

While it cannot be written, what comes waits in memory. When that takes long, or becomes much, or when the
server ends, it is put aside into a file (``spill``), which is written first as soon as that works.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import groupby
from typing import Any
from uuid import uuid4

from django.db import OperationalError, connections, transaction

from files_app.database import OutOfService, is_out_of_service, sentence_of, sqlite_file
from files_app.history.batch import UNFINISHED, Batch
from files_app.history.items import FinishedRow, Item, Job, Try
from files_app.history.rows import Rows
from files_app.history.spill import Spill, rows_of_receipts, set_aside, slices, spill_path
from files_app.models import ServerRun, Transfer
from files_app.models.dates import to_datetime

log = logging.getLogger(__name__)

SIGN_OF_LIFE = 1.0  # seconds between two, while transfers run
RETRY_PAUSES = (0.1, 0.5, 1.0)  # seconds; the last one again and again
SPILL_AFTER = 5.0  # seconds that the database could not be written, after which endings are put aside
MAX_IN_MEMORY = 10_000  # items
NO_FILE = (0, 0)
SPILL_BATCH = 500  # of what was put aside, in one transaction


class Writer:
    """For one thread, but for what is marked. ``listeners`` are called in its transactions."""

    def __init__(self, listeners: dict[type, Callable[[Any], None]]) -> None:
        self.rows = Rows()
        self.spill = Spill(spill_path())
        self.failing_since: float | None = None  # monotonic seconds
        # Both are set by the thread that stops the server, in this order, and only read here: a float and an
        # event are never half set. Who reads the old deadline once more tries once more, and no harm is done.
        self.deadline = float("inf")  # monotonic seconds; from then on nothing is tried any more
        self.stopping = threading.Event()
        self._listeners = listeners
        self._run_key = uuid4().hex
        self._name = ""
        self._server: int | None = None  # the row of this run; None: not written yet
        self._seen_due = 0.0  # monotonic seconds
        self._file: tuple[int, int] | None = None  # device and number of the database's file
        self._failures = 0
        self._is_unkept = False  # the file does not take what is to be put aside, and that is told

    def register(self, name: str) -> None:
        """Give the first sign of life under the ``name`` of the server (``ServerRun``)."""
        self._name = name
        self._server = self._give_sign_of_life()

    def patience(self) -> float | None:
        """Seconds after which there is something to do though nothing has come; ``None``: there never is."""
        # What runs is told to be alive; with nothing left to write there is nothing to wake up for.
        return SIGN_OF_LIFE if self.rows.live or self.spill else None

    def write(self, items: list[Item]) -> list[Item]:
        """Write; what is left if the database is out of service. No poisonous event takes others with it."""
        if time.monotonic() >= self.deadline:
            return items
        try:
            items = self._begin_again_elsewhere() + items
            self.write_spilled()
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
            if left := self.write([item]):
                return left + items[number + 1 :]
        return []

    def _commit(self, items: list[Item]) -> None:
        now = time.monotonic()
        is_due = bool(self.rows.live or items) and now >= self._seen_due
        if not items and not is_due and self.failing_since is None:
            return
        with transaction.atomic():
            server = self._give_sign_of_life() if is_due else self._server
            batch = Batch(self.rows, self._listeners, items, server)
            batch.write()
        if is_due:
            self._seen_due, self._server = now + SIGN_OF_LIFE, server
        batch.remember()

    def _give_sign_of_life(self) -> int:
        """The row of this run, which is made if this database does not have it."""
        now = to_datetime(time.time())
        runs = ServerRun.objects.filter(key=self._run_key)
        if runs.update(seen_at=now):
            return self._server or runs.get().pk
        run = {"key": self._run_key, "name": self._name, "started_at": now, "seen_at": now}
        return ServerRun.objects.create(**run).pk

    def _begin_again_elsewhere(self) -> list[Item]:
        """Raise if the file of the database is gone; what runs is written once more if it is another one now.

        An open file that was removed takes writes as if nothing had happened. A backup that was copied over
        it has its number, and PostgreSQL has no file: another database is one without the row of this run.
        """
        file = self._found_file()
        if self._file not in (None, file):
            connections.close_all()
        elif self._server is None or ServerRun.objects.filter(pk=self._server, key=self._run_key).exists():
            self._file = file
            return []
        again = self.rows.begin_again(Transfer.objects.filter(outcome__in=UNFINISHED))
        self._file, self._seen_due = file, 0.0  # not before it has answered: else nobody asks once more
        return list(again)

    def _found_file(self) -> tuple[int, int] | None:
        path = sqlite_file()
        if path is None:
            return None
        try:
            found = path.stat()
        except FileNotFoundError as error:
            self._file = NO_FILE  # whatever comes back is another one, even under the old number
            raise OperationalError(f"{path} is gone") from error
        except OSError as error:
            raise OutOfService(f"The database {path} cannot be reached: {error.strerror}.") from error
        return found.st_dev, found.st_ino

    # --- out of service

    def _fail(self, error: Exception) -> None:
        connections.close_all()  # one to a database that was restarted would stay broken
        self._failures += 1
        if self.failing_since is None:
            self.failing_since = time.monotonic()
            kept = "Transfers go on; what is to be written is kept meanwhile"
            log.error("%s %s, in %s if it takes long.", sentence_of(error), kept, self.spill.path)

    def _succeed(self) -> None:
        if self.failing_since is not None:
            seconds = time.monotonic() - self.failing_since
            log.warning("the database can be written again, after %.0f s; nothing was lost", seconds)
            self.failing_since, self._failures = None, 0

    def outlast(self, left: list[Item]) -> list[Item]:
        """Wait until the next try. In the end, after long, or when there is much, put aside what may be."""
        now = time.monotonic()
        if now >= self.deadline:
            return self.put_aside(left, at_the_end=True)
        assert self.failing_since is not None
        if now - self.failing_since > SPILL_AFTER or len(left) > MAX_IN_MEMORY:
            left = self.put_aside(left, at_the_end=False)
        pause = min(RETRY_PAUSES[min(self._failures, len(RETRY_PAUSES)) - 1], self.deadline - now)
        if self.stopping.is_set():
            time.sleep(min(pause, RETRY_PAUSES[0]))
        else:
            self.stopping.wait(pause)
        return left

    def put_aside(self, items: list[Item], at_the_end: bool) -> list[Item]:
        lines, kept = set_aside(items, self.rows, self._run_key, self._listeners, at_the_end)
        try:
            if lines:
                self.spill.append(lines)
                self._is_unkept = False
                ended = {line.item.id for line in lines if isinstance(line.item, FinishedRow | Try)}
                self.rows.aside |= ended & self.rows.live.keys()
        except OSError as error:
            if at_the_end or not self._is_unkept:  # it is tried about once a second
                log.error("%d events of the history cannot be put aside (%s)", len(lines), error)
            if not at_the_end:
                self._is_unkept = True
                return items
            log.error("the server ends: they are lost")
        else:
            if at_the_end and lines:
                where = self.spill.path
                log.warning("%d events of the history wait in %s for the next start", len(lines), where)
        if at_the_end:
            _settle(kept)
            return []
        return kept

    def write_spilled(self) -> None:
        """Write what was put aside, in its order, and remove the file when all of it is committed.

        Raises ``OutOfService`` if the file cannot be read or removed: what comes later waits behind it.
        """
        if not self.spill:
            return
        try:
            count = self._write_lines()
            self.spill.remove()
            self.rows.aside.clear()
        except OSError as error:  # of the file: what is wrong with one of its events is told there
            reason = f"cannot be read and removed: {error.strerror}"
            raise OutOfService(f"{self.spill.path}, which events wait in, {reason}.") from error
        log.info("%d events of the history that were put aside are written", count)

    def _write_lines(self) -> int:
        count, rows = 0, {self._run_key: self.rows}
        known: dict[str, int] = dict(ServerRun.objects.values_list("key", "pk"))
        with closing(self.spill.lines()) as found:
            for run, lines in groupby(found, lambda line: line.run):
                own = rows.setdefault(run, Rows())
                for some in slices(lines, SPILL_BATCH):
                    if run in known:  # else its rows are of another database
                        own.ended |= rows_of_receipts(some)
                    count += self._write_again(own, [line.item for line in some], known.get(run))
        return count

    def _write_again(self, rows: Rows, items: list[Item], server: int | None) -> int:
        batch = Batch(rows, self._listeners, items, server, again=True)
        try:
            with transaction.atomic():
                batch.write()
        except Exception as error:
            if is_out_of_service(error):
                raise
            if len(items) > 1:
                return sum(self._write_again(rows, [item], server) for item in items)
            log.exception("left out of the history: %r", items[0])
            return 0
        batch.remember()
        return len(items)


def _settle(items: list[Item]) -> None:
    for item in items:
        if isinstance(item, Job):
            item.settled()
