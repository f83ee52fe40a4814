"""``manage.py runfileserver``: the file server alone, with history and catalogue."""

import contextlib
import queue
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from files_app.access.loopback import require_loopback
from files_app.access.policy import authorize
from files_app.database import database_errors_for_people
from files_app.history.catalogue import Catalogue
from files_app.history.recorder import Recorder
from files_app.hosting.console import Console, log
from files_app.hosting.lifeline import ends_with_supervisor
from files_app.hosting.process import prepare_for
from files_app.hosting.queued import QueuedObserver
from files_app.models import Transfer
from files_app.terminal.options import (
    non_negative,
    port_number,
    positive,
    require_migrated,
    require_nothing_secret,
    taken,
    worker_model,
)
from files_app.views.direct import page_url
from fileserver.context import Limits, Options
from fileserver.events import Event
from fileserver.net.address import address_text
from fileserver.pacing import SLOW_MOTION, Pace
from fileserver.server import FileServer
from fileserver.storage.folder import Storage
from fileserver.storage.root import FolderError
from fileserver.workers import MODELS


class Command(BaseCommand):
    help = "Runs the file server: one thread for each client, over TCP."
    requires_system_checks: list[str] = []  # of the folder that --files names, not of the setting

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default=settings.SERVER_HOST, help="address (default: %(default)s)")
        parser.add_argument(
            "--port", type=port_number, default=str(settings.SERVER_PORT), help="(default: %(default)s)"
        )
        parser.add_argument(
            "--files", default=settings.FILES_DIRECTORY, help="the folder (default: %(default)s)"
        )
        parser.add_argument(
            "--max-clients", type=positive, default=str(settings.MAX_CLIENTS), help="(default: %(default)s)"
        )
        parser.add_argument(
            "--buffer-size",
            type=positive,
            default=str(settings.BUFFER_SIZE),
            help="bytes in a chunk, when paced",
        )
        parser.add_argument(
            "--sleep-time",
            type=non_negative,
            default=str(settings.SLEEP_TIME),
            help="seconds between two chunks; 0, the default, is full speed",
        )
        parser.add_argument(
            "--slow-motion", action="store_true", help=f"the classroom pace for everybody: {SLOW_MOTION}"
        )

        parser.add_argument(
            "--worker",
            type=worker_model,
            default=settings.WORKER_MODEL,
            help=f"which thread serves which client: {', '.join(MODELS)} (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_loopback(options["host"], "SERVER_HOST")
        require_migrated()
        require_nothing_secret(options["files"])
        prepare_for(options["max_clients"])
        with ends_on_signal() as ending, running(options, ending.hurry_with) as server:
            pace = pace_of(options)
            log.info(
                "listening on %s, serving %s at %s; Ctrl+C stops",
                address_text(*server.address),
                options["files"],
                f"a pace of {pace}" if pace else "full speed",
            )
            ending.wait()
            log.info("shutting down; running transfers have %g s to end", server.limits.grace)


def pace_of(options: dict[str, Any]) -> Pace | None:
    if options["slow_motion"]:
        return SLOW_MOTION
    return Pace(options["buffer_size"], options["sleep_time"]) if options["sleep_time"] else None


@contextlib.contextmanager
def running(options: dict[str, Any], on_hurry: Callable[[Callable[[], None]], None]) -> Iterator[FileServer]:
    """The file server with its history and its catalogue; in the end everything is stopped and written."""
    recorder, console = Recorder(), QueuedObserver(Console(), "Console")

    def observe(event: Event) -> None:
        recorder(event)
        console(event)

    limits = Limits(
        max_clients=options["max_clients"],
        max_clients_per_address=settings.MAX_CLIENTS_PER_ADDRESS,
        max_upload_size=settings.MAX_UPLOAD_SIZE,
        keep_partial=settings.PARTIAL_UPLOAD_HOURS * 3600,
    )
    with contextlib.ExitStack() as stack:
        try:
            storage = stack.enter_context(Storage(options["files"]))
        except FolderError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"The folder {options['files']} cannot be served: {error.strerror}.") from None
        server = FileServer(
            storage,
            options["host"],
            options["port"],
            observer=observe,
            authorize=authorize,
            limits=limits,
            options=Options(
                worker=options["worker"],
                pace=pace_of(options),
                direct=settings.DIRECT_DOWNLOADS,
                page_url=page_url(),
            ),
        )
        try:
            stack.enter_context(server)
        except OSError as error:
            raise taken(options["host"], options["port"], "SERVER_PORT (or --port)", error) from None
        on_hurry(lambda: server.shutdown(grace=0))
        stack.enter_context(console)
        stack.enter_context(recording(recorder, storage, server))
        stack.enter_context(listening(server))
        yield server


@contextlib.contextmanager
def recording(recorder: Recorder, storage: Storage, server: FileServer) -> Iterator[None]:
    catalogue = Catalogue(storage, recorder, server.registry.files_changed)  # listens to what is recovered
    with database_errors_for_people():
        recorder.recover()
        interrupted = Transfer.objects.close_interrupted()
        recorder.register()
    if interrupted:
        log.warning("%d transfers were running when the server last died: closed as interrupted", interrupted)
    recorder.start()
    catalogue.start()
    try:
        yield
    finally:
        # The recorder last: what the others have still to say must be written.
        catalogue.stop()
        recorder.stop()


@contextlib.contextmanager
def listening(server: FileServer) -> Iterator[None]:
    listener = threading.Thread(target=server.serve_forever, name="Server")
    listener.start()
    try:
        yield
    finally:
        server.shutdown()
        listener.join()


class Ending:
    """Asked for by the first signal; the second one hurries what the first has begun."""

    def __init__(self) -> None:
        self._is_asked = False
        # Of all that one can wait for, only this may be woken from a signal handler: an Event's lock may be
        # held by the very thread that the handler interrupts.
        self._asked: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._hurry: Callable[[], None] = lambda: None

    def hurry_with(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry

    def ask(self) -> None:
        """From any thread, and any number of times."""
        self._is_asked = True
        self._asked.put(None)

    def wait(self) -> None:
        """Until it is asked for; for one thread."""
        while not self._is_asked:
            # With a time limit: on Windows a wait without one cannot be interrupted by Ctrl+C.
            with contextlib.suppress(queue.Empty):
                self._asked.get(timeout=1.0)

    def on_signal(self, *args: object) -> None:
        if self._is_asked:
            # In a thread: the handler interrupts the very code that holds the locks.
            threading.Thread(target=self._hurry, name="Hurry").start()
        self.ask()


# Windows has the last, which is what a supervisor can send there.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


@contextlib.contextmanager
def ends_on_signal() -> Iterator[Ending]:
    ending = Ending()
    before = {number: signal.signal(number, ending.on_signal) for number in SIGNALS}
    try:
        with ends_with_supervisor(ending.ask):
            yield ending
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
