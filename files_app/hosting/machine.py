"""Under which names and addresses this machine may be asked for: what a certificate for it must name."""

import re
import socket
import threading

from files_app.access.addresses import machine
from fileserver.net.address import read_address

NAME_SECONDS = 2.0  # for a name server to say our full name; one may not answer for half a minute
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


def is_name(text: str) -> bool:
    """Whether it can stand in a certificate, as the name of a host in lower case."""
    return len(text) <= 253 and _NAME.fullmatch(text) is not None


def names_and_addresses() -> list[str]:
    """All of this machine at the moment, names first; those of loopback always."""
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    names = ["localhost", name, f"{short}.local"]
    full = _full_name(name)
    if full.partition(".")[0] == short:  # a name server of somebody else may call us by any other
        names.append(full)
    return list(dict.fromkeys([*filter(is_name, names), "127.0.0.1", "::1", *_of_interfaces()]))


def _of_interfaces() -> list[str]:
    # Those of one link only mean nothing without an interface, which no URL can name.
    known = [address for address in map(read_address, machine().own) if address and not address.is_link_local]
    return [str(address) for address in known]


def _full_name(name: str) -> str:
    """With its domain; empty if that is not known in time."""
    found: list[str] = []
    asking = threading.Thread(
        target=lambda: found.append(socket.getfqdn(name).lower()), name="Full name", daemon=True
    )
    asking.start()
    asking.join(NAME_SECONDS)
    return found[0] if found else ""
