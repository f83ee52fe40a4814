"""The walk through the served folder, in the order of whole names.

What cannot be read is not empty. If it is all that was asked for, that is an error. If it lies below, the
rest is listed, and ``unread`` is called with the parts that are missing: they must not be taken for gone by
a caller that compares with what was there before.
"""

import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass

from fileserver.names import MAX_NAME_BYTES, is_safe, shown
from fileserver.storage.base import Entry
from fileserver.storage.content import entry_of
from fileserver.storage.place import GONE, SHORTAGES, Place, reason_of, require_regular, unavailable
from fileserver.storage.root import Root
from fileserver.wire.replies import ErrorReply

log = logging.getLogger(__name__)

_MAX_NAMED = 10_000  # names that the log has told to be left out
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names that begin with ``prefix`` and come behind ``after``.

    ``unread`` is called with each part that could not be read: a folder (its key ends in ``/``) or a file.
    """

    prefix: str
    after: str
    unread: Callable[[str], None]

    def has(self, key: str) -> bool:
        """Whether the file, or something in the folder, is wanted."""
        prefix, after = self.prefix, self.after
        if _is_folder(key):
            in_prefix = key.startswith(prefix) or prefix.startswith(key)
            return in_prefix and (key > after or after.startswith(key))
        return key > after and key.startswith(prefix)


class Listing:
    """All walks of one served folder. For any thread."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._named: set[str] = set()

    def entries(self, wanted: Wanted) -> Generator[Entry]:
        """Raises ``unavailable`` when all that is wanted cannot be read."""
        self._root.require()  # a folder that was removed and is still open would look empty
        yield from self._walk("", wanted)

    def _walk(self, folder: str, wanted: Wanted) -> Generator[Entry]:
        """What is below ``folder``, which is empty or ends in ``/``, as the keys of folders do here."""
        # So the walk itself is in the order of whole names: code points have the order of their UTF-8 bytes.
        keys = sorted(key for key in self._children(folder, wanted) if wanted.has(key))
        # The order first and the looking at each later: a page of a large folder looks at its own files only.
        for are_folders, run in itertools.groupby(filter(self._is_safe, keys), _is_folder):
            if are_folders:
                for key in run:
                    yield from self._walk(key, wanted)
            else:
                yield from self._files(folder, run, wanted)

    def _children(self, folder: str, wanted: Wanted) -> list[str]:
        try:
            with self._opened(folder) as place, place.scan() as found:
                keys = [folder + key for child in found if (key := _key_of(child))]
        except OSError as error:
            self._miss(folder, error, wanted)
            return []
        if all(map(_is_folder, keys)):  # else it has to be looked into as well
            self._named.discard(folder)  # should it be away once more, that is worth another line
        return keys

    def _files(self, folder: str, names: Iterable[str], wanted: Wanted) -> Generator[Entry]:
        """The folder is followed to once for all of them."""
        try:
            with self._opened(folder) as place:
                for name in names:
                    try:
                        child = Place(place.dir_fd, place.child(name[len(folder) :]))
                        entry = entry_of(name, require_regular(child, name))
                    except ErrorReply:  # something else is there by now
                        continue
                    except OSError as error:
                        if error.errno in _FORBIDDEN:  # it is the folder that must not be looked into
                            raise
                        self._miss(name, error, wanted)
                        continue
                    yield entry
            self._named.discard(folder)
        except OSError as error:
            self._miss(folder, error, wanted)

    def _miss(self, key: str, error: OSError, wanted: Wanted) -> None:
        """Something could not be read: is it gone, or is it only not to be seen?"""
        if error.errno in GONE:
            self._root.require()
        elif error.errno in SHORTAGES or wanted.prefix.startswith(key):
            raise unavailable(error, key.rstrip("/")) from error
        else:
            self._name_once(key, f"cannot be read: {reason_of(error)}")
            wanted.unread(key)

    def _opened(self, folder: str) -> contextlib.AbstractContextManager[Place]:
        return self._root.folder(folder.split("/")[:-1])

    def _is_safe(self, key: str) -> bool:
        name = key.removesuffix("/")
        if not is_safe(name):
            self._name_once(name, "has a name that is not safe to serve")
            return False
        return True

    def _name_once(self, key: str, reason: str) -> None:
        if key not in self._named and len(self._named) < _MAX_NAMED:
            self._named.add(key)
            log.warning("left out of listings: %s %s", shown(key.rstrip("/"), MAX_NAME_BYTES), reason)


def _key_of(child: "os.DirEntry[str]") -> str:
    """Empty for what is hidden, and for what is neither a file nor a folder."""
    if child.name.startswith("."):
        return ""
    if child.is_file(follow_symlinks=False):
        return child.name
    return child.name + "/" if child.is_dir(follow_symlinks=False) else ""


def _is_folder(key: str) -> bool:
    return key.endswith("/")
