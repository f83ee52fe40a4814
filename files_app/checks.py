"""System checks: what must never lie inside the served folder, and what a setting must look like."""

import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Critical, Error, Tags, register


@register(Tags.security)
def nothing_secret_is_served(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The database and the key, inside the folder, could be downloaded and replaced by any client."""
    return [
        Critical(message, hint="Set FILES_DIRECTORY to a folder of files to share only.", id="files_app.E001")
        for message in secrets_inside(settings.FILES_DIRECTORY)
    ]


def secrets_inside(folder: str | Path) -> list[str]:
    """A sentence for each thing in ``folder`` that must never be served."""
    folder = Path(folder).resolve()
    database = settings.DATABASES["default"]
    secrets = {
        "database": database["NAME"] if "sqlite3" in database["ENGINE"] else None,
        "secret key": settings.SECRET_KEY_FILE,
        "certificate": settings.TLS_CERT or None,
        "key of the certificate": settings.TLS_KEY or None,
        "program itself": settings.BASE_DIR,
    }
    return [
        f"The {what} lies inside the served folder {folder}: every client could fetch it."
        for what, where in secrets.items()
        if isinstance(where, str | Path) and Path(where).resolve().is_relative_to(folder)
    ]


# It stands in the content security policy too, which knows no addresses of IPv6.
_PUBLIC_URL = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9._~/-]*)?", re.IGNORECASE | re.ASCII)


@register(Tags.urls)
def public_url_can_be_used(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    url = settings.SERVER_PUBLIC_URL
    if not url or _PUBLIC_URL.fullmatch(url):
        return []
    message = f"SERVER_PUBLIC_URL is {url!r}, which browsers cannot be sent to."
    return [Error(message, hint="Set it to something like https://files.example.org", id="files_app.E002")]
