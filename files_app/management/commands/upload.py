"""``manage.py upload``: files and folders to the file server, each file checked by its hash."""

import os
import ssl
import stat
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from django.core.management.base import BaseCommand, CommandError

from files_app.terminal.connecting import connector, distrust
from files_app.terminal.options import add_server_address
from files_app.terminal.paths import means_folder, require_no_folder, upload_name
from files_app.terminal.progress import console, file_server, progress_bars
from files_app.terminal.send import Send, SendError
from fileserver.net.address import address_text
from fileserver.wire.replies import BadReply, ErrorReply

NO_FILE = "neither a file nor a folder"


class Command(BaseCommand):
    help = "Uploads files and folders to the file server; what broke off goes on where it was."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("paths", nargs="+", metavar="PATH", help="files, and folders with all in them")
        parser.add_argument(
            "--as",
            dest="name",
            help="the name it gets there (one PATH only), or a folder if a slash ends it",
        )
        parser.add_argument(
            "--exists",
            choices=("fail", "replace", "rename"),
            default="fail",
            help="what to do if the name is taken (default: %(default)s)",
        )
        add_server_address(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        if name and not name.endswith("/") and len(options["paths"]) > 1:
            raise CommandError(
                f"--as can name one PATH only; with a slash at its end, {name}/, it is a folder."
            )
        found = [item for path in options["paths"] for item in _files_in(path, upload_name(path, name))]
        if not found:
            raise CommandError("There is no file in what was named.")
        with file_server(options) as client:  # if nobody is there at all, it is said at once
            client.request("PING")
            if name and found[0][1] == name:
                require_no_folder(client, name)
        failed = sum(not self._send(item, options) for item in found)
        if failed:
            raise CommandError(f"{failed} of {len(found)} files could not be uploaded.")

    def _send(self, item: "tuple[Path, str] | Lost", options: dict[str, Any]) -> bool:
        if isinstance(item, Lost):
            self.stderr.write(f"{item.path} {item.why}")
            return False
        return self._upload(*item, options)

    def _upload(self, path: Path, name: str, options: dict[str, Any]) -> bool:
        connect = connector(options)
        server = address_text(options["host"], options["port"])
        try:
            with progress_bars() as bars:
                send = Send(connect, server, path, name, options["exists"])
                bar = bars.add_task(name, total=path.stat().st_size)
                stored = send.run(lambda done: bars.update(bar, completed=done))
        except ErrorReply as error:
            self.stderr.write(error.message)
        except SendError as error:
            self.stderr.write(str(error))
        except BadReply:
            self.stderr.write(f"What answers at {server} is no file server.")
        except ssl.SSLError as error:
            self.stderr.write(distrust(options, error))
        except OSError as error:
            self.stderr.write(f"{path} {_cannot_be_read(error)}")
        except KeyboardInterrupt:
            message = f"{path} was stopped: the same command goes on with it within a day."
            raise CommandError(message, returncode=130) from None
        else:
            console.print(f"{path} is there as {stored}", markup=False, highlight=False, soft_wrap=True)
            return True
        return False


class Lost(NamedTuple):
    """Something that was meant to be sent and cannot even be read."""

    path: Path
    why: str  # the end of a sentence that begins with the path


def _files_in(name: str, top: str) -> Iterator[tuple[Path, str] | Lost]:
    """Each file to send, with the name that it is to get; in a folder it begins with ``top``.

    What is named and is not there is an error at once. What cannot be read in a folder holds up no other.
    """
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CommandError(f"{path} is not there.") from None
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    if stat.S_ISREG(mode):
        if means_folder(name):
            raise CommandError(f"{name} is no folder, but a file.")
        yield path, top
    elif stat.S_ISDIR(mode):
        yield from _files_below(path, top)
    else:
        raise CommandError(f"{path} is {NO_FILE}.")


def _files_below(path: Path, top: str) -> Iterator[tuple[Path, str] | Lost]:
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(path, onerror=unreadable.append):
        # Hidden things are not served; links would bring what lies elsewhere.
        folders[:] = sorted(part for part in folders if not part.startswith("."))
        for part in sorted(names):
            if not part.startswith("."):
                yield from _in_folder(Path(folder, part), path, top)
    yield from (Lost(Path(error.filename), _cannot_be_read(error)) for error in unreadable)


def _in_folder(file: Path, path: Path, top: str) -> Iterator[tuple[Path, str] | Lost]:
    try:
        mode = file.lstat().st_mode
    except OSError as error:
        yield Lost(file, _cannot_be_read(error))
        return
    if stat.S_ISREG(mode):
        yield file, f"{top}/{file.relative_to(path).as_posix()}"
    elif not stat.S_ISLNK(mode):
        yield Lost(file, f"is {NO_FILE}.")


def _cannot_be_read(error: OSError) -> str:
    return f"cannot be read: {error.strerror or error}."
