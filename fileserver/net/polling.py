"""One wait for one socket: ``poll``, and ``select`` on systems that have no poll."""

import select
import socket

READABLE = getattr(select, "POLLIN", 1)
WRITABLE = getattr(select, "POLLOUT", 4)


def poll(sock: socket.socket, events: int, seconds: float) -> bool:
    """Whether the socket is ready for one of ``events``, or broken, within ``seconds``."""
    if not hasattr(select, "poll"):
        return _select(sock, events, seconds)
    poller = select.poll()
    poller.register(sock, events)
    return bool(poller.poll(seconds * 1000))


def poll_finely(sock: socket.socket, events: int, seconds: float) -> bool:
    """For less than the milliseconds of ``poll``; never in time for a descriptor that is too high for it."""
    try:
        return _select(sock, events, seconds)
    except ValueError:
        return False


def _select(sock: socket.socket, events: int, seconds: float) -> bool:
    # The third set is always used: select needs at least one that is not empty.
    found = select.select(
        [sock] if events & READABLE else [], [sock] if events & WRITABLE else [], [sock], seconds
    )
    return any(found)
