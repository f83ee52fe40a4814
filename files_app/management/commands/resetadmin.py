"""``manage.py resetadmin``: when the password of an administrator is lost, or no account is open any more."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from files_app.access.accounts import FIRST_ADMIN
from files_app.access.sessions import end_sessions_of
from files_app.database import as_command_errors
from files_app.terminal.options import require_migrated
from files_app.terminal.passwords import give_random_password


class Command(BaseCommand):
    help = "Gives an account a new random password, makes it an administrator's, and ends its sessions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default=FIRST_ADMIN, help="of the account (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        require_migrated()
        name = options["name"]
        with as_command_errors(), transaction.atomic():
            # What cannot be printed is in no name, and may be nothing that a database can be asked for.
            user = User.objects.filter(username=name).first() if name.isprintable() else None
            if user is None:
                raise CommandError(
                    f"There is no account {name!r}. Make one: python manage.py adduser NAME --admin"
                )
            user.is_active = user.is_staff = user.is_superuser = True
            give_random_password(user, self.stdout)
            end_sessions_of(user.pk)
        self.stdout.write(f"{user.username} is an administrator, and is logged in nowhere now.")
