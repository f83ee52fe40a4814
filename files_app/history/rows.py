"""Rows of transfers on their way into the database, and which row is whose."""

from itertools import islice
from typing import NamedTuple

from files_app.models.transfers import Begun, Record, TransferQuerySet
from fileserver import events

REMEMBERED = 10_000  # ended transfers, at least, whose receipt may still come
NO_ROW = 0  # no row has this key


class Live(NamedTuple):
    """A transfer whose row says that it runs."""

    started: events.TransferStarted
    row: int
    before: float  # seconds of earlier tries of the same upload

    @property
    def begun(self) -> Begun:
        return Begun(self.started.at, self.started.thread, self.started.client)


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

    def begin_again(self, running: TransferQuerySet) -> list[events.TransferStarted]:
        """Forget the keys, as in another database; what is to be written again: it is not ``running`` there.

        It may be the same one all the same, put back, or a copy of a moment ago.
        """
        begun = running.rows_of([live.begun for live in self.live.values()])
        names = {live.started.upload for live in self.live.values() if live.started.upload}
        uploads = dict(running.filter(upload__in=names).values_list("upload", "pk"))
        before, self.live, self.ended = self.live, {}, {}
        again = []
        for key, live in before.items():
            row = uploads.get(live.started.upload) if live.started.upload else begun.get(live.begun)
            if live.row == NO_ROW:
                self.live[key] = live
            elif row:
                self.live[key] = live._replace(row=row)
            elif key not in self.aside:
                again.append(live.started)
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
        principal=facts.principal,
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
