"""Who hands something in through a drop, and the folder of theirs that it goes to.

What they type is anybody's text. It becomes the name of a folder only after everything has been taken out of
it that is more than a name: a sender can neither leave the folder of the link nor hide in it.
"""

import itertools
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from django.db.models import QuerySet

from files_app.models.links import Link, LinkUpload
from fileserver.names import BadName, check_portable, composed

MAX_NAME = 60  # characters of a sender's name, and of the folder made of it
_FORBIDDEN = frozenset('/\\:*?"<>|')
# Control characters, what turns the direction of writing, half characters, and what has no meaning yet.
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class BadSender(Exception):
    """The name will not do; the text is a sentence."""


class Sender(NamedTuple):
    name: str  # as typed, without what cannot be seen
    key: str  # the same for all ways to write the name


def sender_of(link: Link, typed: str, visitor: str) -> Sender:
    """Raises ``BadSender``. ``visitor``: who it is if they give no name."""
    name = _visible(typed)
    naming = link.naming
    if naming == Link.Naming.OFF:
        name = ""
    if naming == Link.Naming.LIST:
        known = {key_of(one): one for one in link.allowed_names}
        if key_of(name) not in known:
            raise BadSender("Pick your name from the list.")
        name = known[key_of(name)]
    if naming == Link.Naming.REQUIRED and not name:
        raise BadSender("Say who you are: your name is needed here.")
    if len(name) > MAX_NAME:
        raise BadSender(f"Your name must have at most {MAX_NAME} characters.")
    return Sender(name, f"name {key_of(name)}" if name else f"visitor {visitor}")


def key_of(name: str) -> str:
    """Names that differ only in case, or in how Unicode writes them, are one."""
    return composed(composed(name.strip()).casefold())


def folder_of(link: Link, sender: Sender) -> str:
    """The sender's folder in that of the link: the one they have, or a new one that is nobody else's.

    Of two new senders at once both may be told the same, unless the caller keeps others from asking.
    """
    uploads: QuerySet[LinkUpload] = LinkUpload.objects.filter(link=link)
    own = uploads.filter(sender_key=sender.key).values_list("folder", flat=True).first()
    if own is not None:
        return own
    taken = {key_of(folder) for folder in uploads.values_list("folder", flat=True).distinct()}
    base = safe_folder(sender.name) if sender.name else f"Sender {sender.key[-6:]}"
    return next(name for name in _numbered(base) if key_of(name) not in taken)


def _numbered(base: str) -> Iterator[str]:
    yield base
    for number in itertools.count(2):
        yield f"{base} ({number})"


def safe_folder(name: str) -> str:
    """A folder's name that every system can keep, as much like ``name`` as can be."""
    text = "".join("_" if char in _FORBIDDEN else char for char in _visible(name))
    text = text.lstrip(". ")[:MAX_NAME].rstrip(". ")
    for candidate in (text, f"_{text}", "Sender"):
        try:
            check_portable(candidate)
        except BadName:
            continue
        return candidate
    return "Sender"


def _visible(text: str) -> str:
    """Composed, on one line, and without what cannot be seen."""
    seen = (char if unicodedata.category(char) not in _INVISIBLE else " " for char in composed(text))
    return composed(" ".join("".join(seen).split()))
