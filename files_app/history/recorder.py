"""Writes what the file server's observer is told into the database: one queue, one writer thread.

The threads that move bytes only put events on the queue, which takes microseconds; measured with 200 threads
on SQLite, a write in each of them loses rows or waits for seconds. The writer takes what has gathered and
writes it in one transaction. Whatever else has to be written in the server's process goes through it too
(``submit``).

A transfer that ends before the writer has seen its beginning is made into its row by the thread that ends it:
to it the facts are at hand, while the writer, on another core, has to fetch each of them from memory.

How it is written, and what becomes of it while the database cannot be written, is in ``writer``.
"""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, connections

from files_app.history.items import FinishedRow, Item, Job
from files_app.history.rows import record_of
from files_app.history.writer import Writer
from fileserver import events

BATCH = 5000  # items in one transaction, at most
REST = 0.05  # seconds from one transaction to the next: one by one, short transfers would wait for their rows
BUSY = 200  # items in one transaction, after which there is the longer rest
BUSY_REST = 0.25  # seconds: the fewer and longer the writes, the less the bytes are held up
# Seconds that the database waits for a lock, in place of the settings' time: a stop is noticed.
BUSY_TIMEOUT = 1.0
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
        # Filled before the thread starts, and only read from then on.
        self._listeners: dict[type, Callable[[Any], None]] = {}
        # What the writer has not seen yet. Shared without a lock: every thread puts its own transfer in, and
        # ``pop`` is one step, so of two that want the same beginning exactly one gets it.
        self._begun: dict[int, events.TransferStarted] = {}
        # Shared without a lock too: see ``_wait``. Where the writer waits for the queue a WAKE wakes it.
        self._is_waiting = False
        self._flush_now = threading.Event()
        self._rested = 0.0  # monotonic seconds; of the writer thread
        self._writer = Writer(self._listeners)  # used before the thread starts, and in it

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
        self._writer.write_spilled()

    def register(self, name: str) -> None:
        """Give the first sign of life, under the ``name`` of the server (``ServerRun``)."""
        self._writer.register(name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is on the queue, or put it aside when that takes too long; then end the thread."""
        self._writer.deadline = time.monotonic() + WRITE_SECONDS
        self._writer.stopping.set()
        self._queue.put(None)
        self._flush_now.set()
        self._thread.join()

    # --- the writer thread

    def _run(self) -> None:
        # In place of the settings, which other threads share.
        options = connection.settings_dict["OPTIONS"] | _impatient_options()
        connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        left: list[Item] = []  # what the database has not taken
        ended = False
        try:
            while left or not ended:
                if not ended:
                    more, ended = self._gather(left)
                    left += more
                count = len(left)
                left = self._writer.write(left)
                self._rested = time.monotonic() + (REST if count < BUSY else BUSY_REST)
                if left:
                    left = self._writer.outlast(left)
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
        most = BATCH if self._writer.failing_since is None else BATCH + self._queue.qsize()
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
            return self._queue.get(timeout=self._writer.patience())
        except queue.Empty:
            return WAKE
        finally:
            self._is_waiting = False


def _impatient_options() -> dict[str, Any]:
    """Of a connection that waits for no lock for longer than ``BUSY_TIMEOUT``."""
    if connection.vendor == "sqlite":
        return {"timeout": BUSY_TIMEOUT}
    if connection.vendor == "postgresql":
        return {"options": f"-c lock_timeout={round(BUSY_TIMEOUT * 1000)}"}
    return {}
