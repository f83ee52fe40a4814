"""What can be had: a row for each file of the served folder."""

from collections.abc import Callable
from datetime import datetime
from urllib.parse import quote

from django.apps import apps
from django.db import connection, models
from django.db.models import Count, F, Func, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Collate, Replace
from django.urls import reverse
from django.utils import timezone

from files_app.models import bulk
from files_app.models.words import named, words_of

COLUMNS = (  # of a File
    *("name", "size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by", "gone_at"),
)
ADDED = ("added_at", "added_by")  # of them, those that tell of the upload


def by_bytes() -> F | Collate:
    """Names in the order of their bytes, as SQLite has them; PostgreSQL would sort by a language."""
    return Collate("name", "C") if connection.vendor == "postgresql" else F("name")


class FileQuerySet(models.QuerySet["File"]):
    SORTS = ("name", "-name", "size", "-size", "mtime", "-mtime")

    def matching(self, text: str) -> "FileQuerySet":
        """Files whose name has every word of ``text`` in it."""
        return self.filter(*(named(word) for word in words_of(text)))

    def in_folders(self, allowed: Callable[[str], bool] | None) -> "FileQuerySet":
        """Those in folders that are ``allowed``, or in all. The name of a folder ends in a slash."""
        if allowed is None:
            return self
        folders = self.order_by().values_list("folder", flat=True).distinct()
        return self.filter(folder__in=[folder for folder in folders if allowed(folder)])

    def sorted_by(self, key: str) -> "FileQuerySet":
        """In the order of one of ``SORTS``; anything else is by name."""
        if key not in self.SORTS:
            key = "name"
        # Downwards is upwards reversed, names too: the same index, read from its other end, serves both.
        column = key.removeprefix("-")
        order = [by_bytes()] if column == "name" else [F(column), by_bytes()]
        return self.order_by(*(part.desc() if key.startswith("-") else part.asc() for part in order))

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
        transfers = apps.get_model("files_app", "Transfer").objects  # its module imports this one
        complete = (
            transfers.filter(file=OuterRef("pk"), direction="download", outcome="complete")
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
    folder = models.GeneratedField(
        # All of the name up to its last slash: from its end, all characters but slashes are cut off.
        expression=Func(F("name"), Replace(F("name"), Value("/"), Value("")), function="RTRIM"),
        output_field=models.CharField(max_length=1024),
        db_persist=True,
    )
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
            models.Index(fields=["folder"], condition=Q(gone_at=None), name="files_by_folder"),
            models.Index(fields=["gone_at"], condition=Q(gone_at__isnull=False), name="gone_files"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return url_of(self.name)


def url_of(name: str) -> str:
    """The URL of the file of that name, whether it exists or not."""
    return reverse("index") + "files/" + quote(name, safe="/")
