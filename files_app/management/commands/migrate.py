"""``manage.py migrate``: Django's, and the one command that may make the database."""

from typing import Any

from django.core.management.commands.migrate import Command as DjangoCommand

from files_app.database import as_command_errors
from files_app.sqlite3.base import may_create


class Command(DjangoCommand):
    def handle(self, *args: Any, **options: Any) -> None:
        with as_command_errors(), may_create():
            super().handle(*args, **options)
