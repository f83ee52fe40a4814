"""What can be had, and what was moved."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from django.db import models
from django.db.models import Count, F, Max, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from files_app import bulk
from fileserver.names import forms_of

MOST_WORDS = 20  # of a search; SQLite refuses conditions that are nested too deeply
COLUMNS = (  # of a File
    *("name", "size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by", "gone_at"),
)
ADDED = ("added_at", "added_by")  # of them, those that tell of the upload


class FileQuerySet(models.QuerySet["File"]):
    SORTS = ("name", "-name", "size", "-size", "mtime", "-mtime")

    def matching(self, text: str) -> "FileQuerySet":
        """Files whose name has every word of ``text`` in it."""
        return self.filter(*(_named(word) for word in _words(text)))

    def sorted_by(self, key: str) -> "FileQuerySet":
        """In the order of one of ``SORTS``; anything else is by name."""
        if key not in self.SORTS:
            key = "name"
        # Downwards is upwards reversed, names too: the same index, read from its other end, serves both.
        return self.order_by(key, "-name" if key.startswith("-") else "name")

    def upsert(self, files: "list[File]", kept: tuple[str, ...] = ()) -> None:
        """Insert these, or write them over the rows of their names, but for the columns that are ``kept``."""
        rows = [[getattr(file, column) for column in COLUMNS] for file in files]
        bulk.upsert(File, COLUMNS, rows, unique="name", kept=kept)

    def purge(self, gone_before: datetime, most: int) -> int:
        """Forget files that have been gone for long, ``most`` of them; how many they were."""
        old = self.filter(gone_at__lt=gone_before).order_by().values_list("pk", flat=True)[:most]
        keys = list(old)
        if keys:
            self.filter(pk__in=keys).delete()
        return len(keys)

    def with_downloads(self) -> "FileQuerySet":
        """Each file with ``downloads``: how often it arrived somewhere to its end.

        Of one that comes in parts, after a break or over several connections, one part has the end.
        """
        complete = (
            Transfer.objects.filter(file=OuterRef("pk"), direction="download", outcome="complete")
            .filter(size=F("offset") + F("length"))
            .order_by()
            .values("file")
            .annotate(times=Count("pk"))
            .values("times")
        )
        return self.annotate(downloads=Coalesce(Subquery(complete), Value(0)))


class FilesThatAreThere(models.Manager.from_queryset(FileQuerySet)):  # type: ignore[misc]
    """What people and programs are shown: without the files that are gone."""

    def get_queryset(self) -> FileQuerySet:
        found: FileQuerySet = super().get_queryset()
        return found.filter(gone_at=None)


class File(models.Model):
    """A file in the served folder, as the catalogue has last seen it.

    The row of one that has vanished by itself stays for some days (``GONE_FILE_DAYS``): a disk may have been
    missing at a start, and all that is known of its files is to come back with them.
    """

    name = models.CharField(max_length=1024, unique=True)
    size = models.BigIntegerField(help_text="bytes")
    mtime = models.DateTimeField("modified")
    etag = models.CharField(max_length=80, help_text="names one state of the file")
    sha256 = models.CharField(max_length=64, blank=True, help_text="empty until known")
    content_type = models.CharField(max_length=255)
    added_at = models.DateTimeField(default=timezone.now)
    added_by = models.CharField(max_length=150, blank=True)
    gone_at = models.DateTimeField(
        null=True, blank=True, help_text="since when it is not there; empty: it is"
    )

    rows = FileQuerySet.as_manager()  # the first one is Django's own choice, as for what leads to a file
    objects = FilesThatAreThere()

    class Meta:
        ordering = ["name"]
        indexes = [
            # Of the files that are there, which is what is asked for. The last column is always empty: with
            # it SQLite adds up all sizes from this index alone.
            models.Index(fields=["size", "name", "gone_at"], condition=Q(gone_at=None), name="files_by_size"),
            models.Index(fields=["mtime", "name"], condition=Q(gone_at=None), name="files_by_mtime"),
            models.Index(fields=["gone_at"], condition=Q(gone_at__isnull=False), name="gone_files"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return url_of(self.name)


def _named(word: str) -> Q:
    """Rows with ``word`` in their name, in whichever of Unicode's forms."""
    found = Q()
    for form in forms_of(word):
        found |= Q(name__icontains=form)
    return found


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(text.split()))[:MOST_WORDS]


FIRST = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 12, 30, tzinfo=UTC)  # a day before the calendar ends: every time zone can show it


def moment(seconds: float) -> datetime:
    """Unix time as a date, the nearest one there is: a file may be dated to any year."""
    return datetime.fromtimestamp(min(max(FIRST.timestamp(), seconds), LAST.timestamp()), UTC)


def url_of(name: str) -> str:
    """The URL of the file of that name, whether it exists or not."""
    return reverse("index") + "files/" + quote(name, safe="/")


class Record(NamedTuple):
    """A row of the history on its way into the database: a value for every column but the key.

    Moments are in Unix seconds; of the file, too, there is the name.
    """

    name: str
    file_id: str  # its name, until it is written
    direction: str
    size: int
    offset: int
    length: int
    done: int
    client: str
    user: str
    via: str
    thread: str
    pace: str
    upload: str
    started_at: float
    finished_at: float | None
    outcome: str
    error: str
    verified: bool | None
    seconds: float | None


class ServerRunQuerySet(models.QuerySet["ServerRun"]):
    def last_seen(self) -> datetime | None:
        """When a server was last known to be alive."""
        newest = self.order_by("-pk").first()
        return newest.seen_at if newest else None


class ServerRun(models.Model):
    """A file server from its start to its end: what it left running is closed at its last sign of life."""

    key = models.CharField(max_length=32, unique=True, help_text="names it outside the database too")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="renewed about once a second while transfers run")

    objects = ServerRunQuerySet.as_manager()

    def __str__(self) -> str:
        return f"server of {self.started_at}"


class TransferQuerySet(models.QuerySet["Transfer"]):
    def newest(self) -> "TransferQuerySet":
        return self.order_by("-started_at", "-pk")

    def ended(self) -> "TransferQuerySet":
        """The newest of those that have their ending."""
        return self.newest().exclude(outcome=Transfer.Outcome.RUNNING)

    def matching(self, *, text: str = "", **exact: str) -> "TransferQuerySet":
        """By words in name, client, thread or user, and by those fields in ``exact`` that are not empty."""
        words = (
            _named(word) | Q(client__icontains=word) | Q(thread__icontains=word) | Q(user__icontains=word)
            for word in _words(text)
        )
        return self.filter(*words, **{field: value for field, value in exact.items() if value})

    def record(self, rows: list[Record], files: Mapping[str, int]) -> list[int]:
        """Insert ``rows``; their keys. ``files`` has the keys of those files that there are."""
        return bulk.insert(Transfer, Record._fields, rows, {"file_id": files.get})

    def close_interrupted(self) -> int:
        """Give an ending to what a server that died left running; how many there were.

        It ends when that server was last known to be alive. Of a server that left no sign of life, that is
        when its last transfer ended.
        """
        left = list(self.filter(outcome=Transfer.Outcome.RUNNING))
        last = ServerRun.objects.last_seen() or self.aggregate(last=Max("finished_at"))["last"]
        for row in left:
            row.outcome = Transfer.Outcome.INTERRUPTED
            row.finished_at = max(row.started_at, last or row.started_at)
            if row.seconds is None:  # it died before the first were written
                row.seconds = (row.finished_at - row.started_at).total_seconds()
        self.bulk_update(left, ["outcome", "finished_at", "seconds"], batch_size=100)
        return len(left)


class Transfer(models.Model):
    """One download or upload, of whatever client: one row, with one ending."""

    class Direction(models.TextChoices):
        DOWNLOAD = "download"
        UPLOAD = "upload"

    class Via(models.TextChoices):
        TCP = "tcp", "TCP"
        WEB = "web", "Web"

    class Outcome(models.TextChoices):
        # All that the history knows: bytes may move, an upload may wait, or the server may just have died.
        RUNNING = "running", "Not ended"
        COMPLETE = "complete"
        ABORTED = "aborted"
        CANCELLED = "cancelled"
        FAILED = "failed"
        INTERRUPTED = "interrupted"

    name = models.CharField(max_length=1024)
    file = models.ForeignKey(
        File,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="transfers",
        db_index=False,  # one of those below begins with it
    )
    direction = models.CharField(max_length=8, choices=Direction)
    size = models.BigIntegerField(help_text="bytes of the whole file")
    offset = models.BigIntegerField(default=0, help_text="where it began")
    length = models.BigIntegerField(help_text="bytes that were to move")
    done = models.BigIntegerField(default=0, help_text="bytes that moved")
    client = models.CharField(max_length=100)
    user = models.CharField(max_length=150, blank=True)
    via = models.CharField(max_length=3, choices=Via)
    thread = models.CharField(max_length=40)
    pace = models.CharField(max_length=60, blank=True)
    upload = models.CharField(max_length=32, blank=True, help_text="by which an upload goes on after a break")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=11, choices=Outcome, default=Outcome.RUNNING)
    error = models.CharField(max_length=40, blank=True)
    verified = models.BooleanField(
        null=True, help_text="the receiver's hash was right; unknown: it gave none"
    )
    seconds = models.FloatField(
        null=True,
        blank=True,
        help_text="that it took, all tries of an upload together, by a clock that nobody sets; "
        "of one that runs, as last written",
    )

    objects = TransferQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-pk"]
        indexes = [
            # In the order in which rows come, so that each is put behind the last; read from its end.
            models.Index(fields=["started_at", "id"]),
            models.Index(fields=["file", "direction", "outcome"]),
            models.Index(fields=["outcome"], condition=Q(outcome="running"), name="running_transfers"),
            models.Index(fields=["upload"], condition=~Q(upload=""), name="uploads"),
        ]

    def __str__(self) -> str:
        return f"{self.direction} of {self.name}: {self.outcome}"

    @property
    def rate(self) -> float | None:
        """Bytes a second; ``None`` if it took no time that could be measured."""
        return self.done / self.seconds if self.seconds else None

    @property
    def percent(self) -> int:
        return 100 * self.done // self.length if self.length else 100
