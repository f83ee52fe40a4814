"""File servers that ran on this database."""

from datetime import datetime

from django.db import models


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
