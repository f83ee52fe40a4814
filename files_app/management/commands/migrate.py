"""``manage.py migrate``: Django's, and the one command that may make the database."""

from typing import Any

from django.core.management.commands.migrate import Command as DjangoCommand

from files_app.database import database_errors_for_people
from files_app.sqlite3.base import may_create


class Command(DjangoCommand):
    def handle(self, *args: Any, **options: Any) -> None:
        with database_errors_for_people(), may_create():
            super().handle(*args, **options)
