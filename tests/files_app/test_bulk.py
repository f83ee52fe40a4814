"""Many rows at once: the same rows as one by one, with the right keys."""

from datetime import UTC, datetime

import pytest
from django.db import connection

from files_app import bulk
from files_app.models import COLUMNS, File

pytestmark = pytest.mark.usefixtures("database")

NOW = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def row(name: str, size: int = 1) -> list[object]:
    return [name, size, NOW, "etag", "", "text/plain", NOW, ""]


@pytest.fixture(params=["all at once", "one by one"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a database that tells the keys of many rows, and with one that does not."""
    if request.param == "one by one":
        monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("count", [0, 1, 500])
def test_each_row_gets_the_key_that_is_told(count: int) -> None:
    names = [f"{number * 7 % 501} ä'\"%s.txt" for number in range(count)]
    keys = bulk.insert(File, COLUMNS, [row(name) for name in names])
    assert [File.objects.get(pk=key).name for key in keys] == names
    assert File.objects.count() == count


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
    bulk.upsert(File, COLUMNS, [row("a.txt", 2), row("b.txt", 3)], unique="name")
    assert dict(File.objects.values_list("name", "size")) == {"a.txt": 2, "b.txt": 3}
    assert File.objects.get(name="a.txt").pk == key
