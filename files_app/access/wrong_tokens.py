"""Who shows token after token that is not known. In memory: a client's thread must not wait for a database.

A token cannot be guessed, so a right one is always taken, whatever else came from its address. Wrong ones
are only kept from being a load.
"""

import threading
import time

from files_app.access.pools import Level, Pool
from fileserver.net.address import is_loopback
from fileserver.wire.replies import ErrorReply

POOL = Pool(20, 30)  # of each address
MAX_ADDRESSES = 10_000  # that are remembered

_lock = threading.Lock()
_levels: dict[str, Level] = {}


def count(address: str, now: float | None = None) -> None:
    """A token was wrong. Raises ``busy``, which closes the connection, if there were too many of them."""
    if is_loopback(address):  # everybody on this machine, and the site with another key, which is told so
        return
    now = time.monotonic() if now is None else now
    with _lock:
        level = _levels.setdefault(address, Level(POOL.burst, now))
        level.fill(POOL, now)
        if wait := level.wait(POOL):
            raise ErrorReply("busy", f"Too many wrong tokens from your address; try again in {wait:.0f} s.")
        level.tries -= 1
        if len(_levels) > MAX_ADDRESSES:
            _forget_idle(now)


def forget_all() -> None:
    with _lock:
        _levels.clear()


def _forget_idle(now: float) -> None:
    """Those whose pool is full again; if there are none, all: better forgotten than a memory that grows."""
    for address, level in list(_levels.items()):
        level.fill(POOL, now)
        if level.tries >= POOL.burst:
            del _levels[address]
    if len(_levels) > MAX_ADDRESSES:
        _levels.clear()
