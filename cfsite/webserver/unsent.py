"""How many bytes of ours are still on their way to a peer."""

import sys
from typing import Any

if sys.platform == "linux":
    import fcntl
    import termios

    def unsent_in_kernel(fd: int) -> int:
        """Bytes in a socket's queue which the peer's system has not acknowledged: SIOCOUTQ of tcp(7)."""
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
else:

    def unsent_in_kernel(fd: int) -> int:
        return 0


def buffered(transport: Any) -> int:
    """Bytes of ours which the system has not taken yet."""
    return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)


def unsent(transport: Any) -> int:
    """Bytes of ours which have not reached the peer, as far as this system can tell."""
    fd = transport.fileno()
    return buffered(transport) + (unsent_in_kernel(fd) if fd >= 0 else 0)
