"""A line in the log for each login that failed. What slows guessing down comes with accounts."""

import logging
from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest

from fileserver.names import shown

log = logging.getLogger(__name__)


@receiver(user_login_failed, dispatch_uid="files_app.access.logins")
def tell_failed_login(credentials: dict[str, Any], request: HttpRequest | None = None, **more: Any) -> None:
    """The user's name is anybody's text: quoted, escaped and shortened. The password is nobody's business."""
    name = shown(str(credentials.get("username", "")))
    host = request.META.get("REMOTE_ADDR", "") if request else ""
    log.warning("a login as %s failed, from %s", name, host or "a program on this machine")
