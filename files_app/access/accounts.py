"""Accounts and their passwords, for the commands that make them."""

import math
import secrets
from collections.abc import Iterable

from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

FIRST_ADMIN = "admin"

# No letter or digit looks like another one, and none needs a Shift key: it is read from a screen and typed.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
GROUPS, GROUP_LENGTH = 4, 5
BITS = GROUPS * GROUP_LENGTH * math.log2(len(ALPHABET))  # 99


class AccountError(Exception):
    """The account cannot be made or changed; the text is one or more sentences."""


def random_password() -> str:
    """Such as ``k7hf2-mwq9x-…``: nobody guesses it, and everybody can type it."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP_LENGTH)) for _ in range(GROUPS))


def can_log_in() -> QuerySet[User]:
    """Open accounts with a password."""
    # Django marks one that is not to be used with "!". An empty one fits nothing.
    unusable = Q(password="") | Q(password__startswith="!")  # noqa: S106
    return User.objects.filter(is_active=True).exclude(unusable)


def new_account(name: str, *, is_admin: bool = False) -> User:
    """One that is not saved yet. Raises ``AccountError`` for a name that cannot be or is taken."""
    user = User(username=User.normalize_username(name), is_staff=is_admin, is_superuser=is_admin)
    try:
        user.clean_fields(exclude=["password"])
    except ValidationError as error:
        raise AccountError(f"{name!r} is no name for an account. {' '.join(error.messages)}") from None
    # Two names that differ in case alone would be taken for one by people.
    if taken := User.objects.filter(username__iexact=user.username).first():
        raise AccountError(f"There is an account {taken.username} already.")
    return user


def groups_of(names: Iterable[str]) -> list[Group]:
    """Raises ``AccountError`` for the first that there is not."""
    known = {group.name: group for group in Group.objects.all()}
    for name in names:
        if name not in known:
            there = f"There are: {', '.join(sorted(known))}." if known else "There is none yet."
            raise AccountError(f"There is no group {name!r}. {there} Groups are made at /admin/.")
    return [known[name] for name in dict.fromkeys(names)]


def first_admin() -> User | None:
    """The account of an administrator, not saved yet; ``None`` if there is one who can log in.

    Raises ``AccountError`` if the name belongs to somebody else, who must not become one by a start.
    """
    if can_log_in().filter(is_superuser=True).exists():
        return None
    if User.objects.filter(username__iexact=FIRST_ADMIN).exists():
        raise AccountError(
            f"No administrator can log in, and the account {FIRST_ADMIN} is closed, has no password or has "
            "other rights. Make it one again: python manage.py resetadmin"
        )
    return new_account(FIRST_ADMIN, is_admin=True)
