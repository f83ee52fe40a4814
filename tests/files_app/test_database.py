"""A database that is gone, damaged, or another one: a sentence, and nothing made in its place."""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, DataError, OperationalError, ProgrammingError, connection

from files_app.database import is_out_of_service, sentence_of
from files_app.history import recorder as recorder_module
from files_app.history import writer as writer_module
from files_app.history.recorder import Recorder
from files_app.history.spill import spill_path
from files_app.models import Transfer
from files_app.models.transfers import TransferQuerySet
from files_app.terminal.options import require_migrated
from fileserver import events
from tests.files_app.conftest import serving, settle
from tests.files_app.history.test_recorder import Tries, finished, started
from tests.files_app.site import fetch
from tests.servers import wait_until
from tests.stack import Stack

PAGES = ["/", "/history/", "/history/recent/", "/api/files", "/api/history"]


def damage(path: Path, header: bool) -> None:
    """Spoil the header, or every page but the first."""
    data = path.read_bytes()
    path.write_bytes(b"\xff" * 4096 + data[4096:] if header else data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.fixture
def elsewhere(database: None, tmp_path: Path) -> Iterator[Path]:
    """A database of this test's own: a copy, which may be spoiled."""
    own = Path(connection.settings_dict["NAME"])
    with contextlib.closing(sqlite3.connect(own)) as source:
        path = tmp_path / "own.sqlite3"
        with contextlib.closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
    connection.close()
    # Not by monkeypatch, which may end after the database that this stands on.
    connection.settings_dict["NAME"] = str(path)
    yield path
    connection.close()
    connection.settings_dict["NAME"] = str(own)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_PAUSES", (0.01,))
    monkeypatch.setattr(writer_module, "SPILL_AFTER", 0.0)
    monkeypatch.setattr(recorder_module, "WRITE_SECONDS", 0.2)


class Closed:
    """Within it a file of this name cannot be looked at, as in a folder that may not be entered."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._name = name
        self._is_closed = False
        self._stat = Path.stat
        self.refusals = 0
        monkeypatch.setattr(Path, "stat", lambda path, **options: self._look(path, options))

    def _look(self, path: Path, options: dict[str, bool]) -> os.stat_result:
        if self._is_closed and path.name == self._name:
            self.refusals += 1
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return self._stat(path, **options)

    def __enter__(self) -> None:
        self._is_closed = True

    def __exit__(self, *_: object) -> None:
        self._is_closed = False


class TestPages:
    @pytest.mark.parametrize("path", PAGES)
    def test_without_a_database_a_page_says_what_to_do_and_none_is_made(
        self, elsewhere: Path, path: str
    ) -> None:
        elsewhere.unlink()
        answer = fetch("GET", path)
        assert answer.status == 503
        assert b"There is no database own.sqlite3" in answer.body
        assert b"python manage.py migrate" in answer.body
        assert not elsewhere.exists()

    @pytest.mark.parametrize("header", [True, False], ids=["header", "pages"])
    def test_of_a_damaged_one_too(self, elsewhere: Path, header: bool) -> None:
        damage(elsewhere, header)
        answer = fetch("GET", "/history/", headers={"accept": "text/html"})
        assert answer.status == 503
        assert b"The database own.sqlite3 is damaged. Stop the servers" in answer.body
        assert b"<h1>The database is not available</h1>" in answer.body

    def test_of_one_without_tables_too(self, elsewhere: Path) -> None:
        elsewhere.write_bytes(b"")
        assert b"lacks tables" in fetch("GET", "/").body

    def test_a_fault_of_the_site_is_still_a_fault(
        self, database: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*args: Any) -> None:
            raise DataError("of what was to be written")

        monkeypatch.setattr(TransferQuerySet, "ended", broken)
        assert fetch("GET", "/history/recent/").status == 500


class TestCommands:
    def test_migrate_makes_one_and_nothing_else_does(self, elsewhere: Path) -> None:
        elsewhere.unlink()
        with pytest.raises(CommandError, match=r"There is no database .*own.sqlite3.*manage.py migrate"):
            require_migrated()
        assert not elsewhere.exists()
        call_command("migrate", verbosity=0)
        require_migrated()
        assert elsewhere.exists()

    @pytest.mark.parametrize("command", ["migrate", "start", "runfileserver", "runserver"])
    def test_a_damaged_header_is_a_sentence_in_every_command(self, tmp_path: Path, command: str) -> None:
        stack = Stack(tmp_path)
        (tmp_path / "db.sqlite3").write_bytes(b"\xff" * 8192)
        ended = stack.manage(command)
        assert ended.returncode == 1
        assert "db.sqlite3 is damaged. Stop the servers" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_damaged_pages_are_a_sentence_at_a_start(self, elsewhere: Path, folder: Path) -> None:
        damage(elsewhere, header=False)
        with pytest.raises(CommandError, match="is damaged"), serving(folder):
            pass


class TestRecorder:
    def test_one_that_is_taken_away_and_put_back_lacks_nothing(
        self, elsewhere: Path, folder: Path, impatient: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder / "a.bin").write_bytes(b"hello")
        away = elsewhere.with_name("away")
        with serving(folder) as served:
            with served.peer() as peer:
                peer.ask("PUT", name="b.bin", size=10)
                wait_until(Transfer.objects.filter(outcome="running").exists)
                connection.close()
                elsewhere.rename(away)
                with served.client() as client:
                    assert b"".join(map(bytes, client.get("a.bin"))) == b"hello"
                wait_until(spill_path().exists)
                assert not elsewhere.exists()
                away.rename(elsewhere)
            wait_until(lambda: not spill_path().exists())
            wait_until(lambda: Transfer.objects.count() == 2)
            wait_until(lambda: not Transfer.objects.filter(outcome="running").exists())
        assert sorted(Transfer.objects.values_list("outcome", flat=True)) == ["aborted", "complete"]
        assert caplog.text.count("There is no database") == 1
        assert "Traceback" not in caplog.text
        caplog.clear()

    @pytest.mark.parametrize("is_copy", [False, True], ids=["the same file", "a copy"])
    @pytest.mark.parametrize(
        ("begun", "ended"),
        [
            (started(1, "long.bin"), finished(1, "long.bin", seconds=2.0)),
            (Tries.began(1, 0), Tries.ended(1, 100, outcome="complete", error="", seconds=2.0)),
        ],
        ids=["download", "upload"],
    )
    def test_what_runs_keeps_its_row_while_it_is_away(
        self,
        elsewhere: Path,
        begun: events.TransferStarted,
        ended: events.TransferFinished,
        is_copy: bool,
    ) -> None:
        recorder = Recorder()
        recorder.register("")
        writer, away = recorder._writer, elsewhere.with_name("away")
        told = [begun, events.TransferProgressed(1, begun.name, 50, 100, False, 1.0)]
        assert writer.write(list(told)) == []
        with contextlib.closing(sqlite3.connect(elsewhere)) as own:
            own.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        elsewhere.rename(away)
        later = [started(2, "short.bin"), finished(2, "short.bin")]
        assert writer.write(list(later)) == later
        if is_copy:
            shutil.copy(away, elsewhere)
        else:
            away.rename(elsewhere)
        assert writer.write(list(later)) == []
        assert writer.write([ended]) == []
        rows = Transfer.objects.values_list("name", "outcome", "seconds")
        assert sorted(rows) == sorted([(begun.name, "complete", 2.0), ("short.bin", "complete", 1.0)])

    def test_what_runs_is_written_into_another_one_that_takes_its_place(
        self, elsewhere: Path, impatient: None
    ) -> None:
        recorder = Recorder()
        recorder.start()
        try:
            recorder(started(1, "long.bin"))
            recorder(started(2, "short.bin"))
            recorder(finished(2, "short.bin"))
            settle(recorder)
            connection.close()
            elsewhere.unlink()
            recorder(started(3, "after.bin"))
            recorder(finished(3, "after.bin"))
            wait_until(spill_path().exists)
            call_command("migrate", verbosity=0)
            wait_until(lambda: not spill_path().exists())
            recorder(finished(1, "long.bin"))
            settle(recorder)
        finally:
            recorder.stop()
        rows = dict(Transfer.objects.values_list("name", "outcome"))
        assert rows == {"long.bin": "complete", "after.bin": "complete"}

    @pytest.mark.parametrize("ending", ["", ".spill"])
    def test_what_comes_while_its_folder_cannot_be_entered_is_kept(
        self, elsewhere: Path, impatient: None, monkeypatch: pytest.MonkeyPatch, ending: str
    ) -> None:
        closed = Closed(elsewhere.name + ending, monkeypatch)
        recorder = Recorder()
        recorder.start()
        try:
            recorder(started(1))
            settle(recorder)
            with closed:
                recorder(finished(1))
                recorder(started(2))
                wait_until(lambda: closed.refusals > 3)
            recorder(finished(2))
            settle(recorder)
        finally:
            recorder.stop()
        assert list(Transfer.objects.values_list("outcome", flat=True)) == ["complete"] * 2

    def test_one_that_comes_back_under_the_same_number_is_another_one_all_the_same(
        self, elsewhere: Path, impatient: None
    ) -> None:
        """As a backup in its place: a number that is free again may be given to it."""
        recorder = Recorder()
        recorder.start()
        try:
            recorder(started(1, "new.bin"))
            settle(recorder)
            with contextlib.closing(sqlite3.connect(elsewhere.with_name("backup"))) as backup:
                with contextlib.closing(sqlite3.connect(elsewhere)) as source:
                    source.backup(backup)
                backup.execute("PRAGMA journal_mode = DELETE")
                backup.execute("UPDATE files_app_transfer SET name = 'old.bin', outcome = 'aborted'")
                backup.commit()
            connection.close()
            aside = elsewhere.with_name("aside")
            elsewhere.rename(aside)
            recorder(started(2, "meanwhile.bin"))
            recorder(finished(2, "meanwhile.bin"))
            wait_until(spill_path().exists)
            for beside in ("-wal", "-shm"):
                elsewhere.with_name(elsewhere.name + beside).unlink(missing_ok=True)
            aside.write_bytes(elsewhere.with_name("backup").read_bytes())
            aside.rename(elsewhere)
            wait_until(lambda: not spill_path().exists())
            recorder(finished(1, "new.bin"))
            settle(recorder)
        finally:
            recorder.stop()
        rows = dict(Transfer.objects.values_list("name", "outcome"))
        assert rows == {"old.bin": "aborted", "new.bin": "complete", "meanwhile.bin": "complete"}

    def test_damaged_pages_are_told_once_and_the_history_is_kept(
        self, elsewhere: Path, impatient: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        whole = elsewhere.with_name("backup")
        shutil.copy(elsewhere, whole)
        with elsewhere.open("r+b") as file:  # the same file, as by a broken disk
            file.seek(4096)
            file.write(b"\xff" * (os.path.getsize(elsewhere) - 4096))
        recorder = Recorder()
        recorder.start()
        for number in range(20):
            recorder(started(number, thread=f"T-{number}"))
            recorder(finished(number))
        wait_until(lambda: "is damaged. Stop the servers" in caplog.text)
        recorder.stop()
        assert caplog.text.count("is damaged") == 1
        assert "Traceback" not in caplog.text
        connection.close()
        whole.replace(elsewhere)
        Recorder().recover()
        assert Transfer.objects.filter(outcome="complete").count() == 20
        caplog.clear()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError("disk I/O error"), True),
        (DatabaseError("malformed"), True),
        (DataError("value too long"), False),
        (ValueError(), False),
    ],
)
def test_what_is_the_fault_of_the_database_and_what_of_the_data(error: Exception, expected: bool) -> None:
    assert is_out_of_service(error) == expected


def test_a_database_that_is_no_file_has_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "postgresql")
    assert sentence_of(OperationalError("gone")) == "The database cannot be used: gone."
    assert sentence_of(OperationalError("gone\nLINE 1: SELECT")) == "The database cannot be used: gone."
    name = quote(str(connection.settings_dict["NAME"]), safe="")
    assert spill_path() == settings.BASE_DIR / f"history-{name}.spill"


def test_one_in_a_folder_that_cannot_be_entered_is_not_said_to_be_gone(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Closed(elsewhere.name, monkeypatch):
        sentence = sentence_of(OperationalError("unable to open database file"), short=True)
    assert sentence == "The database own.sqlite3 cannot be used: unable to open database file."


@pytest.mark.parametrize(
    ("state", "words", "expected"),
    [
        ("55P03", "is locked by another program", False),  # which psycopg makes an OperationalError
        ("42P01", "lacks tables", True),
        ("25006", "is read-only now", True),  # a standby, or a server that was told so
        ("42501", "may not be written", True),
        ("XX001", "cannot be used: in its own words", True),
        ("22001", "cannot be used: in its own words", False),
        ("23505", "cannot be used: in its own words", False),
    ],
)
def test_what_postgresql_says_by_a_state_has_its_sentence(
    monkeypatch: pytest.MonkeyPatch, state: str, words: str, expected: bool
) -> None:
    monkeypatch.setattr(connection, "vendor", "postgresql")
    error = ProgrammingError("in its own words")
    error.__cause__ = cause = Exception()
    cause.sqlstate = state  # type: ignore[attr-defined]
    assert words in sentence_of(error)
    assert is_out_of_service(error) == expected


def test_a_reader_that_stays_leaves_no_large_log_behind(elsewhere: Path) -> None:
    limit = 64 << 20
    log = elsewhere.with_name(f"{elsewhere.name}-wal")
    with connection.cursor() as cursor, contextlib.closing(sqlite3.connect(elsewhere)) as reader:
        cursor.execute("CREATE TABLE large (data)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM large").fetchall()
        for _ in range(7):
            cursor.execute("INSERT INTO large VALUES (zeroblob(%s))", [10 << 20])
        assert log.stat().st_size > limit
        reader.rollback()
        cursor.execute("PRAGMA wal_checkpoint")
        cursor.execute("INSERT INTO large VALUES (1)")
        assert log.stat().st_size <= limit
