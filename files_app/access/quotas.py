"""How much somebody may still upload: asked before the first byte.

What is there is known by the catalogue. It learns of a new file a moment after the file is there, so what a
file server has taken in stays reserved until the catalogue has it: quotas are not passed in between, and not
by uploads at the same time. What is copied into the folder by hand counts, and is held up by nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from django.db import DatabaseError, connections
from django.db.models import QuerySet, Sum

from files_app.access.snapshot import Person, QuotaFacts, snapshots
from files_app.models import File
from files_app.sizes import size_text
from fileserver.names import composed
from fileserver.rights import Principal
from fileserver.wire.replies import over_quota

log = logging.getLogger(__name__)

SETTLED = 10.0  # seconds within which the catalogue has a new file, unless its name is another one by then


class Reserved(NamedTuple):
    owner: str  # the name of an account; empty for one who has none
    name: str
    size: int
    until: float  # monotonic seconds; infinite while it is on its way


class Limit(NamedTuple):
    """``owner`` or ``folder``: whose files, or those where."""

    max_bytes: int
    owner: str = ""
    folder: str = ""

    def is_about(self, owner: str, name: str) -> bool:
        return name.startswith(f"{self.folder}/") if self.folder else owner == self.owner

    @property
    def files(self) -> QuerySet[File]:
        there: QuerySet[File] = File.objects.filter(gone_at=None)
        if self.folder:  # a range, as names are ordered by their bytes; "0" comes behind "/"
            return there.filter(name__gte=f"{self.folder}/", name__lt=f"{self.folder}0")
        return there.filter(added_by=self.owner)

    def __str__(self) -> str:
        whose = f"The files in /{self.folder}" if self.folder else "Your files here"
        return f"{whose} may have {size_text(self.max_bytes)} together"


def person_of(principal: Principal) -> Person | None:
    """The account that files belong to; ``None`` for guests, and for whoever comes by a link."""
    newest, key = snapshots.newest, principal.key
    if principal.kind == "token":
        facts = newest.tokens_by_key.get(key)
        return newest.people.get(facts.owner) if facts else None
    return newest.people.get(key) if principal.kind == "user" else None


def limits_of(person: Person | None, name: str) -> list[Limit]:
    """Those that a file of that name would count for."""
    found = []
    for quota in snapshots.newest.quotas:
        limit = Limit(quota.max_bytes, folder=quota.folder)
        if not quota.folder:
            limit = Limit(quota.max_bytes, owner=person.name if person and _is_about(quota, person) else "")
        if limit.folder or limit.owner:
            found.append(limit)
    return [limit for limit in found if limit.is_about(person.name if person else "", name)]


def _is_about(quota: QuotaFacts, person: Person) -> bool:
    return quota.user == person.subject.user or quota.group in person.subject.groups


def used(limit: Limit, without: Iterable[str] = ()) -> int:
    """Bytes that there are. Raises ``DatabaseError``."""
    return int(limit.files.exclude(name__in=list(without)).aggregate(total=Sum("size"))["total"] or 0)


def own_quotas(principal: Principal) -> list[tuple[int, int]]:
    """How much is there, and how much may be, in bytes, of what counts for an account; for its page."""
    person = person_of(principal)
    own = [limit for limit in limits_of(person, "") if limit.owner]
    return [(used(limit), limit.max_bytes) for limit in own]


class Ledger:
    """What one file server has reserved. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reserved: dict[int, Reserved] = {}
        self._count = 0

    def reserve(self, principal: Principal, name: str, size: int) -> Callable[[str | None], None]:
        """Raises ``quota`` if it would be too much. Call what is returned when the upload is over."""
        if not snapshots.newest.quotas:
            return _nothing
        person, name = person_of(principal), composed(name)
        limits = limits_of(person, name)
        if not limits:
            return _nothing
        mine = Reserved(person.name if person else "", name, size, float("inf"))
        with self._lock:
            self._forget_settled()
            for limit in limits:
                self._require(limit, mine)
            self._count += 1
            key = self._count
            self._reserved[key] = mine
        return lambda stored: self._over(key, stored)

    def _require(self, limit: Limit, mine: Reserved) -> None:
        pending = [one for one in self._reserved.values() if limit.is_about(one.owner, one.name)]
        # A file that is to be replaced makes room for the one that replaces it.
        names = {mine.name, *(one.name for one in pending)}
        try:
            there = used(limit, names)
        except DatabaseError:
            log.warning("a quota cannot be checked: the database does not answer")
            return  # a database that is away stops no upload
        finally:
            connections.close_all()  # a client's thread keeps none
        total = there + sum(one.size for one in pending)
        if total + mine.size > limit.max_bytes:
            raise over_quota(f"{limit}, and {size_text(total)} are there.")

    def _over(self, key: int, stored: str | None) -> None:
        with self._lock:
            mine = self._reserved.pop(key)
            if stored is not None:
                self._reserved[key] = mine._replace(name=stored, until=time.monotonic() + SETTLED)

    def _forget_settled(self) -> None:
        now = time.monotonic()
        for key, one in list(self._reserved.items()):
            if one.until < now:
                del self._reserved[key]


def _nothing(stored: str | None) -> None:
    pass
