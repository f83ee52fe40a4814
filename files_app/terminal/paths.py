"""What a name or a path on the command line means: one that ends in a slash is a folder."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from django.core.management.base import CommandError

from fileserver.client.blocking import Client
from fileserver.names import BadName, check_safe, shown
from fileserver.wire.replies import ErrorReply

MAX_SHOWN = 5  # names in one message


class Wanted(NamedTuple):
    name: str  # on the file server
    place: str  # below the folder that it goes into, with "/" between its parts


def means_folder(path: str) -> bool:
    """Whether the text says that it is a folder. Asked of the text, for ``Path`` drops the slash."""
    return path.endswith(separators(os.sep, os.altsep))


def separators(sep: str, altsep: str | None) -> tuple[str, ...]:
    """What stands between the parts of a path: on Windows both slashes."""
    return tuple(sorted({"/", sep, altsep or "/"}))


def files_meant_by(client: Client, name: str) -> list[Wanted]:
    """The file of that name, or all files in the folder of that name, which keep their places in it.

    Raises ``CommandError`` if there is neither, with what begins so.
    """
    path = name.removesuffix("/")
    _check(path)
    last_part = path.rpartition("/")[2]
    complaint = f"There is no folder {shown(path)} with files in it."
    if path == name:
        try:
            client.request("STAT", name=name)
            return [Wanted(name, last_part)]
        except ErrorReply as error:
            if error.code not in ("not-found", "not-a-file"):
                raise
            complaint = error.message
    above = len(path) - len(last_part)
    inside = [Wanted(found, found[above:]) for found in _names(client, f"{path}/")]
    if not inside:
        raise CommandError(complaint + what_begins_so(client, path))
    return inside


def what_begins_so(client: Client, start: str) -> str:
    """The files and folders whose names begin so in either case, as a sentence; empty if there are none."""
    begins = (name for name in _names(client) if name.casefold().startswith(start.casefold()))
    # What lies in a folder below is named by the folder.
    found = list(dict.fromkeys(name[: name.find("/", len(start)) + 1] or name for name in begins))
    if not found:
        return ""
    more = f" and {len(found) - MAX_SHOWN} more" if len(found) > MAX_SHOWN else ""
    return f" What begins so: {', '.join(shown(name) for name in found[:MAX_SHOWN])}{more}."


def targets_of(files: list[Wanted], to: str) -> list[tuple[str, Path]]:
    """Each file's name with its path on this disk. Makes the folder ``to`` if it ends in a slash."""
    path = Path(to)
    try:
        if means_folder(to):
            path.mkdir(parents=True, exist_ok=True)
        is_folder, has_folder = path.is_dir(), path.parent.is_dir()
    except (FileExistsError, NotADirectoryError):
        raise CommandError(f"{to} cannot be a folder: there is a file of that name.") from None
    except OSError as error:
        raise CommandError(f"{to} cannot be written: {error.strerror}.") from None
    if is_folder:
        return _without_clash([(file.name, path / file.place) for file in files])
    if len(files) > 1 or "/" in files[0].place:
        what = f"there are {len(files)} files for it" if len(files) > 1 else "a folder is to go there"
        raise CommandError(f"{to} is not a folder, but {what}. With a slash at its end, {to}/, it is made.")
    if not has_folder:
        raise CommandError(f"The folder {path.parent} does not exist.")
    return [(files[0].name, path)]


def upload_name(path: str, name: str | None) -> str:
    """The name that what is at ``path`` gets on the file server; ``name`` is what ``--as`` says."""
    own = Path(path).resolve().name
    if not name:
        return own
    return f"{name}{own}" if name.endswith("/") else name


def require_no_folder(client: Client, name: str) -> None:
    """Raise ``CommandError`` if ``name``, which a file is to get on the file server, is a folder's there."""
    if next(_names(client, f"{name}/"), None) is not None:
        raise CommandError(f"{shown(name)} is a folder there. To put the file into it, say: --as '{name}/'")


def _without_clash(targets: list[tuple[str, Path]]) -> list[tuple[str, Path]]:
    taken: dict[Path, str] = {}
    for name, target in targets:
        other = taken.setdefault(target, name)
        if other != name:
            raise CommandError(f"{shown(other)} and {shown(name)} would both be {target}: fetch one of them.")
    return [(name, target) for target, name in taken.items()]


def _names(client: Client, prefix: str = "") -> Iterator[str]:
    for entry in client.files(prefix):
        _check(entry["name"])
        yield entry["name"]


def _check(name: str) -> None:
    try:
        check_safe(name)  # it becomes a name on this disk
    except BadName as error:
        raise CommandError(str(error)) from None
