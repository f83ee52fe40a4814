"""What the commands share: readers of options, and the checks before a start."""

import errno
import os
import socket
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from files_app.checks import secrets_inside
from files_app.database import as_command_errors
from files_app.hosting.certificates import BadCertificate, warnings
from files_app.hosting.neighbours import who_listens
from fileserver.client.trust import read_fingerprint
from fileserver.net.address import address_text, where_reached
from fileserver.workers import MODELS


def add_server_address(parser: ArgumentParser) -> None:
    # Here and elsewhere: argparse checks a default like what is typed, if it is a text.
    host = where_reached(settings.SERVER_HOST)
    parser.add_argument("--host", default=host, help="of the file server (%(default)s)")
    parser.add_argument(
        "--port", type=port_number, default=str(settings.SERVER_PORT), help="of the file server (%(default)s)"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help="with a token in it, if CFS_TOKEN is empty; only you may read it"
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        default=settings.CFS_TLS,
        help="speak TLS; with the server of these settings it is known by itself",
    )
    parser.add_argument(
        "--cafile",
        metavar="FILE",
        default=settings.CFS_CAFILE,
        help="with TLS: trust the certificates in this file (PEM), and no others",
    )
    parser.add_argument(
        "--fingerprint",
        type=fingerprint,
        metavar="SHA256",
        default=settings.CFS_FINGERPRINT or None,
        help="with TLS: trust the server with this key, which its start shows",
    )


def port_number(text: str) -> int:
    """A TCP port; 0 lets the system choose one."""
    if not (text.isascii() and text.isdecimal()) or not 0 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text} is no port: it must be a number from 0 to 65535")
    return int(text)


def fingerprint(text: str) -> str:
    try:
        return read_fingerprint(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def worker_model(text: str) -> str:
    if text not in MODELS:
        raise ArgumentTypeError(f"{text} is none of {', '.join(MODELS)}")
    return text


def positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise ArgumentTypeError(f"{text} must be a whole number of at least 1")
    return int(text)


def non_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise ArgumentTypeError(f"{text} must be a number of seconds from 0 to 3600")
    return value


def require_migrated() -> None:
    """Raise ``CommandError`` if the database lacks tables that this version needs."""
    with as_command_errors():
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise CommandError(f"The database lacks {len(missing)} migrations. Run: python manage.py migrate")


def require_nothing_secret(folder: str | Path) -> None:
    """Raise ``CommandError`` if the database or the key would be served."""
    for message in secrets_inside(folder):
        raise CommandError(f"{message} Set FILES_DIRECTORY to a folder of files to share only.")


def require_free_port(host: str, port: int, setting: str) -> None:
    """Raise ``CommandError``, naming the setting, if nobody could listen there."""
    if not 0 <= port <= 65535:  # getaddrinfo would take it for another one
        raise CommandError(f"{setting} is {port}, which is no port: it must be a number from 0 to 65535.")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise taken(host, port, setting, error) from None


def taken(host: str, port: int, setting: str, error: OSError) -> CommandError:
    """What to say when ``host:port`` cannot be listened on; it asks who has that port, if somebody has."""
    address = address_text(host, port)
    ours = who_listens(where_reached(host), port) if error.errno == errno.EADDRINUSE else None
    if ours:
        return CommandError(
            f"Cannot listen on {address}: {ours} is running there already. "
            f"Stop it, or set {setting} to another one."
        )
    return CommandError(
        f"Cannot listen on {address}: {error.strerror}. "
        f"If another program has that port, stop it, or set {setting} to another one."
    )


def require_certificate() -> list[str]:
    """Raise ``CommandError`` if the settings name a certificate that cannot be served with.

    Returns sentences about what is not well but works.
    """
    try:
        return warnings()
    except BadCertificate as error:
        raise CommandError(str(error)) from None
