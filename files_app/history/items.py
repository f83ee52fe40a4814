"""What the writer of the history gets to write."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from files_app.models.transfers import Record
from fileserver import events


@dataclass(frozen=True, slots=True)
class Job:
    """Something else to be written; ``settled`` is called when it is committed, or given up for good."""

    write: Callable[[], None]
    settled: Callable[[], None]


class FinishedRow(NamedTuple):
    """A transfer that has ended: its row is written once."""

    id: int
    record: Record


class Try(NamedTuple):
    """One try of an upload, from a spill file; ``before`` are the seconds of those before it, if known."""

    started: events.TransferStarted
    finished: events.TransferFinished
    before: float | None

    @property
    def id(self) -> int:
        return self.finished.id


Item = events.Event | FinishedRow | Try | Job
Listeners = Mapping[type, Callable[[Any], None]]
