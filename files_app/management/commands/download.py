"""``manage.py download``: files from the file server. Exit 0 means: whole and right."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from files_app.fetch import Fetch, FetchError
from files_app.options import add_server_address
from files_app.terminal import console, file_server, progress_bars
from fileserver.client import Client
from fileserver.names import BadName, check_safe
from fileserver.pacing import SLOW_MOTION


class Command(BaseCommand):
    help = "Downloads files from the file server; what broke off goes on where it was."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="asked for if none is given")
        parser.add_argument("--to", type=Path, default=Path(), help="a folder, or the name of the one file")
        parser.add_argument("--slow-motion", action="store_true", help=f"at {SLOW_MOTION}")
        parser.add_argument("--no-resume", action="store_true", help="begin again, whatever is there of it")
        add_server_address(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with file_server(options) as client:
            names = options["names"] or [self._ask(client)]
            targets = [_target(name, options["to"], len(names)) for name in names]
            for name, target in zip(names, targets, strict=True):
                self._download(client, name, target, options)

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
        fetch = Fetch(client, name, target)
        pace = SLOW_MOTION if options["slow_motion"] else None
        try:
            if options["no_resume"]:
                fetch.forget()
            with progress_bars() as bars:
                bar = bars.add_task(name, total=None)
                for done, size in fetch.run(pace):
                    bars.update(bar, completed=done, total=size)
        except FetchError as error:
            raise CommandError(str(error)) from None
        except (ConnectionError, TimeoutError) as error:
            raise CommandError(f"{name} broke off: {error} {fetch.what_is_kept()}") from None
        except OSError as error:
            raise CommandError(f"{target} cannot be written: {error.strerror}.") from None
        except KeyboardInterrupt:
            raise CommandError(f"{name} was stopped. {fetch.what_is_kept()}", returncode=130) from None
        console.print(f"{target} is whole", markup=False, highlight=False, soft_wrap=True)


def _target(name: str, to: Path, count: int) -> Path:
    try:
        check_safe(name)  # it becomes a name on this disk
    except BadName as error:
        raise CommandError(str(error)) from None
    try:
        is_folder, has_folder = to.is_dir(), to.parent.is_dir()
    except OSError as error:
        raise CommandError(f"{to} cannot be written: {error.strerror}.") from None
    if is_folder:
        return to / name.rpartition("/")[2]
    if count > 1:
        raise CommandError(f"{to} is not a folder, but there are {count} files for it.")
    if not has_folder:
        raise CommandError(f"The folder {to.parent} does not exist.")
    return to
