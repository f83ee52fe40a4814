"""``manage.py makecert``: a certificate for TLS on a network where nobody else gives one."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from files_app.access.makecert import DAYS, make, names_of, own_names
from files_app.access.tls import fingerprint
from files_app.terminal.options import positive


class Command(BaseCommand):
    help = "Makes a certificate that is good for every name and address of this machine."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", nargs="+", action="extend", default=[], help="further names, addresses")
        parser.add_argument("--days", type=positive, default=str(DAYS), help="(default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        cert, key = (Path(settings.BASE_DIR / name) for name in (_cert_name(), _key_name()))
        names = list(dict.fromkeys([*own_names(), *options["name"]]))
        try:
            made = make(cert, key, names, options["days"])
        except OSError as error:
            raise CommandError(f"{error.filename} cannot be written: {error.strerror}.") from None
        except (ValueError, UnicodeError) as error:
            raise CommandError(f"No certificate can be made: {error}") from None
        self.stdout.write(
            f"Good until {made.not_valid_after_utc:%Y-%m-%d} for {', '.join(names_of(made))}.\n"
            "Put these lines into .env, and start again:\n\n"
            f"  TLS_CERT={_cert_name()}\n  TLS_KEY={_key_name()}\n\n"
            f"For --fingerprint of the commands: {fingerprint(made)}"
        )


def _cert_name() -> str:
    return settings.TLS_CERT or "tls-cert.pem"


def _key_name() -> str:
    return settings.TLS_KEY or "tls-key.pem"
