"""What the page about somebody's rights says is what they may do."""

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, User
from hypothesis import given, settings
from hypothesis import strategies as st

from files_app.access.rules import Rule, Rules, Subject
from files_app.models import AccessRule
from files_app.models.rules import RIGHTS
from tests.files_app.conftest import Served, logged_in
from tests.files_app.site import fetch

pytestmark = pytest.mark.usefixtures("database")

ELSEWHERE = ("192.0.2.7", 5000)


def told(who: str, name: str, headers: dict[str, str]) -> tuple[set[str], list[tuple[str, str]]]:
    """The rights that the page says somebody has, and each rule with what it does."""
    query = urlencode({"who": who, "name": name})
    page = fetch("GET", f"/access/?{query}", headers={"accept": "text/html", **headers}, client=ELSEWHERE)
    assert page.status == 200
    rights = set(re.findall(r'data-may="yes">may <b>(\w+)', page.text))
    edit = r'<a href="/admin/files_app/accessrule/\d+/change/">'
    lines = re.findall(edit + r"([^<]*)</a>\s*<small>([^<]*)<", page.text)
    return rights, lines


@pytest.fixture
def boss(served: Served) -> dict[str, str]:
    return logged_in({"manage"}, "boss")


def test_it_names_the_rule_that_decides_and_those_that_do_not(boss: dict[str, str]) -> None:
    ann = User.objects.create(username="ann")
    group = Group.objects.create(name="class 7")
    ann.groups.add(group)
    AccessRule.objects.create(folder="", whom="guest", can_list=True)
    AccessRule.objects.create(folder="homework", whom="group", group=group, can_list=True, can_get=True)
    AccessRule.objects.create(folder="homework", whom="user", user=ann, can_add=True)
    rights, lines = told("ann", "homework/essay.pdf", boss)
    assert rights == {"add"}
    other = "does not decide: one that is more about them goes before it"
    assert sorted(lines) == [
        ("/: everybody may list", "does not decide: a deeper one decides"),
        ("/homework: ann may add", "decides"),
        ("/homework: the group class 7 may list, get", other),
    ]
    assert told("guest", "homework/essay.pdf", boss)[0] == {"list"}


def test_of_an_administrator_no_rule_is_asked(boss: dict[str, str]) -> None:
    User.objects.create_superuser("root")
    rights, lines = told("root", "a", boss)
    assert rights == {*RIGHTS, "watch", "control", "manage"}
    assert lines == []


def test_nobody_and_no_rule_are_said(boss: dict[str, str]) -> None:
    assert told("guest", "a", boss) == (set(), [])
    page = fetch("GET", "/access/?who=nobody&name=a", headers=boss, client=ELSEWHERE)
    assert "There is no open account of that name." in page.text


FOLDERS = st.sampled_from(["", "a", "a/b", "a/b/c", "d"])
RULE = st.builds(
    lambda folder, whom, rights: Rule(folder, *whom, frozenset(rights)),
    FOLDERS,
    st.sampled_from(
        [("guest", ""), ("account", ""), ("group", "1"), ("group", "2"), ("user", "7"), ("user", "8")]
    ),
    st.sets(st.sampled_from(RIGHTS)),
)
SUBJECT = st.sampled_from(
    [Subject(), Subject("7"), Subject("7", frozenset("1")), Subject("8", frozenset("12"))]
)


@given(
    st.lists(RULE, max_size=8), SUBJECT, st.sampled_from(["x", "a/x", "a/b/x", "a/b/c/x", "d/x", "a/b/c/"])
)
@settings(max_examples=200)
def test_the_rules_that_are_said_to_decide_are_those_that_do(rules: Any, subject: Subject, name: str) -> None:
    known = Rules(rules)
    verdict = known.verdict(subject, name)
    deciding = [rule for rule, reason in known.considered(subject, name) if not reason]
    assert set(deciding) == set(verdict.because)
    assert frozenset().union(*(rule.rights for rule in deciding)) == verdict.rights
