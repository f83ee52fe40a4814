"""How many bytes of ours a peer's system has not acknowledged. Only Linux tells: SIOCOUTQ of tcp(7)."""

import sys

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = termios = None  # type: ignore[assignment]

SYSTEM_TELLS = fcntl is not None and sys.platform.startswith("linux")


def unacknowledged_bytes(fd: int) -> int:
    """Bytes in the queue of the socket ``fd``; 0 where the system does not tell."""
    if not SYSTEM_TELLS:
        return 0
    # TIOCOUTQ is another name of the same number.
    return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder, signed=True)
