"""What is in memory is had at once, where the disk has proved to tell what is; all else is announced."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fileserver.storage import cached as module
from fileserver.storage import pagecache
from fileserver.storage.cached import MAX_CACHED_READ, CachedOpener
from fileserver.storage.content import OpenFile
from fileserver.storage.folder import Storage
from fileserver.wire.replies import ErrorReply

needs_cache = pytest.mark.skipif(
    pagecache._syscall is None, reason="this system does not tell what it has in memory"
)
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")


class Disk:
    """A folder behind a ``CachedOpener``, and how often a wait was announced."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.announced = 0
        self.opener = CachedOpener(storage, self._announce)

    def _announce(self) -> None:
        self.announced += 1

    def waits(self, name: str = "a") -> bool:
        before = self.announced
        self.opener.open(name).close()
        return self.announced > before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    return folder


@pytest.fixture
def disk(folder: Path) -> Iterator[Disk]:
    with Storage(folder) as storage:
        yield Disk(storage)


@needs_cache
def test_the_first_file_shows_that_the_others_need_not_be_waited_for(disk: Disk) -> None:
    assert [disk.waits() for _ in range(3)] == [True, False, False]


def test_a_file_is_closed_if_the_folder_goes_while_it_is_opened(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[OpenFile] = []

    def goes(opener: CachedOpener, file: OpenFile) -> None:
        opened.append(file)
        raise ErrorReply("unavailable", "The server's folder cannot be read now.")

    monkeypatch.setattr(CachedOpener, "_learn_from", goes)
    with pytest.raises(ErrorReply, match="cannot be read"):
        disk.opener.open("a")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0].fd)


@needs_cache
def test_a_file_on_another_disk_shows_nothing(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenFile, "device", -1)
    assert [disk.waits() for _ in range(3)] == [True, True, True]


@needs_cache
def test_a_disk_that_cannot_tell_is_always_waited_for(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagecache, "can_tell", lambda fd: False)
    assert [disk.waits() for _ in range(3)] == [True, True, True]


@needs_cache
def test_where_something_looks_at_each_file_first_it_is_waited_for_from_then_on(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [disk.waits() for _ in range(2)] == [True, False]
    monkeypatch.setattr(module, "_QUICK", -1.0)
    assert [disk.waits() for _ in range(5)] == [False, False, False, True, True]


@needs_cache
def test_one_that_takes_longer_now_and_then_changes_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert disk.waits()
    for limit in [-1.0, -1.0, 60.0] * 3:
        monkeypatch.setattr(module, "_QUICK", limit)
        assert not disk.waits()


@needs_cache
def test_a_look_is_good_for_a_while(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    look = pagecache.is_regular
    monkeypatch.setattr(pagecache, "is_regular", lambda fd, name: looks.append(name) or look(fd, name))
    (disk.storage.root / "b").write_bytes(b"2")
    monkeypatch.setattr(module, "_LOOK_SECONDS", 60.0)
    for name in "aababb":
        disk.opener.open(name).close()
    assert looks == ["a", "b"]  # the first of all is opened by waiting for it
    disk.opener._regular_until = 0.0
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    for name in "aab":
        disk.opener.open(name).close()
    assert looks == ["a", "b", "a", "a", "b"]


@needs_fifo
@needs_cache
def test_a_fifo_in_the_place_of_what_was_a_file_a_moment_ago_holds_nobody_up(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 60.0)
    assert [disk.waits() for _ in range(2)] == [True, False]
    (disk.storage.root / "a").unlink()
    os.mkfifo(disk.storage.root / "a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ErrorReply) as refusal:
        disk.opener.open("a")
    assert refusal.value.code == "not-a-file"
    assert len(os.listdir("/proc/self/fd")) == before


@needs_cache
@pytest.mark.parametrize("could_tell", [True, False])
def test_another_folder_in_the_place_of_ours_has_to_prove_itself_anew(
    disk: Disk, folder: Path, monkeypatch: pytest.MonkeyPatch, could_tell: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pagecache, "can_tell", lambda fd: could_tell)
        assert [disk.waits() for _ in range(2)] == [True, not could_tell]
    folder.rename(folder.parent / "before")
    folder.mkdir()
    (folder / "a").write_bytes(b"new")
    assert disk.storage.fault() == ""  # it is opened anew
    assert [disk.waits() for _ in range(2)] == [True, False]
    with disk.opener.open("a") as content:
        assert content.read(0, 10) == b"new"


def test_a_content_is_that_of_the_file(disk: Disk, folder: Path) -> None:
    (folder / "a").write_bytes(b"0123456789")
    for _ in range(2):
        with disk.opener.open("a") as content, disk.storage.open("a") as plain:
            for field in ("name", "size", "mtime", "etag"):
                assert getattr(content, field) == getattr(plain, field)
            assert content.sha256(lambda: None) == plain.sha256(lambda: None)
            assert (content.read(2, 3), content.read(8, 5), content.read(10, 5)) == (b"234", b"89", b"")
            assert not content.has_changed()
            os.truncate(folder / "a", 5)
            assert content.has_changed()
        (folder / "a").write_bytes(b"0123456789")


@needs_cache
def test_a_small_piece_in_memory_is_read_without_a_word(disk: Disk) -> None:
    with disk.opener.open("a") as content:
        before = disk.announced
        assert content.read(0, 1) == b"1"
        assert disk.announced == before


@pytest.mark.parametrize("piece", ["not in memory", "long", "to be sent from"])
def test_any_other_wait_for_the_disk_is_announced(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, piece: str
) -> None:
    if piece == "not in memory":
        monkeypatch.setattr(pagecache, "read", lambda *_: None)
    with disk.opener.open("a") as content:
        before = disk.announced
        if piece == "to be sent from":
            assert os.fstat(content.fileno()).st_size == 1
        else:
            assert content.read(0, 1 if piece == "not in memory" else MAX_CACHED_READ + 1) == b"1"
        assert disk.announced == before + 1


def test_where_the_system_does_not_tell_all_is_announced_and_served(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagecache, "_NOWAIT", None)
    monkeypatch.setattr(pagecache, "_syscall", None)
    assert [disk.waits() for _ in range(3)] == [True, True, True]
    with disk.opener.open("a") as content:
        assert content.read(0, 1) == b"1"


def test_a_folder_that_is_opened_by_paths_is_served_too(folder: Path) -> None:
    with Storage(folder, use_dir_fd=False) as storage:
        disk = Disk(storage)
        assert [disk.waits() for _ in range(3)] == [True, True, True]
