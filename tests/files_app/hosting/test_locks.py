"""One live file server for each folder and for each database, by locks that end with their holder."""

import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from files_app.hosting import locks
from files_app.hosting.locks import AlreadyServed, only_server_of, server_name
from fileserver.storage.folder import Storage
from fileserver.storage.place import HAS_DIR_FD
from fileserver.wire.replies import ErrorReply

pytestmark = pytest.mark.usefixtures("database")

HOLDER = """
import sys
import threading
import django
django.setup()
from files_app.hosting.locks import _locked_folder
from fileserver.storage.folder import Storage
with Storage(sys.argv[1]) as storage, _locked_folder(storage):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Storage]:
    with Storage(folder) as storage, only_server_of(storage):
        yield storage


def test_a_folder_is_free_again_when_its_server_has_ended(folder: Path) -> None:
    for _ in range(2):
        with (
            served(folder),
            pytest.raises(AlreadyServed, match="is served by another"),
            served(folder),
        ):
            pass


@pytest.mark.skipif(os.name != "posix", reason="Windows has no links without a right for them")
def test_another_path_to_the_folder_leads_to_the_same_lock_and_name(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert server_name(link) == server_name(folder) == str(folder.resolve())
    with served(folder), pytest.raises(AlreadyServed), served(link):
        pass


@pytest.mark.skipif(not HAS_DIR_FD, reason="there a folder is looked up by its path each time")
def test_a_folder_that_takes_the_place_of_ours_is_locked_before_it_is_served(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk that is mounted late: two servers in one folder would write the same upload."""
    monkeypatch.setattr(locks, "_locked_database", contextlib.nullcontext)  # each has its own
    (folder / "old").touch()
    other = tmp_path / "other"
    other.mkdir()
    (other / "new").touch()
    with served(folder) as storage:
        with served(other):
            folder.rename(tmp_path / "aside")
            other.rename(folder)
            with pytest.raises(ErrorReply, match="another server serves it") as refusal:
                list(storage.entries())
            assert refusal.value.code == "unavailable"
        assert [entry.name for entry in storage.entries()] == ["new"]
        with pytest.raises(AlreadyServed), served(folder):
            pass
        with served(tmp_path / "aside"):  # which is ours no more
            pass


def test_nothing_is_left_in_the_folder_that_a_client_could_see(folder: Path) -> None:
    with served(folder):
        assert [name for name in os.listdir(folder) if not name.startswith(".")] == []


def test_two_folders_cannot_share_a_database(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with (
        served(folder),
        pytest.raises(AlreadyServed) as refusal,
        served(tmp_path / "other"),
    ):
        pass
    assert str(refusal.value) == (
        f"The database {connection.settings_dict['NAME']} is used by another file server already. "
        "Stop that one, or set DATABASE_URL to a database of its own."
    )


@pytest.mark.skipif(os.name != "posix", reason="Windows has no links without a right for them")
def test_a_link_to_the_database_leads_to_the_same_lock(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "db.sqlite3").touch()
    (tmp_path / "link").symlink_to(tmp_path / "db.sqlite3")
    paths = iter([tmp_path / "db.sqlite3", tmp_path / "link"])
    monkeypatch.setattr(locks, "sqlite_file", lambda: next(paths))
    with served(folder), pytest.raises(AlreadyServed), served(tmp_path / "other"):
        pass


def test_of_many_who_want_a_lock_file_one_at_a_time_has_it_and_none_is_left(tmp_path: Path) -> None:
    path, inside, had = tmp_path / "lock", [], []

    def want() -> None:
        for _ in range(50):
            with contextlib.suppress(AlreadyServed), locks._locked_file(path, "taken"):
                inside.append(1)
                had.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(had) == {1}
    assert os.listdir(tmp_path) == []


def test_a_lock_dies_with_its_process(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "cfsite.settings", "SECRET_KEY": "x" * 60},
    ) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline().strip() == b"held"
            with pytest.raises(AlreadyServed), served(folder):
                pass
        finally:
            holder.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    with served(folder):
        pass


def test_where_there_are_no_locks_it_is_served_with_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_here(fd: int) -> Any:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_lock", none_here)
    with caplog.at_level(logging.WARNING, "files_app"), served(folder):
        assert "no lock (No locks available)" in caplog.text


def test_a_name_is_text_whatever_the_bytes_of_the_folder(tmp_path: Path) -> None:
    assert server_name(tmp_path / os.fsdecode(b"a\xff")).endswith("a\\xff")
