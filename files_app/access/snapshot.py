"""Rules, people and groups as they are in memory: read from the database, and read again when they change.

To decide takes no query. Each process looks once a second whether something has changed (``AccessChange``).
What is changed past the models, by SQL or a queryset's ``update``, tells nobody: it is known a minute later.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import DatabaseError, connections, transaction
from django.db.models import Q
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.utils import timezone

from files_app.access.links import LinkFacts
from files_app.access.rules import Rule, Rules, Subject
from files_app.access.tokens import TokenFacts, live_tokens
from files_app.models import AccessChange, AccessRule, Link, Quota, Token
from files_app.models.changes import note_change
from files_app.models.rules import RIGHTS
from fileserver.rights import CONTROL, MANAGE, WATCH, Right

log = logging.getLogger(__name__)

MAX_AGE = 1.0  # seconds after which somebody who decides looks whether something has changed
READ_AGAIN = 60.0  # seconds after which all is read, whether or not something tells of a change
SOON = 0.2  # seconds between two looks that something new has caused
SERVER_RIGHTS: tuple[Right, ...] = (WATCH, CONTROL, MANAGE)


class Person(NamedTuple):
    """Somebody with an account that is open."""

    name: str
    subject: Subject
    is_superuser: bool
    server_rights: frozenset[Right]


class QuotaFacts(NamedTuple):
    """One of ``user``, ``group`` (their keys, as text) and ``folder``; the others are empty."""

    max_bytes: int
    user: str
    group: str
    folder: str


class Snapshot(NamedTuple):
    stamp: int = -1  # of the newest change that it has; before the first one is read
    rules: Rules = Rules([])
    people: dict[int, Person] = {}
    links: dict[int, LinkFacts] = {}
    tokens: dict[str, TokenFacts] = {}  # by their look-up characters
    tokens_by_key: dict[int, TokenFacts] = {}
    quotas: tuple[QuotaFacts, ...] = ()


def load() -> Snapshot:
    """All that rights depend on, of one moment."""
    with transaction.atomic():
        tokens = live_tokens()
        return Snapshot(
            AccessChange.newest(),
            Rules(_rules()),
            _people(),
            dict(_links()),
            tokens,
            {facts.key: facts for facts in tokens.values()},
            tuple(_quotas()),
        )


def _rules() -> Iterable[Rule]:
    fields = ("folder", "whom", "group_id", "user_id", *(f"can_{right}" for right in RIGHTS))
    for folder, whom, group, user, *given in AccessRule.objects.values_list(*fields):
        rights = frozenset(right for right, has in zip(RIGHTS, given, strict=True) if has)
        yield Rule(folder, whom, str(group or user or ""), rights)


def _people() -> dict[int, Person]:
    users = get_user_model().objects
    groups = _gathered(users.filter(groups__isnull=False).values_list("pk", "groups"))
    permissions = Permission.objects.filter(
        content_type__app_label="files_app", content_type__model="accessrule", codename__in=SERVER_RIGHTS
    )
    of_user = _gathered(permissions.filter(user__isnull=False).values_list("user", "codename"))
    of_group = _gathered(permissions.filter(group__isnull=False).values_list("group", "codename"))
    people = {}
    for pk, name, is_superuser in users.filter(is_active=True).values_list("pk", "username", "is_superuser"):
        subject = Subject(str(pk), frozenset(map(str, groups[pk])))
        rights = of_user[pk].union(*(of_group[group] for group in groups[pk]))
        people[pk] = Person(name, subject, is_superuser, frozenset(rights))
    return people


def _links() -> Iterable[tuple[int, LinkFacts]]:
    fields = ("pk", "kind", "maker", "target", "identity", "expires_at")
    # An upload that has begun in time may come to its end.
    grace = settings.PARTIAL_UPLOAD_HOURS * 3600
    earliest = timezone.now() - timedelta(seconds=grace)
    live = Link.objects.filter(Q(expires_at=None) | Q(expires_at__gt=earliest), revoked_at=None)
    for pk, kind, maker, target, identity, expires_at in live.values_list(*fields).iterator():
        ends = expires_at.timestamp() + grace if expires_at else float("inf")
        yield pk, LinkFacts(kind, maker, target, identity, ends)


def _quotas() -> Iterable[QuotaFacts]:
    for user, group, folder, max_mib in Quota.objects.values_list("user", "group", "folder", "max_mib"):
        yield QuotaFacts(max_mib << 20, str(user or ""), str(group or ""), folder)


def _gathered(pairs: Iterable[tuple[int, Any]]) -> defaultdict[int, set[Any]]:
    gathered: defaultdict[int, set[Any]] = defaultdict(set)
    for key, value in pairs:
        gathered[key].add(value)
    return gathered


class Snapshots:
    """The newest snapshot that this process has read. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced as a whole, so it may be read without the lock: what is read is of one moment.
        self._newest = Snapshot()
        self._looked_at = self._read_at = float("-inf")  # monotonic seconds

    @property
    def newest(self) -> Snapshot:
        return self._newest

    @property
    def is_due(self) -> bool:
        """Whether the last look was so long ago that something may have changed."""
        return time.monotonic() - self._looked_at > MAX_AGE

    def look_again(self) -> None:
        """For a thread that has met something new: five times a second at most. A fault changes nothing."""
        # Read without the lock: at worst two threads look.
        if time.monotonic() - self._looked_at < SOON:
            return
        try:
            self.refresh()
        except DatabaseError:
            log.warning("the database cannot be asked for what is new")
        finally:
            connections.close_all()  # a client's thread keeps none

    def refresh(self) -> bool:
        """Read what has changed, if something has; whether it may have. Raises ``DatabaseError``."""
        with self._lock:
            now = time.monotonic()
            may_have_changed = now - self._read_at > READ_AGAIN or AccessChange.newest() != self._newest.stamp
            if may_have_changed:
                self._newest, self._read_at = load(), now
            self._looked_at = now
            return may_have_changed


snapshots = Snapshots()


def watch_models() -> None:
    """Have each change of what a snapshot is made of noted."""
    user = get_user_model()
    for model in (AccessRule, Group, Link, Quota, Token, user):
        for signal in (post_save, post_delete):
            signal.connect(note_change, sender=model, dispatch_uid=f"access of {model.__name__}")
    for through in (user.groups.through, user.user_permissions.through, Group.permissions.through):
        m2m_changed.connect(note_change, sender=through, dispatch_uid=f"access by {through.__name__}")
