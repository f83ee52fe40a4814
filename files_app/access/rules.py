"""Which rights somebody has in a folder: the rules, and the one that decides.

A rule gives rights in a folder, and in all folders in it, to everybody, to everybody with an account, to a
group, or to one person. The deepest rule that is about you decides, alone: at one depth a rule for you goes
before those for your groups, which add up, then one for all accounts, then one for everybody. Where none is
about you, you may do nothing.

Names are compared in Unicode's form NFC and without case: on many disks they lead to the same file.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from fileserver.names import composed
from fileserver.rights import Right

Whom = Literal["guest", "account", "group", "user"]


class Rule(NamedTuple):
    """``who`` names the group or the user; the empty ``folder`` is the served one."""

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
        """What ``subject`` may do with ``name``, of a file or of a folder."""
        parts = parts_of(name)
        for depth in range(len(parts), -1, -1):
            if (found := self._by_folder.get(parts[:depth])) and (because := _about(subject, found)):
                return Verdict(frozenset().union(*(rule.rights for rule in because)), because)
        return _NOTHING

    def below(self, name: str) -> bool:
        """Whether a rule is about a folder deeper in the folder ``name``: then not all in it are alike."""
        parts = parts_of(name)
        return any(len(folder) > len(parts) and folder[: len(parts)] == parts for folder in self._by_folder)


def parts_of(name: str) -> tuple[str, ...]:
    """The parts of a name as rules compare them."""
    return tuple(composed(part.casefold()) for part in composed(name).split("/") if part)


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
