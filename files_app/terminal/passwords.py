"""How a command asks for a password, and hands over one that it has made: once, and never through a log."""

import contextlib
import getpass
import os
import sys
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, OutputWrapper
from django.db import transaction

from files_app.access.accounts import random_password
from files_app.database import sqlite_file

TRIES = 3
_LONGEST = 50  # characters of a user's name in that of a file


def ask_password(user: User, say: Callable[[str], object]) -> str:
    """The password that a person types twice, if it is a good one. Raises ``CommandError``."""
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask for a password. Give --generate to have one made.")
    for _ in range(TRIES):
        try:
            password = getpass.getpass(f"Password for {user.username}: ")
            again = getpass.getpass("The same again: ")
        except (EOFError, KeyboardInterrupt):
            raise CommandError("Nothing was changed.") from None
        if password != again:
            say("They are not the same. Try again.")
            continue
        try:
            validate_password(password, user)
        except ValidationError as error:
            say(" ".join(error.messages))
        else:
            return password
    raise CommandError("Nothing was changed.")


def give_random_password(user: User, out: OutputWrapper) -> None:
    """Save ``user`` with a new random password, and show it on the terminal, or write it to a file.

    Either both happen or neither. Raises ``CommandError``.
    """
    password = random_password()
    user.set_password(password)
    with transaction.atomic():
        user.save()
        if out.isatty():
            out.write(f"\n  The password of {user.username} is  {password}\n  It is shown this once.\n")
        else:  # which may be a log, or a pipe into one
            path = _write(user.username, password)
            out.write(
                f"The password of {user.username} is in {path}, which only you can read. Remove it soon."
            )
        out.flush()


def password_file(name: str) -> Path:
    """Beside the database where that is a file, which nobody is served; else in the folder of the program."""
    name = name[:_LONGEST]
    if database := sqlite_file():
        return database.with_name(f"{database.name}.password-{name}")
    return Path(settings.BASE_DIR / f"password-{name}")


def _write(name: str, password: str) -> Path:
    path = password_file(name)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        # Never into what is there: another one's file, or a link to anywhere.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{password}\n")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}. No password was changed.") from None
    return path
