"""Which rights somebody has in a folder: the rules, and the one that decides.

A rule gives rights in a folder, and in all folders in it, to everybody, to everybody with an account, to a
group, or to one person. The deepest rule that is about you decides, alone: at one depth a rule for you goes
before those for your groups, which add up, then one for all accounts, then one for everybody. Where none is
about you, you may do nothing.

Names are compared in Unicode's form NFC and without case: on many disks they lead to the same file.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from files_app.models.rules import key_of
from fileserver.rights import Right

Whom = Literal["guest", "account", "group", "user"]


class Rule(NamedTuple):
    """``who`` is the key of the group or the user, as text; the empty ``folder`` is the served one."""

    folder: str
    whom: Whom
    who: str
    rights: frozenset[Right]


class Subject(NamedTuple):
    """Who asks. Without a ``user`` it is a guest, in no group."""

    user: str | None = None
    groups: frozenset[str] = frozenset()


class Verdict(NamedTuple):
    """``because``: the rules that decided, none if none is about the subject."""

    rights: frozenset[Right]
    because: tuple[Rule, ...]


_NOTHING = Verdict(frozenset(), ())


class Rules:
    """For any thread; it never changes. To decide takes a look-up for each folder on the way of the name."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_folder: dict[tuple[str, ...], dict[tuple[Whom, str], Rule]] = {}
        for rule in rules:
            in_folder = self._by_folder.setdefault(parts_of(rule.folder), {})
            in_folder[rule.whom, rule.who] = rule

    def verdict(self, subject: Subject, name: str) -> Verdict:
        """What ``subject`` may do with a file of that name; with a slash at its end, with that folder."""
        parts = parts_of(name.rpartition("/")[0])
        for depth in range(len(parts), -1, -1):
            if (found := self._by_folder.get(parts[:depth])) and (because := _about(subject, found)):
                return Verdict(frozenset().union(*(rule.rights for rule in because)), because)
        return _NOTHING

    def considered(self, subject: Subject, name: str) -> list[tuple[Rule, str]]:
        """All rules about the subject on the way to that name, the deepest first, each with the reason why it
        does not decide; empty for those that do."""
        parts = parts_of(name.rpartition("/")[0])
        found: list[tuple[Rule, str]] = []
        for depth in range(len(parts), -1, -1):
            there = self._by_folder.get(parts[:depth], {})
            deciding = _about(subject, there)
            for rule in (rule for rule in there.values() if _concerns(rule, subject)):
                reason = "" if rule in deciding else "one that is more about them goes before it"
                if found and found[0][0].folder != rule.folder:
                    reason = "a deeper one decides"
                found.append((rule, reason))
        return found

    def may_somewhere(self, subject: Subject, right: Right, prefix: str) -> bool:
        """Whether ``subject`` has the right in some folder that may hold names with that beginning."""
        if right in self.verdict(subject, prefix).rights:
            return True
        begin = key_of(prefix) + ("/" if prefix.endswith("/") else "")
        return any(
            f"{'/'.join(folder)}/".startswith(begin) and right in rule.rights
            for folder, found in self._by_folder.items()
            for rule in _about(subject, found)
        )


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a name as rules compare them."""
    key = key_of(name)
    return tuple(key.split("/")) if key else ()


def _concerns(rule: Rule, subject: Subject) -> bool:
    return {
        "guest": True,
        "account": subject.user is not None,
        "group": rule.who in subject.groups,
        "user": rule.who == subject.user,
    }[rule.whom]


def _about(subject: Subject, found: dict[tuple[Whom, str], Rule]) -> tuple[Rule, ...]:
    """The rules of one folder that decide for ``subject``."""
    if subject.user is not None:
        if rule := found.get(("user", subject.user)):
            return (rule,)
        if rules := _of_groups(subject.groups, found):
            return rules
        if rule := found.get(("account", "")):
            return (rule,)
    rule = found.get(("guest", ""))
    return (rule,) if rule else ()


def _of_groups(groups: Collection[str], found: dict[tuple[Whom, str], Rule]) -> tuple[Rule, ...]:
    return tuple(found["group", group] for group in sorted(groups) if ("group", group) in found)
