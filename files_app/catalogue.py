"""Keeps the ``File`` rows in step with the served folder.

What clients of the file server do arrives as events; what somebody copies into the folder by hand is found by
looking at it every few seconds. All writes go through the recorder's thread, so the rows have one writer.
"""

import logging
import mimetypes
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from django.db import connections

from files_app.models import File
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
        # name → etag, as the rows have it; changed in the recorder's thread only
        self._known: dict[str, str] = {}
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
        self._recorder.submit(partial(self._reconcile, differing, first=not known))
        self._written.wait()  # a look that started before the last one is written would see the same again

    # --- in the recorder's thread

    def _reconcile(self, names: list[str], first: bool) -> None:
        try:
            if names:
                self._write(names)
            if names or first:
                self._announce(len(self._known))
        finally:
            self._written.set()

    def _write(self, names: list[str]) -> None:
        # Looked at once more: a client's event that was on the queue before may have settled it already.
        present, gone = [], []
        for name in names:
            try:
                present.append(self._storage.stat(name))
            except ErrorReply:
                gone.append(name)
        for start in range(0, len(gone), WRITE_BATCH):
            File.objects.filter(name__in=gone[start : start + WRITE_BATCH]).delete()
        changed = [entry for entry in present if self._known.get(entry.name) != entry.etag]
        self._upsert([self._row(entry) for entry in changed])
        for name in gone:
            self._known.pop(name, None)
        self._known.update((entry.name, entry.etag) for entry in changed)

    def _published(self, event: FilePublished) -> None:
        row = self._row(Entry(event.name, event.size, event.mtime, event.etag))
        row.sha256, row.added_by = event.sha256, event.user or ""
        self._upsert([row])
        self._known[event.name] = event.etag
        self._announce(len(self._known))

    def _deleted(self, event: FileDeleted) -> None:
        log.info("%s deleted %s", event.client, event.name)
        File.objects.filter(name=event.name).delete()
        self._known.pop(event.name, None)
        self._announce(len(self._known))

    def _hashed(self, event: FileHashed) -> None:
        File.objects.filter(name=event.name, etag=event.etag).update(sha256=event.sha256)

    @staticmethod
    def _row(entry: Entry) -> File:
        return File(
            name=entry.name,
            size=entry.size,
            mtime=datetime.fromtimestamp(entry.mtime, UTC),
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
