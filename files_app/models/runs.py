"""File servers that ran on this database."""

from datetime import datetime

from django.db import models


class ServerRunQuerySet(models.QuerySet["ServerRun"]):
    def last_seen(self) -> datetime | None:
        """When a server was last known to be alive."""
        newest = self.order_by("-pk").first()
        return newest.seen_at if newest else None


class ServerRun(models.Model):
    """One process of a file server, from its start to its end. It owns the rows of the transfers it moves.

    ``name`` says which server this was: the folder that it serves, with all links resolved. A folder has one
    live server at a time, by a lock that ends with its process. So a server that starts knows that all other
    runs of its name are dead, and closes what they left running, at their last sign of life. SQLite has one
    live server, so there all others are dead, though the folder was moved. On PostgreSQL it knows nothing of
    a run with another name that was alive a while ago, and leaves its rows alone.
    """

    key = models.CharField(max_length=32, unique=True, help_text="names it outside the database too")
    name = models.TextField(blank=True, help_text="the folder; empty: from before it was written down")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="renewed about once a second while transfers run")

    objects = ServerRunQuerySet.as_manager()

    def __str__(self) -> str:
        return f"server of {self.started_at}"
