"""What ``start`` says of the site: where it is; on the network as QR code too, and who may do what there."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError

from files_app.access.addresses import LOOK_SECONDS
from files_app.access.guests import what_guests_may
from files_app.access.public import has_network, is_on_network, page_url, page_urls
from files_app.hosting.certificates import own_fingerprint
from files_app.hosting.supervisor import say
from files_app.qr import qr_lines

IN_THE_CLEAR = "Without TLS, others on the network can read passwords and files on their way."


class Announcement:
    """Says it when all is ready, and again whenever the address has changed. For the main thread."""

    def __init__(self, highlight: Callable[[str], str]) -> None:
        self._highlight = highlight
        self._told: str | None = None  # the address; ``None`` before the first time
        self._due = 0.0  # monotonic seconds: when to look again

    def tell(self) -> None:
        self._told = page_url()
        say(self._highlight(f"\n  The page is at {self._told}   Ctrl+C stops.\n") + "\n")
        if settings.TLS_CERT:
            say(f"  Fingerprint of its key (SHA-256): {own_fingerprint()}\n")
        if is_on_network():
            say("".join(f"  {line}\n" for line in _of_network()) + "\n")

    def look(self) -> None:
        """To be called again and again; it looks each few seconds."""
        now = time.monotonic()
        if self._told is None or now < self._due:
            return
        self._due = now + LOOK_SECONDS
        if page_url() != self._told:
            say("\n  The address of this machine has changed.\n")
            self.tell()


def _of_network() -> list[str]:
    lines = []
    if not has_network():
        lines.append("This machine is in no network now. Its address is told here when it is.")
    elif others := page_urls()[1:]:
        lines.append(f"Also at {', '.join(others)}")
    lines += _code()
    with contextlib.suppress(DatabaseError):  # the address is worth telling without it
        lines.append(what_guests_may())
    if not page_url().startswith("https:"):
        lines.append(IN_THE_CLEAR)
    return lines


def _code() -> list[str]:
    """The QR code, line by line; none where it could not be shown or would be of no use."""
    if not (sys.stdout.isatty() and has_network()):
        return []
    lines = qr_lines(page_url()).splitlines()
    is_wide_enough = shutil.get_terminal_size().columns > len(lines[0]) + 2
    return lines if is_wide_enough and _can_be_written(lines[0]) else []


def _can_be_written(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
