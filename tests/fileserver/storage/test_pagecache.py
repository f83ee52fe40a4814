"""What Linux has in memory is had at once; for all else the answer is ``None``, and nobody has waited."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fileserver.storage import pagecache

pytestmark = pytest.mark.skipif(
    pagecache._syscall is None, reason="this system does not say what it has in memory"
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "week 3").mkdir()
    (tmp_path / "week 3" / "ä.txt").write_bytes(b"0123456789")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_file_that_was_just_written_is_opened_and_read(folder: int) -> None:
    before = descriptors()
    assert pagecache.is_regular(folder, "week 3/ä.txt")
    fd = pagecache.open_file(folder, "week 3/ä.txt")
    assert fd is not None
    assert not os.get_inheritable(fd)
    assert pagecache.can_tell(fd)
    assert (pagecache.read(fd, 2, 5), pagecache.read(fd, 0, 10), pagecache.read(fd, 4, 0)) == (
        b"23456",
        b"0123456789",
        b"",
    )
    assert pagecache.read(fd, 5, 6) is None  # so many are not there
    os.close(fd)
    assert descriptors() == before


@pytest.mark.parametrize(
    "name", ["nothing", "week 3", "week 3/ä.txt/x", "../week 3/ä.txt", "/etc/passwd", ""]
)
def test_what_is_no_regular_file_below_is_known_to_be_none(folder: int, name: str) -> None:
    before = descriptors()
    assert not pagecache.is_regular(folder, name)
    assert descriptors() == before


def test_no_link_is_followed_and_a_fifo_or_a_device_is_no_regular_file(folder: int, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("week 3/ä.txt")
    (tmp_path / "folder").symlink_to("week 3")
    os.mkfifo(tmp_path / "fifo")
    before = descriptors()
    for name in ("link", "folder/ä.txt", "fifo"):
        assert not pagecache.is_regular(folder, name)
    for name in ("link", "folder/ä.txt"):
        assert pagecache.open_file(folder, name) is None
    devices = os.open("/dev", os.O_RDONLY)
    assert not pagecache.is_regular(devices, "null")
    os.close(devices)
    assert descriptors() == before


def test_another_file_system_is_not_entered() -> None:
    root = os.open("/", os.O_RDONLY)
    assert Path("/proc/version").is_file()
    assert not pagecache.is_regular(root, "proc/version")
    assert pagecache.open_file(root, "proc/version") is None
    os.close(root)


def test_bytes_that_are_on_the_disk_only_are_not_waited_for(folder: int, tmp_path: Path) -> None:
    path = tmp_path / "cold"
    path.write_bytes(bytes(1 << 20))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    found = pagecache.read(fd, 1 << 19, 4096)
    assert found in (None, bytes(4096))  # some file systems are in memory altogether
    assert os.pread(fd, 4096, 1 << 19) == bytes(4096)
    assert pagecache.read(fd, 1 << 19, 4096) == bytes(4096)
    os.close(fd)


def test_a_file_system_that_cannot_tell_is_known_by_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "preadv", refuse)
    answers = {}
    for number in (errno.EOPNOTSUPP, errno.EAGAIN):
        answers[number] = pagecache.can_tell(0)
        assert pagecache.read(0, 0, 1) is None
    assert answers == {errno.EOPNOTSUPP: False, errno.EAGAIN: True}


def test_a_kernel_without_the_call_is_left_alone(monkeypatch: pytest.MonkeyPatch, folder: int) -> None:
    monkeypatch.setattr(pagecache, "_OPENAT2", 100_000)  # ENOSYS
    assert pagecache._found_syscall() is None
    monkeypatch.setattr(pagecache, "_syscall", None)
    assert not pagecache.is_regular(folder, "week 3/ä.txt")
    assert pagecache.open_file(folder, "week 3/ä.txt") is None
