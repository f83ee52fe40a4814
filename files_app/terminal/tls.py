"""Whom a command trusts to be the file server, if it speaks TLS."""

import ssl
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from files_app.access.tls import TlsError, own_client_context, pinning
from fileserver.net.address import where_reached


def context_of(options: dict[str, Any]) -> ssl.SSLContext | None:
    """``None`` for plain text. Our own server is trusted by its certificate; raises ``CommandError``."""
    try:
        if options["fingerprint"]:
            return pinning(options["fingerprint"])
        if options["cafile"]:
            return ssl.create_default_context(cafile=options["cafile"])
        if options["tls"]:
            return ssl.create_default_context()
        is_own = (options["host"], options["port"]) == (
            where_reached(settings.SERVER_HOST),
            settings.SERVER_PORT,
        )
        return own_client_context() if is_own else None
    except TlsError as error:
        raise CommandError(str(error)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it has no certificates"
        raise CommandError(f"{options['cafile']} cannot be read: {reason}.") from None
