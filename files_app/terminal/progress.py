"""What the terminal commands share: a connection, progress bars, sentences for what goes wrong."""

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from files_app.sizes import rate_text, size_text
from files_app.terminal.connecting import connector, distrust
from files_app.terminal.tokens import USUAL, VARIABLE
from fileserver.client.blocking import Client
from fileserver.net.address import address_text
from fileserver.wire.replies import BadReply, ErrorReply

console = Console()


@contextlib.contextmanager
def file_server(options: dict[str, Any]) -> Iterator[Client]:
    """A connection to ``--host`` and ``--port``; refusals and breaks become a ``CommandError``."""
    address = address_text(options["host"], options["port"])
    connect = connector(options)
    try:
        client = connect()
    except ErrorReply as error:
        raise CommandError(_told(error)) from None
    except ssl.SSLError as error:
        raise CommandError(distrust(options, error)) from None
    except (OSError, UnicodeError) as error:  # the latter for a host that cannot be a name at all
        reason = getattr(error, "strerror", None) or error
        raise CommandError(
            f"No file server answers at {address} ({reason}). Start it with: python manage.py runfileserver"
        ) from None
    with client:
        try:
            yield client
        except ErrorReply as error:
            raise CommandError(_told(error)) from None
        except BadReply:
            raise CommandError(f"What answers at {address} is no file server.") from None
        except (ConnectionError, TimeoutError, ssl.SSLError) as error:
            raise CommandError(f"The connection to {address} broke: {error}") from None
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None


def _told(error: ErrorReply) -> str:
    if error.code == "auth-required":
        return f"{error.message} Make a token at /account/tokens/, and put it into {VARIABLE} or {USUAL}."
    return error.message


class AmountColumn(ProgressColumn):
    """How much there is, in the words that pages and log have for sizes; rich has others."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else size_text(task.total)
        return Text(f"{size_text(task.completed)} of {total}", style="progress.download")


class RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else rate_text(speed), style="progress.data.speed")


def progress_bars() -> Progress:
    """Bars with rate and time left; where there is no terminal nothing is drawn."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        AmountColumn(),
        RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
