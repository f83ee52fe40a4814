"""Under which names the site answers (``ALLOWED_HOSTS``), if it is on the network: those of this machine.

A page elsewhere can have its own name lead here (DNS rebinding). It has no name of ours, so it gets a 400.
"""

import re
import socket
import threading
from collections.abc import Iterator

from django.conf import settings

from files_app.access.addresses import machine
from files_app.access.loopback import is_this_machine
from fileserver.net.address import literal

_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")  # and no pattern, as a leading dot or a star would be


class AllowedHosts(list[str]):
    """What the settings allow; and on the network each address and name that this machine has now.

    Django goes through it at each request, so what changes is known within seconds.
    """

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        if not is_this_machine(settings.WEB_HOST):
            yield from own_hosts()


def own_hosts() -> Iterator[str]:
    """As they stand in the header ``Host``, without a port."""
    yield "localhost"
    yield from map(literal, machine().own)
    name = socket.gethostname().lower()
    short, _, _ = name.partition(".")
    for one in (name, f"{short}.local", _full_name.of(name)):
        # A name server of somebody else may call us by any name: one that does not begin as ours is none.
        if _NAME.fullmatch(one) and one.partition(".")[0] == short:
            yield one


class FullName:
    """The name of this machine with its domain.

    A DNS server may have to be asked, which may not answer for half a minute: a thread waits for it.
    """

    def __init__(self) -> None:
        # Both are replaced as a whole, so they are read without a lock; at worst two threads ask for it.
        self._asked, self._known = "", ""

    def of(self, name: str) -> str:
        """Empty as long as it is not known."""
        if name != self._asked:
            self._asked, self._known = name, ""
            threading.Thread(target=self._ask, args=(name,), name="Full name", daemon=True).start()
        return self._known

    def _ask(self, name: str) -> None:
        found = socket.getfqdn(name).lower()
        if name == self._asked:
            self._known = found


_full_name = FullName()
