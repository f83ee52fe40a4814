"""How a command connects to the file server that its options name, and whom it takes for that server."""

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from files_app.access.loopback import is_this_machine
from files_app.hosting.certificates import BadCertificate, context_for_own_server
from files_app.terminal.tokens import token_of
from fileserver.client.blocking import Client
from fileserver.client.trust import WrongKey, pinning, trusting
from fileserver.net.address import address_text, where_reached


def connector(options: dict[str, Any]) -> Callable[[], Client]:
    """What makes a connection to ``--host`` and ``--port``. Raises ``CommandError``."""
    token = token_of(options.get("token_file"))
    return partial(Client, options["host"], options["port"], token=token, tls=_context_of(options))


def _context_of(options: dict[str, Any]) -> ssl.SSLContext | None:
    """``None`` for plain text."""
    cafile, fingerprint = options.get("cafile"), options.get("fingerprint")
    try:
        if fingerprint:
            return pinning(fingerprint, cafile)
        if cafile:
            return trusting(cafile)
        if _is_own(options["host"], options["port"]):
            own = context_for_own_server()
            if own or not options.get("tls"):
                return own
        return trusting() if options.get("tls") else None
    except BadCertificate as error:
        raise CommandError(str(error)) from None
    except ssl.SSLError:
        raise CommandError(f"The file {cafile} (--cafile) holds no certificate in the form of PEM.") from None
    except OSError as error:
        raise CommandError(f"The file {cafile} (--cafile) cannot be read: {error.strerror}.") from None


def _is_own(host: str, port: int) -> bool:
    """Whether it is the server of these settings. Should it be another one, it has not our key."""
    return port == settings.SERVER_PORT and (
        host in (settings.SERVER_HOST, where_reached(settings.SERVER_HOST)) or is_this_machine(host)
    )


def distrust(options: dict[str, Any], error: ssl.SSLError) -> str:
    """What to say when TLS does not come about; a sentence or two."""
    address = address_text(options["host"], options["port"])
    if isinstance(error, WrongKey):
        return (
            f"The server at {address} has another key than the one that it is known by: "
            f"its fingerprint is {error.fingerprint}. "
            "Nothing was sent. Ask whoever runs it whether that is right; somebody may stand in between."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"The certificate of the server at {address} is not trusted: {error.verify_message}. "
            "Nothing was sent. Name its authority with --cafile, or the fingerprint of its key, "
            "which its start shows, with --fingerprint."
        )
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"The server at {address} speaks no TLS. Nothing was sent. Is the port right?"
    return f"TLS with the server at {address} did not come about: {error.reason or error}."
