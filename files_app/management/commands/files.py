"""``manage.py files``: what can be had."""

import io
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.table import Table
from rich.text import Text

from files_app.models.dates import to_datetime
from files_app.sizes import size_text
from files_app.terminal.options import add_server_address
from files_app.terminal.paths import what_begins_so
from files_app.terminal.progress import console, file_server
from fileserver.names import shown


class Command(BaseCommand):
    help = "Lists the files of the file server."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("prefix", nargs="?", default="", help="only names that begin so")
        add_server_address(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        unread: list[int] = []
        with file_server(options) as client:
            prefix = options["prefix"]
            entries = list(client.files(prefix, unread.append))
            if prefix and not entries and not unread:  # as of grep: nothing on the standard output
                raise CommandError(f"No file begins with {shown(prefix)}.{what_begins_so(client, prefix)}")
        self._show(entries)
        if unread:
            raise CommandError(
                "These are not all files: the server cannot read a part of its folder. Its log says which."
            )

    def _show(self, entries: list[dict[str, Any]]) -> None:
        if not console.is_terminal:  # for other programs: bytes, Unix time, name
            if isinstance(sys.stdout, io.TextIOWrapper):  # each name as it is, whatever the terminal can show
                sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
            try:
                for entry in entries:
                    self.stdout.write(f"{entry['size']}\t{entry['mtime']:.0f}\t{entry['name']}")
                self.stdout.flush()
            except BrokenPipeError:  # the other program has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        table = Table(box=None, header_style="bold")
        table.add_column("Name", overflow="fold")
        table.add_column("Size", justify="right", no_wrap=True)
        table.add_column("Modified", no_wrap=True)
        for entry in entries:
            when = to_datetime(entry["mtime"]).astimezone()
            table.add_row(Text(entry["name"]), size_text(entry["size"]), f"{when:%Y-%m-%d %H:%M}")
        console.print(table)
        console.print(f"{len(entries)} files", style="dim")
