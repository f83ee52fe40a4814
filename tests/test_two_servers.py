"""Several file servers on one machine, as real processes: whose row it is, and what is refused."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Peer, wait_until
from tests.stack import Stack

BIG = 64 << 20  # bytes: more than fits into the buffers of a loopback connection that nobody reads


@contextlib.contextmanager
def file_server(home: Path) -> Iterator[Stack]:
    """A migrated database and a running file server, without the site."""
    home.mkdir()
    stack = Stack(home)
    assert stack.manage("migrate", "--verbosity", "0").returncode == 0
    with (stack.files / "big.bin").open("wb") as file:
        file.truncate(BIG)
    try:
        stack.start_server()
        yield stack
    finally:
        stack.stop()


def rows_of(stack: Stack) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(stack.home / "db.sqlite3")) as database:
        return database.execute("SELECT outcome, done FROM files_app_transfer ORDER BY id").fetchall()


def start_download(stack: Stack) -> Peer:
    peer = Peer(("127.0.0.1", stack.server_port), 4096)
    peer.ask("GET", name="big.bin")
    wait_until(lambda: [row for row in rows_of(stack) if row[0] == "running"], 15)
    return peer


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Stack, Stack]]:
    with file_server(tmp_path / "one") as one, file_server(tmp_path / "two") as two:
        yield one, two


def test_after_a_crash_a_start_closes_its_own_rows_and_those_of_another_server_run_on(
    two: tuple[Stack, Stack],
) -> None:
    one, other = two
    with start_download(one), start_download(other) as still_running:
        one.kill_server()
        one.start_server()
        wait_until(lambda: [outcome for outcome, _ in rows_of(one)] == ["interrupted"], 15)
        assert [outcome for outcome, _ in rows_of(other)] == ["running"]
        assert len(still_running.read(BIG)) == BIG
        wait_until(lambda: rows_of(other) == [("complete", BIG)], 15)


def test_a_second_server_of_the_same_folder_or_database_ends_with_a_sentence(
    two: tuple[Stack, Stack],
) -> None:
    one, other = two
    refused = other.manage("runfileserver", "--port=0", "--files", str(one.files))
    assert refused.returncode == 1
    assert f"The folder {one.files} is served by another file server already. " in refused.stderr
    (one.home / "more").mkdir()
    refused = one.manage("runfileserver", "--port=0", "--files", str(one.home / "more"))
    assert refused.returncode == 1
    assert (
        f"The database {one.home / 'db.sqlite3'} is used by another file server already. " in refused.stderr
    )
    assert "Traceback" not in refused.stderr
    one.kill_server()
    one.start_server()  # no lock is left


def test_a_database_of_the_version_before_is_migrated_with_its_rows(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    assert stack.manage("migrate", "files_app", "0006", "--verbosity", "0").returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database, database:
        database.execute(
            "INSERT INTO files_app_serverrun (key, started_at, seen_at) "
            "VALUES ('k', '2026-01-02 03:04:00', '2026-01-02 03:04:50')"
        )
        database.executemany(
            """INSERT INTO files_app_transfer
            (name, direction, size, "offset", length, done, client, user, via, thread, pace, upload, error,
             started_at, finished_at, outcome)
            VALUES ('a', 'download', 9, 0, 9, ?, 'c', '', 'tcp', 't', '', '', '',
                    '2026-01-02 03:04:05', ?, ?)""",
            [(9, "2026-01-02 03:04:06", "complete"), (4, None, "running")],
        )
    try:
        migrated = stack.manage("migrate", "--verbosity", "0")
        assert (migrated.returncode, rows_of(stack)) == (0, [("complete", 9), ("running", 4)])
        stack.start_server()
        wait_until(lambda: rows_of(stack) == [("complete", 9), ("interrupted", 4)], 15)
    finally:
        stack.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "db.sqlite3")) as database:
        ends = database.execute("SELECT finished_at FROM files_app_transfer ORDER BY id").fetchall()
        runs = database.execute("SELECT name FROM files_app_serverrun ORDER BY id").fetchall()
    assert ends == [("2026-01-02 03:04:06",), ("2026-01-02 03:04:50",)]
    assert runs == [("",), (str(stack.files),)]
