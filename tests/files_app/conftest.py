"""A database in a file, a served folder of its own for each test, and a file server with its history."""

import contextlib
import os
import threading
from collections.abc import Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import connection, connections, transaction
from django.test.utils import setup_databases, teardown_databases

from files_app.access import wrong_tokens
from files_app.access.policy import access_of
from files_app.access.snapshot import SERVER_RIGHTS, snapshots
from files_app.history.recorder import Recorder, _impatient_options
from files_app.history.spill import spill_path
from files_app.hosting.assembly import listening, recording
from files_app.hosting.certificates import context_for_own_server, context_to_serve
from files_app.hosting.rights import following_rights
from files_app.models import AccessRule, AuditEvent, File, Quota, ServerRun, Throttle, Transfer
from files_app.models.rules import RIGHTS
from fileserver.client.blocking import Client
from fileserver.events import TransferStarted
from fileserver.limits import Limits, Options
from fileserver.pacing import Pace
from fileserver.server import FileServer
from fileserver.storage.folder import Storage
from tests.certificates import CertificateFiles, write_certificate
from tests.servers import WORKER, Events, Peer, wait_until


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The test database, always: pytest-django makes one only if a collected test has its marker."""
    if connection.vendor == "sqlite":
        # A file, for threads share it: one in memory would tell them that its tables are locked.
        name = str(tmp_path_factory.mktemp("database") / "test.sqlite3")
    else:
        name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'files')}"
    connections.settings["default"]["TEST"]["NAME"] = name
    with django_db_blocker.unblock():
        before = setup_databases(verbosity=0, interactive=False, aliases={"default"})
    _require_temporary_database(tmp_path_factory)
    yield
    with django_db_blocker.unblock():
        teardown_databases(before, verbosity=0)


def _require_temporary_database(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing here may ever write to, or empty, the database of this installation."""
    name = connection.settings_dict["NAME"]
    is_ours = name.startswith("test_") or Path(name).is_relative_to(tmp_path_factory.getbasetemp())
    if not is_ours:
        pytest.exit(f"The tests would use the database {name}, which is not theirs.", returncode=3)


EMPTIED = (Transfer, ServerRun, File, LogEntry, Session, AccessRule, User, Group, AuditEvent, Throttle, Quota)


@pytest.fixture
def database(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """For threads, which see what is committed only; a tenth of the time that flushing all tables takes."""
    _require_temporary_database(tmp_path_factory)
    with django_db_blocker.unblock():
        yield
        _require_temporary_database(tmp_path_factory)
        spill_path().unlink(missing_ok=True)
        with transaction.atomic():
            for model in (
                Transfer,
                ServerRun,
                File,
                LogEntry,
                Session,
                AccessRule,
                User,
                Group,
                AuditEvent,
                Throttle,
            ):
                model._default_manager.all().delete()
        snapshots.refresh()  # the next test knows nobody
        wrong_tokens.forget_all()


TOKEN = "a" * 32  # against forged requests


def logged_in(rights: Collection[str], name: str = "ann") -> dict[str, str]:
    """Headers of somebody with an account that has these rights and no others."""
    user = User.objects.create(username=name)
    given = {f"can_{right}": True for right in rights if right in RIGHTS}
    AccessRule.objects.create(folder="", whom="user", user=user, **given)
    user.user_permissions.set(Permission.objects.filter(codename__in=set(rights) & set(SERVER_RIGHTS)))
    snapshots.refresh()
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session.save()
    return {"cookie": f"cfs_csrf={TOKEN}; cfs_session={session.session_key}"}


class Served:
    """A file server with recorder and catalogue, as ``runfileserver`` puts them together."""

    def __init__(self, server: FileServer, storage: Storage, recorder: Recorder, events: Events) -> None:
        self.server = server
        self.storage = storage
        self.recorder = recorder
        self.events = events

    @property
    def folder(self) -> Path:
        return self.storage.root

    @property
    def port(self) -> int:
        return self.server.address[1]

    def client(self) -> Client:
        return Client(*self.server.address, tls=context_for_own_server())

    def peer(self, receive_buffer: int | None = None) -> Peer:
        return Peer(self.server.address, receive_buffer)

    def settle(self) -> None:
        """Return when all that the recorder has been told so far is in the database."""
        settle(self.recorder)

    def row_of(self, transfer_id: int) -> Transfer:
        """The history row of a transfer that has ended or is about to."""
        event = self.events.ending(transfer_id)
        self.settle()
        return Transfer.objects.get(thread=self.thread_of(transfer_id), name=event.name)

    def thread_of(self, transfer_id: int) -> str:
        started = self.events.wait_for(lambda e: isinstance(e, TransferStarted) and e.id == transfer_id)
        assert isinstance(started, TransferStarted)
        return started.thread

    def catalogued(self, name: str) -> File:
        """The row of a file, as soon as there is one."""
        return wait_until(lambda: File.objects.filter(name=name).first())

    def put(self, name: str, data: bytes) -> None:
        """A file that is there and catalogued, as if somebody had copied it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        wait_until(lambda: File.objects.filter(name=name, size=len(data)).exists())


@contextlib.contextmanager
def locked_database() -> Iterator[None]:
    """Nobody else can write into the database, and all can read."""
    other = connection.copy()
    try:
        if connection.vendor == "sqlite":
            other.cursor().execute("BEGIN EXCLUSIVE")
        else:
            other.set_autocommit(False)
            tables = ", ".join(model._meta.db_table for model in (Transfer, ServerRun, File))
            other.cursor().execute(f"LOCK TABLE {tables} IN EXCLUSIVE MODE")
        yield
    finally:
        other.close()


def wait_for_locks(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From this thread, no longer than that."""
    connection.close()
    monkeypatch.setattr("files_app.history.recorder.BUSY_TIMEOUT", seconds)
    for option, value in _impatient_options().items():
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], option, value)


def settle(recorder: Recorder) -> None:
    written = threading.Event()
    recorder.submit(lambda: transaction.on_commit(written.set))
    assert written.wait(10), "the recorder has not come to the end of its queue"


def begin(running: contextlib.ExitStack, folder: Path) -> Served:
    """Serve until ``running`` ends; for a thread that is not the test's own and must leave no connection."""
    try:
        return running.enter_context(serving(folder))
    finally:
        connections.close_all()


@contextlib.contextmanager
def serving(folder: Path, limits: Limits | None = None, pace: Pace | None = None) -> Iterator[Served]:
    recorder = Recorder()
    events = Events(recorder)
    with (
        Storage(folder) as storage,
        FileServer(
            storage,
            observer=events,
            access=access_of("127.0.0.1", storage.identity),
            limits=limits,
            options=Options(
                worker=WORKER, pace=pace, direct=settings.DIRECT_DOWNLOADS, tls=context_to_serve()
            ),
        ) as server,
        recording(recorder, storage, server),
        following_rights(server),
        listening(server),
    ):
        try:
            yield Served(server, storage, recorder, events)
        finally:
            server.shutdown(grace=0)


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Path:
    path = tmp_path / "served"
    path.mkdir()
    settings.FILES_DIRECTORY = path
    return path


@pytest.fixture
def tls(tmp_path: Path, settings: Any) -> CertificateFiles:
    """Servers that begin after this speak TLS."""
    files = write_certificate(tmp_path)
    settings.TLS_CERT, settings.TLS_KEY = str(files.certificate), str(files.key)
    return files


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue looks at the folder all the time."""
    monkeypatch.setattr("files_app.history.catalogue.INTERVAL", 0.02)
    monkeypatch.setattr("files_app.history.catalogue.SHARE", 1)


@pytest.fixture
def served(folder: Path, database: None, quick_looks: None, settings: Any) -> Iterator[Served]:
    with serving(folder) as running:
        settings.SERVER_HOST, settings.SERVER_PORT = running.server.address
        yield running
