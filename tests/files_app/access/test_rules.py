"""Which rule decides, and what it gives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files_app.access.rules import Rule, Rules, Subject, Whom, parts_of
from fileserver.rights import Right

GUEST, ANN, BOB = Subject(), Subject("ann", frozenset({"staff", "tutors"})), Subject("bob")


def rule(text: str) -> Rule:
    """``folder: whom who = rights``, as ``a/b: group staff = list get``."""
    folder, _, rest = text.partition(": ")
    whom, _, rights = rest.partition(" = ")
    kind, _, who = whom.partition(" ")
    return Rule(folder, kind, who, frozenset(rights.split()))  # type: ignore[arg-type]


RULES = Rules(
    map(
        rule,
        [
            ": account = list get",
            "pub: guest = list get",
            "pub/priv: guest = ",
            "pub/priv: user bob = get",
            "inbox: guest = add",
            "inbox: group staff = list",
            "inbox: group tutors = get delete",
            "Caf\u00e9/x: guest = get",
            "week: account = ",
            "week/3: group staff = add",
        ],
    )
)


@pytest.mark.parametrize(
    ("subject", "name", "rights"),
    [
        (GUEST, "a.txt", ""),
        (BOB, "a.txt", "get list"),
        (GUEST, "pub/a.txt", "get list"),
        (GUEST, "pub/priv", "get list"),
        (GUEST, "pub/priv/", ""),
        (GUEST, "pub/", "get list"),
        (GUEST, "pub", ""),
        (GUEST, "public/a.txt", ""),
        (GUEST, "pub/priv/a.txt", ""),
        (GUEST, "PUB/Priv/a.txt", ""),
        (ANN, "pub/priv/a.txt", ""),
        (BOB, "pub/priv/a.txt", "get"),
        (BOB, "pub/priv/deeper/a.txt", "get"),
        (GUEST, "inbox/a", "add"),
        (ANN, "inbox/a", "delete get list"),
        (BOB, "inbox/a", "add"),
        (GUEST, "cafe\u0301/X/a", "get"),
        (BOB, "week/a", ""),
        (ANN, "week/3/a", "add"),
        (BOB, "week/3/a", ""),
        (ANN, "", "get list"),
    ],
)
def test_the_deepest_rule_that_is_about_somebody_decides(subject: Subject, name: str, rights: str) -> None:
    assert " ".join(sorted(RULES.verdict(subject, name).rights)) == rights


def test_a_verdict_says_which_rules_decided() -> None:
    assert [each.who for each in RULES.verdict(ANN, "inbox/a").because] == ["staff", "tutors"]
    assert RULES.verdict(GUEST, "a.txt").because == ()
    assert [each.folder for each in RULES.verdict(GUEST, "pub/priv/a").because] == ["pub/priv"]


@pytest.mark.parametrize(
    ("subject", "right", "prefix", "somewhere"),
    [
        (GUEST, "list", "", True),
        (GUEST, "list", "pub/", True),
        (GUEST, "list", "pub/a", True),
        (GUEST, "list", "PU", True),
        (GUEST, "list", "pub/priv/", False),
        (GUEST, "list", "inbox/", False),
        (GUEST, "list", "in", False),
        (GUEST, "delete", "", False),
        (GUEST, "get", "caf\u00e9", True),
        (GUEST, "get", "cafe\u0301/X", True),
        (GUEST, "get", "cafe/", False),
        (BOB, "get", "pub/priv/", True),
        (BOB, "add", "week/", False),
        (ANN, "add", "week/", True),
        (ANN, "add", "wee/", False),
    ],
)
def test_it_knows_whether_a_right_is_given_anywhere_below(
    subject: Subject, right: Right, prefix: str, somewhere: bool
) -> None:
    assert RULES.may_somewhere(subject, right, prefix) == somewhere


_NAMES = st.lists(st.sampled_from(["a", "b", "A", "c"]), max_size=4).map("/".join)
_WHOM = st.sampled_from(
    [("guest", ""), ("account", ""), ("group", "staff"), ("group", "tutors"), ("user", "ann")]
)
_RIGHTS = st.frozensets(st.sampled_from(["list", "get", "add"]))
_RULE = st.builds(lambda folder, whom, rights: Rule(folder, *whom, rights), _NAMES, _WHOM, _RIGHTS)


@given(rules=st.lists(_RULE, max_size=8), name=_NAMES, subject=st.sampled_from([GUEST, ANN, BOB]))
def test_it_decides_as_the_sentences_say(rules: list[Rule], name: str, subject: Subject) -> None:
    """The same, told in the other direction: all rules, sorted by how much they are about the subject."""
    last = {(parts_of(each.folder), each.whom, each.who): each for each in rules}
    rank: dict[Whom, int] = {"user": 3, "group": 2, "account": 1, "guest": 0}

    def is_about(each: Rule) -> bool:
        if each.whom == "guest":
            return True
        if subject.user is None:
            return False
        return each.whom == "account" or each.who in (
            {subject.user} if each.whom == "user" else subject.groups
        )

    path = parts_of(name.rpartition("/")[0])
    about = [each for (folder, *_), each in last.items() if path[: len(folder)] == folder and is_about(each)]
    best = max(((len(parts_of(each.folder)), rank[each.whom]) for each in about), default=None)
    expected: set[Right] = set()
    for each in about:
        if (len(parts_of(each.folder)), rank[each.whom]) == best:
            expected |= each.rights
    assert Rules(rules).verdict(subject, name).rights == expected
