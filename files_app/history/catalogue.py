"""Keeps the ``File`` rows in step with the served folder.

What clients of the file server do arrives as events; what somebody copies into the folder by hand is found by
looking at it every few seconds. All writes go through the recorder's thread, so the rows have one writer.

A folder that cannot be read is not an empty one: what was not seen stays as it is. A file that is seen to be
missing is marked as gone, and comes back with all that was known of it.
"""

import logging
import mimetypes
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import connections, transaction
from django.utils import timezone

from files_app.history.recorder import Recorder
from files_app.models import File, Transfer
from files_app.models.dates import to_datetime
from files_app.models.files import ADDED
from fileserver.events import FileDeleted, FileHashed, FilePublished
from fileserver.storage.base import Entry
from fileserver.storage.content import is_older_form
from fileserver.storage.folder import Storage
from fileserver.wire.replies import ErrorReply

log = logging.getLogger(__name__)

INTERVAL = 2.0  # seconds between two looks at the folder
SHARE = 20  # a look that takes long is followed by a rest of so many times as long
LOOK_BATCH = 500  # files between two rests of a look
BREATH = 0.001  # seconds of such a rest, in which the threads that serve run undisturbed
WRITE_BATCH = 900  # files in one transaction; some SQLites take 999 values in a statement
PURGE_INTERVAL = 3600.0  # seconds between two looks for files that have been gone for long
GONE = frozenset({"not-found", "not-a-file", "bad-name"})  # other refusals do not say that a file is gone


class Catalogue:
    """``start`` it when the recorder runs; ``announce`` gets the number of files after each change.

    The number is ``None`` until all files that were there at the start have been counted.
    """

    def __init__(self, storage: Storage, recorder: Recorder, announce: Callable[[int | None], None]) -> None:
        self._storage = storage
        self._recorder = recorder
        self._announce = announce
        # name → etag, as the rows have it; changed in the recorder's thread only, and when they are committed
        self._known: dict[str, str] = {}
        self._looked_at = timezone.now()  # when the last look began; what was there then has a row
        self._rest = INTERVAL  # seconds until the next look
        self._counted = False
        self._complaint = ""  # why the last look failed
        self._purge_due = 0.0  # monotonic seconds
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
            self._rest = INTERVAL
            try:
                self._look()
                self._complain("")
            except ErrorReply as error:
                self._complain(error.message)
            except Exception:  # the next look may go better; the files are served in any case
                log.exception("the folder could not be compared with the catalogue")
            self._stopping.wait(self._rest)

    def _complain(self, message: str) -> None:
        """Say once what is wrong with the folder, and once that it is over."""
        if message and message != self._complaint:
            log.error("%s The catalogue keeps what it knows of its files.", message)
        elif self._complaint and not message:
            log.info("the folder can be read again")
        self._complaint = message

    def _load(self) -> None:
        for name, etag, sha256 in File.objects.values_list("name", "etag", "sha256").iterator():
            self._known[name] = etag
            if sha256:
                self._storage.remember_hash(name, etag, sha256)

    def _look(self) -> None:
        """Compare the folder with the rows, and have the differences written."""
        begun, since = timezone.now(), time.monotonic()
        differing = self._differing()
        # Not of the time that the writes take: a database that is slow for a moment is no large folder.
        self._rest = max(INTERVAL, SHARE * (time.monotonic() - since))
        # Each batch is a job by itself, behind what has come meanwhile: so the history waits for one only.
        batches = [differing[at : at + WRITE_BATCH] for at in range(0, len(differing), WRITE_BATCH)]
        if not batches and not self._counted:
            batches.append([])
        for batch in batches:
            self._have_written(partial(self._reconcile, batch, batch is batches[-1]))
        self._looked_at = begun
        if time.monotonic() >= self._purge_due:
            self._purge_due = time.monotonic() + PURGE_INTERVAL
            self._have_written(self._purge)

    def _have_written(self, write: Callable[[], None]) -> None:
        """Return when it is committed: a look begun before would see the same again."""
        self._written.clear()
        if not self._stopping.is_set():  # set before stop ends the wait, so one of the two is seen
            self._recorder.submit(write, self._written.set)
            self._written.wait()

    def _differing(self) -> list[str]:
        """The names of files that are new, changed or gone."""
        left, differing, unread = dict(self._known), [], set[str]()
        with closing(self._storage.entries(unread=unread.add)) as entries:
            for number, entry in enumerate(entries):
                if left.pop(entry.name, None) != entry.etag:
                    differing.append(entry.name)
                if number % LOOK_BATCH == 0 and self._stopping.wait(BREATH):
                    return []
        folders = tuple(key for key in unread if key.endswith("/"))
        return differing + [name for name in left if name not in unread and not name.startswith(folders)]

    # --- in the recorder's thread

    def _reconcile(self, names: list[str], whole: bool) -> None:
        """Write how these files are now; ``whole`` if that makes all rows as the folder is."""
        # Both looked at once more: a client's event that was on the queue before may have settled it already.
        rows = {row.name: row for row in File.rows.filter(name__in=names)}
        present, gone = [], []
        for name in names:
            try:
                present.append(self._storage.stat(name))
            except ErrorReply as error:
                if error.code in GONE:
                    gone.append(name)
        File.rows.filter(name__in=gone, gone_at=None).update(gone_at=timezone.now())
        written = [self._seen(entry, rows.get(entry.name)) for entry in present]
        File.rows.upsert([row for row in written if row is not None], kept=ADDED)
        if new := [entry.name for entry in present if entry.name not in rows]:
            # A file is served from its first moment: it may have been downloaded before it had a row.
            Transfer.objects.link_to_files(new, self._looked_at)
        self._commit({entry.name: entry.etag for entry in present}, gone, whole)

    def _seen(self, entry: Entry, known: File | None) -> File | None:
        """The row that a file must have from now on; ``None`` if it has it already."""
        if known is not None and known.etag == entry.etag and known.gone_at is None:
            return None
        row = self._row(entry)
        if known is not None and (known.etag == entry.etag or is_older_form(known.etag, entry.etag)):
            row.sha256 = known.sha256
            if row.sha256:
                self._storage.remember_hash(entry.name, entry.etag, row.sha256)
        row.sha256 = row.sha256 or self._storage.sha256_of(entry) or ""  # told before there was a row
        return row

    def _published(self, event: FilePublished) -> None:
        row = self._row(Entry(event.name, event.size, event.mtime, event.etag))
        row.sha256, row.added_by = event.sha256, event.user or ""
        File.rows.upsert([row])
        self._commit({event.name: event.etag}, [])

    def _deleted(self, event: FileDeleted) -> None:
        log.info("%s deleted %s", event.client, event.name)
        File.rows.filter(name=event.name).delete()
        self._commit({}, [event.name])

    def _purge(self) -> None:
        before = timezone.now() - timedelta(days=settings.GONE_FILE_DAYS)
        if File.rows.purge(before, WRITE_BATCH) == WRITE_BATCH:
            self._purge_due = 0.0  # there may be more: with the next look

    def _commit(self, present: dict[str, str], gone: list[str], whole: bool = False) -> None:
        """Know and tell once the rows are committed: a page that asked before would not see them yet."""

        def note() -> None:
            self._known.update(present)
            for name in gone:
                self._known.pop(name, None)
            self._counted = self._counted or whole
            self._announce(len(self._known) if self._counted else None)

        transaction.on_commit(note, robust=True)

    def _hashed(self, event: FileHashed) -> None:
        File.objects.filter(name=event.name, etag=event.etag).update(sha256=event.sha256)

    @staticmethod
    def _row(entry: Entry) -> File:
        return File(
            name=entry.name,
            size=entry.size,
            mtime=to_datetime(entry.mtime),
            etag=entry.etag,
            content_type=mimetypes.guess_type(entry.name)[0] or "application/octet-stream",
        )
