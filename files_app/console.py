"""What ``runfileserver`` says on the console: an observer with a line for what a person wants to see."""

import functools
import logging

from django.template.defaultfilters import filesizeformat

from fileserver import events
from fileserver.names import shown

log = logging.getLogger("files_app.console")
size_text = functools.lru_cache(1024)(filesizeformat)  # 20 µs each, twice for a transfer that takes 100


class Console:
    """Names each transfer as ``7 download 'notes.txt'``, so that its lines can be found again."""

    def __init__(self) -> None:
        self._labels: dict[int, str] = {}

    def __call__(self, event: events.Event) -> None:
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
                log.info("%s: %d%% (%s)", self._labels[event.id], percent, size_text(event.done))
            case events.TransferFinished():
                label = self._labels.pop(event.id)
                size, word = size_text(event.done), f" ({event.error})" if event.error else ""
                log.info("%s: %s%s, %s in %.2f s", label, event.outcome, word, size, event.seconds)
