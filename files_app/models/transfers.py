"""What was moved: a row for each download and upload, whatever its client."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import models
from django.db.models import Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from files_app.models import bulk
from files_app.models.dates import to_datetime
from files_app.models.files import File
from files_app.models.runs import ServerRun
from files_app.models.words import named, words_of

SILENT = timedelta(hours=1)  # after which a server that gave no sign of life is taken for dead
MICROSECOND = timedelta(microseconds=1)
NEAR = (timedelta(0), -MICROSECOND, MICROSECOND)  # an older version rounded some moments in another way


class Begun(NamedTuple):
    """A thread serves one client at a time, so these three together are of one transfer only."""

    at: float  # Unix seconds
    thread: str
    client: str


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
    server_id: int | None = None  # until it is written
    principal: str = ""  # missing in what an older version has spilled

    @property
    def begun(self) -> Begun:
        return Begun(self.started_at, self.thread, self.client)


class TransferQuerySet(models.QuerySet["Transfer"]):
    def newest(self) -> "TransferQuerySet":
        return self.order_by("-started_at", "-pk")

    def ended(self) -> "TransferQuerySet":
        """The newest of those that have their ending."""
        return self.newest().exclude(outcome=Transfer.Outcome.RUNNING)

    def of_user(self, name: str | None) -> "TransferQuerySet":
        """Those of one user; of nobody, if there is no name. Who comes by a link may have typed any name."""
        return self.filter(user=name).exclude(principal__startswith="link:") if name else self.none()

    def matching(self, *, text: str = "", **exact: str) -> "TransferQuerySet":
        """By words in name, client, thread or user, and by those fields in ``exact`` that are not empty."""
        words = (
            named(word) | Q(client__icontains=word) | Q(thread__icontains=word) | Q(user__icontains=word)
            for word in words_of(text)
        )
        return self.filter(*words, **{field: value for field, value in exact.items() if value})

    def record(self, rows: list[Record], files: Mapping[str, int], server: int | None) -> list[int]:
        """Insert ``rows`` of one server; their keys. ``files`` has the keys of those files that there are."""
        made_of = {"file_id": files.get, "server_id": lambda _: server}
        return bulk.insert(Transfer, Record._fields, rows, made_of)

    def rows_of(self, begun: Collection[Begun]) -> dict[Begun, int]:
        """The keys of the rows of what began so. None of uploads that go on after a break (``upload``)."""
        found: dict[Begun, int] = {}
        for shift in NEAR:
            left = {(to_datetime(one.at) + shift, *one[1:]): one for one in begun if one not in found}
            moments = sorted({moment for moment, *_ in left})
            for at in range(0, len(moments), bulk.MAX_ROWS):
                rows = self.filter(started_at__in=moments[at : at + bulk.MAX_ROWS], upload="")
                for moment, thread, client, pk in rows.values_list("started_at", "thread", "client", "pk"):
                    if one := left.get((moment, thread, client)):
                        found[one] = pk
        return found

    def link_to_files(self, names: Collection[str], since: datetime) -> None:
        """Link those that began ``since`` then, before their file had a row, to the row that it has now."""
        its_file = File.rows.filter(name=OuterRef("name")).values("pk")[:1]
        # "No file" as an index cannot find it, so that few are looked at: most of all rows may have none.
        begun = self.alias(linked=Coalesce("file", 0)).filter(started_at__gte=since, linked=0)
        begun.filter(name__in=names).update(file=Subquery(its_file))

    def close_interrupted(self, name: str, is_alone: bool = False) -> int:
        """Give an ending to what dead servers left running; how many there were.

        For a server that starts, and holds the lock of its ``name``: other servers of this name are dead.
        Those of other names are if nobody else can be alive (``is_alone``), and if they gave no sign of life
        for ``SILENT``; rows of before servers had names are of dead ones too. A row ends when its server was
        last known to be alive. Of a server that left no sign of life, that is when its last transfer ended.
        """
        silent = Q(server__seen_at__lt=timezone.now() - SILENT)
        dead = Q() if is_alone else Q(server=None) | Q(server__name__in=[name, ""]) | silent
        left = list(self.filter(dead, outcome=Transfer.Outcome.RUNNING).select_related("server"))
        before = ServerRun.objects.filter(name="").last_seen() if left else None
        ended = self.aggregate(last=Max("finished_at"))["last"] if left and before is None else None
        for row in left:
            last = row.server.seen_at if row.server else before or ended
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
    server = models.ForeignKey(
        ServerRun,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="transfers",
        db_index=False,  # asked of rows that run only, which have an index
        help_text="the process that moves the bytes; of an upload, the last one",
    )
    direction = models.CharField(max_length=8, choices=Direction)
    size = models.BigIntegerField(help_text="bytes of the whole file")
    offset = models.BigIntegerField(default=0, help_text="where it began")
    length = models.BigIntegerField(help_text="bytes that were to move")
    done = models.BigIntegerField(default=0, help_text="bytes that moved")
    client = models.CharField(max_length=100)
    user = models.CharField(max_length=150, blank=True)
    principal = models.CharField(
        max_length=30, blank=True, help_text="guest, or user:17; empty: from before it was written down"
    )
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
