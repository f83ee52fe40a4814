"""Who may do what in which folder: rows that an administrator edits. ``access.rules`` decides by them."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q

from files_app.models.files import File
from fileserver.names import BadName, check_safe, composed
from fileserver.rights import Right

RIGHTS: tuple[Right, ...] = ("list", "get", "add", "replace", "delete", "share")


def key_of(folder: str) -> str:
    """A folder as rules compare it: without case and in Unicode's form NFC, as many disks find it."""
    return "/".join(composed(part.casefold()) for part in composed(folder).split("/") if part)


class AccessRule(models.Model):
    """What somebody may do in a folder and in all folders in it, unless a deeper rule is about them."""

    class Whom(models.TextChoices):
        GUEST = "guest", "everybody"
        ACCOUNT = "account", "everybody with an account"
        GROUP = "group", "a group"
        USER = "user", "a person"

    folder = models.CharField(
        max_length=1024, blank=True, help_text="with all folders in it; empty: all that is served"
    )
    key = models.CharField(max_length=3072, editable=False)  # folding case can make it longer
    whom = models.CharField("who", max_length=7, choices=Whom)
    group = models.ForeignKey(Group, null=True, blank=True, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE)
    can_list = models.BooleanField("list", default=False, help_text="see which files there are")
    can_get = models.BooleanField("get", default=False, help_text="download them")
    can_add = models.BooleanField("add", default=False, help_text="upload under new names")
    can_replace = models.BooleanField("replace", default=False, help_text="upload over what is there")
    can_delete = models.BooleanField("delete", default=False)
    can_share = models.BooleanField("share", default=False, help_text="make links for others")

    class Meta:
        verbose_name = "rule"
        ordering = ["key", "whom", "pk"]
        permissions = [
            ("watch", "Can see the transfers of others"),
            ("control", "Can stop the transfers of others"),
            ("manage", "Can manage people and rules"),
        ]
        constraints = [
            models.CheckConstraint(
                name="rule_names_whom",
                condition=Q(whom__in=["guest", "account"], group=None, user=None)
                | Q(whom="group", group__isnull=False, user=None)
                | Q(whom="user", group=None, user__isnull=False),
                violation_error_message="Name a group or a person exactly if the rule is about one.",
            ),
            models.UniqueConstraint(
                F("key"),
                F("whom"),
                name="one_rule_for_all",
                condition=Q(group=None, user=None),
            ),
            models.UniqueConstraint(
                F("key"),
                F("group"),
                name="one_rule_for_a_group",
                condition=Q(group__isnull=False),
            ),
            models.UniqueConstraint(
                F("key"),
                F("user"),
                name="one_rule_for_a_user",
                condition=Q(user__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        who = self.group or self.user or self.Whom(self.whom).label
        return f"/{self.folder}: {who} may {', '.join(self.rights) or 'do nothing'}"

    @property
    def rights(self) -> list[Right]:
        return [right for right in RIGHTS if getattr(self, f"can_{right}")]

    def clean(self) -> None:
        self.folder = composed(self.folder.strip("/"))
        self.key = key_of(self.folder)
        try:
            if self.folder:
                check_safe(self.folder)
        except BadName as error:
            raise ValidationError({"folder": str(error)}) from None
        if File.objects.filter(name=self.folder).exists():
            raise ValidationError({"folder": "This is a file. A rule is about a folder, and all in it."})
        # Not left to the constraints: a form that does not show the key leaves them out.
        same = AccessRule.objects.filter(key=self.key, whom=self.whom, group=self.group_id, user=self.user_id)
        if same.exclude(pk=self.pk).exists():
            raise ValidationError(
                "There is a rule for this folder and these people already. Change that one."
            )

    def save(self, **kwargs: Any) -> None:
        self.key = key_of(self.folder)
        super().save(**kwargs)
