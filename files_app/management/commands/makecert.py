"""``manage.py makecert``: a certificate for this machine, where no public authority gives one."""

import os
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from files_app.hosting import authority
from files_app.hosting.authority import DAYS, MOST_DAYS, Files, Made, hosts_in
from files_app.hosting.certificates import BadCertificate, is_our_making, read_chain
from files_app.hosting.machine import is_name
from files_app.hosting.renewal import hosts_for, own_files
from files_app.terminal.options import positive
from fileserver.client.trust import fingerprint_of
from fileserver.net.address import read_address


class Command(BaseCommand):
    help = (
        "Makes a certificate for TLS, good for every name and address of this machine. "
        "Made again, it has the same key."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--name",
            action="append",
            type=host_name,
            default=[],
            help="another name or address that it is to be good for; may be given several times",
        )
        parser.add_argument(
            "--days",
            type=days,
            default=str(DAYS),
            help=f"that it is good for, {MOST_DAYS} at most (%(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        files = own_files()
        try:
            hosts = hosts_for(_ours_at(files), options["name"])
            made = authority.make(files, hosts, options["days"])
        except BadCertificate as error:
            raise CommandError(f"{error} Nothing was made.") from None
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from None
        self._tell(files, made)

    def _tell(self, files: Files, made: Made) -> None:
        certificate = made.certificate
        lines = [
            f"The certificate is good until {certificate.not_valid_after_utc:%Y-%m-%d} for "
            f"{', '.join(hosts_in(certificate))}.",
            "",
            "The servers use it at their next start, with these two lines in .env:",
            f"TLS_CERT={_as_setting(files.certificate)}",
            f"TLS_KEY={_as_setting(files.key)}",
            "",
            f"Browsers and phones take it without a warning when they have imported {files.authority}",
            "as an authority. The commands take it with --cafile and that file, or by the fingerprint of its",
            "key, which stays the same:",
            f"--fingerprint {fingerprint_of(certificate.public_bytes(Encoding.DER))}",
        ]
        if made.replaces_authority:
            lines += ["", "The authority is a new one: what was imported before is of no use for it."]
        self.stdout.write("\n".join(lines))


def _ours_at(files: Files) -> x509.Certificate | None:
    """The certificate that is to be made anew. Raises ``BadCertificate`` for one of somebody else's."""
    if not os.path.lexists(files.certificate):
        return None
    found = read_chain(str(files.certificate))[0]
    if not is_our_making(found):
        raise BadCertificate(f"{files.certificate} is a certificate that was not made here.")
    return found


def _as_setting(path: Path) -> str:
    return str(path.relative_to(settings.BASE_DIR) if path.is_relative_to(settings.BASE_DIR) else path)


def host_name(text: str) -> str:
    """A name or an address, as it stands in a certificate."""
    address = read_address(text)
    if address is not None:
        return str(address)
    if not is_name(text.lower()):
        raise ArgumentTypeError(f"{text} is neither a name of a host nor an address")
    return text.lower()


def days(text: str) -> int:
    if positive(text) > MOST_DAYS:
        raise ArgumentTypeError(
            f"{text} are too many days: browsers take no certificate for more than {MOST_DAYS}"
        )
    return int(text)
