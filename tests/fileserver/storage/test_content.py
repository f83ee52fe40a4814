"""What an open file tells of the changes that were made to it, and what its etag does."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.storage.content import OpenFile, is_older_form
from fileserver.storage.folder import Storage

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no moment of the last change, and keeps open files in place"
)

Change = Callable[[Path], Any]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"before")
    os.utime(tmp_path / "folder" / "a", (1000, 1000))
    with Storage(tmp_path) as storage:
        yield storage


@pytest.fixture
def path(storage: Storage) -> Path:
    return storage.root / "folder" / "a"


def write_in_place(path: Path) -> None:
    """Other bytes, as many as there were, and the time put back: nothing is to be seen of it."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"AFTER!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns, before.st_ino) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ino,
    )


def replace(path: Path) -> None:
    path.with_name("other").write_bytes(b"other")
    os.replace(path.with_name("other"), path)


def link_and_unlink_elsewhere(path: Path) -> None:
    os.link(path, path.with_name("link"))
    os.rename(path.with_name("link"), path.parent.parent / "link")


NO_WRITES = {
    "nothing": lambda path: None,
    "a read": Path.read_bytes,
    "a delete": Path.unlink,
    "another file in its place": replace,
    "new rights": lambda path: path.chmod(0o600),
    "another link": lambda path: os.link(path, path.with_name("b")),
    "another link that is moved": link_and_unlink_elsewhere,
    "a rename": lambda path: path.rename(path.with_name("b")),
    "a rename of its folder": lambda path: path.parent.rename(path.parent.with_name("moved")),
}
WRITES = {
    "more bytes": lambda path: path.write_bytes(b"before and after"),
    "fewer bytes": lambda path: os.truncate(path, 1),
    "other bytes": lambda path: path.write_bytes(b"AFTER!"),
    "another time": lambda path: os.utime(path, (1, 1)),
    "the time put back": write_in_place,
}


@pytest.mark.parametrize("change", NO_WRITES.values(), ids=NO_WRITES)
def test_what_leaves_the_content_is_no_change(storage: Storage, path: Path, change: Change) -> None:
    with storage.open("folder/a") as file:
        change(path)
        assert not file.has_changed()
        assert file.read(0, 10) == b"before"
        assert not file.has_changed()


@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES)
def test_what_is_written_is_a_change_for_good(storage: Storage, path: Path, change: Change) -> None:
    with storage.open("folder/a") as file:
        change(path)
        assert file.has_changed()
        assert file.has_changed()


@pytest.mark.parametrize("explained", [name for name in NO_WRITES if "folder" not in name])
def test_after_a_change_that_is_explained_a_write_is_seen_as_before(
    storage: Storage, path: Path, explained: str
) -> None:
    """Somebody who had the file open may write to it when it has no name, or another one."""
    with storage.open("folder/a") as file, path.open("r+b") as writer:
        NO_WRITES[explained](path)
        assert not file.has_changed()
        before = os.fstat(writer.fileno())
        writer.write(b"AFTER!")
        writer.flush()
        os.utime(writer.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.has_changed()


@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES)
def test_each_state_of_the_content_has_an_etag_of_its_own(
    storage: Storage, path: Path, change: Change
) -> None:
    before = storage.stat("folder/a").etag
    change(path)
    assert storage.stat("folder/a").etag != before


def test_where_the_moment_of_a_change_cannot_be_told_it_is_left_out(
    storage: Storage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = storage.stat("folder/a").etag
    monkeypatch.setattr("fileserver.storage.content._CTIME_IS_OF_CHANGE", False)
    older = storage.stat("folder/a").etag
    assert is_older_form(older, etag)
    assert not is_older_form(etag, etag)
    assert not is_older_form(older[:-1], etag)
    with storage.open("folder/a") as file:
        path.chmod(0o600)
        assert file.etag == older
        assert not file.has_changed()


def test_a_file_that_nobody_can_look_for_is_taken_to_be_in_its_place(tmp_path: Path) -> None:
    """Else a write would pass for a rename."""
    (tmp_path / "a").write_bytes(b"before")
    with OpenFile(os.open(tmp_path / "a", os.O_RDONLY), "a") as file:
        write_in_place(tmp_path / "a")
        assert file.has_changed()
