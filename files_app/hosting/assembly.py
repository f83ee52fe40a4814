"""What ``runfileserver`` runs: the file server with its history, catalogue and lines on the console."""

import contextlib
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

from files_app.access.loopback import is_this_machine
from files_app.access.policy import access_of
from files_app.access.public import page_url
from files_app.database import as_command_errors
from files_app.history.catalogue import Catalogue
from files_app.history.recorder import Recorder
from files_app.hosting.certificates import BadCertificate, context_to_serve
from files_app.hosting.console import Console
from files_app.hosting.locks import AlreadyServed, is_alone, only_server_of, server_name
from files_app.hosting.queued import QueuedObserver
from files_app.hosting.rights import following_rights
from files_app.models import Transfer
from fileserver.events import Event
from fileserver.limits import Limits, Options
from fileserver.pacing import Pace
from fileserver.server import FileServer
from fileserver.storage.folder import Storage
from fileserver.storage.root import FolderError

log = logging.getLogger(__name__)


class CannotServe(Exception):
    """The folder cannot be served; the text is a sentence."""


class CannotListen(Exception):
    """Nobody can listen on the address; ``error`` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Plan:
    """What may be said on the command line; the settings have the rest."""

    host: str
    port: int
    files: str | Path
    max_clients: int
    worker: str
    pace: Pace | None  # for everybody; ``None`` is full speed


@contextlib.contextmanager
def running(plan: Plan, on_hurry: Callable[[Callable[[], None]], None]) -> Iterator[FileServer]:
    """The file server of the plan; in the end everything is stopped and written.

    ``on_hurry`` gets what ends running transfers at once. Raises ``CannotServe`` and ``CannotListen``.
    """
    recorder, console = Recorder(), QueuedObserver(Console(), "Console")

    def observe(event: Event) -> None:
        recorder(event)
        console(event)

    with contextlib.ExitStack() as stack:
        storage = stack.enter_context(_served_folder(plan.files))
        stack.enter_context(_the_only_server_of(storage))
        server = FileServer(
            storage,
            plan.host,
            plan.port,
            observer=observe,
            access=access_of(plan.host, storage.identity),
            limits=Limits(
                max_clients=plan.max_clients,
                max_clients_per_address=settings.MAX_CLIENTS_PER_ADDRESS or _usual_limit(plan),
                max_upload_size=settings.MAX_UPLOAD_SIZE,
                min_free=settings.MIN_FREE << 20,
                keep_partial=settings.PARTIAL_UPLOAD_HOURS * 3600,
            ),
            options=Options(
                worker=plan.worker,
                pace=plan.pace,
                direct=settings.DIRECT_DOWNLOADS,
                tls=_context(),
                page_url=page_url_here,
            ),
        )
        try:
            stack.enter_context(server)
        except OSError as error:
            raise CannotListen(error) from error
        on_hurry(lambda: server.shutdown(grace=0))
        stack.enter_context(console)
        stack.enter_context(recording(recorder, storage, server))
        stack.enter_context(following_rights(server))
        stack.enter_context(listening(server))
        yield server


def _usual_limit(plan: Plan) -> int:
    """Connections of one address: on the network a third of all. A class may be behind one."""
    return 0 if is_this_machine(plan.host) else max(1, plan.max_clients // 3)


@contextlib.contextmanager
def _served_folder(path: str | Path) -> Iterator[Storage]:
    with contextlib.ExitStack() as stack:
        try:
            storage = stack.enter_context(Storage(path))
        except FolderError as error:
            raise CannotServe(str(error)) from None
        except OSError as error:
            raise CannotServe(f"The folder {path} cannot be served: {error.strerror}.") from None
        yield storage


def _context() -> ssl.SSLContext | None:
    try:
        return context_to_serve()
    except BadCertificate as error:
        raise CannotServe(str(error)) from None


@contextlib.contextmanager
def _the_only_server_of(storage: Storage) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            with as_command_errors():
                stack.enter_context(only_server_of(storage))
        except AlreadyServed as error:
            raise CannotServe(str(error)) from None
        except OSError as error:  # as of a lock's file that belongs to another user
            raise CannotServe(f"{error.filename} cannot be opened: {error.strerror}.") from None
        yield


@contextlib.contextmanager
def recording(recorder: Recorder, storage: Storage, server: FileServer) -> Iterator[None]:
    catalogue = Catalogue(storage, recorder, server.registry.files_changed)  # listens to what is recovered
    name = server_name(storage.root)
    with as_command_errors():
        recorder.recover()
        interrupted = Transfer.objects.close_interrupted(name, is_alone())
        recorder.register(name)
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


def page_url_here() -> str | None:
    """Where the page is for a browser that has come to us; ``None`` if that is not known."""
    url = page_url()
    if url.startswith("http:") and settings.HTTPS:  # it would redirect to a port that speaks no https
        return None
    # What is no address of the site's it would answer with 400.
    is_public = bool(settings.PUBLIC_URL)
    is_answered = is_public or validate_host(urlsplit(url).netloc.rpartition(":")[0], settings.ALLOWED_HOSTS)
    return url if is_answered else None
