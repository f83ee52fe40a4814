"""What is to become of an upload, as a small JSON file beside its bytes."""

import contextlib
import errno
import json
import os
import time
from dataclasses import asdict, dataclass
from typing import NamedTuple

from fileserver.storage import partial_files
from fileserver.storage.base import UploadRequest, UploadStatus
from fileserver.storage.partial_files import DESCRIPTION, DRAFT
from fileserver.storage.place import Place


@dataclass(frozen=True, slots=True)
class Description(UploadRequest):
    """``final`` is the name that the last rename gives it, once decided; ``hashed`` the hash of its bytes."""

    final: str | None = None
    hashed: str | None = None


class Published(NamedTuple):
    """The name that an upload got, and whether that was another file's until then."""

    name: str
    replaced: bool


def write(folder: Place, upload_id: str, description: Description) -> None:
    """Whole or not at all, and on the disk before anything that relies on it."""
    draft = folder.child(upload_id + DRAFT)
    with contextlib.suppress(FileNotFoundError):  # of a crash
        os.unlink(draft, dir_fd=folder.dir_fd)
    fd = os.open(draft, partial_files.CREATE, 0o600, dir_fd=folder.dir_fd)
    try:
        with open(fd, "wb") as file:
            file.write(json.dumps(asdict(description)).encode())
            file.flush()
            os.fsync(fd)
        final = folder.child(upload_id + DESCRIPTION)
        os.replace(draft, final, src_dir_fd=folder.dir_fd, dst_dir_fd=folder.dir_fd)
    except BaseException:
        os.unlink(draft, dir_fd=folder.dir_fd)
        raise


def read(folder: Place, upload_id: str) -> Description:
    """Raises ``FileNotFoundError`` also for one that makes no sense."""
    with open(partial_files.open_file(folder, upload_id + DESCRIPTION, partial_files.READ), "rb") as file:
        try:
            return Description(**json.load(file))
        except (ValueError, TypeError):
            raise FileNotFoundError(errno.ENOENT, "no description", upload_id) from None


def look(folder: Place, upload_id: str, keep_seconds: float) -> tuple[Description, UploadStatus]:
    """What is to become of an upload, and how far it is."""
    # The bytes first: if they are renamed meanwhile, the description that is read then says to what.
    found = None
    with contextlib.suppress(FileNotFoundError):
        found = partial_files.stat_file(folder, upload_id)
    described = read(folder, upload_id)
    offset, published, touched = described.size, described.final, time.time()
    if found is not None:
        offset, published, touched = found.st_size, None, found.st_mtime
    elif published is None:
        raise FileNotFoundError(errno.ENOENT, "no bytes", upload_id)
    return described, UploadStatus(
        id=upload_id,
        name=described.name,
        size=described.size,
        offset=offset,
        published=published,
        sha256=described.hashed,
        expires=touched + keep_seconds,
        metadata=described.metadata,
        may_replace=described.may_replace,
    )
