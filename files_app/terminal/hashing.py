"""The hash of what an earlier run has left or sent, to be gone on with."""

import hashlib
from io import BufferedRandom, BufferedReader
from typing import Any

from fileserver.client.blocking import CHUNK


def sha256_of_start(file: BufferedReader | BufferedRandom, size: int) -> Any:
    """A hash of ``hashlib`` over the first ``size`` bytes; the file then stands behind them.

    Raises ``EOFError`` if there are fewer.
    """
    digest, buffer, left = hashlib.sha256(), memoryview(bytearray(CHUNK)), size
    file.seek(0)
    while left:
        count = file.readinto(buffer[: min(left, CHUNK)])
        if not count:
            raise EOFError(f"{left} of {size} bytes are missing.")
        digest.update(buffer[:count])
        left -= count
    return digest
