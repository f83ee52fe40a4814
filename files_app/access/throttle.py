"""Guessing passwords is slow: those of accounts and those of links, by one rule.

A try is claimed before the password is looked at, in one transaction, so a burst of them shares nothing. Each
comes out of pools (``pools``): one of the account or link and the address together, one of the account or
link, one of the address. Whoever succeeds gives back what they have used up, and is *known* there from then
on, by the cookie and by the address: that has a pool of its own, which strangers elsewhere cannot empty.

Newcomers and those who have failed already draw from two pools. So a class behind one address, of which most
try wrong passwords again and again, leaves enough for one who knows the right one. What cannot be told apart
is one person who throws the cookie away each time: such a one can use up the tries of other newcomers there.

The most real tries within an hour against one password from one address, by all of these: ``MOST``.
"""

import hashlib
import secrets
import threading
import time
from typing import NamedTuple

from django.db import transaction
from django.db.models import F

from files_app.access.audit import Action, record
from files_app.access.pools import Level, Pool, pause_after
from files_app.models.throttle import Throttle
from fileserver.net.address import neighbourhood

DAY = 86_400.0
KNOWN_SECONDS = 30 * DAY  # that a success is remembered
PRUNE_ONE_IN = 100  # claims after which old rows are removed

MOST = 50


class Pools(NamedTuple):
    """From one address, for one account or link; all three together give ``MOST`` in an hour."""

    newcomers: Pool
    repeaters: Pool
    known: Pool


# To a link many people come for the first time at the same time; an account is one person's.
POOLS = {
    "account": Pools(Pool(15, 5), Pool(5, 5), Pool(10, 10)),
    "link": Pools(Pool(35, 5), Pool(5, 5), Pool(0, 0)),
}
TARGET = Pool(100, 100)  # one account or link, from all addresses
ADDRESS = Pool(150, 150)  # one address, for all accounts and links

# A check of a password takes 50 MiB and a core: more at a time would only take longer.
checking = threading.BoundedSemaphore(2)


class TooManyTries(Exception):
    """``seconds``: after that there may be one."""

    def __init__(self, seconds: float) -> None:
        self.seconds = max(1, round(seconds + 0.5))
        super().__init__(f"Too many wrong tries. Try again {_in_words(self.seconds)}.")


class Who(NamedTuple):
    """``kind`` is one of POOLS; ``target`` a link, or the name of an account that need not be there."""

    kind: str
    target: str
    address: str
    visitor: str

    @property
    def target_key(self) -> str:
        return f"{self.kind} {self.target.casefold()}"


class Try:
    """One try that was claimed."""

    def __init__(self, who: Who, keys: list[str]) -> None:
        self._who = who
        self._keys = keys

    def succeeded(self, now: float | None = None) -> None:
        """Give back what this visitor has used up, and remember that they know the password."""
        now = time.time() if now is None else now
        target, place = self._who.target_key, neighbourhood(self._who.address)
        visitor = _key("visitor", target, self._who.visitor)
        with transaction.atomic():
            fails = Throttle.objects.filter(key=visitor).values_list("fails", flat=True).first() or 1
            keys = {*self._keys, _key("newcomers", target, place), _key("repeaters", target, place)}
            # More than was taken of some, perhaps: what is too full is levelled when it is next looked at.
            Throttle.objects.filter(key__in=keys).update(tries=F("tries") + fails)
            Throttle.objects.filter(key=visitor).delete()
            for whom in (place, self._who.visitor):
                Throttle.objects.update_or_create(key=_key("success", target, whom), defaults={"at": now})


def claim(who: Who, now: float | None = None) -> Try:
    """One try, before the password is looked at. Raises ``TooManyTries``."""
    now = time.time() if now is None else now
    if secrets.randbelow(PRUNE_ONE_IN) == 0:
        prune(now)
    try:
        with transaction.atomic():
            return _claim(who, now)
    except TooManyTries:
        _tell_once(who, now)
        raise


def _claim(who: Who, now: float) -> Try:
    visitor = _locked(_key("visitor", who.target_key, who.visitor), now)
    if visitor.until > now:
        raise TooManyTries(visitor.until - now)
    drawn = _draw(_choices(who, is_newcomer=not visitor.fails, now=now), now)
    visitor.fails += 1
    visitor.until, visitor.at = now + pause_after(visitor.fails), now
    visitor.save()
    return Try(who, drawn)


def _choices(who: Who, is_newcomer: bool, now: float) -> list[list[tuple[str, Pool]]]:
    """Sets of pools: a try is taken from each pool of the first set that has one in all of them."""
    pools, place = POOLS[who.kind], neighbourhood(who.address)
    group = "newcomers" if is_newcomer else "repeaters"
    shared = [
        (_key(group, who.target_key, place), pools.newcomers if is_newcomer else pools.repeaters),
        (_key("target", who.target_key), TARGET),
        (_key("address", place), ADDRESS),
    ]
    if not _is_known(who, now):
        return [shared]
    return [[(_key("known", who.target_key, place), pools.known)], shared]


def _draw(choices: list[list[tuple[str, Pool]]], now: float) -> list[str]:
    """The keys of the pools from which a try was taken. Raises ``TooManyTries``."""
    waits = []
    for pools in choices:
        rows = [(_filled(key, pool, now), pool) for key, pool in pools if pool.burst]
        wait = max((Level(row.tries, row.at).wait(pool) for row, pool in rows), default=float("inf"))
        if not wait:
            for row, _ in rows:
                row.tries -= 1.0
                row.save()
            return [row.key for row, _ in rows]
        waits.append(wait)
    raise TooManyTries(min(waits))


def _filled(key: str, pool: Pool, now: float) -> Throttle:
    row = _locked(key, now, pool.burst)
    level = Level(row.tries, row.at)
    level.fill(pool, now)
    row.tries, row.at = level.tries, level.at
    return row


def _locked(key: str, now: float, tries: float = 0.0) -> Throttle:
    """The row, made if it is not there; nobody else changes it until the transaction ends."""
    Throttle.objects.bulk_create([Throttle(key=key, at=now, tries=tries)], ignore_conflicts=True)
    return Throttle.objects.select_for_update().get(pk=key)


def _is_known(who: Who, now: float) -> bool:
    keys = [_key("success", who.target_key, whom) for whom in (neighbourhood(who.address), who.visitor)]
    return Throttle.objects.filter(key__in=keys, at__gt=now - KNOWN_SECONDS).exists()


def _tell_once(who: Who, now: float) -> None:
    """A row of the audit for an hour of refusals: one for each would be a flood of its own."""
    key = _key("told", who.target_key, neighbourhood(who.address))
    if Throttle.objects.filter(key=key, until__gt=now).exists():
        return
    with transaction.atomic():
        row = _locked(key, now)
        if row.until > now:
            return
        row.until, row.at = now + 3600, now
        row.save()
    record(Action.THROTTLED, f"{who.kind} {who.target}")


def prune(now: float) -> None:
    """Remove what makes no difference any more: after two days every pool is full."""
    old = Throttle.objects.filter(at__lt=now - 2 * DAY)
    old.exclude(key__startswith="success").delete()
    Throttle.objects.filter(key__startswith="success", at__lt=now - KNOWN_SECONDS).delete()


def _key(kind: str, *parts: str) -> str:
    """Of a row: the kind in clear, and a hash of who it is about."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()
    return f"{kind} {digest}"[:64]


def _in_words(seconds: int) -> str:
    if seconds < 120:
        return f"in {seconds} seconds"
    return f"in {-(-seconds // 60)} minutes"
