"""The secret key of this installation: made once, readable by its owner alone."""

import contextlib
import os
import secrets
from pathlib import Path


def load_or_make(path: Path) -> str:
    """The key kept in ``path``; at the first start it is made there, with mode 0600."""
    if not path.exists():
        _make(path)
    return path.read_text("ascii").strip()


def _make(path: Path) -> None:
    # Two processes may start at the same moment: the key appears whole or not at all, and the first one wins.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(50))
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    except OSError:  # a disk without links
        os.replace(draft, path)
    else:
        draft.unlink()
