"""Many rows at once: the same rows as one by one, with the right keys."""

import threading
from datetime import UTC, datetime

import pytest
from django.db import connection, transaction

from files_app.models import File, Transfer, bulk
from files_app.models.files import COLUMNS
from files_app.models.transfers import Record

pytestmark = pytest.mark.usefixtures("database")

RECORD = Record(
    name="ä'\"\\%s.txt",
    file_id="a.txt",
    direction="download",
    size=2**63 - 1,
    offset=0,
    length=1,
    done=1,
    client="c",
    user="",
    via="tcp",
    thread="t",
    pace="",
    upload="",
    started_at=1.0,
    finished_at=None,
    outcome="running",
    error="",
    verified=True,
    seconds=0.25,
)
NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def row(name: str, size: int = 1, now: object = NOW.timestamp()) -> list[object]:
    return [name, size, now, "etag", "", "text/plain", now, "", None]


@pytest.fixture(params=["by SQLite", "by others"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In SQLite's own way, and in that of other databases, which this SQLite knows too."""
    if request.param == "by others":
        monkeypatch.setattr(connection, "vendor", "other")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [0, 1, 500, 1111])
def test_each_row_gets_the_key_that_is_told(count: int) -> None:
    names = [f"{number * 7 % 1117} ä'\"%s.txt" for number in range(count)]
    keys = bulk.insert(File, COLUMNS, [row(name) for name in names])
    assert [File.objects.get(pk=key).name for key in keys] == names
    assert File.objects.count() == count


@pytest.mark.usefixtures("way")
def test_the_values_are_those_that_django_would_write() -> None:
    (key,) = bulk.insert(File, COLUMNS, [row("a.txt", 1 << 40)])
    written = File.objects.get(pk=key)
    same = File.objects.create(name="b.txt", size=1 << 40, mtime=NOW, etag="etag", added_at=NOW)
    same.refresh_from_db()
    assert (written.size, written.mtime, written.added_at) == (same.size, same.mtime, same.added_at)
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT mtime, added_at FROM files_app_file")
        assert len(cursor.fetchall()) == 1


def test_what_is_there_already_is_written_over_and_keeps_its_key() -> None:
    (key,) = bulk.insert(File, COLUMNS, [row("a.txt")])
    bulk.upsert(File, COLUMNS, [row("a.txt", 2, NOW), row("b.txt", 3, NOW)], unique="name")
    assert dict(File.objects.values_list("name", "size")) == {"a.txt": 2, "b.txt": 3}
    assert File.objects.get(name="a.txt").pk == key


def test_what_is_kept_of_a_row_is_not_written_over() -> None:
    bulk.insert(File, COLUMNS, [row("a.txt")])
    later = datetime(2027, 1, 1, tzinfo=UTC)
    bulk.upsert(File, COLUMNS, [row("a.txt", 2, later), row("b.txt", 3, later)], "name", kept=("added_at",))
    rows = File.objects.order_by("name").values_list("size", "mtime", "added_at")
    assert list(rows) == [(2, later, NOW), (3, later, later)]


@pytest.mark.usefixtures("way")
def test_every_moment_is_the_one_that_python_has_and_none_stays_none() -> None:
    moments = [0.0, 0.5, 1763800000.000001, 1763800000.999999, 1763800000.9999999, 4102444799.25]
    records = [RECORD._replace(started_at=moment, finished_at=moment) for moment in moments]
    file = File.objects.create(name="a.txt", size=1, mtime=NOW, etag="etag")
    keys = Transfer.objects.record([*records, RECORD._replace(file_id="gone.txt")], {"a.txt": file.pk}, None)
    written = [Transfer.objects.get(pk=key) for key in keys]
    expected = [datetime.fromtimestamp(moment, UTC) for moment in moments]
    assert [row.started_at for row in written[:-1]] == expected
    assert [row.finished_at for row in written] == [*expected, None]
    assert [row.file for row in written] == [*[file] * len(records), None]
    assert (written[0].verified, written[0].size, written[0].name) == (True, RECORD.size, RECORD.name)
    assert {row.seconds for row in written} == {0.25}


def test_few_numbers_of_rows_make_a_statement() -> None:
    assert {bulk._power_of_two(count) for count in range(1, 513)} == {1 << power for power in range(10)}
    assert all(count / 2 < bulk._power_of_two(count) <= count for count in range(1, 513))


def test_two_who_write_the_same_rows_in_another_order_do_not_lock_each_other_out() -> None:
    names = [f"{number}.txt" for number in range(200)]
    barrier, failures = threading.Barrier(2), list[Exception]()

    def write(rows: list[list[object]]) -> None:
        try:
            for _ in range(5):
                barrier.wait(10)
                with transaction.atomic():
                    bulk.upsert(File, COLUMNS, rows, unique="name")
        except Exception as error:
            failures.append(error)
            barrier.abort()
        finally:
            connection.close()

    rows = [row(name, now=NOW) for name in names]
    threads = [threading.Thread(target=write, args=[some]) for some in (rows, rows[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert File.objects.count() == 200
