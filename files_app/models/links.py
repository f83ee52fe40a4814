"""Links that give somebody without an account a few rights: to fetch files, or to hand some in."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from files_app.models.files import url_of

DAYS = 7  # that a new link is good for, unless its maker says otherwise


def default_end() -> datetime:
    return timezone.now() + timedelta(days=DAYS)


class Link(models.Model):
    """What its address gives: ``list`` and ``get`` of a share, ``add`` alone of a drop.

    The address is made of ``nonce`` and the secret key, so the database alone gives no access; ``digest``, of
    the address, finds the link. ``identity`` is that of the very file or folder that was shared: one that
    takes its place, or its name, is not shared with it.
    """

    class Kind(models.TextChoices):
        SHARE = "share", "share"
        DROP = "drop", "drop box"

    class Naming(models.TextChoices):
        OFF = "off", "not asked for"
        OPTIONAL = "optional", "asked for"
        REQUIRED = "required", "needed"
        LIST = "list", "picked from a list"

    kind = models.CharField(max_length=5, choices=Kind)
    maker = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="links")
    title = models.CharField(max_length=100, blank=True, help_text="what its visitors read")
    target = models.CharField(max_length=1024, blank=True, help_text="a file, or a folder with a slash")
    identity = models.CharField(max_length=64)
    nonce = models.CharField(max_length=32)
    digest = models.CharField(max_length=64, unique=True)
    made_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True, default=default_end)
    revoked_at = models.DateTimeField(null=True, blank=True)
    password = models.CharField(max_length=128, blank=True)
    max_downloads = models.PositiveIntegerField(null=True, blank=True)
    # Of a drop.
    max_file_size = models.BigIntegerField(null=True, blank=True, help_text="bytes")
    max_files = models.PositiveIntegerField(null=True, blank=True)
    max_total_size = models.BigIntegerField(null=True, blank=True, help_text="bytes")
    endings = models.CharField(max_length=200, blank=True, help_text="of names, such as: pdf odt zip")
    naming = models.CharField(max_length=8, choices=Naming, default=Naming.OPTIONAL)
    names = models.TextField(blank=True, help_text="to pick from, one a line")

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"link {self.pk} to /{self.target}"

    @property
    def shown_title(self) -> str:
        """For its maker and its visitors: without a title, the last part of what it leads to."""
        return self.title or self.target.rstrip("/").rpartition("/")[2] or "All files"

    @property
    def is_folder(self) -> bool:
        return not self.target or self.target.endswith("/")

    @property
    def is_over(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def allowed_endings(self) -> tuple[str, ...]:
        """In lower case, each with its dot; empty if any will do."""
        return tuple(f".{word.lstrip('*.').lower()}" for word in self.endings.replace(",", " ").split())

    @property
    def allowed_names(self) -> list[str]:
        return [name for line in self.names.splitlines() if (name := line.strip())]


class LinkDownload(models.Model):
    """One of the downloads that a link with a limit has given out, or is giving.

    It is one however often it breaks off and is resumed, and in however many parts it is fetched: ``granted``
    counts the bytes on their way, ``moved`` those that have left.
    """

    link = models.ForeignKey(Link, on_delete=models.CASCADE, related_name="downloads")
    visitor = models.CharField(max_length=64)
    name = models.CharField(max_length=1024)
    size = models.BigIntegerField()
    granted = models.BigIntegerField(default=0)
    moved = models.BigIntegerField(default=0)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["link", "visitor", "name"], name="download_of_visitor")]

    def __str__(self) -> str:
        return f"{self.name} by {self.visitor}"


class LinkUpload(models.Model):
    """A file that somebody hands in, or has handed in, through a drop."""

    class State(models.TextChoices):
        RUNNING = "running", "on its way"
        COMPLETE = "complete"

    link = models.ForeignKey(Link, on_delete=models.CASCADE, related_name="uploads")
    upload = models.CharField(max_length=64, blank=True, help_text="its id at the file server")
    visitor = models.CharField(max_length=64)
    sender = models.CharField(max_length=100, blank=True, help_text="as typed")
    sender_key = models.CharField(max_length=300)
    folder = models.CharField(max_length=255, help_text="of this sender, in that of the link")
    name = models.CharField(max_length=1024, help_text="as it was sent")
    stored = models.CharField(max_length=1024, blank=True, help_text="the name that it got")
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, blank=True)
    address = models.CharField(max_length=64, blank=True)
    state = models.CharField(max_length=8, choices=State, default=State.RUNNING)
    begun_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["link", "upload"], name="one_row_for_an_upload", condition=~Q(upload="")
            )
        ]
        indexes = [models.Index(fields=["link", "sender_key"], name="folder_of_sender")]

    def __str__(self) -> str:
        return f"{self.name} by {self.sender or 'somebody'}"

    def get_absolute_url(self) -> str:
        return url_of(self.stored)
