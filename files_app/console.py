"""What ``runfileserver`` says on the console: an observer with a line for what a person wants to see."""

import functools
import logging
import time
from collections.abc import Callable

from django.template.defaultfilters import filesizeformat

from fileserver import events
from fileserver.names import shown

log = logging.getLogger("files_app.console")
size_text = functools.lru_cache(1024)(filesizeformat)  # 20 µs each, twice for a transfer that takes 100


MOST_LINES = 500  # in a second: nobody reads more, and the history has it all


class Console:
    """Names each transfer as ``7 download 'notes.txt'``, so that its lines can be found again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._labels: dict[int, str] = {}
        self._second = 0.0  # the beginning of the one that is counted
        self._lines = 0
        self._left_out = 0

    def __call__(self, event: events.Event) -> None:
        if self._is_too_much():
            self._left_out += 1
            if isinstance(event, events.TransferFinished):
                self._labels.pop(event.id, None)
            return
        if self._left_out:
            log.info("%d events were not told here: too many at once", self._left_out)
            self._left_out = 0
        self._tell(event)

    def _is_too_much(self) -> bool:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        self._lines += 1
        return self._lines > MOST_LINES

    def _tell(self, event: events.Event) -> None:
        match event:
            case events.ClientConnected():
                log.info("%s: %s connected", event.thread, event.client)
            case events.ClientRefused():
                log.warning("%s refused: %s", event.client, event.reason)
            case events.ClientDisconnected():
                log.info("%s: %s left", event.thread, event.client)
            case events.TransferStarted():
                self._labels[event.id] = (
                    f"{event.thread}: {event.direction} {event.id} of {shown(event.name)}"
                )
                log.info(
                    "%s started for %s, %s%s",
                    self._labels[event.id],
                    event.client,
                    size_text(event.length),
                    f" at {event.pace}" if event.pace else "",
                )
            case events.TransferProgressed(paced=True):
                percent = 100 * event.done // max(1, event.length)
                log.info("%s: %d%% (%s)", self._label(event), percent, size_text(event.done))
            case events.TransferFinished():
                label = self._label(event)
                self._labels.pop(event.id, None)
                size, word = size_text(event.done), f" ({event.error})" if event.error else ""
                log.info("%s: %s%s, %s in %.2f s", label, event.outcome, word, size, event.seconds)

    def _label(self, event: events.TransferProgressed | events.TransferFinished) -> str:
        # Its beginning may have been one line too many.
        return self._labels.get(event.id) or f"transfer {event.id} of {shown(event.name)}"
