"""Behaviour on the models and their querysets."""

from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.models import Count, Sum
from django.db.models.functions import Coalesce
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from files_app.models import File, ServerRun, Transfer
from files_app.models.dates import to_datetime
from files_app.models.files import ADDED, COLUMNS, FileQuerySet, url_of
from tests.files_app.rows import NOW, make_file, make_transfer


@pytest.mark.django_db
class TestFiles:
    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["100% sure.txt", "a\\b", "a_b.txt", "axb.txt", "Week 3/Slides.pdf"]),
            ("slides", ["Week 3/Slides.pdf"]),
            ("pdf week", ["Week 3/Slides.pdf"]),
            ("pdf txt", []),
            ("%", ["100% sure.txt"]),
            ("_", ["a_b.txt"]),
            ("a_b", ["a_b.txt"]),
            ("\\", ["a\\b"]),
            ("'; DROP TABLE files_app_file; --", []),
        ],
    )
    def test_a_search_finds_names_with_every_word_and_takes_no_character_for_a_wildcard(
        self, query: str, found: list[str]
    ) -> None:
        for name in ("100% sure.txt", "a_b.txt", "axb.txt", "Week 3/Slides.pdf", "a\\b"):
            make_file(name)
        assert sorted(File.objects.matching(query).values_list("name", flat=True)) == sorted(found)

    def test_a_search_of_thousands_of_words_is_no_error(self) -> None:
        make_file("a.txt")
        words = " ".join(f"word{number}" for number in range(3000))
        assert File.objects.matching("a " * 3000).count() == 1
        assert File.objects.matching(words).count() == 0
        assert Transfer.objects.matching(text=words).count() == 0

    @pytest.mark.parametrize(
        ("sort", "order"),
        [
            ("name", "abc"),
            ("-name", "cba"),
            ("size", "bac"),
            ("-size", "cab"),
            ("mtime", "cba"),
            ("-mtime", "abc"),
            ("etag", "abc"),
            ("", "abc"),
            ("file__transfers", "abc"),
            ("?", "abc"),
        ],
    )
    def test_files_are_sorted_by_the_given_columns_only_and_then_by_name_the_same_way(
        self, sort: str, order: str
    ) -> None:
        make_file("b", size=1, mtime=NOW + timedelta(days=2))
        make_file("c", size=2, mtime=NOW + timedelta(days=1))
        make_file("a", size=2, mtime=NOW + timedelta(days=3))
        assert "".join(File.objects.sorted_by(sort).values_list("name", flat=True)) == order

    @pytest.mark.parametrize("sort", ["name", "size", "mtime"])
    def test_names_are_sorted_by_their_bytes_whatever_the_language_of_the_database(self, sort: str) -> None:
        names = ["A b", "B", "Zoo", "a", "a-b", "aB", "b", "z", "ä", "ö"]
        for name in reversed(names):
            make_file(name)
        assert list(File.objects.sorted_by(sort).values_list("name", flat=True)) == names
        assert list(File.objects.sorted_by(f"-{sort}").values_list("name", flat=True)) == names[::-1]

    @pytest.mark.parametrize("sort", FileQuerySet.SORTS)
    @pytest.mark.parametrize("first", [0, 50_000])
    def test_a_page_in_any_order_is_read_from_an_index_and_sorts_nothing(self, sort: str, first: int) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("how another database does it depends on what it has counted")
        steps = File.objects.sorted_by(sort).with_downloads()[first : first + 50].explain().splitlines()
        assert not [step for step in steps if "TEMP B-TREE" in step]
        assert all(" INDEX " in step for step in steps if "SCAN" in step or "SEARCH" in step)
        assert len(steps) == 3  # the files, and for each of the page its downloads

    def test_files_that_are_gone_are_kept_and_not_shown(self) -> None:
        make_file("there")
        gone = make_file("gone")
        transfer = make_transfer(file=gone)
        File.rows.filter(name="gone").update(gone_at=NOW)
        assert [file.name for file in File.objects.matching("e")] == ["there"]
        assert File.objects.count() == 1
        assert File.rows.count() == 2
        transfer.refresh_from_db()
        assert transfer.file == gone
        back = File(name="gone", size=2, mtime=NOW, etag="e", content_type="text/plain", added_by="else")
        File.rows.upsert([back], kept=ADDED)
        found = File.objects.get(name="gone")
        assert (found.pk, found.size, found.added_at, found.added_by) == (gone.pk, 2, gone.added_at, "")

    def test_totals_are_added_up_from_an_index_alone(self) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("how another database does it depends on what it has counted")
        with CaptureQueriesContext(connection) as queries:
            File.objects.aggregate(total=Count("*"), total_size=Coalesce(Sum("size"), 0))
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
            assert "USING COVERING INDEX files_by_size" in str(cursor.fetchall())

    @pytest.mark.parametrize("asked", ["caf\u00e9", "cafe\u0301"])
    def test_a_search_finds_names_in_either_form(self, asked: str) -> None:
        for name in ("caf\u00e9.txt", "cafe\u0301.txt", "cafe.txt"):
            make_file(name)
            make_transfer(name=name)
        wanted = {"caf\u00e9.txt", "cafe\u0301.txt"}
        assert set(File.objects.matching(asked).values_list("name", flat=True)) == wanted
        assert set(Transfer.objects.matching(text=asked).values_list("name", flat=True)) == wanted

    def test_upsert_inserts_new_files_and_overwrites_those_that_there_are(self) -> None:
        transfer = make_transfer(file=make_file("it's 100% %s.txt"))
        facts: dict[str, Any] = {
            "size": 2**62,
            "mtime": NOW + timedelta(microseconds=1),
            "etag": "other",
            "sha256": "f" * 64,
            "content_type": "x/y",
            "added_at": NOW,
            "added_by": "somebody",
            "gone_at": None,
        }
        File.objects.upsert([File(name=name, **facts) for name in ("it's 100% %s.txt", "new 🎉.txt")])
        rows = {row.pop("name"): row for row in File.objects.values()}
        kept = rows["it's 100% %s.txt"].pop("id")
        assert rows["new 🎉.txt"].pop("id") != kept
        assert [row.pop("folder") for row in rows.values()] == ["", ""]
        assert list(rows.values()) == [facts, facts]
        transfer.refresh_from_db()
        assert transfer.file_id == kept
        File.objects.upsert([])
        assert File.objects.count() == 2

    def test_a_file_has_the_folder_that_its_name_says(self) -> None:
        folders = {
            "a": "",
            "b/c": "b/",
            "b/d/ü.txt": "b/d/",
            "ü ü/é/b/x": "ü ü/é/b/",
            "b/b": "b/",
            "//": "//",
        }
        File.objects.upsert([make_file(name) for name in folders])
        assert dict(File.objects.values_list("name", "folder")) == folders
        assert set(File.objects.in_folders(None).values_list("name", flat=True)) == set(folders)
        allowed = File.objects.in_folders(lambda folder: folder.startswith("b/"))
        assert set(allowed.values_list("name", flat=True)) == {"b/c", "b/d/ü.txt", "b/b"}

    def test_upsert_writes_every_column(self) -> None:
        assert set(COLUMNS) == {field.name for field in File._meta.concrete_fields} - {"id", "folder"}

    def test_downloads_count_whole_downloads_of_that_file_only(self) -> None:
        counted, other = make_file("a"), make_file("b")
        for outcome in ("complete", "complete", "aborted", "cancelled", "failed", "interrupted", "running"):
            make_transfer(file=counted, outcome=outcome)
        make_transfer(file=counted, outcome="complete", direction="upload")
        make_transfer(file=None, outcome="complete")
        downloads = dict(File.objects.with_downloads().values_list("name", "downloads"))
        assert downloads == {counted.name: 2, other.name: 0}

    def test_a_download_in_parts_counts_once(self) -> None:
        file = make_file("a")
        for offset, length in ((0, 30), (30, 50), (80, 20)):
            make_transfer(file=file, outcome="complete", size=100, offset=offset, length=length)
        assert File.objects.with_downloads().get().downloads == 1

    def test_a_file_that_goes_leaves_its_transfers(self) -> None:
        file = make_file("a.txt")
        transfer = make_transfer(file=file)
        file.delete()
        transfer.refresh_from_db()
        assert (transfer.file, transfer.name) == (None, "a.txt")

    def test_a_file_is_called_by_its_name(self) -> None:
        assert str(make_file("a.txt")) == "a.txt"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("notes.txt", "/files/notes.txt"),
        ("week 3/slides.pdf", "/files/week%203/slides.pdf"),
        ("100%.txt", "/files/100%25.txt"),
        ("a?b#c&d.txt", "/files/a%3Fb%23c%26d.txt"),
        ("Übung 🎉.txt", "/files/%C3%9Cbung%20%F0%9F%8E%89.txt"),
        ('"><script>', "/files/%22%3E%3Cscript%3E"),
    ],
)
def test_the_address_of_a_file_is_its_name_quoted(name: str, url: str) -> None:
    assert url_of(name) == url
    assert File(name=name).get_absolute_url() == url


@pytest.mark.parametrize(
    ("seconds", "year"), [(0, 1970), (1.8e9, 2027), (-1e13, 1970), (1e13, 9999), (float("inf"), 9999)]
)
def test_a_moment_is_a_date_for_whatever_number(seconds: float, year: int) -> None:
    assert to_datetime(seconds).year == year


@pytest.mark.django_db
class TestTransfers:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", 3),
            ("alpha", 1),
            ("ALPHA", 1),
            ("192.168", 1),
            ("ClientThread-9", 1),
            ("maria", 1),
            ("alpha maria", 0),
            ("%", 0),
            ("_", 0),
        ],
    )
    def test_the_history_is_searched_by_name_client_thread_and_user(self, text: str, found: int) -> None:
        make_transfer(name="alpha.txt")
        make_transfer(name="beta.txt", client="192.168.0.7:1", thread="ClientThread-9")
        make_transfer(name="gamma.txt", user="maria")
        assert Transfer.objects.matching(text=text).count() == found

    def test_filters_add_up_and_empty_ones_are_left_out(self) -> None:
        make_transfer(outcome="complete")
        make_transfer(outcome="complete", via="web")
        make_transfer(outcome="failed", via="web")
        assert Transfer.objects.matching(outcome="complete", via="", direction="").count() == 2
        assert Transfer.objects.matching(outcome="complete", via="web").count() == 1

    def test_the_newest_come_first_and_the_later_row_first_among_equals(self) -> None:
        old = make_transfer(started_at=NOW - timedelta(hours=1))
        first, second = make_transfer(), make_transfer()
        assert list(Transfer.objects.newest()) == [second, first, old]

    @pytest.mark.parametrize("facts", [{}, {"via": "web"}])
    def test_the_newest_are_read_from_the_end_of_an_index_and_nothing_is_sorted(
        self, facts: dict[str, str]
    ) -> None:
        if connection.vendor != "sqlite":
            pytest.skip("how another database does it depends on what it has counted")
        rows = Transfer.objects.matching(**facts)
        for newest in (rows.newest(), rows.ended()):
            (step,) = newest[:50].explain().splitlines()
            assert "USING INDEX files_app_t_started" in step

    def test_only_what_began_since_and_has_no_file_is_linked_to_the_file_of_its_name(self) -> None:
        file, other = make_file("a.txt"), make_file("b.txt")
        earlier = make_transfer(started_at=NOW - timedelta(seconds=1))
        since, later = make_transfer(), make_transfer(started_at=NOW + timedelta(seconds=1))
        linked, unnamed = make_transfer(file=other), make_transfer(name="b.txt")
        with CaptureQueriesContext(connection) as queries:
            Transfer.objects.link_to_files(["a.txt", "c.txt"], NOW)
        assert len(queries) == 1
        files = [Transfer.objects.get(pk=row.pk).file for row in (earlier, since, later, linked, unnamed)]
        assert files == [None, file, file, other, None]
        if connection.vendor == "sqlite":  # how another database does it depends on what it has counted
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
                assert "USING INDEX files_app_t_started" in str(cursor.fetchall())

    def test_only_running_rows_are_closed_as_interrupted(self) -> None:
        running, complete = make_transfer(), make_transfer(outcome="complete", finished_at=NOW)
        assert Transfer.objects.close_interrupted("/srv/files") == 1
        running.refresh_from_db()
        complete.refresh_from_db()
        assert running.outcome == "interrupted"
        assert running.finished_at is not None
        assert (complete.outcome, complete.finished_at) == ("complete", NOW)
        assert Transfer.objects.close_interrupted("/srv/files") == 0

    def test_an_interrupted_row_ends_when_its_server_was_last_seen(self) -> None:
        ServerRun.objects.create(key="old", started_at=NOW, seen_at=NOW + timedelta(hours=9))
        ServerRun.objects.create(key="last", started_at=NOW, seen_at=NOW + timedelta(seconds=30))
        begun = make_transfer()
        moved = make_transfer(seconds=2.5, done=10)
        after = make_transfer(started_at=NOW + timedelta(seconds=31))  # it died within that second
        assert Transfer.objects.close_interrupted("/srv/files") == 3
        ends = [Transfer.objects.get(pk=row.pk) for row in (begun, moved, after)]
        seen = NOW + timedelta(seconds=30)
        assert [row.finished_at for row in ends] == [seen, seen, after.started_at]
        assert [row.seconds for row in ends] == [30.0, 2.5, 0.0]
        assert ends[1].done == 10

    @pytest.mark.parametrize(
        ("is_alone", "unknown"), [(False, ("running", None)), (True, ("interrupted", 7100.0))]
    )
    def test_a_start_closes_the_rows_of_the_servers_that_it_knows_to_be_dead(
        self, is_alone: bool, unknown: tuple[str, float | None]
    ) -> None:
        begun = timezone.now() - timedelta(seconds=7200)
        seen = {"/srv/files": 10, "/srv/lately": 7100, "/srv/silent": 3000, "": 30}
        servers = [
            ServerRun.objects.create(
                key=name, name=name, started_at=begun, seen_at=begun + timedelta(seconds=seconds)
            )
            for name, seconds in seen.items()
        ]
        rows = [make_transfer(server=server, started_at=begun) for server in (*servers, None)]
        Transfer.objects.close_interrupted("/srv/files", is_alone)
        for row in rows:
            row.refresh_from_db()
        assert [(row.outcome, row.seconds) for row in rows] == [
            ("interrupted", 10.0),
            unknown,
            ("interrupted", 3000.0),
            ("interrupted", 30.0),
            ("interrupted", 30.0),
        ]

    def test_without_a_sign_of_life_it_ends_with_the_last_transfer_that_did(self) -> None:
        make_transfer(outcome="complete", finished_at=NOW + timedelta(seconds=5))
        make_transfer(outcome="complete", finished_at=NOW + timedelta(seconds=2))
        running = make_transfer()
        assert Transfer.objects.close_interrupted("/srv/files") == 1
        running.refresh_from_db()
        assert (running.finished_at, running.seconds) == (NOW + timedelta(seconds=5), 5.0)

    def test_rows_from_before_there_were_durations_get_theirs_and_none_is_negative(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        migration = import_module("files_app.migrations.0005_durations_and_signs_of_life")
        monkeypatch.setattr(migration, "ROWS", 2)
        ends = [NOW + timedelta(seconds=step) for step in (0.25, -3600, 25 * 3600)] + [None]
        rows = [make_transfer(finished_at=end) for end in ends]
        migration.fill_seconds(
            apps, SimpleNamespace(connection=connection, quote_name=connection.ops.quote_name)
        )
        assert [Transfer.objects.get(pk=row.pk).seconds for row in rows] == [0.25, 0.0, 90000.0, None]

    @pytest.mark.parametrize(
        ("done", "length", "seconds", "rate", "percent"),
        [
            (50, 100, 2.0, 25.0, 50),
            (0, 0, 1.0, 0.0, 100),
            (100, 100, 0.0, None, 100),
            (1, 3, None, None, 33),
            (199, 200, 1.0, 199.0, 99),
        ],
    )
    def test_rate_and_percent_have_an_answer_for_every_row(
        self, done: int, length: int, seconds: float | None, rate: float | None, percent: int
    ) -> None:
        transfer = make_transfer(done=done, length=length, seconds=seconds)
        assert (transfer.seconds, transfer.rate, transfer.percent) == (seconds, rate, percent)

    def test_a_transfer_is_called_by_what_it_was(self) -> None:
        assert str(make_transfer(outcome="failed")) == "download of a.txt: failed"


@pytest.mark.django_db
def test_the_migrations_make_the_models_as_they_are() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
