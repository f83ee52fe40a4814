"""How much may be kept: of one person, of each member of a group, or in a folder."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from fileserver.names import BadName, check_safe, composed


class Quota(models.Model):
    """``max_mib`` for all files that somebody has uploaded, as far as they are there, or a folder has."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE)
    group = models.ForeignKey(
        Group, null=True, blank=True, on_delete=models.CASCADE, help_text="for each of its members"
    )
    folder = models.CharField(max_length=1024, blank=True, help_text="with all folders in it")
    max_mib = models.PositiveIntegerField("MiB", help_text="that there may be")

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.CheckConstraint(
                name="quota_is_for_one",
                condition=Q(user__isnull=False, group=None, folder="")
                | Q(user=None, group__isnull=False, folder="")
                | (Q(user=None, group=None) & ~Q(folder="")),
                violation_error_message="Name a person, a group or a folder: one of them.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.max_mib} MiB for {self.user or self.group or f'/{self.folder}'}"

    def clean(self) -> None:
        self.folder = composed(self.folder.strip("/"))
        try:
            if self.folder:
                check_safe(self.folder)
        except BadName as error:
            raise ValidationError({"folder": str(error)}) from None

    def save(self, **kwargs: Any) -> None:
        self.folder = composed(self.folder.strip("/"))
        super().save(**kwargs)
