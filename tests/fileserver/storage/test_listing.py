"""Parts of the folder that cannot be read: the rest is listed, and what is missing is told."""

import errno
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.storage.folder import Storage
from fileserver.storage.place import HAS_DIR_FD
from fileserver.wire.replies import ErrorReply
from tests.servers import run_server

FILES = ["a", "closed/b", "closed/deeper/c", "open/d"]


@pytest.fixture(params=[True, False], ids=["dir_fd", "paths"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param and not HAS_DIR_FD:
        pytest.skip("this system has no dir_fd")
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with Storage(tmp_path, use_dir_fd=request.param) as storage:
        yield storage


class Disk:
    """Refuses what is named, as a disk does that is broken, or rights that are missing: to root, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._folder = folder

    def refuse(self, function: str, name: str, number: int) -> None:
        really, refused = getattr(os, function), (self._folder / name).stat()

        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            found = os.fstat(path) if isinstance(path, int) else None
            if found is None:
                found = self._stat(path, dir_fd=kwargs.get("dir_fd"), follow_symlinks=False)
            if os.path.samestat(found, refused):
                raise OSError(number, os.strerror(number))
            return really(path, *args, **kwargs)

        self._stat = os.stat if function != "stat" else really
        self._monkeypatch.setattr(os, function, call)


@pytest.fixture
def disk(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch, storage.root)


def listed(storage: Storage, prefix: str = "", after: str = "") -> tuple[list[str], set[str]]:
    unread: set[str] = set()
    return [entry.name for entry in storage.entries(prefix, after, unread.add)], unread


# Where the folder itself cannot be read, and where its names can, but not what they lead to.
FOLDER_FAULTS = [("scandir", "closed", 13), ("scandir", "closed", 5), ("stat", "closed/b", 13)]


@pytest.mark.parametrize(("function", "name", "number"), FOLDER_FAULTS)
def test_a_folder_that_cannot_be_read_is_told_and_the_rest_is_listed(
    storage: Storage, disk: Disk, caplog: pytest.LogCaptureFixture, function: str, name: str, number: int
) -> None:
    disk.refuse(function, name, number)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found, unread = listed(storage)
            assert [name for name in found if not name.startswith("closed/")] == ["a", "open/d"]
            assert "closed/b" not in found
            assert unread == {"closed/"}
    assert caplog.text.count("left out of listings: 'closed' cannot be read") == 1


@pytest.mark.parametrize(("function", "name", "number"), FOLDER_FAULTS)
@pytest.mark.parametrize("prefix", ["closed/", "closed/b", "closed/deeper/"])
def test_what_was_asked_for_alone_and_cannot_be_read_is_an_error(
    storage: Storage, disk: Disk, function: str, name: str, number: int, prefix: str
) -> None:
    disk.refuse(function, name, number)
    if function == "stat" and prefix == "closed/deeper/":
        assert listed(storage, prefix) == (["closed/deeper/c"], set())
        return
    with pytest.raises(ErrorReply, match="The folder 'closed' cannot be read now") as refusal:
        listed(storage, prefix)
    assert refusal.value.code == "unavailable"
    assert listed(storage, "open/") == (["open/d"], set())


def test_a_single_file_that_cannot_be_looked_at_leaves_the_others_of_its_folder(
    storage: Storage, disk: Disk
) -> None:
    disk.refuse("stat", "closed/b", errno.EIO)
    assert listed(storage) == (["a", "closed/deeper/c", "open/d"], {"closed/b"})


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_shortage_in_the_middle_is_an_error_for_all_of_it(
    storage: Storage, disk: Disk, number: int
) -> None:
    disk.refuse("scandir", "closed", number)
    with pytest.raises(ErrorReply) as refusal:
        listed(storage)
    assert refusal.value.code == "unavailable"


def test_a_folder_that_is_gone_meanwhile_is_not_missing(
    storage: Storage, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    disk.refuse("scandir", "closed", errno.ENOENT)
    assert listed(storage) == (["a", "open/d"], set())
    assert caplog.text == ""


def test_a_folder_that_could_be_read_in_between_is_told_anew(
    storage: Storage, disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with monkeypatch.context() as patch:
            Disk(patch, storage.root).refuse("scandir", "closed", 13)
            listed(storage)
        assert listed(storage) == (FILES, set())
    assert caplog.text.count("'closed' cannot be read") == 2


def test_a_client_is_told_how_much_is_missing(storage: Storage, disk: Disk) -> None:
    disk.refuse("scandir", "closed", 13)
    with run_server(storage.root) as running, running.peer() as peer:
        assert peer.ask("LIST") == {"count": 2, "more": False, "unread": 1}
        assert [peer.line()[:12] for _ in range(2)] == [b'{"name": "a"', b'{"name": "op']
        assert peer.ask("LIST", prefix="open/") == {"count": 1, "more": False}


def test_threads_that_list_at_the_same_time_each_get_all(storage: Storage) -> None:
    """Copies of one descriptor share how far the folder has been read."""
    for number in range(200):
        (storage.root / f"{number}").write_bytes(b"")
    counts: list[int] = []

    def list_often() -> None:
        counts.extend(len(list(storage.entries())) for _ in range(40))

    threads = [threading.Thread(target=list_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(counts) == {204}
