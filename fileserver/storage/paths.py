"""From a name to its place on the disk: the one guard for names from outside.

A name is followed part by part with ``dir_fd`` and ``O_NOFOLLOW``, so no symbolic link is ever followed and
nothing outside the folder can be reached, whatever others rename meanwhile. Where a system has no ``dir_fd``
(Windows) each part is looked at before it is used.
"""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from fileserver.names import BadName, check_safe, composed, forms_of, is_safe
from fileserver.storage.place import HAS_DIR_FD, Place, refuse
from fileserver.storage.root import Root
from fileserver.wire.replies import ErrorReply

_MISSED = frozenset({"not-found", "bad-name"})  # after which the other form of a name is tried

T = TypeVar("T")


class Paths:
    """All places of one served folder. For any thread."""

    def __init__(self, root: Path, use_dir_fd: bool = HAS_DIR_FD) -> None:
        self.root = Root(root, use_dir_fd)
        # Held by whoever replaces or deletes a file: a look at its state and the change are one step.
        self.changing = threading.Lock()

    def close(self) -> None:
        self.root.close()

    def require(self) -> None:
        """Raise ``unavailable`` if the folder cannot be read now."""
        self.root.require()

    def free_space(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.root.path).free

    def size_of_disk(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.root.path).total

    @contextlib.contextmanager
    def at(self, name: str, make: bool = False) -> Iterator[Place]:
        """The place of a safe name; ``OSError`` inside becomes the ``ErrorReply`` that it means."""
        _require_safe(name)
        *folders, last = name.split("/")
        with self._meaning(name), self.folder(folders, make) as folder:
            yield Place(folder.dir_fd, folder.child(last))

    @contextlib.contextmanager
    def at_folder(self, name: str, make: bool = False) -> Iterator[Place]:
        """The same for a folder; the empty name is the served folder's."""
        if name:
            _require_safe(name)
        with self._meaning(name), self.folder(name.split("/") if name else [], make) as folder:
            yield folder

    @contextlib.contextmanager
    def _meaning(self, name: str) -> Iterator[None]:
        generation = self.root.generation
        try:
            yield
        except FileExistsError:
            raise
        except OSError as error:
            self.root.require_same(generation)  # while the folder is away, nothing in it is missing
            refuse(error, name)

    def folder(self, parts: list[str], make: bool = False) -> contextlib.AbstractContextManager[Place]:
        """The folder with these parts, which nobody outside has named. Raises ``OSError``."""
        return self.root.folder(parts, make)

    def descriptor(self, now: float) -> int | None:
        """Of the served folder, which is opened anew if it was replaced; ``now`` is monotonic. ``None`` where
        files are opened by their paths."""
        if self.root.fd is not None:
            self.root.refresh(now)
        return self.root.fd

    @property
    def generation(self) -> int:
        """How often the served folder was opened anew."""
        return self.root.generation

    @staticmethod
    def names_in(place: Place) -> list[str]:
        with place.scan() as found:
            return [child.name for child in found]

    # --- Unicode's two forms

    def in_either_form(self, name: str, look: Callable[[str], T]) -> T:
        """``look`` at the file of exactly that name, else at that of the same name in the other form."""
        generation = self.root.generation
        try:
            return look(name)
        except ErrorReply as error:
            if error.code == "unavailable" and self.root.generation != generation:
                return self.in_either_form(name, look)  # in the folder that has come in the place of ours
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


def _require_safe(name: str) -> None:
    try:
        check_safe(name)
    except BadName as error:
        raise ErrorReply("bad-name", str(error)) from None


def _is_there(folder: Place, name: str) -> bool:
    try:
        os.stat(folder.child(name), dir_fd=folder.dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True
