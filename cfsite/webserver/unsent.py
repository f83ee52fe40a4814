"""How many bytes of ours are still on their way to a peer."""

from typing import Any

from fileserver.net.unacknowledged import unacknowledged_bytes


def buffered(transport: Any) -> int:
    """Bytes of ours which the system has not taken yet."""
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def unsent(transport: Any) -> int:
    """Bytes of ours which have not reached the peer, as far as this system can tell."""
    fd = transport.fileno()
    return buffered(transport) + (unacknowledged_bytes(fd) if fd >= 0 else 0)
