"""Many rows in few statements. Django's ``bulk_create`` does the same in three to five times the time: it
makes an object of each row and asks each of its fields how to write itself. That counts when a large folder
is first served, and when transfers end by the thousand.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection, models

Row = Sequence[Any]  # values in the order of the columns


def upsert(model: type[models.Model], columns: Sequence[str], rows: Sequence[Row], unique: str) -> None:
    """Insert ``rows``, or write them over those that have the same ``unique`` column."""
    quote = connection.ops.quote_name
    sql = f"{_insert_into(model, columns)} {_places(columns)} ON CONFLICT ({quote(unique)}) DO UPDATE SET "
    sql += ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in columns)
    with connection.cursor() as cursor:
        cursor.executemany(sql, [_adapted(row) for row in rows])


def insert(model: type[models.Model], columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    """Insert ``rows``; their keys, which are in a column ``id``, in the same order."""
    at_once = max(1, (connection.features.max_query_params or 10_000) // len(columns))
    if not connection.features.can_return_rows_from_bulk_insert:
        at_once = 1
    keys: list[int] = []
    with connection.cursor() as cursor:
        for start in range(0, len(rows), at_once):
            keys += _insert(cursor, model, columns, rows[start : start + at_once])
    return keys


def _insert(cursor: Any, model: type[models.Model], columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    sql = f"{_insert_into(model, columns)} {', '.join([_places(columns)] * len(rows))}"
    values = [value for row in rows for value in _adapted(row)]
    if not connection.features.can_return_rows_from_bulk_insert:
        cursor.execute(sql, values)
        return [cursor.lastrowid]
    cursor.execute(f"{sql} RETURNING id", values)
    return [key for (key,) in cursor.fetchall()]


def _insert_into(model: type[models.Model], columns: Sequence[str]) -> str:
    quote = connection.ops.quote_name
    return f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(map(quote, columns))}) VALUES"


def _places(columns: Sequence[str]) -> str:
    return f"({', '.join(['%s'] * len(columns))})"


def _adapted(row: Row) -> list[Any]:
    date = connection.ops.adapt_datetimefield_value
    return [date(value) if isinstance(value, datetime) else value for value in row]
