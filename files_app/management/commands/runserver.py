"""``manage.py runserver``: the site alone. Daphne's own command with the server class of the settings."""

from argparse import ArgumentParser
from typing import Any

from daphne.management.commands.runserver import Command as DaphneCommand
from django.conf import settings
from django.utils.module_loading import import_string

from files_app.access import require_loopback
from files_app.options import require_free_port, require_migrated


class Command(DaphneCommand):
    help = "Runs the web site."
    default_addr = settings.WEB_HOST
    default_port = str(settings.WEB_PORT)
    server_cls = import_string(settings.WEB_SERVER)

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(use_reloader=settings.DEBUG)

    def inner_run(self, *args: Any, **options: Any) -> None:
        require_loopback(self.addr, "WEB_HOST")
        require_migrated()
        require_free_port(self.addr, int(self.port), "WEB_PORT")
        super().inner_run(*args, **options)
