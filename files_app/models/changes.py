"""How the processes of this project find out that people, groups or rules have changed."""

import secrets
from typing import Any

from django.db import models


class AccessChange(models.Model):
    """One row, with another stamp after each change, in the same transaction: both are seen, or neither.

    A process looks at the stamp once a second, and reads all again if it is another one. It is random and no
    number that grows: a backup that is put back may have seen as many changes.
    """

    stamp = models.BigIntegerField()

    def __str__(self) -> str:
        return f"change {self.stamp}"

    @classmethod
    def newest(cls) -> int:
        return cls.objects.filter(pk=1).values_list("stamp", flat=True).first() or 0

    @classmethod
    def note(cls) -> None:
        cls.objects.update_or_create(pk=1, defaults={"stamp": secrets.randbits(62)})


def note_change(sender: Any, update_fields: Any = None, **kwargs: Any) -> None:
    """A receiver for the signals of models that rights depend on."""
    if update_fields is None or set(update_fields) != {"last_login"}:  # written at each login
        AccessChange.note()
