"""Who is logged in, by the session that a browser's cookie names."""

from importlib import import_module
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import aget_user
from django.contrib.sessions.models import Session
from django.http import HttpRequest, parse_cookie
from django.utils import timezone

from files_app.access.snapshot import snapshots


async def user_of(cookies: str) -> Any:
    """The user of the session in a header ``Cookie``; ``None`` if nobody is logged in."""
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME, "")
    if not key or "\0" in key:
        return None
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = await aget_user(request)
    return user if user.is_authenticated else None


def end_sessions_of(user: int) -> None:
    """Log a person out in every browser in which they are logged in."""
    # A session says only inside itself whose it is. There are few of them, and this is done seldom.
    for session in Session.objects.filter(expire_date__gt=timezone.now()).iterator():
        if session.get_decoded().get("_auth_user_id") == str(user):
            session.delete()


async def refresh_rights() -> None:
    """Before somebody decides: what has changed a second ago or earlier is known after this."""
    if snapshots.is_due:
        await sync_to_async(snapshots.refresh, thread_sensitive=False)()
