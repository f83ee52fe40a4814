"""Room on the disk: a floor that no upload passes, and no two together."""

import contextlib
from pathlib import Path

import pytest

from fileserver.storage import uploads as module
from fileserver.storage.base import UploadRequest
from fileserver.storage.folder import Storage
from fileserver.storage.room import LOOK_BYTES, Room
from fileserver.wire.replies import ErrorReply


class Disk:
    def __init__(self, free: int, floor: int) -> None:
        self.free, self.floor = free, floor
        self.room = Room(lambda: self.free, lambda: self.floor)

    def fits(self, upload: str, size: int) -> bool:
        try:
            self.room.reserve(upload, "a", size)
        except ErrorReply as error:
            return error.code != "no-space"
        return True


def test_what_would_not_leave_the_floor_is_refused() -> None:
    disk = Disk(free=100, floor=30)
    assert not disk.fits("a", 71)
    assert disk.fits("a", 70)


def test_two_together_do_not_pass_it_and_what_is_written_is_not_counted_twice() -> None:
    disk = Disk(free=100, floor=30)
    assert disk.fits("a", 50)
    assert not disk.fits("b", 21)
    assert disk.fits("b", 20)
    disk.room.took("a", "a", 40)
    disk.free -= 40
    assert not disk.fits("c", 1)
    disk.room.release("a")
    assert disk.fits("c", 10)
    assert not disk.fits("d", 1)


def test_when_others_fill_the_disk_an_upload_is_stopped_at_the_floor() -> None:
    disk = Disk(free=10 * LOOK_BYTES, floor=LOOK_BYTES)
    assert disk.fits("a", 5 * LOOK_BYTES)
    disk.room.took("a", "a", LOOK_BYTES)
    disk.free = LOOK_BYTES - 1
    disk.room.took("a", "a", LOOK_BYTES - 1)  # it is not looked at each piece
    with pytest.raises(ErrorReply) as refused:
        disk.room.took("a", "a", 1)
    assert refused.value.code == "no-space"


def test_uploads_of_a_folder_keep_the_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Storage(tmp_path) as storage:
        monkeypatch.setattr(storage.paths, "free_space", lambda: 1000)
        monkeypatch.setattr(storage.paths, "size_of_disk", lambda: 400 * module.FLOOR_SHARE)
        uploads = storage.uploads(min_free=5000)  # more than a twentieth, which is 400 bytes
        with pytest.raises(ErrorReply) as refused:
            uploads.begin(UploadRequest("a", 601))
        assert refused.value.code == "no-space"
        with contextlib.closing(uploads.begin(UploadRequest("a", 600))) as writer:
            with pytest.raises(ErrorReply):
                uploads.begin(UploadRequest("b", 1))
            upload = writer.id
        # It waits, and leaves its room to others; then it asks again.
        with contextlib.closing(uploads.begin(UploadRequest("b", 600))), pytest.raises(ErrorReply):
            uploads.resume(upload, 0, lambda: None)
        with contextlib.closing(uploads.resume(upload, 0, lambda: None)):  # type: ignore[type-var]
            pass
