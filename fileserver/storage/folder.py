"""The served folder: the only place where a name from outside becomes an open file.

A name is followed part by part with ``dir_fd`` and ``O_NOFOLLOW``, so no symbolic link is ever followed and
nothing outside the folder can be reached, whatever others rename meanwhile. Where a system has no ``dir_fd``
(Windows) each part is looked at before it is used.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from fileserver.names import BadName, check_safe, composed, forms_of, is_safe, shown
from fileserver.storage.base import Content
from fileserver.storage.content import Entry, OpenFile, entry_of
from fileserver.storage.listing import Listing, Wanted
from fileserver.storage.place import HAS_DIR_FD, READ_FILE, Place, refuse, require_regular, require_state
from fileserver.storage.root import Root
from fileserver.wire.verbs import ErrorReply

_ABSENT = frozenset({"not-found", "not-a-file"})
_MISSED = frozenset({"not-found", "bad-name"})  # after which the other form of a name is tried

T = TypeVar("T")


class Storage:
    """Every method takes names from outside and raises ``ErrorReply`` with the code of the protocol.

    One that looks for a file finds it in either of Unicode's forms, composed or decomposed, and answers with
    the name that it has on the disk.
    """

    def __init__(self, root: str | os.PathLike[str], *, use_dir_fd: bool = HAS_DIR_FD) -> None:
        self.root = Path(root).resolve()
        # Of who replaces or deletes a file: a look at its state and the change are one step.
        self.changing = threading.Lock()
        self._hashes: dict[str, tuple[str, str]] = {}
        self._root = Root(self.root, use_dir_fd)
        self._listing = Listing(self._root)

    def close(self) -> None:
        self._root.close()

    def __enter__(self) -> "Storage":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def require(self) -> None:
        """Raise ``unavailable`` if the folder cannot be read now."""
        self._root.require()

    def fault(self) -> str:
        """A sentence that says why the folder cannot be read now; empty if it can."""
        try:
            self.require()
        except ErrorReply as error:
            return error.message
        return ""

    # --- reading

    def open(self, name: str) -> OpenFile:
        return self._in_either_form(name, self._open)

    def _open(self, name: str) -> OpenFile:
        with self.at(name) as place:
            # Looked at before it is opened: opening a device or a FIFO has effects of its own.
            require_regular(place, name)
            fd = os.open(place.path, READ_FILE, dir_fd=place.dir_fd)
        return self.opened(fd, name)

    def opened(self, fd: int, name: str) -> OpenFile:
        """The file of a descriptor that was opened for ``name``; it is closed if that is no regular file."""
        try:
            file = OpenFile(fd, name, self._is_at)
            if not file.is_regular:
                raise ErrorReply("not-a-file", f"{shown(name)} is not a regular file.")
            return file
        except BaseException:
            os.close(fd)
            raise

    def _is_at(self, name: str, file: os.stat_result) -> bool:
        """Whether ``name`` leads to this very file; also if that cannot be told now."""
        try:
            with self.at(name) as place:
                return os.path.samestat(place.lstat(), file)
        except ErrorReply as error:
            return error.code not in _ABSENT

    def stat(self, name: str) -> Entry:
        return self._in_either_form(name, self._stat)

    def _stat(self, name: str) -> Entry:
        with self.at(name) as place:
            return entry_of(name, require_regular(place, name))

    def entries(
        self, prefix: str = "", after: str = "", unread: Callable[[str], None] = lambda key: None
    ) -> Generator[Entry]:
        """Entries whose names start with ``prefix``, in the byte order of UTF-8, those behind ``after``.

        ``unread`` is called with each folder (its name and ``/``) and file that cannot be read, in place of
        its entries. Close it if you do not take all: it may hold a folder open.
        """
        return self._listing.entries(Wanted(prefix, after, unread))

    def sha256_of(self, entry: Entry | Content) -> str | None:
        """The hash of this state of the file, if it is known."""
        etag, digest = self._hashes.get(entry.name, ("", ""))
        return digest if etag == entry.etag else None

    def remember_hash(self, name: str, etag: str, sha256: str) -> None:
        self._hashes[name] = (etag, sha256)

    # --- changing

    def delete(self, name: str, etag: str | None = None) -> str:
        """Remove a file; the name that it had on the disk. With ``etag``, only in that state: else
        ``changed``."""
        return self._in_either_form(name, partial(self._delete, etag=etag))

    def _delete(self, name: str, etag: str | None) -> str:
        with self.at(name) as place, self.changing:
            require_regular(place, name)
            require_state(place, name, etag)
            os.unlink(place.path, dir_fd=place.dir_fd)
        self._hashes.pop(name, None)
        self._remove_empty_folders(name)
        return name

    def _remove_empty_folders(self, name: str) -> None:
        """Folders exist for their files only: one that a delete has emptied goes too."""
        *folders, _ = name.split("/")
        while folders:
            try:
                with self.folder(folders[:-1]) as above:
                    os.rmdir(above.child(folders.pop()), dir_fd=above.dir_fd)
            except (OSError, ErrorReply):
                return

    def free_space(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.root).free

    # --- from a name to a place

    @contextlib.contextmanager
    def at(self, name: str, make: bool = False) -> Iterator[Place]:
        """The place of a safe name; ``OSError`` inside becomes the ``ErrorReply`` that it means."""
        try:
            check_safe(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        *folders, last = name.split("/")
        generation = self._root.generation
        try:
            with self.folder(folders, make) as folder:
                yield Place(folder.dir_fd, folder.child(last))
        except FileExistsError:
            raise
        except OSError as error:
            self._root.require_same(generation)  # while the folder is away, nothing in it is missing
            refuse(error, name)

    def folder(self, parts: list[str], make: bool = False) -> contextlib.AbstractContextManager[Place]:
        """The folder with these parts, which nobody outside has named. Raises ``OSError``."""
        return self._root.folder(parts, make)

    def descriptor(self, now: float) -> int | None:
        """Of the served folder, which is opened anew if it was replaced; ``now`` is monotonic. ``None`` where
        files are opened by their paths."""
        if self._root.fd is not None:
            self._root.refresh(now)
        return self._root.fd

    @property
    def generation(self) -> int:
        """How often the served folder was opened anew."""
        return self._root.generation

    @staticmethod
    def names_in(place: Place) -> list[str]:
        with place.scan() as found:
            return [child.name for child in found]

    # --- Unicode's two forms

    def _in_either_form(self, name: str, look: Callable[[str], T]) -> T:
        """``look`` at the file of exactly that name, else at that of the same name in the other form."""
        generation = self._root.generation
        try:
            return look(name)
        except ErrorReply as error:
            if error.code == "unavailable" and self._root.generation != generation:
                return self._in_either_form(name, look)  # in the folder that has come in the place of ours
            if error.code not in _MISSED or (real := self.real_name(name)) == name:
                raise
        return look(real)

    def real_name(self, name: str) -> str:
        """``name`` with each part in the form that it has on the disk; as it is from where nothing is found.

        macOS hands out decomposed names and others composed ones, which look the same to people.
        """
        if name.isascii():
            return name
        if not is_safe(name):
            name = composed(name)  # which is shorter, and perhaps short enough
            if not is_safe(name):
                return name
        real: list[str] = []
        for part in name.split("/"):
            with contextlib.suppress(OSError), self.folder(real) as folder:
                part = next((form for form in forms_of(part) if _is_there(folder, form)), part)
            real.append(part)
        return "/".join(real)


def _is_there(folder: Place, name: str) -> bool:
    try:
        os.stat(folder.child(name), dir_fd=folder.dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True
