"""What ``runfileserver`` says on the console: an observer with a line for what a person wants to see."""

import logging

from files_app.sizes import size_text
from fileserver import events
from fileserver.names import shown

log = logging.getLogger("files_app.hosting.console")
MAX_LABELS = 10_000  # of transfers whose end may still come, or was one event too many for the console


class Console:
    """Names each transfer as ``download 7 of 'notes.txt'``, so that its lines can be found again."""

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
                label = f"{event.thread}: {event.direction} {event.id} of {shown(event.name)}"
                self._keep(event.id, label)
                log.info(
                    "%s started for %s, %s%s",
                    label,
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

    def _keep(self, key: int, label: str) -> None:
        self._labels[key] = label
        if len(self._labels) > MAX_LABELS:
            del self._labels[next(iter(self._labels))]

    def _label(self, event: events.TransferProgressed | events.TransferFinished) -> str:
        # Its beginning may have been one event too many.
        return self._labels.get(event.id) or f"transfer {event.id} of {shown(event.name)}"
