"""``manage.py adduser``: makes an account."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction

from files_app.access.accounts import AccountError, groups_of, new_account
from files_app.database import as_command_errors
from files_app.terminal.options import require_migrated
from files_app.terminal.passwords import ask_password, give_random_password


class Command(BaseCommand):
    help = "Makes an account, and asks for its password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--admin", action="store_true", help="may do all, and manage people and rules")
        parser.add_argument(
            "--group", dest="groups", nargs="+", action="extend", default=[], help="groups that it is in"
        )
        parser.add_argument(
            "--generate", action="store_true", help="make a random password in place of asking for one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_migrated()
        with as_command_errors():
            try:
                groups = groups_of(options["groups"])
                user = new_account(options["name"], is_admin=options["admin"])
                self.save(user, groups, options["generate"])
            except AccountError as error:
                raise CommandError(str(error)) from None
            except IntegrityError:  # somebody else was faster
                raise CommandError(f"There is an account {user.username} already.") from None
        may = "may do all" if user.is_superuser else "may do what the rules at /admin/ say"
        self.stdout.write(self.style.SUCCESS(f"{user.username} has an account now, and {may}."))

    def save(self, user: User, groups: list[Group], generate: bool) -> None:
        if not generate:  # not in the transaction, which would keep all others from writing
            user.set_password(ask_password(user, self.stderr.write))
        with transaction.atomic():
            if generate:
                give_random_password(user, self.stdout)
            else:
                user.save()
            user.groups.set(groups)
