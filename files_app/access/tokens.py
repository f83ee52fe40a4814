"""The text of a token, and whose it is.

``cfs_``, eight characters to find it by, and 130 bits that are kept as a keyed hash only. What looks for
secrets in a repository finds them by the regular expression ``cfs_[a-z2-7]{8}_[a-z2-7]{26}``.
"""

import base64
import hmac
import re
import secrets
import threading
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from files_app.models.tokens import Token
from fileserver.names import composed
from fileserver.rights import CONTROL, MANAGE, WATCH, Right

TEXT = re.compile(r"cfs_([a-z2-7]{8})_[a-z2-7]{26}", re.ASCII)
_ON_SERVER: frozenset[Right] = frozenset({WATCH, CONTROL, MANAGE})


class TokenFacts(NamedTuple):
    """A token as it is in the memory of each process. ``ends`` in Unix seconds."""

    key: int
    owner: int
    digest: str
    rights: frozenset[str]
    folder: str
    ends: float

    @property
    def is_over(self) -> bool:
        return time.time() > self.ends

    def gives(self, right: Right, name: str) -> bool:
        if right not in self.rights or self.is_over:
            return False
        if right in _ON_SERVER:
            return not self.folder
        return not self.folder or name.startswith(f"{self.folder}/")


def new_token(
    owner: Any, name: str, rights: Collection[str], folder: str, ends: datetime | None
) -> tuple[Token, str]:
    """Save a token; and its text, which nobody will see again."""
    text = f"cfs_{_random(5)}_{_random(17)[:26]}"
    match = TEXT.fullmatch(text)
    assert match is not None
    token = Token(owner=owner, name=name, lookup=match[1], rights=" ".join(rights), expires_at=ends)
    token.folder = composed(folder.strip("/"))
    token.digest = digests_of(text)[0]
    token.save()
    return token, text


def revoke(token: Token) -> None:
    token.revoked_at = timezone.now()
    token.save()


def _random(size: int) -> str:
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=").lower()


def digests_of(text: str) -> list[str]:
    """By the secret key, and by those that were it before."""
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    return [
        salted_hmac("files_app.access.tokens", text, secret=key, algorithm="sha256").hexdigest()
        for key in keys
    ]


def found_by(text: str, tokens: dict[str, TokenFacts]) -> TokenFacts | None:
    """The token of that text, if it is still good. ``tokens``: by their look-up characters."""
    match = TEXT.fullmatch(text)
    facts = tokens.get(match[1]) if match else None
    if facts is None or facts.is_over:
        return None
    is_right = [hmac.compare_digest(digest, facts.digest) for digest in digests_of(text)]
    return facts if any(is_right) else None


def live_tokens() -> dict[str, TokenFacts]:
    fields = ("pk", "owner", "digest", "rights", "folder", "expires_at", "lookup")
    good = Q(expires_at=None) | Q(expires_at__gt=timezone.now())
    found = {}
    rows = Token.objects.filter(good, revoked_at=None).values_list(*fields)
    for key, owner, digest, rights, folder, expires_at, lookup in rows:
        ends = expires_at.timestamp() if expires_at else float("inf")
        found[lookup] = TokenFacts(key, owner, digest, frozenset(rights.split()), folder, ends)
    return found


# --- the last use: noted in memory, and written now and then, for no request waits for it

WRITE_SECONDS = 60.0

_lock = threading.Lock()
_uses: dict[int, tuple[float, str]] = {}  # Unix seconds and address of the last use, by key
_written_at = float("-inf")  # monotonic seconds


def note_use(key: int, address: str) -> None:
    with _lock:
        _uses[key] = (time.time(), address[:64])


def are_uses_due() -> bool:
    """Read without the lock: whoever is too early or too late by one use asks again at the next."""
    return bool(_uses) and time.monotonic() - _written_at > WRITE_SECONDS


def write_uses() -> list[Token]:
    """Write what was noted; the tokens that were used from another address than before."""
    global _written_at
    with _lock:
        uses = dict(_uses)
        _uses.clear()
        _written_at = time.monotonic()
    elsewhere = []
    for token in Token.objects.filter(pk__in=uses).select_related("owner"):
        at, address = uses[token.pk]
        if address != token.used_from:
            elsewhere.append(token)
        moment = datetime.fromtimestamp(at, tz=timezone.get_default_timezone())
        # Not by ``save``, after which every process would read all rights again.
        Token.objects.filter(pk=token.pk).update(used_at=moment, used_from=address)
        token.used_from = address
    return elsewhere
