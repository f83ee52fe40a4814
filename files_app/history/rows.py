"""Rows of transfers on their way into the database, and which row is whose."""

from itertools import islice
from typing import NamedTuple

from files_app.models.transfers import Record
from fileserver import events

REMEMBERED = 10_000  # ended transfers, at least, whose receipt may still come
NO_ROW = 0  # no row has this key


class Live(NamedTuple):
    """A transfer whose row says that it runs."""

    started: events.TransferStarted
    row: int
    before: float  # seconds of earlier tries of the same upload


class Rows:
    """Which row is whose, of the transfers of one run of the server. For one thread.

    A batch changes it when it is committed, and not before.
    """

    def __init__(self) -> None:
        self.live: dict[int, Live] = {}
        self.aside: set[int] = set()  # of ``live``: their endings wait in the spill file
        self.ended: dict[int, int] = {}
        self.progress: dict[int, events.TransferProgressed] = {}
        self.progress_due = 0.0  # monotonic seconds

    def begin_again(self) -> list[events.TransferStarted]:
        """Forget all rows, as in another database; what has to be written again."""
        rows = self.live.items()
        again = [live.started for key, live in rows if live.row != NO_ROW and key not in self.aside]
        self.live = {key: live for key, live in self.live.items() if live.row == NO_ROW}
        self.ended = {}
        return again

    def remember_ended(self, ended: dict[int, int]) -> None:
        self.ended.update(ended)
        too_many = len(self.ended) - REMEMBERED
        if too_many > REMEMBERED:  # seldom, as it looks at all
            self.ended = dict(islice(self.ended.items(), too_many, None))


def record_of(
    facts: events.TransferFacts, ending: events.TransferFinished | None, begun: float, before: float = 0.0
) -> Record:
    """The row of a transfer that ``begun``, in Unix seconds, and took ``before`` seconds in earlier tries."""
    name = (ending or facts).name
    return Record(
        name=name,
        file_id=name,
        direction=facts.direction,
        size=facts.size,
        offset=facts.offset,
        length=facts.length,
        done=(ending or facts).done,
        client=facts.client[:100],
        user=(facts.user or "")[:150],
        via=facts.via,
        thread=facts.thread,
        pace=facts.pace,
        upload=facts.upload,
        started_at=begun,
        finished_at=ending.at if ending else None,
        outcome=ending.outcome if ending else "running",
        error=ending.error if ending else "",
        verified=ending.verified if ending else None,
        seconds=before + ending.seconds if ending else before or None,
    )
