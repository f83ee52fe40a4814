"""The tries that are left, and who has succeeded before: rows that ``access.throttle`` writes and prunes."""

from django.db import models


class Throttle(models.Model):
    """``key`` is a hash: of an account or a link, an address, a visitor. Times are Unix seconds."""

    key = models.CharField(max_length=64, primary_key=True)
    tries = models.FloatField(default=0.0)
    fails = models.PositiveIntegerField(default=0)
    until = models.FloatField(default=0.0, help_text="no try before")
    at = models.FloatField(db_index=True)

    def __str__(self) -> str:
        return self.key
