"""``manage.py download``: files from the file server. Exit 0 means: whole and right."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from files_app.terminal.fetch import Fetch, FetchError
from files_app.terminal.options import add_server_address
from files_app.terminal.paths import files_meant_by, targets_of
from files_app.terminal.progress import console, file_server, progress_bars
from fileserver.client.blocking import Client
from fileserver.pacing import SLOW_MOTION
from fileserver.wire.replies import ErrorReply


class Command(BaseCommand):
    help = "Downloads files and folders from the file server; what broke off goes on where it was."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "names", nargs="*", metavar="NAME", help="files, and folders with all in them; asked for if none"
        )
        parser.add_argument(
            "--to", default=".", help="a folder, made if it ends in a slash; or the name of the one file"
        )
        parser.add_argument("--slow-motion", action="store_true", help=f"at {SLOW_MOTION}")
        parser.add_argument("--no-resume", action="store_true", help="begin again, whatever is there of it")
        add_server_address(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with file_server(options) as client:
            names = options["names"] or [self._ask(client)]
            wanted = [file for name in names for file in files_meant_by(client, name)]
        files, failed = targets_of(wanted, options["to"]), 0
        for name, target in files:
            try:
                # A connection for each: one on which a file broke off in the middle is of no more use.
                with file_server(options) as client:
                    self._download(client, name, target, options)
            except FetchError as error:
                if len(files) == 1:
                    raise CommandError(str(error)) from None
                self.stderr.write(str(error))
                failed += 1
        if failed:
            raise CommandError(f"{failed} of {len(files)} files could not be downloaded.")

    def _ask(self, client: Client) -> str:
        for entry in client.files():
            self.stdout.write(f"  {entry['name']}")
        try:
            name = input("Which file? ").strip()
        except (EOFError, KeyboardInterrupt):
            name = ""
        if not name:
            raise CommandError("No file was named.")
        return name

    def _download(self, client: Client, name: str, target: Path, options: dict[str, Any]) -> None:
        """Raises ``FetchError`` for what is wrong with this file, ``CommandError`` for what ends the work."""
        fetch = Fetch(client, name, target)
        pace = SLOW_MOTION if options["slow_motion"] else None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)  # one of a folder that is fetched
            if options["no_resume"]:
                fetch.forget()
            with progress_bars() as bars:
                bar = bars.add_task(name, total=None)
                for done, size in fetch.run(pace):
                    bars.update(bar, completed=done, total=size)
        except ErrorReply as error:
            raise FetchError(error.message) from None
        except (ConnectionError, TimeoutError) as error:
            raise CommandError(f"{name} broke off: {error} {fetch.what_is_kept()}") from None
        except OSError as error:
            raise FetchError(f"{target} cannot be written: {error.strerror}.") from None
        except KeyboardInterrupt:
            raise CommandError(f"{name} was stopped. {fetch.what_is_kept()}", returncode=130) from None
        console.print(f"{target} is whole", markup=False, highlight=False, soft_wrap=True)
