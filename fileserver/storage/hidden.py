"""The hidden folder that uploads lie in until they are files."""

import contextlib
import re
from collections.abc import Iterator

from fileserver.names import shown
from fileserver.storage.partial_files import PARTIALS
from fileserver.storage.paths import Paths
from fileserver.storage.place import Place, refuse
from fileserver.wire.replies import ErrorReply

_ID = re.compile(r"[0-9a-f]{32}")


class HiddenFolder:
    """Of one served folder. For any thread."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    @contextlib.contextmanager
    def open(self, upload_id: str = "0" * 32) -> Iterator[Place]:
        """To look at one upload, or at all. ``not-found`` for an id that cannot be one: it becomes a name on
        the disk."""
        if not _ID.fullmatch(upload_id):
            raise ErrorReply("not-found", f"There is no upload {shown(upload_id, 40)}.")
        try:
            with self._paths.folder([PARTIALS]) as folder:
                yield folder
        except FileExistsError:  # somebody has taken the name: the next one is tried
            raise
        except OSError as error:
            self._paths.require()  # while the folder is away, no upload in it is lost
            if isinstance(error, FileNotFoundError):
                raise ErrorReply("not-found", f"There is no upload {upload_id}.") from None
            refuse(error, "the upload")

    @contextlib.contextmanager
    def made(self, name: str) -> Iterator[Place]:
        """For a new upload: the folder is made if it is not there. ``name`` is for what is said of errors."""
        try:
            with self._paths.folder([PARTIALS], make=True) as folder:
                yield folder
        except OSError as error:
            self._paths.require()
            refuse(error, name)
