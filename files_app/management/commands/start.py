"""``manage.py start``: migrates, then runs the file server and the site together until Ctrl+C."""

import sys
import webbrowser
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from files_app.access.accounts import AccountError, first_admin
from files_app.access.guests import CHOICES, let_guests
from files_app.access.network import ALL_ADDRESSES, host_of_address, require_encrypted, require_private
from files_app.access.public import page_url
from files_app.database import as_command_errors
from files_app.hosting.certificates import BadCertificate
from files_app.hosting.renewal import renew_if_due
from files_app.hosting.supervisor import Program, supervising
from files_app.terminal.announcing import Announcement
from files_app.terminal.options import require_certificate, require_free_port, require_nothing_secret
from files_app.terminal.passwords import give_random_password
from fileserver.net.address import where_reached
from fileserver.pacing import SLOW_MOTION


class Command(BaseCommand):
    help = "Runs the file server and the web site together."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slow-motion", action="store_true", help=f"everything at {SLOW_MOTION}")
        parser.add_argument("--open", action="store_true", help="open the page in the browser")
        parser.add_argument("--lan", action="store_true", help="for others on the network too")
        parser.add_argument(
            "--guests",
            choices=list(CHOICES),
            help="with --lan: what people without an account may do (read at the first time, then as it is)",
        )
        parser.add_argument(
            "--address", help="with --lan: the one address of this machine to listen on (all of IPv4)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["lan"]:
            listen_on_network(options["address"])
        elif named := next((name for name in ("guests", "address") if options[name]), None):
            raise CommandError(f"--{named} is about the network: give --lan too.")
        self.prepare_certificate()
        require_nothing_secret(settings.FILES_DIRECTORY)
        require_free_port(settings.SERVER_HOST, settings.SERVER_PORT, "SERVER_PORT")
        require_free_port(settings.WEB_HOST, settings.WEB_PORT, "WEB_PORT")
        require_two_ports()
        call_command("migrate", verbosity=0, interactive=False)
        if options["lan"]:
            self.prepare_people(options["guests"])
        require_private(settings.SERVER_HOST, "SERVER_HOST")
        require_private(settings.WEB_HOST, "WEB_HOST")
        require_encrypted(settings.SERVER_HOST, "SERVER_HOST")
        require_encrypted(settings.WEB_HOST, "WEB_HOST")
        announcement = Announcement(self.style.SUCCESS)
        with supervising(programs(options["slow_motion"])) as supervisor:
            if supervisor.wait_ready():
                announcement.tell()
                if options["open"]:
                    webbrowser.open(page_url())
            failed = supervisor.wait(announcement.look)
        if failed:
            raise CommandError(f"{failed} ended by itself; its lines above say why.")

    def prepare_people(self, guests: str | None) -> None:
        """On the network somebody must be able to log in, and what all others may do must be said."""
        with as_command_errors():
            try:
                admin = first_admin()
            except AccountError as error:
                raise CommandError(str(error)) from None
            if admin:
                give_random_password(admin, self.stdout)
            let_guests(guests)

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


def listen_on_network(address: str | None) -> None:
    """On all addresses of IPv4, or on that one alone; the children are told by their environment."""
    settings.SERVER_HOST = settings.WEB_HOST = host_of_address(address) if address else ALL_ADDRESSES


def require_two_ports() -> None:
    """Else the first server to listen would be taken for both."""
    if settings.SERVER_PORT == settings.WEB_PORT != 0:
        raise CommandError(f"SERVER_PORT and WEB_PORT are both {settings.WEB_PORT}: give each its own.")


def programs(slow_motion: bool) -> list[Program]:
    """The two servers. The file server first: the site looks for it."""
    pace = ["--slow-motion"] if slow_motion else []
    hosts = {"SERVER_HOST": settings.SERVER_HOST, "WEB_HOST": settings.WEB_HOST}
    files = where_reached(settings.SERVER_HOST), settings.SERVER_PORT
    site = where_reached(settings.WEB_HOST), settings.WEB_PORT
    return [
        Program("files", command("runfileserver", *pace), files, hosts),
        Program("site ", command("runserver", "--noreload", "--skip-checks"), site, hosts),
    ]


def command(*words: str) -> list[str]:
    return [sys.executable, "-u", sys.argv[0], *words]
