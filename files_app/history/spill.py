"""What the database does not take is kept in a file beside it, a line of JSON each, until it does.

The writer appends to it while the database is locked or broken for long, and when the server must end. The
next start, or the same one as soon as the database can be written again, writes all of it in its order and
then removes the file. A line that cannot be read costs that line only.
"""

import json
import logging
import os
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from django.conf import settings
from django.db import connection

from files_app.database import sqlite_file
from files_app.history.items import FinishedRow, Item, Job, Try
from files_app.history.rows import Rows, record_of
from files_app.models.transfers import Record
from fileserver import events

log = logging.getLogger(__name__)

_EVENTS = {
    kind.__name__: kind
    for kind in (
        events.TransferStarted,
        events.TransferVerified,
        events.FilePublished,
        events.FileHashed,
        events.FileDeleted,
    )
}


class Line(NamedTuple):
    """``run`` names the server whose ids these are; ``row`` is what a receipt is about, if that is known."""

    run: str
    item: Item
    row: int = 0

    def encode(self) -> bytes:
        kind, fields = _fields_of(self.item)
        return json.dumps({"run": self.run, "kind": kind, "row": self.row, **fields}).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> "Line":
        """Raises ``ValueError``, ``TypeError`` or ``KeyError`` for what is no such line."""
        fields = json.loads(data)
        run, kind, row = str(fields.pop("run")), fields.pop("kind"), int(fields.pop("row"))
        return cls(run, _item_of(kind, fields), row)


def _fields_of(item: Item) -> tuple[str, dict[str, Any]]:
    match item:
        case FinishedRow():
            return "Whole", {"id": item.id, "record": item.record._asdict()}
        case Try(started, finished, before):
            return "Try", {
                "started": started._asdict(),
                "finished": finished._asdict(),
                "before": before,
            }
    assert not isinstance(item, Job)
    return type(item).__name__, item._asdict()


def _item_of(kind: str, fields: dict[str, Any]) -> Item:
    if kind == "Whole":
        return FinishedRow(int(fields["id"]), Record(**fields["record"]))
    if kind == "Try":
        started = events.TransferStarted(**fields["started"])
        return Try(started, events.TransferFinished(**fields["finished"]), fields["before"])
    item: Item = _EVENTS[kind](**fields)
    return item


class Spill:
    """The file. For one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __bool__(self) -> bool:
        """Whether something waits in it; also if that cannot be told: who reads it then hears why."""
        try:
            return self.path.exists()
        except OSError:
            return True

    def append(self, lines: Iterable[Line]) -> None:
        """Returns when they are on the disk. Raises ``OSError``; then none of them is in the file."""
        data = b"".join(line.encode() for line in lines)
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            if end and not self._ends_whole():
                data = b"\n" + data  # behind half a line, of a crash
            try:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except OSError:
                # They come again with the next try: what a full disk has taken of them would count twice.
                file.truncate(end)
                raise

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def lines(self) -> Generator[Line, None, None]:
        """All that can be read, in its order. Close it if you do not read it to its end."""
        with self.path.open("rb") as file:
            for number, data in enumerate(file, 1):
                if not data.strip():
                    continue
                try:
                    yield Line.decode(data)
                except (ValueError, TypeError, KeyError, AttributeError):
                    log.error("line %d of %s is damaged and is left out", number, self.path)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def slices(lines: Iterator[Line], most: int) -> Iterator[list[Line]]:
    while some := list(islice(lines, most)):
        yield some


def rows_of_receipts(lines: list[Line]) -> dict[int, int]:
    receipts = [(line.item, line.row) for line in lines if line.row]
    return {item.id: row for item, row in receipts if isinstance(item, events.TransferVerified)}


def spill_path() -> Path:
    """Beside the database where that is a file; else in the folder of the program, with its name."""
    if database := sqlite_file():
        return database.with_name(f"{database.name}.spill")
    name = quote(str(connection.settings_dict["NAME"]), safe="")
    return Path(settings.BASE_DIR / f"history-{name}.spill")


def set_aside(
    items: Iterable[Item], rows: Rows, run: str, listeners: Iterable[type], all_of_it: bool
) -> tuple[list[Line], list[Item]]:
    """What of ``items`` goes into the file, and what stays in memory: beginnings and jobs, if not ``all``.

    Progress goes nowhere: the next one says more. An ending takes its beginning with it.
    """
    lines: list[Line] = []
    begun: dict[int, events.TransferStarted] = {}
    jobs: list[Item] = []
    for item in items:
        match item:
            case FinishedRow():
                lines.append(Line(run, item))
            case events.TransferStarted():
                begun[item.id] = item
            case events.TransferFinished():
                ended = _ending(item, begun.pop(item.id, None), rows)
                lines += [Line(run, ended)] if ended else []
            case events.TransferVerified():
                lines.append(Line(run, item, rows.ended.get(item.id, 0)))
            case events.TransferProgressed():
                pass
            case Job():
                jobs.append(item)
            case _ if type(item) in listeners:
                lines.append(Line(run, item))
    if all_of_it:
        lines += [Line(run, started) for started in begun.values()]
        begun = {}
    return lines, [*begun.values(), *jobs]


def _ending(
    finished: events.TransferFinished, started: events.TransferStarted | None, rows: Rows
) -> FinishedRow | Try | None:
    live = rows.live.get(finished.id)
    started = started or (live and live.started)
    if started is None:
        log.error("left out of the history: %r", finished)
        return None
    if started.upload:
        return Try(started, finished, live.before if live else None)
    return FinishedRow(finished.id, record_of(started, finished, started.at))
