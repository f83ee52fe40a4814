"""Accounts and random passwords."""

import pytest
from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password

from files_app.access.accounts import (
    ALPHABET,
    BITS,
    AccountError,
    can_log_in,
    first_admin,
    groups_of,
    new_account,
    random_password,
)

pytestmark = pytest.mark.usefixtures("database")


def test_a_random_password_has_96_bits_and_can_be_typed() -> None:
    assert BITS >= 96
    assert len(set(ALPHABET)) == len(ALPHABET)
    assert not set(ALPHABET) & set("il1o0")
    made = {random_password() for _ in range(200)}
    assert len(made) == 200
    assert {tuple(map(len, one.split("-"))) for one in made} == {(5, 5, 5, 5)}
    assert set("".join(made)) == {*ALPHABET, "-"}
    validate_password(made.pop())


def test_who_can_log_in_has_an_open_account_and_a_password() -> None:
    User.objects.create_user("ann", password="x")
    User.objects.create_user("no password")
    User.objects.create(username="empty password")
    User.objects.create_user("closed", password="x", is_active=False)
    assert [user.username for user in can_log_in()] == ["ann"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 151, "a\n", "\udcff", "<b>"])
def test_a_name_that_cannot_be_is_a_sentence(name: str) -> None:
    with pytest.raises(AccountError, match="is no name for an account"):
        new_account(name)


def test_a_name_that_is_taken_in_other_letters_is_taken() -> None:
    User.objects.create(username="Ann")
    with pytest.raises(AccountError, match=r"There is an account Ann already"):
        new_account("ann")


def test_groups_are_those_that_there_are() -> None:
    with pytest.raises(
        AccountError, match=r"no group 'staff'\. There is none yet\. Groups are made at /admin/"
    ):
        groups_of(["staff"])
    pupils, teachers = (Group.objects.create(name=name) for name in ("pupils", "teachers"))
    assert groups_of(["teachers", "pupils", "teachers"]) == [teachers, pupils]
    with pytest.raises(AccountError, match=r"no group 'staff'\. There are: pupils, teachers\."):
        groups_of(["pupils", "staff"])


def test_the_first_administrator_is_made_unless_there_is_one() -> None:
    User.objects.create_user("ann", password="x")
    made = first_admin()
    assert made
    assert (made.username, made.is_superuser, made.is_staff, made.is_active) == ("admin", True, True, True)
    User.objects.create_superuser("boss", password="x")
    assert first_admin() is None


@pytest.mark.parametrize("fields", [{"is_superuser": True, "is_active": False}, {"password": "pbkdf2_x"}])
def test_an_account_of_that_name_is_never_raised_by_a_start(fields: dict[str, object]) -> None:
    User.objects.create(username="Admin", **fields)
    with pytest.raises(AccountError, match=r"Make it one again: python manage\.py resetadmin"):
        first_admin()
