"""Tokens: what a command or a script shows in the place of somebody's password."""

from django.conf import settings
from django.db import models

from files_app.models.rules import RIGHTS
from fileserver.rights import CONTROL, WATCH, Right

TOKEN_RIGHTS: tuple[Right, ...] = (*RIGHTS, WATCH, CONTROL)


class Token(models.Model):
    """It may do what its owner may do at the moment, and of that no more than is said here.

    ``lookup`` is the part of the text that is no secret, ``digest`` is made of all of it and the secret key.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100, blank=True, help_text="what it is for")
    lookup = models.CharField(max_length=8, unique=True)
    digest = models.CharField(max_length=64)
    rights = models.CharField(max_length=100, help_text="with blanks between them")
    folder = models.CharField(max_length=1024, blank=True, help_text="empty: all that its owner has")
    made_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    used_from = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"cfs_{self.lookup}_… of {self.owner}"
