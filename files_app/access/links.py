"""The address of a link, who it lets in, and why it lets nobody in any more."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.conf import settings
from django.urls import get_script_prefix
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.text import slugify

from files_app.access.public import page_url
from files_app.models.links import Link
from fileserver.names import composed
from fileserver.rights import ADD, GET, LIST, SHARE, Right

TOKEN = r"[a-z2-7]{26}"  # 130 bits  # noqa: S105
RIGHTS: dict[str, frozenset[Right]] = {
    Link.Kind.SHARE: frozenset({LIST, GET}),
    Link.Kind.DROP: frozenset({ADD}),
}


class LinkFacts(NamedTuple):
    """A link as it is in the memory of each process. ``ends``: Unix seconds, with some grace for uploads."""

    kind: str
    maker: int
    target: str
    identity: str
    ends: float

    def gives(self, right: Right, name: str) -> bool:
        """Whether the link itself is for that; what its maker may do is another question."""
        if right not in RIGHTS[self.kind] or timezone.now().timestamp() > self.ends:
            return False
        target = composed(self.target)
        return name.startswith(target) if not target or target.endswith("/") else name == target


def new_address(link: Link) -> None:
    """Give it an address that nobody knows; what led to it before leads nowhere."""
    link.nonce = secrets.token_hex(16)
    link.digest = digest_of(next(_tokens_of(link)))


def token_of(link: Link) -> str | None:
    """The secret part of its address; ``None`` if that was made with a key that is not ours any more."""
    return next((token for token in _tokens_of(link) if digest_of(token) == link.digest), None)


def _tokens_of(link: Link) -> Iterator[str]:
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        mac = salted_hmac("files_app.access.links", link.nonce, secret=key, algorithm="sha256").digest()
        yield base64.b32encode(mac).decode().lower()[:26]


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def path_of(link: Link) -> str | None:
    """The path of its page. The title in it is for people alone: any other one leads there, too."""
    token = token_of(link)
    if token is None:
        return None
    slug = slugify(link.title)[:40].strip("-")
    return f"{get_script_prefix()}{link.kind[0]}/{f'{slug}-' if slug else ''}{token}/"


def address_of_link(link: Link) -> str | None:
    path = path_of(link)
    return None if path is None else page_url(path)


def label_of(link: Link, sender: str = "") -> str:
    """Who comes by the link, for the history and the live list."""
    name = f"link {link.pk}: {link.shown_title}"
    return f"{sender} by {name}"[:150] if sender else name[:150]


def find(token: str, kind: str) -> Link | None:
    if not re.fullmatch(TOKEN, token):
        return None
    return Link.objects.select_related("maker").filter(digest=digest_of(token), kind=kind).first()


# --- passwords: one that was given is remembered in the session, for this link and this password alone

SESSION_KEY = "links"


def is_unlocked(link: Link, unlocked: dict[str, Any]) -> bool:
    """``unlocked``: what the session has under ``SESSION_KEY``."""
    if not link.password:
        return True
    return hmac.compare_digest(str(unlocked.get(str(link.pk), "")), mark_of(link))


def mark_of(link: Link) -> str:
    return salted_hmac("files_app.access.links.unlocked", f"{link.pk} {link.password}").hexdigest()


# --- whom its maker may let in


def maker_rights(kind: str) -> tuple[Right, ...]:
    """What somebody must be allowed, for whatever a link of this kind leads to."""
    return (SHARE, *sorted(RIGHTS[kind]))
