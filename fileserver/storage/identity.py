"""What makes a file or a folder that very one, whatever its name is and whatever has taken its place.

The number of an inode alone does not: many disks give that of a deleted folder to the next one at once. With
the time at which the inode was made it does, where the system tells that time. A file that is published in
the place of another is another one; a file that is written to stays the same.
"""

import os
import sys

from fileserver.storage.place import Place
from fileserver.storage.syscalls import birth_ns


def identity_of(place: Place) -> str:
    """Of what is at the place itself; a link is not followed. Raises ``OSError``."""
    found = os.fstat(place.dir_fd) if place.dir_fd is not None and not place.path else place.lstat()
    if sys.platform.startswith("linux"):
        born: int | None = birth_ns(place)
    else:  # in seconds before Python 3.12, and on macOS
        born = (
            getattr(found, "st_birthtime_ns", None) or round(getattr(found, "st_birthtime", 0) * 1e9) or None
        )
    return f"{found.st_ino:x}" if born is None else f"{found.st_ino:x}-{born:x}"
