"""What guests may do in all that is served."""

import pytest

from files_app.access.guests import CHOICES, let_guests, what_guests_may
from files_app.access.rules import Subject
from files_app.access.snapshot import snapshots
from files_app.models import AccessRule

pytestmark = pytest.mark.usefixtures("database")


def rights() -> set[str]:
    snapshots.refresh()
    return set(snapshots.newest.rules.verdict(Subject(), "a.txt").rights)


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("none", set()),
        ("read", {"list", "get"}),
        ("drop", {"add"}),
        ("all", {"list", "get", "add", "replace", "delete"}),
    ],
)
def test_a_choice_is_their_rule_whatever_there_was(choice: str, wanted: set[str]) -> None:
    for before in (None, "all", "none"):
        let_guests(before)
        let_guests(choice)
        assert rights() == wanted
        assert AccessRule.objects.count() == 1


def test_without_a_choice_they_may_read_at_first_and_then_it_stays() -> None:
    let_guests(None)
    assert rights() == {"list", "get"}
    let_guests("none")
    let_guests(None)
    assert rights() == set()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (None, "Guests may do nothing"),
        ("none", "Guests may do nothing"),
        ("read", "Guests may list and download"),
        ("drop", "Guests may upload, without a login, and see nothing"),
        ("all", "list, download, upload, replace and delete"),
    ],
)
def test_what_they_may_is_a_sentence(choice: str | None, words: str) -> None:
    if choice:
        let_guests(choice)
    assert words in what_guests_may()
    assert set(CHOICES) == {"none", "read", "drop", "all"}


def test_other_rights_are_named_and_so_is_that_folders_differ() -> None:
    AccessRule.objects.create(folder="", whom="guest", can_get=True, can_add=True)
    assert what_guests_may() == "Guests may do this without a login: get, add."
    AccessRule.objects.create(folder="pub", whom="guest")
    AccessRule.objects.create(folder="other", whom="account")
    assert what_guests_may().endswith("get, add. 1 folder has a rule of its own.")
    AccessRule.objects.create(folder="priv", whom="guest")
    assert what_guests_may().endswith("get, add. 2 folders have rules of their own.")
