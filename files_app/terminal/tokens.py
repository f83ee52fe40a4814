"""The token that a command shows the file server: from the environment or a file, never from its words.

What stands on a command line can be read by everybody on the machine, and lies in the shell's history.
"""

import os
import stat
from pathlib import Path

from django.core.management.base import CommandError

VARIABLE = "CFS_TOKEN"
FILE_VARIABLE = "CFS_TOKEN_FILE"
USUAL = Path("~/.config/concurrent-file-server/token")


def token_of(named: str | None) -> str | None:
    """``named``: a file, of ``--token-file``. ``None`` if there is no token. Raises ``CommandError``."""
    if token := os.environ.get(VARIABLE, "").strip():
        return token
    asked_for = named or os.environ.get(FILE_VARIABLE)
    path = Path(asked_for or USUAL).expanduser()
    if not asked_for and not path.exists():
        return None
    try:
        with path.open(encoding="ascii") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise CommandError(f"Others may read {path}: chmod 600 {path}")
            token = file.read(1000).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise CommandError(f"The token in {path} cannot be read: {reason}.") from None
    if not token:
        raise CommandError(f"There is no token in {path}.")
    return token
