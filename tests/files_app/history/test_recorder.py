"""The history: one row for each transfer, with the right ending, whatever happens to the database."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from files_app.history import batch as batch_module
from files_app.history import recorder as recorder_module
from files_app.history import rows as rows_module
from files_app.history import writer as writer_module
from files_app.history.batch import Batch
from files_app.history.recorder import Recorder
from files_app.hosting import assembly
from files_app.models import File, ServerRun, Transfer
from files_app.models.transfers import Record
from fileserver import events
from fileserver.limits import Limits
from fileserver.storage.writer import UploadWriter
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served, locked_database, serving, settle
from tests.servers import numbered_bytes, sha256, wait_until

pytestmark = pytest.mark.usefixtures("database")

BIG = 8 << 20  # bytes: more than fits into the buffers of a loopback connection that nobody reads


def started(number: int, name: str = "a.txt", **facts: Any) -> events.TransferStarted:
    usual: dict[str, Any] = {
        "direction": "download",
        "size": 100,
        "offset": 0,
        "length": 100,
        "client": "127.0.0.1:5000",
        "user": None,
        "via": "tcp",
        "thread": f"ClientThread-{number}",
        "pace": "",
        "at": 1_800_000_000.0,
    }
    return events.TransferStarted(id=number, name=name, **{**usual, **facts})


def finished(number: int, name: str = "a.txt", **facts: Any) -> events.TransferFinished:
    usual: dict[str, Any] = {
        "done": 100,
        "outcome": "complete",
        "error": "",
        "verified": None,
        "seconds": 1.0,
        "at": 1_800_000_001.0,
    }
    return events.TransferFinished(id=number, name=name, **{**usual, **facts})


class Tries:
    """What the server tells of one upload that goes on again and again, in this run and in later ones."""

    UPLOAD = "0123456789abcdef" * 2

    @staticmethod
    def began(number: int, done: int, **facts: Any) -> events.TransferStarted:
        usual = {"direction": "upload", "upload": Tries.UPLOAD, "done": done, "at": 1_800_000_000.0 + number}
        return started(number, "big.iso", **{**usual, **facts})

    @staticmethod
    def ended(number: int, done: int, **facts: Any) -> events.TransferFinished:
        usual = {"outcome": "aborted", "error": "disconnected", "at": 1_800_000_100.0 + number}
        return finished(number, **{"name": "big.iso", "done": done, **usual, **facts})


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.start()
    yield recorder
    recorder.stop()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "RETRY_PAUSES", (0.01,))
    monkeypatch.setattr(recorder_module, "BUSY_TIMEOUT", 0.02)


@pytest.fixture
def small(folder: Path) -> bytes:
    data = numbered_bytes(1000)
    (folder / "small.txt").write_bytes(data)
    return data


@pytest.fixture
def big(folder: Path) -> bytes:
    data = numbered_bytes(BIG)
    (folder / "big.bin").write_bytes(data)
    return data


# --- real transfers


class TestTcp:
    def test_a_whole_download_is_one_complete_row(self, small: bytes, served: Served) -> None:
        served.catalogued("small.txt")
        with served.client() as client:
            download = client.get("small.txt", offset=100)
            assert b"".join(map(bytes, download)) == small[100:]
            row = served.row_of(download.id)
        assert Transfer.objects.count() == 1
        assert (row.name, row.direction, row.via, row.outcome) == ("small.txt", "download", "tcp", "complete")
        assert (row.size, row.offset, row.length, row.done) == (1000, 100, 900, 900)
        assert (row.error, row.verified, row.user, row.pace) == ("", None, "", "")
        assert row.client.startswith("127.0.0.1:")
        assert row.file == File.objects.get(name="small.txt")
        assert row.finished_at is not None
        assert row.started_at <= row.finished_at

    def test_an_upload_is_one_complete_row_that_is_linked_to_its_file(self, served: Served) -> None:
        with served.peer() as peer:
            upload = peer.ask("PUT", name="new.txt", size=5)
            peer.send(b"hello")
            peer.end()
        row = served.row_of(upload["id"])
        assert Transfer.objects.count() == 1
        assert (row.direction, row.outcome, row.done) == ("upload", "complete", 5)
        assert row.file is not None
        assert row.file.sha256 == sha256(b"hello")

    def test_a_peer_that_goes_away_leaves_one_aborted_row(self, big: bytes, served: Served) -> None:
        with served.peer(receive_buffer=4096) as peer:
            header = peer.ask("GET", name="big.bin")
            peer.read(1000)
            peer.reset()
        row = served.row_of(header["id"])
        assert Transfer.objects.count() == 1
        assert (row.outcome, row.error) == ("aborted", "disconnected")
        assert 0 < row.done < len(big)

    def test_an_upload_that_breaks_off_is_one_aborted_row(self, served: Served) -> None:
        with served.peer() as peer:
            upload = peer.ask("PUT", name="half.txt", size=10)
            peer.send(b"half")
        row = served.row_of(upload["id"])
        assert (row.outcome, row.error, row.done, row.file) == ("aborted", "disconnected", 4, None)
        assert not File.objects.filter(name="half.txt").exists()

    def test_a_cancelled_download_is_one_cancelled_row(self, big: bytes, served: Served) -> None:
        with served.peer(receive_buffer=4096) as peer, served.client() as other:
            header = peer.ask("GET", name="big.bin")
            other.request("CANCEL", id=header["id"])
            row = served.row_of(header["id"])
        assert Transfer.objects.count() == 1
        assert (row.outcome, row.error) == ("cancelled", "")

    def test_a_file_that_changes_meanwhile_makes_one_failed_row(
        self, big: bytes, served: Served, folder: Path
    ) -> None:
        with served.peer(receive_buffer=4096) as peer:
            header = peer.ask("GET", name="big.bin")
            peer.read(1000)
            with (folder / "big.bin").open("ab") as file:
                file.write(b"more")
            peer.read(len(big) - 1000)
            assert peer.err()["code"] == "changed"
        row = served.row_of(header["id"])
        assert (row.outcome, row.error) == ("failed", "changed")
        assert Transfer.objects.count() == 1

    def test_an_upload_with_another_hash_is_one_failed_row(self, served: Served) -> None:
        with served.peer() as peer:
            upload = peer.ask("PUT", name="x.txt", size=5, sha256=sha256(b"other"))
            peer.send(b"hello")
            assert peer.err()["code"] == "checksum"
        row = served.row_of(upload["id"])
        assert (row.outcome, row.error, row.file) == ("failed", "checksum", None)

    def test_a_full_disk_makes_one_failed_row(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: UploadWriter, data: memoryview) -> None:
            raise ErrorReply("no-space", "The disk is full.")

        monkeypatch.setattr(UploadWriter, "write", refuse)
        with served.peer() as peer:
            upload = peer.ask("PUT", name="x.txt", size=5)
            peer.send(b"hello")
            assert peer.err()["code"] == "no-space"
        row = served.row_of(upload["id"])
        assert (row.outcome, row.error) == ("failed", "no-space")
        assert Transfer.objects.count() == 1

    def test_a_refused_request_makes_no_row(self, served: Served) -> None:
        with served.peer() as peer:
            assert peer.refusal(b"GET nothing.txt\n")["code"] == "not-found"
        served.settle()
        assert not Transfer.objects.exists()

    def test_a_right_receipt_makes_the_row_verified(self, small: bytes, served: Served) -> None:
        with served.client() as client:
            download = client.get("small.txt")
            list(download)
            assert client.request("RECEIPT", id=download.id, sha256=sha256(small))["verified"] is True
        row = served.row_of(download.id)
        assert (row.outcome, row.error, row.verified) == ("complete", "", True)

    def test_a_wrong_receipt_makes_the_row_failed(self, small: bytes, served: Served) -> None:
        with served.client() as client:
            download = client.get("small.txt")
            list(download)
            assert client.request("RECEIPT", id=download.id, sha256="0" * 64)["verified"] is False
        row = served.row_of(download.id)
        assert (row.outcome, row.error, row.verified) == ("failed", "checksum", False)
        assert Transfer.objects.count() == 1

    def test_a_server_that_shuts_down_ends_each_row(self, big: bytes, folder: Path) -> None:
        with serving(folder) as served, served.peer(receive_buffer=4096) as peer:
            header = peer.ask("GET", name="big.bin")
            served.server.shutdown(grace=0)
            served.events.ending(header["id"])
        row = Transfer.objects.get()
        assert (row.outcome, row.error) == ("aborted", "shutting-down")
        assert row.finished_at is not None


class TestTogether:
    def test_200_transfers_that_end_in_the_same_instant_are_200_rows(
        self, folder: Path, served: Served
    ) -> None:
        count, data = 200, numbered_bytes(200_000)
        (folder / "shared.bin").write_bytes(data)
        together = threading.Barrier(count)
        wrong: list[object] = []

        def fetch() -> None:
            try:
                with served.peer(receive_buffer=4096) as peer:
                    header = peer.ask("GET", name="shared.bin")
                    peer.read(1)
                    together.wait(30)
                    if peer.read(header["length"] - 1) != data[1:]:
                        wrong.append(header)
                    peer.end()
            except BaseException as error:
                wrong.append(error)
                together.abort()

        threads = [threading.Thread(target=fetch, name=f"Peer-{n}") for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        wait_until(lambda: len(served.events.of(events.TransferFinished)) == count, 30)
        served.settle()
        rows = Transfer.objects.all()
        assert rows.count() == count
        assert {(row.outcome, row.done) for row in rows} == {("complete", len(data))}
        assert len({row.thread for row in rows}) == count
        assert len({row.client for row in rows}) == count

    def test_a_row_is_running_until_its_end_and_never_afterwards(self, big: bytes, served: Served) -> None:
        with served.peer(receive_buffer=4096) as peer:
            header = peer.ask("GET", name="big.bin")
            wait_until(Transfer.objects.filter(outcome="running", finished_at=None).exists)
            peer.read(header["length"])
            peer.end()
            row = served.row_of(header["id"])
        assert row.outcome == "complete"
        assert not Transfer.objects.filter(outcome="running").exists()


# --- the database


class TestLockedDatabase:
    def test_a_locked_database_loses_nothing(
        self, quick_retries: None, recorder: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        with locked_database():
            for number in range(50):
                recorder(started(number))
                recorder(finished(number))
            wait_until(lambda: "is locked by another program" in caplog.text)
        settle(recorder)
        assert Transfer.objects.filter(outcome="complete").count() == 50
        caplog.clear()  # the errors in it hold on to a connection

    def test_a_sender_never_waits_for_the_database(self, recorder: Recorder) -> None:
        with locked_database():
            begun = time.monotonic()
            for number in range(1000):
                recorder(started(number))
            took = time.monotonic() - begun
        assert took < 1.0
        settle(recorder)
        assert Transfer.objects.count() == 1000

    def test_a_disk_that_is_full_in_the_middle_of_a_write_loses_nothing(
        self, recorder: Recorder, quick_retries: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recorder(started(1))
        settle(recorder)
        once = iter([True])
        write_progress = Batch._write_progress

        def full(batch: Any) -> None:
            write_progress(batch)
            if next(once, False):
                raise OperationalError("database or disk is full")

        monkeypatch.setattr(Batch, "_write_progress", full)
        recorder(finished(1))
        recorder(started(2))
        settle(recorder)
        assert Transfer.objects.get(thread="ClientThread-1").outcome == "complete"
        assert Transfer.objects.get(thread="ClientThread-2").outcome == "running"

    def test_what_is_submitted_and_the_end_wait_for_no_rest_between_two_batches(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recorder_module, "REST", 3600.0)
        recorder, done = Recorder(), threading.Event()
        recorder.start()
        try:
            for number in range(3):
                done.clear()
                recorder(started(number))
                recorder.submit(lambda: None, done.set)
                assert done.wait(10)
            recorder(finished(0))
        finally:
            recorder.stop()
        assert Transfer.objects.filter(outcome="complete").count() == 1

    def test_every_beginning_is_written_whether_the_writer_waits_writes_or_is_about_to_wait(
        self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recorder_module, "REST", 0.0)
        for number in range(300):
            recorder(started(number))
            if number % 3:
                wait_until(lambda: number in recorder._writer.rows.live)  # noqa: B023
        wait_until(lambda: len(recorder._writer.rows.live) == 300)
        assert Transfer.objects.filter(outcome="running").count() == 300

    def test_stop_writes_what_is_on_the_queue(self) -> None:
        recorder = Recorder()
        for number in range(5000):  # more than one batch
            recorder(started(number))
            recorder(finished(number))
        recorder.start()
        recorder.stop()
        assert Transfer.objects.filter(outcome="complete").count() == 5000


class TestPoison:
    def hold(self, recorder: Recorder) -> threading.Event:
        """Keep the writer busy until the event that is returned is set: what comes meanwhile is one batch."""
        busy, go = threading.Event(), threading.Event()

        def wait() -> None:
            busy.set()
            assert go.wait(10)

        recorder.submit(wait)
        assert busy.wait(10)
        return go

    @pytest.mark.parametrize(
        ("poison", "told"),
        [
            (started(3, size=2**70), "TransferStarted(id=3"),
            (finished(99, "never began"), "TransferFinished(id=99"),
        ],
        ids=["what no column takes", "an ending without a beginning"],
    )
    def test_a_poisonous_event_does_not_take_others_with_it(
        self, recorder: Recorder, caplog: pytest.LogCaptureFixture, poison: events.Event, told: str
    ) -> None:
        recorder(started(1))
        settle(recorder)
        go = self.hold(recorder)
        recorder(started(2))
        recorder(finished(1))
        recorder(poison)
        recorder(finished(2))
        go.set()
        settle(recorder)
        rows = {row.thread: row.outcome for row in Transfer.objects.all()}
        assert rows == {"ClientThread-1": "complete", "ClientThread-2": "complete"}
        assert f"left out of the history: {told}" in caplog.text

    def test_a_poisonous_job_does_not_take_others_with_it(
        self, recorder: Recorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        def poison() -> None:
            raise RuntimeError("poison")

        go = self.hold(recorder)
        recorder(started(1))
        recorder.submit(poison)
        recorder(finished(1))
        go.set()
        settle(recorder)
        assert [row.outcome for row in Transfer.objects.all()] == ["complete"]
        assert "poison" in caplog.text

    def test_a_job_is_settled_when_it_is_committed_at_last_or_left_out(
        self, recorder: Recorder, quick_retries: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[str] = []
        failures = iter([OperationalError("full"), OperationalError("full")])

        def fail_twice() -> None:
            told.append("written")
            transaction.on_commit(lambda: told.append("committed"))
            if failure := next(failures, None):
                raise failure

        def poison() -> None:
            raise RuntimeError("poison")

        recorder.submit(fail_twice, lambda: told.append("settled"))
        settle(recorder)
        recorder.submit(poison, lambda: told.append("left out"))
        settle(recorder)
        assert told == ["written"] * 3 + ["committed", "settled", "left out"]

    def test_a_transfer_that_ends_before_the_writer_has_seen_it_is_one_whole_row(
        self, recorder: Recorder
    ) -> None:
        File.objects.create(name="b.txt", size=1, mtime=datetime.fromtimestamp(0, UTC), etag="e")
        go = self.hold(recorder)
        recorder(started(1, "b.txt", offset=7, user="ann", pace="slow"))
        recorder(finished(1, "b.txt", done=50, outcome="aborted", error="stalled", verified=False))
        go.set()
        settle(recorder)
        row = Transfer.objects.get()
        assert (row.file, row.offset, row.user, row.pace) == (File.objects.get(), 7, "ann", "slow")
        assert (row.done, row.outcome, row.error, row.verified) == (50, "aborted", "stalled", False)
        assert (row.started_at.timestamp(), row.seconds) == (1_800_000_000.0, 1.0)
        assert recorder._begun == {}

    def test_many_items_are_followed_by_the_longer_rest(
        self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(recorder_module, "BUSY", 2)
        monkeypatch.setattr(recorder_module, "BUSY_REST", 3600.0)
        go = self.hold(recorder)
        recorder(started(1))
        recorder(started(2))
        go.set()
        wait_until(lambda: recorder._rested > time.monotonic() + 3000)
        assert Transfer.objects.filter(outcome="running").count() == 2
        recorder(finished(1))  # waits for the end of the rest, or for somebody who cannot
        settle(recorder)
        assert Transfer.objects.filter(outcome="complete").count() == 1

    def test_a_receipt_for_a_transfer_that_nobody_remembers_is_left_aside(self, recorder: Recorder) -> None:
        recorder(started(1))
        recorder(finished(1))
        recorder(events.TransferVerified(77, "a.txt", True))
        settle(recorder)
        assert Transfer.objects.get().verified is None

    def test_a_receipt_in_the_same_batch_as_its_transfer_finds_its_row(self, recorder: Recorder) -> None:
        go = self.hold(recorder)
        recorder(started(1))
        recorder(finished(1))
        recorder(events.TransferVerified(1, "a.txt", False))
        go.set()
        settle(recorder)
        row = Transfer.objects.get()
        assert (row.outcome, row.error, row.verified) == ("failed", "checksum", False)

    def test_only_so_many_ended_transfers_are_remembered(
        self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rows_module, "REMEMBERED", 3)
        for number in range(10):
            recorder(started(number))
            recorder(finished(number))
        settle(recorder)
        assert list(recorder._writer.rows.ended)[-3:] == [7, 8, 9]
        assert len(recorder._writer.rows.ended) <= 6
        assert recorder._writer.rows.live == {}
        assert recorder._writer.rows.progress == {}

    def test_a_second_ending_changes_nothing(self, recorder: Recorder) -> None:
        recorder(started(1))
        recorder(finished(1))
        settle(recorder)
        recorder(finished(1, outcome="aborted"))
        settle(recorder)
        assert Transfer.objects.get().outcome == "complete"


class TestBatch:
    def test_nothing_is_remembered_before_it_is_committed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(batch_module, "PROGRESS_WRITES", 3600.0)
        rows = rows_module.Rows()
        rows.progress_due = time.monotonic() - 1
        first = Batch(rows, {}, [started(1), started(2)], None)
        first.write()
        assert (rows.live, rows.ended, rows.progress) == ({}, {}, {})
        first.remember()
        assert list(rows.live) == [1, 2]
        told: list[Any] = [events.TransferProgressed(2, "a.txt", 40, 100, False, 1.5), finished(1)]
        before = (dict(rows.live), rows.progress_due)
        with transaction.atomic():
            Batch(rows, {}, told, None).write()
            transaction.set_rollback(True)
        assert (rows.live, rows.progress_due, rows.ended, rows.progress) == (*before, {}, {})
        assert Transfer.objects.get(thread="ClientThread-2").done == 0
        again = Batch(rows, {}, told, None)
        again.write()
        again.remember()
        assert (list(rows.live), list(rows.ended)) == ([2], [1])
        assert Transfer.objects.get(thread="ClientThread-2").done == 40
        later = Batch(rows, {}, [events.TransferProgressed(2, "a.txt", 50, 100, False, 2.5)], None)
        later.write()
        assert rows.progress == {}
        later.remember()
        assert list(rows.progress) == [2]  # not due: it waits for the next write


class TestProgress:
    def test_progress_is_written_while_a_transfer_runs(
        self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(batch_module, "PROGRESS_WRITES", 0.0)
        recorder(started(1))
        recorder(events.TransferProgressed(1, "a.txt", 40, 100, False, 1.5))
        settle(recorder)
        row = Transfer.objects.get()
        assert (row.done, row.outcome, row.seconds) == (40, "running", 1.5)

    def test_while_a_transfer_runs_there_is_a_sign_of_life_and_else_none(
        self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer_module, "SIGN_OF_LIFE", 0.02)
        recorder(started(1))
        settle(recorder)
        first = ServerRun.objects.get()
        wait_until(lambda: ServerRun.objects.get().seen_at > first.seen_at)
        recorder(finished(1))
        settle(recorder)
        assert ServerRun.objects.get().started_at == first.started_at
        assert recorder._writer.rows.live == {}  # so the writer waits without a limit

    def test_a_step_of_the_clock_changes_no_duration(self, recorder: Recorder) -> None:
        for number, step in enumerate((-3600.0, 25 * 3600.0, 0.0)):
            recorder(started(number, thread=f"T-{number}"))
            if number:
                settle(recorder)
            recorder(finished(number, seconds=2.0, at=1_800_000_000.0 + step))
        settle(recorder)
        rows = Transfer.objects.all()
        assert [(row.seconds, row.rate) for row in rows] == [(2.0, 50.0)] * 3

    def test_what_a_dead_server_left_running_is_closed_as_interrupted_at_the_next_start(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        at = datetime.fromtimestamp(1_800_000_000, UTC)
        facts = {"name": "x", "size": 9, "length": 9, "client": "c", "thread": "t", "started_at": at}
        left = Transfer.objects.create(direction="download", via="tcp", done=4, **facts)
        ended = Transfer.objects.create(
            direction="download", via="tcp", outcome="complete", finished_at=at, **facts
        )
        with caplog.at_level(logging.WARNING, "files_app"), serving(folder):
            left.refresh_from_db()
            ended.refresh_from_db()
        assert (left.outcome, left.done) == ("interrupted", 4)
        assert left.finished_at == at  # the last that is known, and never the next start
        assert (ended.outcome, ended.finished_at) == ("complete", at)
        assert "1 transfers were running" in caplog.text

    def test_a_row_that_was_closed_for_a_dead_server_still_gets_its_true_ending(
        self, recorder: Recorder
    ) -> None:
        recorder(started(1))
        settle(recorder)
        assert Transfer.objects.close_interrupted("") == 1
        assert Transfer.objects.get().outcome == "interrupted"
        recorder(finished(1))
        settle(recorder)
        row = Transfer.objects.get()
        assert (row.outcome, row.done, row.seconds) == ("complete", 100, 1.0)

    def test_the_start_of_a_second_server_leaves_the_rows_of_the_first_alone(
        self, folder: Path, tmp_path: Path, big: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # As on PostgreSQL, where a restart of the database lets a second one in.
        monkeypatch.setattr(assembly, "is_alone", lambda: False)
        (tmp_path / "other").mkdir()
        with serving(folder) as first, first.peer(receive_buffer=4096) as peer:
            header = peer.ask("GET", name="big.bin")
            wait_until(Transfer.objects.filter(outcome="running").exists)
            with serving(tmp_path / "other"):
                assert Transfer.objects.get().outcome == "running"
            peer.read(len(big))
            row = first.row_of(header["id"])
        assert (row.outcome, row.done) == ("complete", len(big))
        assert row.server == ServerRun.objects.get(name=str(folder))

    def test_every_row_says_which_server_it_is_of(self, recorder: Recorder) -> None:
        recorder.register("/srv/files")
        recorder(started(1))
        recorder(Tries.began(2, 0))
        settle(recorder)
        recorder(finished(1))
        recorder(started(3))
        recorder(finished(3))
        settle(recorder)
        assert {row.server and row.server.name for row in Transfer.objects.all()} == {"/srv/files"}
        again = Recorder()
        again.register("/srv/files")
        assert again._writer.write([Tries.began(1, 30)]) == []
        assert Transfer.objects.get(name="big.iso").server == ServerRun.objects.latest("pk")


class TestLinks:
    def test_a_transfer_outlives_its_file_with_the_link_kept_null(self, small: bytes, served: Served) -> None:
        served.catalogued("small.txt")
        with served.client() as client:
            download = client.get("small.txt")
            list(download)
            assert served.row_of(download.id).file is not None
            client.request("DELETE", name="small.txt")
        served.settle()
        row = Transfer.objects.get()
        assert (row.file, row.name, row.outcome) == (None, "small.txt", "complete")

    def test_only_whole_downloads_count(self, big: bytes, served: Served) -> None:
        served.catalogued("big.bin")
        with served.client() as client:
            for _ in range(2):
                list(client.get("big.bin"))
        with served.peer(receive_buffer=4096) as peer:
            header = peer.ask("GET", name="big.bin")
            peer.reset()
            served.events.ending(header["id"])
        served.settle()
        assert File.objects.with_downloads().get(name="big.bin").downloads == 2

    def test_long_fields_from_outside_fit_into_their_columns(self, recorder: Recorder) -> None:
        recorder(started(1, client="c" * 500, user="u" * 500))
        settle(recorder)
        row = Transfer.objects.get()
        assert (len(row.client), len(row.user)) == (100, 150)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="looks for the open file of the database")
def test_the_writer_leaves_no_connection_open(tmp_path: Path) -> None:
    def open_files() -> int:
        links = [os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
        targets = [os.readlink(link) for link in links if os.path.islink(link)]
        return sum(str(connection.settings_dict["NAME"]) in target for target in targets)

    before = open_files()
    recorder = Recorder()
    recorder.start()
    recorder(started(1))
    settle(recorder)
    assert open_files() > before
    recorder.stop()
    assert open_files() == before


def test_a_slow_peer_that_stalls_is_one_aborted_row(folder: Path, big: bytes) -> None:
    with serving(folder, Limits(stall=0.2)) as served, served.peer(receive_buffer=4096) as peer:
        header = peer.ask("GET", name="big.bin")
        row = served.row_of(header["id"])
    assert (row.outcome, row.error) == ("aborted", "stalled")


# --- uploads that go on


def record(*batches: list[events.Event]) -> None:
    """Write these events, each list in one transaction, with a recorder as after a start of the server."""
    recorder = Recorder()
    for batch in batches:
        left: list[Any] = list(batch)
        while left:
            left = recorder._writer.write(left)


def facts_of(row: Transfer) -> tuple[str, str, int, str]:
    return (row.outcome, row.error, row.done, row.thread)


class TestUploadsThatGoOn:
    STORY: list[events.Event] = [
        Tries.began(1, 0),
        events.TransferProgressed(1, "big.iso", 20, 100, False, 0.2),
        Tries.ended(1, 30),
        Tries.began(2, 30, client="127.0.0.1:6000", user="ann", via="web"),
        events.TransferProgressed(2, "big.iso", 50, 100, False, 0.2),
        Tries.ended(2, 60, error="stalled"),
        Tries.began(3, 60),
        Tries.ended(3, 100, outcome="complete", error="", name="big (1).iso"),
    ]

    @given(
        cuts=st.lists(st.booleans(), min_size=len(STORY) - 1, max_size=len(STORY) - 1),
        length=st.integers(1, 8),
    )
    def test_however_they_are_grouped_one_row_says_what_was_told_last(
        self, cuts: list[bool], length: int
    ) -> None:
        Transfer.objects.all().delete()
        batches: list[list[events.Event]] = [[]]
        for event, cut in zip(self.STORY[:length], [False, *cuts], strict=False):
            batches += [[]] if cut else []
            batches[-1].append(event)
        record(*batches)
        row = Transfer.objects.get()
        tries = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 3, 8: 3}[length]
        outcomes = {1: "running", 2: "running", 4: "running", 5: "running", 7: "running", 8: "complete"}
        errors = {3: "disconnected", 6: "stalled"}
        assert row.outcome == outcomes.get(length, "aborted")
        assert row.error == errors.get(length, "")
        assert (row.finished_at is None) == (row.outcome == "running")
        assert row.thread == f"ClientThread-{tries}"
        assert row.started_at.timestamp() == 1_800_000_001.0
        assert (row.offset, row.length, row.size) == (0, 100, 100)
        assert row.name == ("big (1).iso" if length == 8 else "big.iso")
        if length in (3, 4, 6, 7, 8):
            assert row.done == {3: 30, 4: 30, 6: 60, 7: 60, 8: 100}[length]
            # All tries together, whatever was written of each while it ran.
            assert row.seconds == {3: 1.0, 4: 1.0, 6: 2.0, 7: 2.0, 8: 3.0}[length]

    @given(cuts=st.lists(st.booleans(), min_size=3, max_size=3))
    def test_an_ending_that_comes_behind_the_next_beginning_does_not_end_the_row(
        self, cuts: list[bool]
    ) -> None:
        Transfer.objects.all().delete()
        story = [
            Tries.began(1, 0),
            Tries.began(2, 30),
            Tries.ended(1, 30),
            Tries.ended(2, 100, outcome="complete"),
        ]
        batches: list[list[events.Event]] = [[story[0]]]
        for event, cut in zip(story[1:], cuts, strict=True):
            batches += [[]] if cut else []
            batches[-1].append(event)
        record(*batches)
        assert facts_of(Transfer.objects.get())[0::2] == ("complete", 100)

    @pytest.mark.parametrize("done", [0, 30])
    def test_what_a_crash_left_open_is_closed_and_reopened(self, done: int) -> None:
        record([Tries.began(1, 0)])
        assert Transfer.objects.close_interrupted("") == 1
        closed = Transfer.objects.get()
        assert (closed.outcome, closed.finished_at is None) == ("interrupted", False)
        record([Tries.began(1, done)])
        again = Transfer.objects.get()
        assert (again.pk, again.outcome, again.finished_at, again.done) == (closed.pk, "running", None, done)
        record([Tries.began(1, done), Tries.ended(1, 100, outcome="complete", error="")])
        assert facts_of(Transfer.objects.get()) == ("complete", "", 100, "ClientThread-1")

    def test_the_file_of_the_last_name_is_linked(self) -> None:
        record([Tries.began(1, 0), Tries.ended(1, 30)])
        facts = {"mtime": datetime(2026, 1, 1, tzinfo=UTC), "etag": "e", "content_type": "x"}
        file = File.objects.create(name="big (1).iso", size=100, **facts)
        record([Tries.began(1, 30), Tries.ended(1, 100, outcome="complete", error="", name=file.name)])
        assert Transfer.objects.get().file == file

    def test_two_uploads_of_one_name_are_two_rows(self) -> None:
        record(
            [Tries.began(1, 0), Tries.began(2, 0, upload="f" * 32)], [Tries.ended(1, 30), Tries.ended(2, 40)]
        )
        assert sorted(Transfer.objects.values_list("done", flat=True)) == [30, 40]

    def test_uploads_and_downloads_without_an_id_are_rows_of_their_own(self) -> None:
        record([started(1), started(2)], [started(3), finished(1), finished(2), finished(3)])
        assert Transfer.objects.filter(outcome="complete").count() == 3

    def test_a_database_that_fails_meanwhile_makes_no_second_row(
        self, monkeypatch: pytest.MonkeyPatch, quick_retries: None
    ) -> None:
        insert = Transfer.objects.record
        failures = iter([OperationalError("locked"), None, OperationalError("locked"), None])

        def fails_now_and_then(rows: list[Record], files: dict[str, int], server: int) -> list[int]:
            found = insert(rows, files, server)
            if error := next(failures):
                raise error
            return found

        monkeypatch.setattr(Transfer.objects, "record", fails_now_and_then)
        record([Tries.began(1, 0), Tries.ended(1, 30)], [Tries.began(2, 30), Tries.ended(2, 60)])
        assert facts_of(Transfer.objects.get()) == ("aborted", "disconnected", 60, "ClientThread-2")

    def test_a_batch_of_many_uploads_asks_once_for_their_rows(
        self, django_assert_max_num_queries: Any
    ) -> None:
        uploads = [f"{number:032x}" for number in range(500)]
        record([Tries.began(n, 0, upload=upload) for n, upload in enumerate(uploads)])
        with django_assert_max_num_queries(16):
            record([Tries.began(n, 10, upload=upload) for n, upload in enumerate(uploads)])
        assert Transfer.objects.filter(done=10, outcome="running").count() == 500
