"""A name for a new file: may it be had, and which one if it is taken."""

import contextlib
import errno
import stat
from collections.abc import Iterator

from fileserver.names import composed, free_names, numbered, shown
from fileserver.storage.paths import Paths
from fileserver.storage.place import Place, not_in_that_state, require_state
from fileserver.wire.replies import ErrorReply

_FEW_NUMBERS = 4  # that are tried before the whole folder is read for the first free one
_MAX_NUMBERS = 10_000


def require_free(paths: Paths, name: str, exists: str, etag: str | None = None) -> None:
    """Refuse at the start of an upload what the rename at its end would refuse.

    ``etag``: of the file that is to be replaced, if it must be in that state.
    """
    try:
        with paths.at(paths.real_name(name)) as place:
            require_replaceable(place, name, exists)
            require_state(place, name, etag)
    except FileExistsError:
        if exists == "fail":
            raise ErrorReply("exists", f"There is a file {shown(name)} already.") from None
    except ErrorReply as error:
        if error.code != "not-found":
            raise
        if not isinstance(error.__cause__, FileNotFoundError):
            message = f"{shown(name)} cannot be made: a part of its path is a file or a link."
            raise ErrorReply("not-a-file", message) from None
        if etag is not None:
            raise not_in_that_state(name) from None


def require_replaceable(place: Place, name: str, exists: str) -> None:
    """Raise ``FileExistsError`` if the name is taken and must not be, ``not-a-file`` if it is no file's."""
    try:
        found = place.lstat()
    except FileNotFoundError:
        return
    if exists != "replace":
        raise FileExistsError(errno.EEXIST, "taken", name)
    if not stat.S_ISREG(found.st_mode):
        raise ErrorReply("not-a-file", f"{shown(name)} is there already and is not a regular file.")


def candidates(paths: Paths, name: str, exists: str) -> Iterator[str]:
    """Names to try, one after another: another upload may be quicker to take one."""
    # A file of that name in Unicode's other form is the same to people: it takes the name too.
    name = paths.real_name(name)
    yield name
    if exists != "rename":
        return
    folder, slash, last = name.rpartition("/")
    name = folder + slash + composed(last)
    yield from (paths.real_name(numbered(name, number)) for number in range(1, _FEW_NUMBERS))
    yield from free_names(name, _names_in(paths, folder), _MAX_NUMBERS, _FEW_NUMBERS)


def _names_in(paths: Paths, folder: str) -> set[str]:
    with contextlib.suppress(OSError), paths.folder(folder.split("/") if folder else []) as place:
        return set(map(composed, paths.names_in(place)))
    return set()  # gone meanwhile: the rename into it will say so
