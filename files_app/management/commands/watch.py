"""``manage.py watch``: everything that moves, live, in a terminal."""

from argparse import ArgumentParser
from collections import deque
from typing import Any

from django.core.management.base import BaseCommand
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from files_app.sizes import rate_text, size_text
from files_app.terminal.options import add_server_address
from files_app.terminal.progress import console, file_server
from fileserver.client.live import LiveState, Row
from fileserver.net.address import address_text

ENDED_SHOWN = 8
STYLES = {"complete": "green", "aborted": "yellow", "cancelled": "yellow", "failed": "red"}


class Command(BaseCommand):
    help = "Shows everything that moves, live. Ctrl+C stops."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_server_address(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        board = Board(address_text(options["host"], options["port"]))
        with (
            file_server(options) as client,
            Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live,
        ):
            try:
                for line in client.watch():
                    board.absorb(line)
                    live.update(board.drawn(), refresh=True)
            except KeyboardInterrupt:
                return


class Board:
    """How the state looks that ``WATCH`` lines add up to, with what has ended last."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._state = LiveState()
        self._ended: deque[Row] = deque(maxlen=ENDED_SHOWN)

    def absorb(self, line: Row) -> None:
        self._state.absorb(line)
        self._ended.extendleft(line["ended"])

    def drawn(self) -> RenderableType:
        status, moving = self._state.status, self._state.transfers
        headline = Text.assemble(
            ("● ", "green"),
            f"{self._address}  {status['clients']}/{status['max_clients']} clients  ",
            f"↓ {rate_text(status['send_rate'])}  ↑ {rate_text(status['receive_rate'])}",
        )
        table = Table(box=None, header_style="bold", expand=True)
        for heading in ("Thread", "", "Name", "Progress", "%", "Rate", "Client"):
            table.add_column(
                heading, no_wrap=True, overflow="ellipsis", ratio=2 if heading == "Name" else None
            )
        for row in sorted(moving.values(), key=lambda row: int(row["id"])):
            table.add_row(*self._cells(row))
        parts: list[RenderableType] = [headline, table]
        if error := status.get("folder_error"):
            parts.insert(1, Text(error, style="red"))
        if not moving:
            parts.append(Text("nothing moves", style="dim"))
        parts.extend(self._ending(row) for row in self._ended)
        return Group(*parts)

    @staticmethod
    def _cells(row: Row) -> list[RenderableType]:
        length = row["length"] or 1
        return [
            row["thread"],
            "↓" if row["direction"] == "download" else "↑",
            Text(row["name"]),
            ProgressBar(total=length, completed=row["done"], width=24),
            f"{100 * row['done'] // length}",
            rate_text(row["rate"]) if row["state"] == "running" else row["state"],
            Text(row["client"]),
        ]

    @staticmethod
    def _ending(row: Row) -> Text:
        error = f" ({row['error']})" if row["error"] else ""
        return Text.assemble(
            (f"{row['outcome']}{error}", STYLES.get(row["outcome"], "")),
            f"  {row['name']}  {size_text(row['done'])} in {row['seconds']:.2f} s  {row['client']}",
        )
