"""A database that is locked or away: nothing of the history is lost, and nothing waits for it for ever."""

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import F
from hypothesis import given
from hypothesis import strategies as st

from files_app.database import sentence_of
from files_app.history import recorder as recorder_module
from files_app.history import writer as writer_module
from files_app.history.recorder import Recorder
from files_app.history.spill import Line, Spill, spill_path
from files_app.models import File, ServerRun, Transfer
from fileserver import events
from fileserver.client.blocking import Client
from tests.files_app.conftest import locked_database, serving, settle, wait_for_locks
from tests.files_app.history.test_recorder import Tries, finished, record, started
from tests.servers import numbered_bytes, wait_until
from tests.stack import PROJECT, START_SECONDS, Stack

pytestmark = pytest.mark.usefixtures("database")

STORY: list[events.Event] = [
    Tries.began(1, 0),
    Tries.ended(1, 30, seconds=2.0),
    Tries.began(2, 30),
    Tries.ended(2, 60, seconds=3.0),
    started(3),
    finished(3, seconds=4.0),
    events.TransferVerified(3, "a.txt", True),
    Tries.began(4, 60),
    started(5),
    Tries.ended(4, 100, outcome="complete", error="", seconds=5.0),
    finished(5, outcome="aborted", error="stalled"),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BUSY_TIMEOUT", 0.02)
    monkeypatch.setattr(writer_module, "RETRY_PAUSES", (0.01,))
    monkeypatch.setattr(recorder_module, "WRITE_SECONDS", 0.3)


def put_aside(told: list[events.Event], written: int = 0) -> None:
    """Have a server write the first of these events, put aside the others, and end."""
    recorder = Recorder()
    recorder.register("")
    if written:
        assert recorder._writer.write(list(told[:written])) == []
    assert recorder._writer.put_aside(list(told[written:]), at_the_end=True) == []


def facts() -> list[tuple[object, ...]]:
    fields = ("name", "upload", "outcome", "error", "done", "seconds", "verified", "finished_at", "thread")
    return sorted(Transfer.objects.values_list(*fields), key=str)


class TestStop:
    def test_downloads_that_end_while_it_is_locked_are_complete_after_the_next_start(
        self, folder: Path, impatient: None, caplog: pytest.LogCaptureFixture
    ) -> None:
        (folder / "a.bin").write_bytes(numbered_bytes(1000))
        with contextlib.ExitStack() as lock, contextlib.ExitStack() as running:
            served = running.enter_context(serving(folder))
            with served.peer() as half:
                half.ask("PUT", name="half.txt", size=10)
                wait_until(Transfer.objects.filter(outcome="running").exists)
                lock.enter_context(locked_database())
                half.send(b"half")
            for _ in range(50):
                with served.client() as client:
                    assert b"".join(map(bytes, client.get("a.bin"))) == numbered_bytes(1000)
            wait_until(lambda: len(served.events.of(events.TransferFinished)) == 51)
            begun = time.monotonic()
            running.close()
            assert time.monotonic() - begun < 5
        assert Transfer.objects.exclude(outcome="running").count() == 0
        with serving(folder):
            rows = Transfer.objects.values_list("outcome", flat=True)
            assert sorted(rows) == ["aborted"] + ["complete"] * 50
        assert not spill_path().exists()
        assert "closed as interrupted" not in caplog.text
        caplog.clear()  # the errors in it hold on to a connection

    def test_start_waits_for_a_locked_database_and_a_second_signal_loses_nothing(
        self, tmp_path: Path
    ) -> None:
        stack = Stack(tmp_path)
        (stack.files / "a.bin").write_bytes(b"hello")
        with stack.log.open("wb") as log:
            command = [sys.executable, "-u", "manage.py", "start"]
            process = subprocess.Popen(
                command, cwd=PROJECT, env=stack.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_until(lambda: b"listening on http" in stack.log.read_bytes(), START_SECONDS)
            wait_until(lambda: b", serving " in stack.log.read_bytes(), START_SECONDS)
            with contextlib.closing(sqlite3.connect(stack.home / "db.sqlite3")) as other:
                other.execute("BEGIN EXCLUSIVE")
                for _ in range(50):
                    with Client("127.0.0.1", stack.server_port) as client:
                        assert b"".join(map(bytes, client.get("a.bin"))) == b"hello"
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM)
                wait_until(lambda: b"shutting down" in stack.log.read_bytes())
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
                took = time.monotonic() - begun
        finally:
            process.kill()
            process.wait()
        told = stack.log.read_text()
        assert took < recorder_module.STOP_SECONDS + 5
        assert "Traceback" not in told
        assert told.count("is locked by another program") == 1
        assert "50 events of the history wait in" in told
        try:
            stack.start_server()
            query = "SELECT outcome, count(*) FROM files_app_transfer GROUP BY outcome"
            with contextlib.closing(sqlite3.connect(stack.home / "db.sqlite3")) as database:
                wait_until(lambda: database.execute(query).fetchall() == [("complete", 50)])
        finally:
            stack.stop()

    def test_what_cannot_even_be_put_aside_is_said(
        self, impatient: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(spill: Spill, lines: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Spill, "append", full)
        recorder = Recorder()
        with locked_database():
            recorder.start()
            recorder(started(1))
            recorder(finished(1))
            recorder.stop()
        assert "1 events of the history cannot be put aside ([Errno 28] No space left" in caplog.text
        assert "they are lost" in caplog.text
        caplog.clear()

    def test_while_nothing_can_be_put_aside_that_is_said_once_and_all_is_kept(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorder = Recorder()
        items: list[Any] = [*map(started, range(2)), *map(finished, range(2))]
        append, full = Spill.append, OSError(28, "No space left on device")
        for told in (1, 2):  # once more when it comes back after it was over
            monkeypatch.setattr(Spill, "append", failing_first(append, *[full] * 3))
            for _ in range(3):
                assert recorder._writer.put_aside(items, at_the_end=False) == items
            assert recorder._writer.put_aside(items, at_the_end=False) == []
            assert caplog.text.count("cannot be put aside") == told

    def test_a_job_that_waits_at_the_end_is_settled(self, impatient: None) -> None:
        recorder, told = Recorder(), list[str]()
        with locked_database():
            recorder.start()
            recorder.submit(lambda: told.append("written"), lambda: told.append("settled"))
            recorder.stop()
        assert told[-1] == "settled"


class TestLongLock:
    def test_memory_is_bounded_and_all_is_written_as_soon_as_that_works(
        self, impatient: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer_module, "MAX_IN_MEMORY", 10)
        caplog.set_level(logging.INFO, "files_app")
        recorder = Recorder()
        recorder.start()
        try:
            recorder(started(1000, "long.bin"))
            settle(recorder)
            with locked_database():
                for number in range(500):
                    recorder(started(number, thread=f"T-{number}"))
                    recorder(events.TransferProgressed(1000, "long.bin", number, 1000, False, 1.0))
                    recorder(finished(number))
                    recorder(events.TransferVerified(number, "a.txt", number % 2 == 0))
                    if number % 50 == 49:  # all of it has left the memory
                        wait_until(lambda: kinds_in_the_file().count("TransferVerified") == number + 1)  # noqa: B023
                        assert recorder._queue.empty()
            wait_until(lambda: not spill_path().exists())
            recorder(finished(1000, "long.bin"))
        finally:
            recorder.stop()
        rows = Transfer.objects.filter(name="a.txt").values_list("thread", "outcome", "verified")
        expected = [(f"T-{n}", "failed" if n % 2 else "complete", n % 2 == 0) for n in range(500)]
        assert sorted(rows) == sorted(expected)
        assert Transfer.objects.get(name="long.bin").outcome == "complete"
        assert caplog.text.count("is locked by another program") == 1
        assert caplog.text.count("can be written again") == 1
        assert "Traceback" not in caplog.text
        caplog.clear()

    def test_after_some_time_endings_are_put_aside_however_few_there_are(
        self, impatient: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer_module, "SPILL_AFTER", 0.0)
        recorder = Recorder()
        recorder.start()
        try:
            with locked_database():
                recorder(started(1))
                recorder(finished(1))
                wait_until(lambda: kinds_in_the_file() == ["FinishedRow"])
            wait_until(lambda: Transfer.objects.filter(outcome="complete").count() == 1)
        finally:
            recorder.stop()


def failing_first(real: Any, *errors: Exception) -> Any:
    """``real``, but that it raises these errors first, one in each call."""
    left = list(errors)

    def function(*args: Any) -> Any:
        if left:
            raise left.pop()
        return real(*args)

    return function


def kinds_in_the_file() -> list[str]:
    if not spill_path().exists():
        return []
    return [type(line.item).__name__ for line in Spill(spill_path()).lines()]


class TestRecovery:
    @given(written=st.integers(0, len(STORY)))
    def test_however_much_was_put_aside_the_rows_are_the_same(self, written: int) -> None:
        Transfer.objects.all().delete()
        record(list(STORY))
        expected = facts()
        assert [row[2] for row in expected] == ["aborted", "complete", "complete"]
        assert {row[5] for row in expected} == {1.0, 4.0, 10.0}
        Transfer.objects.all().delete()
        put_aside(STORY, written)
        kept = spill_path().read_bytes() if spill_path().exists() else b""
        Recorder().recover()
        assert facts() == expected
        assert not spill_path().exists()
        spill_path().write_bytes(kept)  # as if the machine had died before it was removed
        Recorder().recover()
        assert facts() == expected

    def test_a_spilled_ending_finds_its_row_whatever_the_moment_it_began(self) -> None:
        """Of one moment in eight the microsecond is another one when it is rounded in another way."""
        moments = [1_795_692_213.0 + number * 0.6180339887 for number in range(200)]
        told = [started(number, at=at) for number, at in enumerate(moments)]
        put_aside([*told, *(finished(number) for number in range(200))], written=200)
        Recorder().recover()
        assert Transfer.objects.count() == 200
        assert Transfer.objects.filter(outcome="complete").count() == 200

    @pytest.mark.parametrize("micros", [-1, 1])
    def test_rows_that_an_older_version_rounded_in_another_way_are_found_too(self, micros: int) -> None:
        told = [started(number, at=time.time() + number) for number in range(20)]
        told.append(Tries.began(20, 0))
        put_aside([*told, *map(finished, range(20)), Tries.ended(20, 100)], written=21)
        other = timedelta(microseconds=micros)
        Transfer.objects.update(started_at=F("started_at") + other)
        spilled = spill_path().read_bytes()
        for _ in range(2):  # again, as by a server that died before it could remove the file
            spill_path().write_bytes(spilled)
            Recorder().recover()
            Transfer.objects.update(finished_at=F("finished_at") + other)
            other = timedelta(0)
        assert Transfer.objects.exclude(outcome="running").count() == Transfer.objects.count() == 21

    def test_what_half_a_write_left_in_the_file_is_not_written_twice(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on a disk that becomes full: what did not fit comes again, with all before it."""
        recorder = Recorder()
        recorder.register("")
        items: list[Any] = [*map(started, range(20)), *map(finished, range(20))]
        monkeypatch.setattr(os, "fsync", failing_first(os.fsync, OSError(28, "No space left on device")))
        items = recorder._writer.put_aside(items, at_the_end=False)
        assert len(items) == 40, "kept for another try"
        assert kinds_in_the_file() == []
        assert recorder._writer.put_aside(items, at_the_end=True) == []
        lines = spill_path().read_bytes()
        spill_path().write_bytes(lines + lines)  # where not even that could be taken back
        Recorder().recover()
        assert Transfer.objects.filter(outcome="complete").count() == Transfer.objects.count() == 20

    def test_while_the_file_cannot_be_read_what_comes_waits_behind_it(
        self, impatient: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        put_aside([started(1), finished(1)])
        lines = Spill.lines
        broken = OSError(24, "Too many open files")
        monkeypatch.setattr(Spill, "lines", failing_first(lines, *[broken] * 3))
        with pytest.raises(OperationalError) as refusal:
            Recorder().recover()
        assert sentence_of(refusal.value) == (
            f"{spill_path()}, which events wait in, cannot be read and removed: Too many open files."
        )
        recorder = Recorder()
        recorder.start()
        try:
            for number in (2, 3):
                recorder(started(number))
                recorder(finished(number))
            wait_until(lambda: Transfer.objects.filter(outcome="complete").count() == 3)
        finally:
            recorder.stop()
        assert caplog.text.count("which events wait in") == 1
        assert "left out of the history" not in caplog.text

    @pytest.mark.parametrize(
        ("before", "aside", "after", "expected"),
        [
            ([started(1)], [], [finished(1)], {"a.txt": "complete"}),
            ([started(1)], [finished(1)], [], {"a.txt": "complete"}),
            ([started(1), started(2, "b.txt")], [finished(1)], [], {"a.txt": "complete", "b.txt": "running"}),
            ([started(1), finished(1)], [], [events.TransferVerified(1, "a.txt", False)], {}),
        ],
        ids=["ends afterwards", "ended meanwhile", "one of two", "receipt"],
    )
    def test_a_database_that_does_not_know_the_run_is_another_one(
        self,
        before: list[Any],
        aside: list[Any],
        after: list[Any],
        expected: dict[str, str],
    ) -> None:
        """As a backup that is copied over the file, or restored in PostgreSQL: nothing else tells it."""
        recorder = Recorder()
        recorder.register("")
        writer = recorder._writer
        assert writer.write(before) == []
        if aside:
            assert writer.put_aside(aside, at_the_end=False) == []
        ServerRun.objects.all().delete()  # the backup has other transfers under the same keys
        Transfer.objects.update(name="old.bin", client="another", outcome="aborted", server=None)
        assert writer.write(after) == []
        assert writer.write([]) == []
        rows = Transfer.objects.exclude(name="old.bin").values_list("name", "outcome")
        assert sorted(rows) == sorted(expected.items())
        old = Transfer.objects.filter(name="old.bin").values_list("outcome", "client")
        assert set(old) == {("aborted", "another")}

    def test_what_two_servers_put_aside_is_kept_apart(self) -> None:
        put_aside([started(1, "a.txt"), finished(1, "a.txt")])
        put_aside([started(1, "b.txt", at=1_800_000_005.0), events.TransferVerified(1, "b.txt", False)])
        Recorder().recover()
        rows = {row.name: (row.outcome, row.verified) for row in Transfer.objects.all()}
        assert rows == {"a.txt": ("complete", None), "b.txt": ("running", None)}

    def test_a_receipt_finds_the_row_of_a_transfer_that_was_written(self) -> None:
        put_aside([started(1), finished(1), events.TransferVerified(1, "a.txt", True)], written=2)
        Recorder().recover()
        assert Transfer.objects.get().verified is True

    def test_a_receipt_changes_no_row_of_another_database(self) -> None:
        put_aside([started(1), finished(1), events.TransferVerified(1, "a.txt", False)], written=2)
        from files_app.models import ServerRun

        ServerRun.objects.all().delete()  # in that one nobody knows the server
        Recorder().recover()
        assert Transfer.objects.get().outcome == "complete"

    def test_a_damaged_line_costs_that_line_only(self, caplog: pytest.LogCaptureFixture) -> None:
        for number in range(5):
            put_aside([started(number, thread=f"T-{number}"), finished(number)])
        lines = spill_path().read_bytes().splitlines(keepends=True)
        lines[1] = b'{"run": "x", "kind": "Whole", "row": 0}\n'
        lines[2] = lines[2].replace(b'"size": 100', b'"size": 1' + b"0" * 30)
        lines[3] = lines[3][:40]
        spill_path().write_bytes(b"".join(lines[:4]))
        put_aside([started(4, thread="T-4"), finished(4)])  # behind half a line
        with caplog.at_level(logging.ERROR):
            Recorder().recover()
        assert sorted(Transfer.objects.values_list("thread", flat=True)) == ["T-0", "T-4"]
        assert "line 2 of" in caplog.text
        assert "line 4 of" in caplog.text
        assert "left out of the history: FinishedRow(id=2" in caplog.text
        assert not spill_path().exists()

    def test_what_is_known_of_files_is_put_aside_too(self, folder: Path) -> None:
        (folder / "new.txt").write_bytes(b"hello")
        told = events.FilePublished("new.txt", 5, 1.0, "etag", "abc", "ann")
        recorder = Recorder()
        recorder.listen(events.FilePublished, lambda event: None)
        assert recorder._writer.put_aside([told], at_the_end=True) == []
        with serving(folder):
            wait_until(File.objects.filter(name="new.txt", added_by="ann").exists)

    @pytest.mark.parametrize("item", STORY[6:8])
    def test_a_line_is_read_as_it_was_written(self, item: Any) -> None:
        line = Line("run", item, 7)
        assert Line.decode(line.encode()) == line

    def test_a_database_that_is_locked_again_keeps_the_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        put_aside([started(1), finished(1)])
        wait_for_locks(monkeypatch, 0.01)
        with locked_database(), pytest.raises(OperationalError, match="lock"):
            Recorder().recover()
        connection.close()
        assert kinds_in_the_file() == ["FinishedRow"]
        assert os.path.getsize(spill_path()) > 0
