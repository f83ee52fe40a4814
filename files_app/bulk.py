"""Many rows in few statements. Django's ``bulk_create`` does the same in three to five times the time: it
makes an object of each row and asks each of its fields how to write itself. That counts when a large folder
is first served, and when transfers end by the thousand.
"""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from django.db import connection, models

MOST_ROWS = 512  # in one statement
Row = Sequence[Any]  # values in the order of the columns


def upsert(model: type[models.Model], columns: Sequence[str], rows: Sequence[Row], unique: str) -> None:
    """Insert ``rows``, or write them over those that have the same ``unique`` column."""
    quote = connection.ops.quote_name
    sql = f"{_insert_into(model, columns)} VALUES {_places(columns)} "
    sql += f"ON CONFLICT ({quote(unique)}) DO UPDATE SET "
    sql += ", ".join(f"{quote(column)} = excluded.{quote(column)}" for column in columns)
    with connection.cursor() as cursor:
        cursor.executemany(sql, [_adapted(row) for row in rows])


def insert(model: type[models.Model], columns: Sequence[str], rows: Sequence[Row]) -> list[int]:
    """Insert ``rows``, with moments in Unix seconds; their keys, which are in a column ``id``, in the same
    order. To be called in a transaction: it may take several statements."""
    adapted = _moments_adapted(model, columns)
    insert_some = _insert_into_sqlite if connection.vendor == "sqlite" else _insert_and_ask
    most = min(MOST_ROWS, _most_parameters() // len(columns))
    keys: list[int] = []
    while len(keys) < len(rows):
        count = _power_of_two(min(most, len(rows) - len(keys)))
        some = [adapted(row) for row in rows[len(keys) : len(keys) + count]]
        keys += insert_some(_insert_into(model, columns), some)
    return keys


def _power_of_two(most: int) -> int:
    # A connection keeps its last statements, and one for each number of rows would be hundreds of megabytes.
    return 1 << most.bit_length() - 1


def _most_parameters() -> int:
    """Of one statement."""
    if connection.vendor == "sqlite":
        connection.ensure_connection()
        return int(connection.connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER))
    return connection.features.max_query_params or 10_000


def _insert_into_sqlite(insert: str, rows: Sequence[Row]) -> list[int]:
    """Django's cursor would look at each place for a value anew, and to tell the keys SQLite would come back
    with each: every time the threads that move bytes would go first. In a transaction nobody else can write,
    so the keys follow one another.
    """
    places = f"({', '.join('?' * len(rows[0]))})"
    sql = f"{insert} VALUES {', '.join([places] * len(rows))}"
    with connection.wrap_database_errors:
        last = connection.connection.execute(sql, list(chain.from_iterable(rows))).lastrowid
    return list(range(last - len(rows) + 1, last + 1))


def _insert_and_ask(insert: str, rows: Sequence[Row]) -> list[int]:
    sql = f"{insert} VALUES {', '.join([_places(rows[0])] * len(rows))} RETURNING id"
    with connection.cursor() as cursor:
        cursor.execute(sql, list(chain.from_iterable(rows)))
        return [key for (key,) in cursor.fetchall()]


def _moments_adapted(model: type[models.Model], columns: Sequence[str]) -> Callable[[Row], Row]:
    """What makes of a row with Unix seconds one with what the database takes for a moment."""
    places = [
        number
        for number, column in enumerate(columns)
        if isinstance(model._meta.get_field(column), models.DateTimeField)
    ]
    utc_text = connection.vendor == "sqlite" and connection.timezone is UTC

    def adapted(row: Row) -> Row:
        values = list(row)
        for place in places:
            if values[place] is not None:
                moment = datetime.fromtimestamp(values[place], UTC)
                # Django does the same in four times the time.
                values[place] = str(moment)[: -len("+00:00")] if utc_text else date(moment)
        return values

    date = connection.ops.adapt_datetimefield_value
    return adapted


def _insert_into(model: type[models.Model], columns: Sequence[str]) -> str:
    quote = connection.ops.quote_name
    return f"INSERT INTO {quote(model._meta.db_table)} ({', '.join(map(quote, columns))})"


def _places(columns: Sequence[str]) -> str:
    return f"({', '.join(['%s'] * len(columns))})"


def _adapted(row: Row) -> list[Any]:
    date = connection.ops.adapt_datetimefield_value
    return [date(value) if isinstance(value, datetime) else value for value in row]
