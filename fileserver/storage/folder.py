"""The served folder as a store: the only place where a name from outside becomes an open file."""

import os
import time
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

from fileserver.names import BadName, check_portable, composed, shown
from fileserver.storage.base import Content, Entry
from fileserver.storage.content import OpenFile, entry_of
from fileserver.storage.identity import identity_of
from fileserver.storage.listing import Listing, Wanted
from fileserver.storage.paths import Paths
from fileserver.storage.place import HAS_DIR_FD, READ_FILE, require_regular, require_state
from fileserver.storage.uploads import KEEP_SECONDS, UploadStore
from fileserver.wire.replies import ErrorReply

# A hidden file that keeps a folder which was made by itself: else one that a delete empties goes.
KEEP = ".keep"
KEEP_FLAGS = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ABSENT = frozenset({"not-found", "not-a-file"})


class Storage:
    """Every method takes names from outside and raises ``ErrorReply`` with the code of the protocol.

    One that looks for a file finds it in either of Unicode's forms, composed or decomposed, and answers with
    the name that it has on the disk.
    """

    def __init__(self, root: str | os.PathLike[str], *, use_dir_fd: bool = HAS_DIR_FD) -> None:
        self.root = Path(root).resolve()
        self.paths = Paths(self.root, use_dir_fd)
        self._hashes: dict[str, tuple[str, str]] = {}
        self._listing = Listing(self.paths.root)

    def close(self) -> None:
        self.paths.close()

    def __enter__(self) -> "Storage":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def require(self) -> None:
        """Raise ``unavailable`` if the folder cannot be read now."""
        self.paths.require()

    def fault(self) -> str:
        """A sentence that says why the folder cannot be read now; empty if it can."""
        try:
            self.require()
        except ErrorReply as error:
            return error.message
        return ""

    # --- reading

    def open(self, name: str) -> OpenFile:
        return self.paths.in_either_form(name, self._open)

    def _open(self, name: str) -> OpenFile:
        with self.paths.at(name) as place:
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
        """Whether ``name`` leads to this very file; also if that is not known now."""
        try:
            with self.paths.at(name) as place:
                return os.path.samestat(place.lstat(), file)
        except ErrorReply as error:
            return error.code not in _ABSENT

    def stat(self, name: str) -> Entry:
        return self.paths.in_either_form(name, self._stat)

    def _stat(self, name: str) -> Entry:
        with self.paths.at(name) as place:
            return entry_of(name, require_regular(place, name))

    def identity(self, name: str) -> str:
        """Of a file; of a folder if ``name`` ends in a slash or is empty. No other has the same, or ever had.

        Raises ``not-found`` for a folder that is not there.
        """
        is_folder = not name or name.endswith("/")
        look = self._identity_of_folder if is_folder else self._identity
        return self.paths.in_either_form(name.removesuffix("/") or name, look)

    def _identity(self, name: str) -> str:
        with self.paths.at(name) as place:
            require_regular(place, name)
            return identity_of(place)

    def _identity_of_folder(self, name: str) -> str:
        with self.paths.at_folder(name) as place:
            return identity_of(place)

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

    def make_folder(self, name: str) -> str:
        """Make a folder, and those above it, that stays when it is empty; its name on the disk.

        One that is there already stays from now on, too. ``name`` may end in a slash, the answer does.
        """
        name = composed(name.removesuffix("/"))
        try:
            check_portable(name)
        except BadName as error:
            raise ErrorReply("bad-name", str(error)) from None
        real = self.paths.real_name(name)
        try:
            with self.paths.at_folder(real, make=True) as folder:
                os.close(os.open(folder.child(KEEP), KEEP_FLAGS, 0o644, dir_fd=folder.dir_fd))
        except ErrorReply as error:
            if error.code != "not-found":
                raise
            message = f"{shown(name)} cannot be made: a part of its path is a file or a link."
            raise ErrorReply("not-a-file", message) from error
        return f"{real}/"

    def delete(self, name: str, etag: str | None = None) -> str:
        """Remove a file; the name that it had on the disk. With ``etag``, only in that state: else
        ``changed``."""
        return self.paths.in_either_form(name, partial(self._delete, etag=etag))

    def _delete(self, name: str, etag: str | None) -> str:
        with self.paths.at(name) as place, self.paths.changing:
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
                with self.paths.folder(folders[:-1]) as above:
                    os.rmdir(above.child(folders.pop()), dir_fd=above.dir_fd)
            except (OSError, ErrorReply):
                return

    def uploads(
        self,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        min_free: int = 0,
    ) -> UploadStore:
        """The uploads of this folder. Only one of these at a time knows who writes to which."""
        return UploadStore(self.paths, self.remember_hash, keep_seconds, clock, min_free)
