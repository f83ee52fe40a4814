"""Tickets: what the site signs so that a browser may fetch one file directly from the file server.

A ticket is good for one name at one pace, for the address that the site has seen, and for ten minutes within
which a download must begin, or go on after a break. It says who asked the site for it, and is good only as
long as they may have the file. One without a name shows whether the browser reaches the file server.
"""

from typing import Any

from django.core import signing

from fileserver.net.address import is_loopback, read_address
from fileserver.pacing import Pace
from fileserver.rights import Principal, Ticket

SALT = "files_app.access.tickets"  # nothing else that is signed with our key is a ticket
SECONDS = 600
_LOOPBACK = read_address("127.0.0.1")


def make(name: str, viewer: Principal, pace: dict[str, Any] | None = None) -> str:
    """The text of a ticket, fit for a URL. ``viewer``: who gets it; ``pace`` as in JSON."""
    value = {"name": name, "viewer": viewer.address, "pace": pace, "for": [viewer.kind, viewer.key]}
    return signing.dumps(value, salt=SALT)


def read(text: str, host: str) -> Principal | None:
    """Whose ticket somebody at ``host`` shows, and what it is good for; ``None`` if for nothing."""
    try:
        value = signing.loads(text, salt=SALT, max_age=SECONDS)
    except (signing.BadSignature, ValueError):  # the latter for what is no text at all
        return None
    if _place(value["viewer"]) != _place(host):
        return None
    ticket = Ticket(value["name"], Pace(**value["pace"]) if value["pace"] else None)
    kind, key = value["for"]
    return Principal(kind, address=host, ticket=ticket, key=key)


def _place(host: str) -> object:
    """Equal for all addresses of loopback: a browser may reach one port as 127.0.0.1, another as ::1."""
    return _LOOPBACK if is_loopback(host) else read_address(host) or host
