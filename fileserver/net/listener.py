"""The socket on which the server waits for its clients."""

import socket
import sys

BACKLOG = 1024  # clients that the system keeps, at least, until they are accepted
MAX_BACKLOG = 65_535  # what every system can be asked for
# Seconds of one wait for a client. Where a shutdown of the listener does not end it, it must end by itself.
ACCEPT_SECONDS = None if sys.platform.startswith("linux") else 1.0


def listen(host: str, port: int, max_clients: int = BACKLOG) -> socket.socket:
    """A socket that listens on ``host``, an address or a name, and ``port``; 0 is any that is free.

    ``max_clients`` may come in the same moment: beyond the backlog the system drops their first packets, and
    after some tries resets them. The system may allow fewer (Linux: ``net.core.somaxconn``).
    """
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which those of the clients inherit
        listener.bind(address)
        listener.listen(min(max(BACKLOG, max_clients), MAX_BACKLOG))
        listener.settimeout(ACCEPT_SECONDS)
    except BaseException:
        listener.close()
        raise
    return listener
