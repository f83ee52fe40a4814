"""Keeps the ``File`` rows in step with the served folder.

What clients of the file server do arrives as events; what somebody copies into the folder by hand is found by
looking at it every few seconds. All writes go through the recorder's thread, so the rows have one writer.
"""

import logging
import mimetypes
import threading
import time
from collections.abc import Callable
from functools import partial

from django.db import connections, transaction

from files_app.models import File, moment
from files_app.recorder import Recorder
from fileserver.events import FileDeleted, FileHashed, FilePublished
from fileserver.protocol import ErrorReply
from fileserver.storage import Entry, Storage

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks at the folder
SHARE = 20  # a look that takes long is followed by a rest of so many times as long
WRITE_BATCH = 500  # rows in one statement


class Catalogue:
    """``start`` it when the recorder runs; ``announce`` gets the number of files after each change."""

    def __init__(self, storage: Storage, recorder: Recorder, announce: Callable[[int], None]) -> None:
        self._storage = storage
        self._recorder = recorder
        self._announce = announce
        # name → etag, as the rows have it; changed in the recorder's thread only, and when they are committed
        self._known: dict[str, str] = {}
        self._counted = False
        self._written = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="Catalogue")
        recorder.listen(FilePublished, self._published)
        recorder.listen(FileDeleted, self._deleted)
        recorder.listen(FileHashed, self._hashed)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._written.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._load()
        finally:
            connections.close_all()
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._look()
            except Exception:  # the next look may go better; the files are served in any case
                log.exception("the folder could not be compared with the catalogue")
            self._stopping.wait(max(INTERVAL, SHARE * (time.monotonic() - begun)))

    def _load(self) -> None:
        for name, etag, sha256 in File.objects.values_list("name", "etag", "sha256").iterator():
            self._known[name] = etag
            if sha256:
                self._storage.remember_hash(name, etag, sha256)

    def _look(self) -> None:
        """Compare the folder with the rows, and have the differences written."""
        known = dict(self._known)
        found = {entry.name: entry for entry in self._storage.entries()}
        differing = [name for name, entry in found.items() if known.get(name) != entry.etag]
        differing += known.keys() - found.keys()
        self._written.clear()
        if self._stopping.is_set():  # set before stop ends the wait, so one of the two is seen
            return
        self._recorder.submit(partial(self._reconcile, differing))
        self._written.wait()  # a look that started before the last one is written would see the same again

    # --- in the recorder's thread

    def _reconcile(self, names: list[str]) -> None:
        try:
            for start in range(0, len(names), WRITE_BATCH):
                self._write(names[start : start + WRITE_BATCH])
            if not names and not self._counted:
                self._commit({}, [])
        finally:
            self._written.set()

    def _write(self, names: list[str]) -> None:
        # Both looked at once more: a client's event that was on the queue before may have settled it already.
        rows = dict(File.objects.filter(name__in=names).values_list("name", "etag"))
        present, gone = [], []
        for name in names:
            try:
                present.append(self._storage.stat(name))
            except ErrorReply:
                gone.append(name)
        File.objects.filter(name__in=gone).delete()
        self._upsert([self._row(entry) for entry in present if rows.get(entry.name) != entry.etag])
        self._commit({entry.name: entry.etag for entry in present}, gone)

    def _published(self, event: FilePublished) -> None:
        row = self._row(Entry(event.name, event.size, event.mtime, event.etag))
        row.sha256, row.added_by = event.sha256, event.user or ""
        self._upsert([row])
        self._commit({event.name: event.etag}, [])

    def _deleted(self, event: FileDeleted) -> None:
        log.info("%s deleted %s", event.client, event.name)
        File.objects.filter(name=event.name).delete()
        self._commit({}, [event.name])

    def _commit(self, present: dict[str, str], gone: list[str]) -> None:
        """Know and tell once the rows are committed: a page that asked before would not see them yet."""

        def note() -> None:
            self._known.update(present)
            for name in gone:
                self._known.pop(name, None)
            self._counted = True
            self._announce(len(self._known))

        transaction.on_commit(note, robust=True)

    def _hashed(self, event: FileHashed) -> None:
        File.objects.filter(name=event.name, etag=event.etag).update(sha256=event.sha256)

    @staticmethod
    def _row(entry: Entry) -> File:
        return File(
            name=entry.name,
            size=entry.size,
            mtime=moment(entry.mtime),
            etag=entry.etag,
            content_type=mimetypes.guess_type(entry.name)[0] or "application/octet-stream",
        )

    @staticmethod
    def _upsert(rows: list[File]) -> None:
        File.objects.bulk_create(
            rows,
            batch_size=WRITE_BATCH,
            update_conflicts=True,
            unique_fields=["name"],
            update_fields=["size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by"],
        )
