"""The rows agree with the folder: at the start, after each change, and after what others do to it by hand."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from files_app.history import catalogue as catalogue_module
from files_app.history import writer as writer_module
from files_app.history.batch import Batch
from files_app.history.catalogue import Catalogue
from files_app.history.recorder import Recorder
from files_app.models import File, Transfer
from fileserver.events import FileDeleted, FilePublished
from fileserver.storage.folder import Storage
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served, serving
from tests.files_app.history.test_recorder import finished, started
from tests.servers import no_descriptor_left, sha256, wait_until

pytestmark = pytest.mark.usefixtures("database")


def names() -> list[str]:
    return list(File.objects.values_list("name", flat=True))


class Announced:
    """What the catalogue has announced; ``wait_for`` a number of files."""

    def __init__(self) -> None:
        self.counts: list[int | None] = []
        self.rows: list[int] = []  # what somebody else saw in the database at that moment

    def __call__(self, count: int | None) -> None:
        self.counts.append(count)
        seen: list[int] = []
        reader = threading.Thread(target=_count_rows, args=(seen,))
        reader.start()
        reader.join()
        self.rows += seen


def _count_rows(seen: list[int]) -> None:
    try:
        seen.append(File.objects.count())
    finally:
        connections.close_all()


@pytest.fixture
def hurry(quick_looks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_module, "SHARE", 0)


class TestStart:
    def test_files_that_are_there_at_the_start_are_catalogued(self, folder: Path, quick_looks: None) -> None:
        (folder / "week 3").mkdir()
        (folder / "week 3" / "slides.pdf").write_bytes(b"%PDF")
        (folder / "notes.txt").write_bytes(b"hello")
        os.utime(folder / "notes.txt", (1_700_000_000, 1_700_000_000))
        with serving(folder) as served:
            wait_until(lambda: names() == ["notes.txt", "week 3/slides.pdf"])
            wait_until(lambda: served.server.registry.files == 2)
            entry = served.storage.stat("notes.txt")
        row = File.objects.get(name="notes.txt")
        assert (row.size, row.mtime.timestamp(), row.etag) == (5, 1_700_000_000, entry.etag)
        assert (row.sha256, row.content_type, row.added_by) == ("", "text/plain", "")
        assert File.objects.get(name="week 3/slides.pdf").content_type == "application/pdf"

    def test_rows_of_files_that_went_while_the_server_was_down_go_at_the_start(
        self, folder: Path, quick_looks: None
    ) -> None:
        for name in ("stays.txt", "goes.txt"):
            (folder / name).write_bytes(b"x")
        with serving(folder):
            wait_until(lambda: len(names()) == 2)
        (folder / "goes.txt").unlink()
        with serving(folder):
            wait_until(lambda: names() == ["stays.txt"])

    def test_the_number_of_files_is_known_after_a_restart_without_changes(
        self, folder: Path, quick_looks: None
    ) -> None:
        (folder / "a.txt").write_bytes(b"x")
        with serving(folder):
            wait_until(names)
        with serving(folder) as served:
            assert wait_until(lambda: served.server.registry.files) == 1

    def test_a_hash_is_remembered_after_a_restart(self, folder: Path, quick_looks: None) -> None:
        with serving(folder) as served, served.peer() as peer:
            peer.ask("PUT", name="a.txt", size=5)
            peer.send(b"hello")
            peer.end()
        assert File.objects.get().sha256 == sha256(b"hello")
        with serving(folder) as served, served.client() as client:
            assert wait_until(lambda: client.request("STAT", name="a.txt")["sha256"]) == sha256(b"hello")

    def test_the_hash_of_another_state_of_the_file_is_not_remembered(
        self, folder: Path, quick_looks: None
    ) -> None:
        with serving(folder) as served, served.peer() as peer:
            peer.ask("PUT", name="a.txt", size=5)
            peer.send(b"hello")
            peer.end()
        (folder / "a.txt").write_bytes(b"HELLO")
        with serving(folder) as served, served.client() as client:
            wait_until(lambda: File.objects.filter(sha256="").exists())
            assert client.request("STAT", name="a.txt")["sha256"] is None


class TestByHand:
    def test_a_file_that_somebody_copies_into_the_folder_appears(self, served: Served) -> None:
        (served.folder / "copied.txt").write_bytes(b"hello")
        assert served.catalogued("copied.txt").size == 5
        wait_until(lambda: served.server.registry.files == 1)

    def test_a_file_that_somebody_changes_gets_another_etag_and_its_hash_is_unknown(
        self, served: Served
    ) -> None:
        with served.peer() as peer:
            peer.ask("PUT", name="a.txt", size=5)
            peer.send(b"hello")
            peer.end()
        served.settle()
        before = served.catalogued("a.txt")
        assert before.sha256
        (served.folder / "a.txt").write_bytes(b"longer than before")
        after = wait_until(File.objects.filter(size=18).first)
        assert after.pk == before.pk
        assert after.etag != before.etag
        assert after.sha256 == ""

    def test_what_happens_before_the_catalogue_has_looked_counts_all_the_same(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalogue_module, "INTERVAL", 1.0)
        with serving(folder) as served, served.client() as client:
            wait_until(lambda: served.server.registry.files == 0)
            (folder / "new.txt").write_bytes(b"hello")
            download = client.get("new.txt")
            assert b"".join(map(bytes, download)) == b"hello"
            client.request("RECEIPT", id=download.id, sha256=sha256(b"hello"))
            assert not names(), "it is about a file without a row"
            served.catalogued("new.txt")
            served.settle()
        row = File.objects.with_downloads().get()
        assert (row.downloads, row.sha256) == (1, sha256(b"hello"))

    def test_the_row_of_a_file_that_somebody_removes_goes(self, served: Served) -> None:
        served.put("a.txt", b"x")
        served.put("b.txt", b"x")
        (served.folder / "a.txt").unlink()
        wait_until(lambda: names() == ["b.txt"])

    def test_a_file_that_becomes_a_folder_makes_room_for_what_is_in_it(self, served: Served) -> None:
        served.put("a", b"x")
        (served.folder / "a").unlink()
        served.put("a/b.txt", b"x")
        wait_until(lambda: names() == ["a/b.txt"])

    def test_hidden_things_links_and_unsafe_names_have_no_row(self, served: Served, tmp_path: Path) -> None:
        outside = tmp_path / "outside.txt"
        outside.write_bytes(b"secret")
        (served.folder / ".hidden").write_bytes(b"x")
        (served.folder / "link.txt").symlink_to(outside)
        (served.folder / "new\nline").write_bytes(b"x")
        served.put("z.txt", b"x")
        assert names() == ["z.txt"]

    def test_a_thousand_files_are_more_than_one_statement_and_all_there(
        self, served: Served, hurry: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalogue_module, "WRITE_BATCH", 100)
        for number in range(1000):
            (served.folder / f"{number:04}.txt").write_bytes(b"x")
        wait_until(lambda: File.objects.count() == 1000, 20)
        for number in range(0, 1000, 2):
            (served.folder / f"{number:04}.txt").unlink()
        wait_until(lambda: File.objects.count() == 500, 20)

    def test_a_file_dated_beyond_the_calendar_keeps_no_other_file_out(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stat = Storage.stat

        def dated(self: Storage, name: str) -> Any:
            entry = stat(self, name)
            far = {"future.txt": 1e13, "past.txt": -1e13}.get(name, entry.mtime)
            return type(entry)(entry.name, entry.size, far, entry.etag)

        monkeypatch.setattr(Storage, "stat", dated)
        for name in ("future.txt", "normal.txt", "past.txt"):
            (served.folder / name).write_bytes(b"x")
        wait_until(lambda: names() == ["future.txt", "normal.txt", "past.txt"])
        assert File.objects.get(name="future.txt").mtime.year == 9999
        assert File.objects.get(name="past.txt").mtime.year == 1970

    def test_a_folder_that_cannot_be_read_for_a_while_does_not_end_the_looks(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        entries = Storage.entries

        def broken(*args: Any, **asked: Any) -> Any:
            raise OSError("the disk is away")

        monkeypatch.setattr(Storage, "entries", broken)
        wait_until(lambda: "could not be compared" in caplog.text)
        monkeypatch.setattr(Storage, "entries", entries)
        served.put("a.txt", b"x")


FACTS = ("pk", "size", "mtime", "etag", "sha256", "content_type", "added_at", "added_by")


def facts(name: str) -> dict[str, Any]:
    """All that is known of a file, with its downloads and the rows of the history that lead to it."""
    return {
        **File.rows.filter(name=name).values(*FACTS).get(),
        "downloads": File.rows.with_downloads().get(name=name).downloads,
        "history": list(Transfer.objects.filter(name=name, file__name=name).values_list("pk", flat=True)),
    }


def known_file(served: Served, name: str = "week/a.txt") -> dict[str, Any]:
    """A file with a hash, an owner, an upload and a download in the history."""
    with served.peer() as peer:
        peer.ask("PUT", name=name, size=5)
        peer.send(b"hello")
        peer.end()
    with served.client() as client:
        download = client.get(name)
        list(download)
    served.row_of(download.id)
    File.rows.filter(name=name).update(added_by="ann")
    found = facts(name)
    assert found["sha256"] == sha256(b"hello")
    assert (found["downloads"], len(found["history"])) == (1, 2)
    return found


def looked(served: Served) -> None:
    """Return when the catalogue has looked at the folder once more, from start to end, and written it."""
    path = served.folder / "looked.txt"
    path.write_bytes(b"x")
    wait_until(lambda: File.objects.filter(name="looked.txt").exists())
    path.unlink()
    wait_until(lambda: not File.objects.filter(name="looked.txt").exists())


class TestAway:
    """Not readable is not empty, and what has vanished by itself may come back."""

    def test_a_folder_that_is_away_for_a_moment_changes_nothing(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = known_file(served)
        away = served.folder.with_name("away")
        served.folder.rename(away)
        with caplog.at_level(logging.INFO):
            wait_until(lambda: "The catalogue keeps what it knows" in caplog.text)
            assert names() == ["week/a.txt"]
            away.rename(served.folder)
            wait_until(lambda: "the folder can be read again" in caplog.text)
        looked(served)
        assert facts("week/a.txt") == before
        assert caplog.text.count("The catalogue keeps what it knows") == 1
        assert "Traceback" not in caplog.text

    def test_a_folder_that_is_removed_and_restored_brings_all_back_that_was_known(
        self, served: Served
    ) -> None:
        before = known_file(served)
        away = served.folder.with_name("away")
        served.folder.rename(away)
        served.folder.mkdir()  # as a place to mount on, from which the disk is missing
        wait_until(lambda: not names())
        wait_until(lambda: served.server.registry.files == 0)
        served.folder.rmdir()
        away.rename(served.folder)
        wait_until(lambda: names() == ["week/a.txt"])
        assert facts("week/a.txt") == before
        wait_until(lambda: served.server.registry.files == 1)
        with served.client() as client:
            assert client.request("STAT", name="week/a.txt")["sha256"] == before["sha256"]

    @pytest.mark.skipif(sys.platform == "win32", reason="a limit of POSIX")
    def test_a_lack_of_descriptors_makes_no_file_gone(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = known_file(served)
        with no_descriptor_left():
            wait_until(lambda: "Too many open files" in caplog.text)
        looked(served)
        assert facts("week/a.txt") == before

    @pytest.mark.parametrize("number", [5, 13])
    def test_a_part_that_cannot_be_read_keeps_its_rows_and_the_rest_is_compared(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        before = known_file(served)
        served.put("b.txt", b"x")
        scandir, closed = os.scandir, (served.folder / "week").stat()

        def refusing(path: Any = ".") -> Any:
            if isinstance(path, int) and os.path.samestat(os.fstat(path), closed):
                raise OSError(number, os.strerror(number))
            return scandir(path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", refusing)
            (served.folder / "b.txt").unlink()
            wait_until(lambda: names() == ["week/a.txt"])
            looked(served)
            assert facts("week/a.txt") == before
            assert names() == ["week/a.txt"]

    def test_a_file_that_cannot_be_looked_at_when_its_row_is_written_is_not_gone(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(folder, 2)
        with cataloguing(folder) as (catalogue, _):
            catalogue._look()
            stat = Storage.stat

            def failing(storage: Storage, name: str) -> Any:
                if name == "0000.txt":
                    raise ErrorReply("internal", "The server's disk failed.")
                return stat(storage, name)

            for path in folder.iterdir():
                path.unlink()
            monkeypatch.setattr(Storage, "stat", failing)
            catalogue._look()
        assert names() == ["0000.txt"]

    def test_a_disk_that_was_missing_at_a_start_brings_all_back(
        self, folder: Path, quick_looks: None
    ) -> None:
        with serving(folder) as served:
            before = known_file(served)
        away = folder.with_name("away")
        folder.rename(away)
        folder.mkdir()
        with serving(folder) as served:
            wait_until(lambda: served.server.registry.files == 0)
            assert (names(), File.objects.count()) == ([], 0)
            folder.rmdir()
            away.rename(folder)
            wait_until(lambda: names() == ["week/a.txt"])
            assert facts("week/a.txt") == before
            with served.client() as client:
                assert client.request("STAT", name="week/a.txt")["sha256"] == before["sha256"]

    def test_a_copy_that_is_put_back_has_all_but_the_hash_of_the_other_one(self, served: Served) -> None:
        before = known_file(served)
        path = served.folder / "week" / "a.txt"
        path.unlink()
        wait_until(lambda: not names())
        path.write_bytes(b"hello")
        wait_until(lambda: names() == ["week/a.txt"])
        after = facts("week/a.txt")
        assert (after["sha256"], after["etag"] != before["etag"]) == ("", True)
        for fact in ("pk", "added_at", "added_by", "downloads", "history"):
            assert after[fact] == before[fact]

    def test_what_a_client_deletes_is_forgotten_at_once(self, served: Served) -> None:
        known_file(served)
        with served.client() as client:
            client.request("DELETE", name="week/a.txt")
        wait_until(lambda: not File.rows.exists())

    def test_new_rights_are_no_new_file(self, served: Served) -> None:
        before = known_file(served)
        (served.folder / "week" / "a.txt").chmod(0o600)
        wait_until(lambda: File.objects.get().etag != before["etag"])
        after = facts("week/a.txt")
        assert after["sha256"] == ""  # nobody can tell whether it was written to as well
        for fact in ("pk", "size", "mtime", "added_at", "added_by", "downloads", "history"):
            assert after[fact] == before[fact]

    def test_a_write_whose_time_is_put_back_makes_the_hash_unknown(self, served: Served) -> None:
        before = known_file(served)
        path = served.folder / "week" / "a.txt"
        times = path.stat()
        with path.open("r+b") as file:
            file.write(b"HELLO")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        wait_until(lambda: File.objects.get().sha256 == "")
        with served.client() as client:
            assert client.request("STAT", name="week/a.txt")["sha256"] is None
        assert facts("week/a.txt")["mtime"] == before["mtime"]

    def test_a_row_of_a_version_without_the_moment_of_change_keeps_all(
        self, folder: Path, quick_looks: None
    ) -> None:
        with serving(folder) as served:
            before = known_file(served)
        older = before["etag"].rpartition("-")[0]
        assert older.count("-") == 2
        File.rows.update(etag=older)
        with serving(folder) as served, served.client() as client:
            wait_until(lambda: File.objects.get().etag == before["etag"])
            assert facts("week/a.txt") == before
            assert client.request("STAT", name="week/a.txt")["sha256"] == before["sha256"]

    def test_a_row_of_such_a_version_whose_file_is_another_by_now_has_no_hash(
        self, folder: Path, quick_looks: None
    ) -> None:
        with serving(folder) as served:
            older = known_file(served)["etag"].rpartition("-")[0]
        File.rows.update(etag=older)
        (folder / "week" / "a.txt").write_bytes(b"HELLO")
        with serving(folder):
            wait_until(lambda: File.objects.filter(sha256="").exists())


class TestGoneForLong:
    def test_rows_of_files_that_are_gone_for_longer_than_the_setting_go(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, settings: Any
    ) -> None:
        monkeypatch.setattr(catalogue_module, "WRITE_BATCH", 3)
        settings.GONE_FILE_DAYS = 2.0
        fill(folder, 10)
        now = timezone.now()
        with cataloguing(folder) as (catalogue, _):
            catalogue._look()
            for number in range(8):
                (folder / f"{number:04}.txt").unlink()
            catalogue._look()
            old = [f"{number:04}.txt" for number in range(7)]
            File.rows.filter(name__in=old).update(gone_at=now - timedelta(days=2, seconds=1))
            File.rows.filter(name="0007.txt").update(gone_at=now - timedelta(days=1.9))
            catalogue._purge_due = 0.0
            left = []
            for _ in range(4):  # some at a time, each in a transaction of its own
                catalogue._look()
                left.append(File.rows.count())
            assert left == [7, 4, 3, 3]
            assert set(File.rows.values_list("name", flat=True)) == {"0007.txt", "0008.txt", "0009.txt"}
            assert catalogue._purge_due > time.monotonic() + catalogue_module.PURGE_INTERVAL / 2

    def test_a_file_that_is_there_is_never_purged(self, folder: Path, settings: Any) -> None:
        settings.GONE_FILE_DAYS = 0.0
        fill(folder, 3)
        with cataloguing(folder) as (catalogue, _):
            catalogue._look()
            catalogue._purge_due = 0.0
            catalogue._look()
        assert File.rows.count() == 3


class TestClients:
    def test_an_upload_is_catalogued_with_its_hash(self, served: Served) -> None:
        with served.peer() as peer:
            peer.ask("PUT", name="a.txt", size=5)
            peer.send(b"hello")
            peer.end()
        served.settle()
        row = served.catalogued("a.txt")
        assert (row.size, row.sha256) == (5, sha256(b"hello"))

    def test_an_upload_that_replaces_a_file_keeps_its_row(self, served: Served) -> None:
        served.put("a.txt", b"old")
        before = File.objects.get()
        with served.peer() as peer:
            peer.ask("PUT", name="a.txt", size=5, exists="replace")
            peer.send(b"hello")
            peer.end()
        served.settle()
        after = File.objects.get()
        assert (after.pk, after.sha256) == (before.pk, sha256(b"hello"))

    def test_a_deleted_file_has_no_row(self, served: Served) -> None:
        served.put("a.txt", b"x")
        with served.client() as client:
            client.request("DELETE", name="a.txt")
        wait_until(lambda: not names())
        wait_until(lambda: served.server.registry.files == 0)

    def test_a_receipt_makes_the_hash_of_a_copied_file_known(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        with served.client() as client:
            download = client.get("a.txt")
            list(download)
            client.request("RECEIPT", id=download.id, sha256=sha256(b"hello"))
        wait_until(lambda: File.objects.get().sha256 == sha256(b"hello"))

    def test_no_row_is_lost_and_no_hash_forgotten_when_uploads_race_the_looks(
        self, served: Served, hurry: None
    ) -> None:
        count, wrong = 60, []

        def upload(first: int) -> None:
            try:
                with served.peer() as peer:
                    for number in range(first, count, 4):
                        data = b"%d" % number
                        peer.ask("PUT", name=f"{number}.txt", size=len(data))
                        peer.send(data)
                        peer.end()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=upload, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        wait_until(lambda: File.objects.exclude(sha256="").count() == count)
        for row in File.objects.all():
            assert row.sha256 == sha256(row.name.removesuffix(".txt").encode())

    def test_an_upload_that_a_look_saw_first_still_gets_its_hash(self, folder: Path) -> None:
        """The file is there before the server tells of it: between the two a look may come."""
        (folder / "a.txt").write_bytes(b"hello")
        recorder = Recorder()
        with Storage(folder) as storage:
            catalogue = Catalogue(storage, recorder, lambda count: None)
            entry = storage.stat("a.txt")
            recorder.submit(lambda: catalogue._reconcile(["a.txt"], True))
            recorder(
                FilePublished(
                    entry.name, entry.size, entry.mtime, entry.etag, sha256=sha256(b"hello"), user=None
                )
            )
            recorder.submit(lambda: catalogue._reconcile(["a.txt"], True))
            recorder.start()
            recorder.stop()
        assert File.objects.get().sha256 == sha256(b"hello")
        assert catalogue._known == {"a.txt": entry.etag}

    def test_a_late_word_of_a_deletion_is_put_right_by_the_next_look(self, served: Served) -> None:
        served.put("a.txt", b"x")
        served.recorder(FileDeleted("a.txt", "client", None))
        served.settle()
        served.catalogued("a.txt")


@contextlib.contextmanager
def cataloguing(folder: Path, announce: Any = lambda count: None) -> Iterator[tuple[Catalogue, Recorder]]:
    """A catalogue that has not begun yet, and its recorder, which runs."""
    recorder = Recorder()
    with Storage(folder) as storage:
        catalogue = Catalogue(storage, recorder, announce)
        recorder.start()
        try:
            yield catalogue, recorder
        finally:
            recorder.stop()


def fill(folder: Path, count: int, first: int = 0) -> None:
    for number in range(first, count):
        (folder / f"{number:04}.txt").write_bytes(b"x")


class TestManyFiles:
    def test_the_server_serves_while_the_first_look_goes_on(
        self, folder: Path, quick_looks: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(folder, 5)
        entries = Storage.entries
        looking, go = threading.Event(), threading.Event()

        def held_up(self: Storage, **asked: Any) -> Any:
            for entry in entries(self, **asked):
                looking.set()
                assert go.wait(10)
                yield entry

        monkeypatch.setattr(Storage, "entries", held_up)
        with serving(folder) as served, served.client() as client:
            try:
                assert looking.wait(10)
                assert client.request("PING")["protocol"] == "CFS/1"
                assert b"".join(client.get("0003.txt")) == b"x"
                served.settle()
                assert (names(), served.server.registry.files) == ([], None)
            finally:
                go.set()
            wait_until(lambda: served.server.registry.files == 5)
        assert len(names()) == 5

    def test_the_history_gets_its_turn_between_two_batches(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a client does meanwhile is written behind the batch that runs, not behind all."""
        monkeypatch.setattr(catalogue_module, "WRITE_BATCH", 10)
        fill(folder, 50)
        rows: list[tuple[int, int]] = []  # of files and of transfers, as each batch begins
        with cataloguing(folder) as (catalogue, recorder):
            reconcile = catalogue._reconcile

            def batch(*args: Any) -> None:
                rows.append((File.objects.count(), Transfer.objects.count()))
                if len(rows) == 2:
                    recorder(started(1))
                    recorder(finished(1))
                reconcile(*args)

            monkeypatch.setattr(catalogue, "_reconcile", batch)
            catalogue._look()
        assert [files for files, _ in rows] == [0, 10, 20, 30, 40]
        assert [transfers for _, transfers in rows[3:]] == [1, 1]
        assert len(names()) == 50

    def test_a_look_gives_way_to_the_threads_that_serve(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalogue_module, "LOOK_BATCH", 10)
        fill(folder, 50)
        rests: list[float] = []
        with cataloguing(folder) as (catalogue, _):
            monkeypatch.setattr(catalogue._stopping, "wait", rests.append)
            assert len(catalogue._differing()) == 50
        assert rests == [catalogue_module.BREATH] * 5

    def test_a_look_that_is_stopped_in_the_middle_takes_no_file_for_gone(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalogue_module, "LOOK_BATCH", 10)
        fill(folder, 50)
        seen = []
        with cataloguing(folder) as (catalogue, _):
            catalogue._look()
            entries = catalogue._storage.entries

            def stopping(**asked: Any) -> Any:
                for entry in entries(**asked):
                    seen.append(entry.name)
                    if len(seen) == 15:
                        catalogue._stopping.set()
                    yield entry

            monkeypatch.setattr(catalogue._storage, "entries", stopping)
            catalogue._look()
        assert len(seen) < 50
        assert len(names()) == 50

    def test_the_number_is_unknown_until_the_first_look_is_written_whole(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(catalogue_module, "WRITE_BATCH", 10)
        fill(folder, 35)
        announced = Announced()
        with cataloguing(folder, announced) as (catalogue, _):
            catalogue._look()
            fill(folder, 50, first=35)
            catalogue._look()
        assert announced.counts == [None, None, None, 35, 45, 50]
        assert announced.rows == [10, 20, 30, 35, 45, 50]


class TestAnnouncements:
    def test_what_is_announced_is_in_the_database_already(self, folder: Path, quick_looks: None) -> None:
        announced, recorder = Announced(), Recorder()
        (folder / "a.txt").write_bytes(b"x")
        with Storage(folder) as storage:
            catalogue = Catalogue(storage, recorder, announced)
            recorder.start()
            catalogue.start()
            try:
                wait_until(lambda: 1 in announced.counts)
                (folder / "b.txt").write_bytes(b"x")
                wait_until(lambda: 2 in announced.counts)
            finally:
                catalogue.stop()
                recorder.stop()
        assert announced.rows == announced.counts

    def test_an_empty_folder_in_which_nothing_happens_is_announced_once(
        self, folder: Path, quick_looks: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looks = threading.Semaphore(0)
        look = Catalogue._look
        monkeypatch.setattr(Catalogue, "_look", lambda self: (look(self), looks.release()))
        announced, recorder = Announced(), Recorder()
        with Storage(folder) as storage:
            catalogue = Catalogue(storage, recorder, announced)
            recorder.start()
            catalogue.start()
            try:
                for _ in range(5):
                    assert looks.acquire(timeout=5)
            finally:
                catalogue.stop()
                recorder.stop()
        assert announced.counts == [0]


class TestRollback:
    def test_a_row_whose_transaction_is_rolled_back_is_written_at_the_next_try(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer_module, "RETRY_PAUSES", (0.01,))
        served.settle()
        once, write_progress = iter([True]), Batch._write_progress

        def full(batch: Any) -> None:
            write_progress(batch)
            if File.objects.exists() and next(once, False):
                raise OperationalError("database or disk is full")

        monkeypatch.setattr(Batch, "_write_progress", full)
        (served.folder / "a.txt").write_bytes(b"x")
        served.catalogued("a.txt")
        assert next(once, None) is None

    def test_a_look_waits_until_the_one_before_is_committed_and_repeats_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writer_module, "RETRY_PAUSES", (0.01,))
        fill(folder, 3)
        submitted: list[Any] = []
        failures = iter(range(5))
        write_progress = Batch._write_progress

        def full(batch: Any) -> None:
            write_progress(batch)
            if next(failures, None) is not None:
                raise OperationalError("database or disk is full")

        monkeypatch.setattr(Batch, "_write_progress", full)
        with cataloguing(folder) as (catalogue, recorder):
            catalogue._purge_due = float("inf")
            submit = recorder.submit
            monkeypatch.setattr(recorder, "submit", lambda *job: (submitted.append(job), submit(*job)))
            catalogue._look()
            assert len(catalogue._known) == 3
            catalogue._look()
        assert next(failures, None) is None
        assert len(submitted) == 1

    def test_a_batch_that_cannot_be_written_at_all_does_not_end_the_looks(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(folder, 3)
        with cataloguing(folder) as (catalogue, _):
            with monkeypatch.context() as patch:
                patch.setattr(catalogue, "_row", lambda entry: 1 / 0)
                catalogue._look()
            assert "ZeroDivisionError" in caplog.text
            assert not catalogue._counted
            catalogue._look()
        assert len(names()) == 3

    def test_stopping_does_not_wait_for_a_locked_database(self, folder: Path) -> None:
        """``stop`` may come between the beginning of a look and its wait for the writer."""
        recorder = Recorder()  # not started: nothing that is submitted is ever done
        with Storage(folder) as storage:
            catalogue = Catalogue(storage, recorder, lambda count: None)
            look = catalogue._storage.entries

            def entries_while_stopping(**asked: Any) -> Any:
                catalogue._stopping.set()
                catalogue._written.set()
                return look(**asked)

            catalogue._storage.entries = entries_while_stopping  # type: ignore[method-assign,assignment]
            looking = threading.Thread(target=catalogue._look)
            looking.start()
            looking.join(5)
            stuck = looking.is_alive()
            catalogue._written.set()
            looking.join()
        assert not stuck


def test_a_look_that_takes_long_is_followed_by_a_long_rest_and_a_slow_database_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue_module, "INTERVAL", 0.0)
    now, rests = [0.0], []

    def look() -> list[str]:
        now[0] += 3
        return []

    def write(job: object) -> None:
        now[0] += 1000

    def rest(seconds: float) -> None:
        rests.append(seconds)
        catalogue._stopping.set()

    with Storage(folder) as storage:
        catalogue = Catalogue(storage, Recorder(), lambda count: None)
        with monkeypatch.context() as patch:
            patch.setattr("files_app.history.catalogue.time.monotonic", lambda: now[0])
            patch.setattr(catalogue, "_load", lambda: None)
            patch.setattr(catalogue, "_differing", look)
            patch.setattr(catalogue, "_have_written", write)
            patch.setattr(catalogue._stopping, "wait", rest)
            catalogue._run()
    assert rests == [60.0]
