"""``manage.py start``: migrates, then runs the file server and the site together until Ctrl+C."""

import sys
import webbrowser
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from files_app.access.network import require_encrypted, require_private
from files_app.hosting.certificates import BadCertificate, own_fingerprint
from files_app.hosting.renewal import renew_if_due
from files_app.hosting.supervisor import Program, supervising
from files_app.terminal.options import require_certificate, require_free_port, require_nothing_secret
from fileserver.net.address import address_text
from fileserver.pacing import SLOW_MOTION


class Command(BaseCommand):
    help = "Runs the file server and the web site together."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slow-motion", action="store_true", help=f"everything at {SLOW_MOTION}")
        parser.add_argument("--open", action="store_true", help="open the page in the browser")

    def handle(self, *args: Any, **options: Any) -> None:
        require_private(settings.SERVER_HOST, "SERVER_HOST")
        require_private(settings.WEB_HOST, "WEB_HOST")
        require_encrypted(settings.SERVER_HOST, "SERVER_HOST")
        require_encrypted(settings.WEB_HOST, "WEB_HOST")
        self.prepare_certificate()
        require_nothing_secret(settings.FILES_DIRECTORY)
        require_free_port(settings.SERVER_HOST, settings.SERVER_PORT, "SERVER_PORT")
        require_free_port(settings.WEB_HOST, settings.WEB_PORT, "WEB_PORT")
        call_command("migrate", verbosity=0, interactive=False)
        with supervising(programs(options["slow_motion"])) as supervisor:
            if supervisor.wait_ready():
                self.tell_address(options["open"])
            failed = supervisor.wait()
        if failed:
            raise CommandError(f"{failed} ended by itself; its lines above say why.")

    def prepare_certificate(self) -> None:
        """Make it anew if it is ours and has to be. The servers say what else is not well with it."""
        try:
            for sentence in renew_if_due():
                self.stdout.write(sentence)
        except BadCertificate as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(
                f"The certificate has to be made anew, and {error.filename} cannot be written: "
                f"{error.strerror}."
            ) from None
        require_certificate()

    def tell_address(self, opens_page: bool) -> None:
        scheme = "https" if settings.TLS_CERT else "http"
        url = f"{scheme}://{address_text(settings.WEB_HOST, settings.WEB_PORT)}/"
        self.stdout.write(self.style.SUCCESS(f"\n  The page is at {url}   Ctrl+C stops.\n"))
        if settings.TLS_CERT:
            self.stdout.write(f"  Fingerprint of its key (SHA-256): {own_fingerprint()}\n")
        self.stdout.flush()  # into a pipe it would lie until the next line
        if opens_page:
            webbrowser.open(url)


def programs(slow_motion: bool) -> list[Program]:
    """The two servers. The file server first: the site looks for it."""
    pace = ["--slow-motion"] if slow_motion else []
    return [
        Program("files", command("runfileserver", *pace), (settings.SERVER_HOST, settings.SERVER_PORT)),
        Program(
            "site ",
            command("runserver", "--noreload", "--skip-checks"),
            (settings.WEB_HOST, settings.WEB_PORT),
        ),
    ]


def command(*words: str) -> list[str]:
    return [sys.executable, "-u", sys.argv[0], *words]
