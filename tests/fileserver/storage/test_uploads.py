"""Uploads that are not files yet, with ``dir_fd`` and without: whole or not at all, and gone on with."""

import contextlib
import errno
import json
import os
import shutil
import stat
import sys
import threading
import time
from collections import Counter, namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fileserver.storage import syscalls as disk
from fileserver.storage import uploads as module
from fileserver.storage import writer as writer_module
from fileserver.storage.ages import GRACE_SECONDS
from fileserver.storage.base import UploadRequest, UploadStatus
from fileserver.storage.folder import Storage
from fileserver.storage.partial_files import PARTIALS
from fileserver.storage.paths import Paths
from fileserver.storage.place import HAS_DIR_FD
from fileserver.storage.uploads import UploadStore
from fileserver.storage.writer import UploadWriter
from fileserver.wire.replies import ErrorReply
from tests.servers import numbered_bytes, sha256

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few people make links")
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
UNKNOWN = "0123456789abcdef" * 2
DAY = 86400.0


@pytest.fixture(params=[True, False], ids=["dir_fd", "paths"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param and not HAS_DIR_FD:
        pytest.skip("this system has no dir_fd")
    served = tmp_path / "served"
    served.mkdir()
    (tmp_path / "secret.txt").write_text("outside")
    with Storage(served, use_dir_fd=request.param) as storage:
        yield storage


class Clock:
    """A monotonic clock that tests put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(storage: Storage, clock: Clock) -> UploadStore:
    return storage.uploads(clock=clock)


def later(storage: Storage, clock: Clock) -> UploadStore:
    """As after a start, an hour ago: what was there then may be removed if it looks old."""
    store = storage.uploads(clock=clock)
    assert store.sweep() == 0
    clock.now += GRACE_SECONDS
    return store


def begin(
    store: UploadStore, name: str = "a", size: int = 3, exists: str = "fail", sha256: str | None = None
) -> UploadWriter:
    return store.begin(UploadRequest(name, size, exists, sha256))


def put(store: UploadStore, name: str, data: bytes = b"new", exists: str = "fail") -> str:
    with closing(begin(store, name, len(data), exists)) as upload:
        upload.write(memoryview(data))
        entry = upload.publish(exists)
    store.forget(upload.id)
    return entry.name


@contextlib.contextmanager
def closing(upload: UploadWriter | UploadStatus) -> Iterator[UploadWriter]:
    assert isinstance(upload, UploadWriter)
    try:
        yield upload
    finally:
        upload.close()


def broken_off(store: UploadStore, name: str, size: int, data: bytes, exists: str = "fail") -> str:
    """The id of an upload of which only ``data`` has come."""
    with closing(begin(store, name, size, exists)) as upload:
        upload.write(memoryview(data))
    return upload.id


def resume(store: UploadStore, upload_id: str, offset: int) -> UploadWriter | UploadStatus:
    return store.resume(upload_id, offset, lambda: None)


def content(storage: Storage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.read(0, file.size)


def names(storage: Storage) -> list[str]:
    return [entry.name for entry in storage.entries()]


def hidden(storage: Storage) -> list[str]:
    folder = storage.root / PARTIALS
    return sorted(os.listdir(folder)) if folder.exists() else []


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ErrorReply) as refusal:
        call()
    assert "/served" not in refusal.value.message
    assert PARTIALS not in refusal.value.message
    assert refusal.value.message.endswith(".")
    return refusal.value.code


def make_old(storage: Storage, *names: str, age: float = 2 * DAY) -> None:
    for name in names:
        os.utime(storage.root / PARTIALS / name, (time.time() - age,) * 2)


# --- from the first byte to the file


def test_an_upload_is_nowhere_to_be_seen_before_it_is_published(storage: Storage, store: UploadStore) -> None:
    with closing(begin(store, "new/a.txt", 6)) as upload:
        upload.write(memoryview(b"abc"))
        assert names(storage) == []
        assert code_of(lambda: storage.stat("new/a.txt")) == "not-found"
        assert not (storage.root / "new").exists()
        upload.write(memoryview(b"def"))
        entry = upload.publish("fail")
        assert (entry.name, entry.size) == ("new/a.txt", 6)
        assert storage.stat("new/a.txt") == entry
        assert content(storage, "new/a.txt") == b"abcdef"
        assert storage.sha256_of(entry) == sha256(b"abcdef") == upload.sha256
    assert hidden(storage) == [upload.id + ".json"]
    store.forget(upload.id)
    assert hidden(storage) == []


def test_a_discarded_upload_leaves_nothing(storage: Storage, store: UploadStore) -> None:
    with closing(begin(store)) as upload:
        upload.write(memoryview(b"abc"))
        assert hidden(storage) == [upload.id, upload.id + ".json"]
        upload.discard()
        upload.discard()
    assert hidden(storage) == []
    assert names(storage) == []
    assert code_of(lambda: store.state(upload.id)) == "not-found"
    assert code_of(lambda: resume(store, upload.id, 3)) == "not-found"


def test_the_hash_of_an_upload_that_is_over_is_kept_no_longer(store: UploadStore) -> None:
    put(store, "a")
    with closing(begin(store, "b")) as upload:
        upload.discard()
    kept = broken_off(store, "c", 3, b"x")
    assert list(store._hashes) == [kept]
    store.delete(kept)
    assert not store._claims


def test_hashes_are_kept_of_so_many_uploads_only(store: UploadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HASHES_KEPT", 2)
    ids = [broken_off(store, f"{n}", 3, b"x") for n in range(3)]
    assert list(store._hashes) == ids[1:]
    with closing(resume(store, ids[0], 1)) as upload:
        upload.write(memoryview(b"yz"))
        assert upload.sha256 == sha256(b"xyz")


# --- going on


def test_an_upload_goes_on_where_it_broke(storage: Storage, store: UploadStore) -> None:
    upload_id = broken_off(store, "w/a", 6, b"abc")
    state = store.state(upload_id)
    assert (state.id, state.name, state.size, state.offset, state.published) == (
        upload_id,
        "w/a",
        6,
        3,
        None,
    )
    assert abs(state.expires - time.time() - store.keep_seconds) < 60
    with closing(resume(store, upload_id, 3)) as upload:
        assert (upload.name, upload.offset) == ("w/a", 3)
        upload.write(memoryview(b"def"))
        assert upload.publish("fail").name == "w/a"
        assert upload.sha256 == sha256(b"abcdef")
    assert content(storage, "w/a") == b"abcdef"
    assert store.state(upload_id).published == "w/a"


def test_another_run_of_the_server_goes_on_with_the_right_hash(storage: Storage, store: UploadStore) -> None:
    data = numbered_bytes(3_000_000)
    upload_id = broken_off(store, "a", len(data), data[:2_000_001])
    with closing(resume(storage.uploads(), upload_id, 2_000_001)) as upload:
        upload.write(memoryview(data)[2_000_001:])
        assert upload.sha256 == sha256(data)
        upload.publish("fail")
    assert content(storage, "a") == data


def test_a_long_look_at_what_has_come_can_be_given_up(storage: Storage, store: UploadStore) -> None:
    upload_id = broken_off(store, "a", 6, b"abc")

    def give_up() -> None:
        raise ErrorReply("shutting-down", "Goodbye.")

    later = storage.uploads()
    assert code_of(lambda: later.resume(upload_id, 3, give_up)) == "shutting-down"
    with closing(resume(later, upload_id, 3)) as upload:
        assert upload.sha256 == sha256(b"abc")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=6), restarts=st.integers(0, 63)
)
def test_wherever_it_breaks_the_bytes_and_the_hash_are_right(
    storage: Storage, data: bytes, cuts: list[int], restarts: int
) -> None:
    store = storage.uploads()
    upload = begin(store, "a", len(data), "rename")
    for number, cut in enumerate(sorted(min(cut, len(data)) for cut in cuts)):
        upload.write(memoryview(data)[upload.offset : cut])
        upload.close()
        if restarts >> number & 1:
            store = storage.uploads()
        again = resume(store, upload.id, cut)
        assert isinstance(again, UploadWriter)
        upload = again
    with closing(upload):
        upload.write(memoryview(data)[upload.offset :])
        entry = upload.publish("rename")
        assert upload.sha256 == sha256(data)
    assert content(storage, entry.name) == data
    store.forget(upload.id)
    storage.delete(entry.name)
    assert hidden(storage) == []


@pytest.mark.parametrize("offset", [0, 2, 4, 6, 2**63 - 1])
def test_a_wrong_offset_is_answered_with_the_right_one(
    storage: Storage, store: UploadStore, offset: int
) -> None:
    upload_id = broken_off(store, "a", 6, b"abc")
    with pytest.raises(ErrorReply) as refusal:
        resume(store, upload_id, offset)
    assert (refusal.value.code, refusal.value.extra) == ("offset", {"offset": 3})
    with closing(resume(store, upload_id, 3)) as upload:
        assert upload.offset == 3


@pytest.mark.parametrize(
    "upload_id",
    [
        "",
        "x",
        ".",
        "..",
        "../x",
        "../secret.txt",
        "/etc/passwd",
        UNKNOWN,
        UNKNOWN.upper(),
        UNKNOWN + "\n",
        UNKNOWN[:-1],
        UNKNOWN + "0",
        UNKNOWN[:-1] + "é",
        UNKNOWN[:-1] + "\ud800",
        UNKNOWN[:-1] + "\0",
        "\uff10" * 32,
        "x" * 8000,
    ],
)
def test_an_id_that_is_none_reaches_nothing(storage: Storage, store: UploadStore, upload_id: str) -> None:
    broken_off(store, "a", 6, b"abc")
    (storage.root / "x.json").write_text(
        json.dumps({"name": "n", "size": 1, "exists": "fail", "sha256": None})
    )
    before = sorted(storage.root.parent.rglob("*"))
    for call in (store.state, store.delete, lambda i: resume(store, i, 0)):
        assert code_of(lambda: call(upload_id)) == "not-found"  # noqa: B023
    store.forget(upload_id)
    assert sorted(storage.root.parent.rglob("*")) == before
    assert not store._claims


def test_one_upload_has_one_writer_at_a_time(store: UploadStore) -> None:
    upload = begin(store)
    assert code_of(lambda: resume(store, upload.id, 0)) == "busy"
    upload.close()
    with closing(resume(store, upload.id, 0)):
        assert code_of(lambda: resume(store, upload.id, 0)) == "busy"
    with closing(resume(store, upload.id, 0)):
        pass


def test_after_a_failed_write_it_goes_on_with_what_is_there(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def breaks(fd: int, data: memoryview) -> int:
        if os.fstat(fd).st_size >= 4:
            raise OSError(errno.EIO, "Input/output error")
        return write(fd, data[:2])

    with closing(begin(store, "a", 10)) as upload:
        monkeypatch.setattr(os, "write", breaks)
        assert code_of(lambda: upload.write(memoryview(b"0123456789"))) == "internal"
        monkeypatch.undo()
    assert store.state(upload.id).offset == 4
    with closing(resume(store, upload.id, 4)) as again:
        again.write(memoryview(b"456789"))
        assert again.sha256 == sha256(b"0123456789")
        again.publish("fail")
    assert content(storage, "a") == b"0123456789"


def test_an_upload_that_has_ended_says_so_until_it_is_forgotten(storage: Storage, store: UploadStore) -> None:
    put(store, "a", b"old")
    with closing(begin(store, exists="rename")) as upload:
        upload.write(memoryview(b"abc"))
        upload.publish("rename")
    for later in (store, storage.uploads()):
        for state in (later.state(upload.id), resume(later, upload.id, 3)):
            assert isinstance(state, UploadStatus)
            assert (state.name, state.published, state.offset, state.sha256) == (
                "a",
                "a (1)",
                3,
                sha256(b"abc"),
            )
        assert code_of(lambda: resume(later, upload.id, 1)) == "offset"  # noqa: B023
        assert not later._claims
    store.forget(upload.id)
    assert code_of(lambda: store.state(upload.id)) == "not-found"
    assert content(storage, "a (1)") == b"abc"


def test_deleting_an_upload_that_has_ended_keeps_its_file(storage: Storage, store: UploadStore) -> None:
    with closing(begin(store)) as upload:
        upload.write(memoryview(b"abc"))
        upload.publish("fail")
    assert store.delete(upload.id) == "a"
    assert hidden(storage) == []
    assert content(storage, "a") == b"abc"


def test_a_description_that_never_had_bytes_is_no_success(storage: Storage, store: UploadStore) -> None:
    upload_id = broken_off(store, "a", 6, b"abc")
    os.unlink(storage.root / PARTIALS / upload_id)
    assert code_of(lambda: store.state(upload_id)) == "not-found"
    assert code_of(lambda: resume(store, upload_id, 6)) == "not-found"


def test_bytes_that_somebody_took_away_are_not_called_a_success(storage: Storage, store: UploadStore) -> None:
    with closing(begin(store)) as upload:
        upload.write(memoryview(b"abc"))
        os.unlink(storage.root / PARTIALS / upload.id)
        assert code_of(lambda: upload.publish("fail")) == "not-found"
    assert code_of(lambda: store.state(upload.id)) == "not-found"
    assert names(storage) == []


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"name": "a"}', '{"strange": 1}', "\xff"])
def test_a_description_that_cannot_be_read_is_none(storage: Storage, store: UploadStore, text: str) -> None:
    upload_id = broken_off(store, "a", 6, b"abc")
    (storage.root / PARTIALS / f"{upload_id}.json").write_bytes(text.encode("latin-1"))
    for call in (store.state, store.delete, lambda i: resume(store, i, 3)):
        assert code_of(lambda: call(upload_id)) == "not-found"  # noqa: B023


# --- throwing away


def test_a_deleted_upload_leaves_nothing(storage: Storage, store: UploadStore) -> None:
    upload_id = broken_off(store, "w/a", 6, b"abc")
    assert store.delete(upload_id) == "w/a"
    assert hidden(storage) == []
    assert code_of(lambda: store.delete(upload_id)) == "not-found"


def test_an_upload_deleted_while_it_is_written_goes_with_its_writer(
    storage: Storage, store: UploadStore
) -> None:
    with closing(begin(store)) as upload:
        upload.write(memoryview(b"abc"))
        assert store.delete(upload.id) == "a"
        assert code_of(lambda: upload.publish("fail")) == "not-found"
    assert names(storage) == hidden(storage) == []
    assert not store._claims
    assert len(store._hashes) == 0


def test_an_upload_deleted_while_it_is_looked_at_goes_too(storage: Storage, store: UploadStore) -> None:
    upload_id = broken_off(store, "a", 6, b"abc")
    later = storage.uploads()

    def delete_and_fail() -> None:
        later.delete(upload_id)
        raise ErrorReply("shutting-down", "Goodbye.")

    assert code_of(lambda: later.resume(upload_id, 3, delete_and_fail)) == "shutting-down"
    assert hidden(storage) == []
    assert not later._claims


# --- names that are taken


def test_exists_fail_refuses_at_the_start(storage: Storage, store: UploadStore) -> None:
    put(store, "a", b"old")
    (storage.root / "folder").mkdir()
    for name in ("a", "folder"):
        assert code_of(lambda: begin(store, name)) == "exists"  # noqa: B023
    assert hidden(storage) == []


def test_exists_fail_refuses_again_at_the_end_and_keeps_the_bytes(
    storage: Storage, store: UploadStore
) -> None:
    first, second = begin(store, "a", 1), begin(store, "a", 1)
    with closing(first), closing(second):
        first.write(memoryview(b"1"))
        second.write(memoryview(b"2"))
        first.publish("fail")
        assert code_of(lambda: second.publish("fail")) == "exists"
    assert content(storage, "a") == b"1"
    state = store.state(second.id)
    assert (state.offset, state.published) == (1, None)
    with closing(resume(store, second.id, 1)) as again:
        assert again.publish("rename").name == "a (1)"
        assert again.sha256 == sha256(b"2")
    assert content(storage, "a (1)") == b"2"


def test_exists_replace_puts_the_new_one_in_its_place(storage: Storage, store: UploadStore) -> None:
    put(store, "a", b"old")
    before = storage.stat("a").etag
    assert put(store, "a", b"newer", "replace") == "a"
    assert content(storage, "a") == b"newer"
    assert storage.stat("a").etag != before
    assert storage.sha256_of(storage.stat("a")) == sha256(b"newer")


def test_exists_replace_makes_a_file_where_there_was_none(storage: Storage, store: UploadStore) -> None:
    assert put(store, "x/a", b"new", "replace") == "x/a"
    assert content(storage, "x/a") == b"new"


def test_exists_replace_never_takes_a_folder_away(storage: Storage, store: UploadStore) -> None:
    with closing(begin(store, "a", 1, "replace")) as upload:
        upload.write(memoryview(b"1"))
        (storage.root / "a").mkdir()
        assert code_of(lambda: upload.publish("replace")) == "not-a-file"
    assert (storage.root / "a").is_dir()
    assert store.state(upload.id).published is None
    assert code_of(lambda: begin(store, "a", 1, "replace")) == "not-a-file"


def test_exists_rename_takes_the_first_free_number(storage: Storage, store: UploadStore) -> None:
    taken = [put(store, "w/big.iso", b"%d" % n, "rename") for n in range(4)]
    assert taken == ["w/big.iso", "w/big (1).iso", "w/big (2).iso", "w/big (3).iso"]
    assert [content(storage, name) for name in taken] == [b"0", b"1", b"2", b"3"]
    storage.delete("w/big (2).iso")
    assert put(store, "w/big.iso", b"x", "rename") == "w/big (2).iso"


def test_the_free_number_is_found_without_a_look_at_each(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    costs = []
    put(store, "first")  # which makes the hidden folder
    for first, stop in ((1, 20), (20, 1500)):
        for number in range(first, stop):
            (storage.root / f"big ({number}).iso").write_bytes(b"")
        (storage.root / "big.iso").write_bytes(b"")
        with monkeypatch.context() as patch:
            for function in ("stat", "lstat", "open", "scandir", "fsync"):
                really = getattr(os, function)

                def counted(*args: Any, really: Any = really, function: str = function, **kwargs: Any) -> Any:
                    calls[function] += 1
                    return really(*args, **kwargs)

                patch.setattr(os, function, counted)
            calls.clear()
            storage.paths.root._seen_until = float("inf")  # a look that is due now and then is not counted
            assert put(store, "big.iso", b"x", "rename") == f"big ({stop}).iso"
        costs.append(dict(calls))
        storage.delete(f"big ({stop}).iso")
    assert costs[0] == costs[1]


def test_a_number_that_another_program_takes_first_is_left_to_it(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk that takes ``BIG (7).ISO`` for the same name does, too: the list does not show it."""
    for number in range(7):
        put(store, "big.iso", b"%d" % number, "rename")
    (storage.root / "big (7).iso").write_bytes(b"not seen")
    names_in = Paths.names_in
    monkeypatch.setattr(
        Paths, "names_in", staticmethod(lambda place: [n for n in names_in(place) if "(7)" not in n])
    )
    assert put(store, "big.iso", b"x", "rename") == "big (8).iso"
    assert (storage.root / "big (7).iso").read_bytes() == b"not seen"


NFC, NFD = "caf\u00e9/\u00fc.txt", "cafe\u0301/u\u0308.txt"


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take both forms for one")
def test_a_file_whose_name_looks_the_same_takes_the_name(storage: Storage, store: UploadStore) -> None:
    (storage.root / NFD).parent.mkdir()
    (storage.root / NFD).write_bytes(b"from a Mac")
    assert code_of(lambda: begin(store, NFC, 1)) == "exists"
    folder = NFD.partition("/")[0]
    taken = [put(store, NFC, b"x", "rename") for _ in range(6)]
    assert taken == [f"{folder}/\u00fc ({number}).txt" for number in range(1, 7)]
    assert put(store, NFC, b"new", "replace") == NFD
    assert content(storage, NFC) == b"new"
    assert names(storage) == sorted([NFD, *taken])


@pytest.mark.skipif(sys.platform == "darwin", reason="its disks take both forms for one")
def test_a_number_is_taken_by_a_name_that_looks_the_same(storage: Storage, store: UploadStore) -> None:
    for number in range(1, 6):
        (storage.root / f"u\u0308 ({number}).txt").write_bytes(b"from a Mac")
    put(store, "\u00fc.txt", b"x")
    assert put(store, "\u00fc.txt", b"x", "rename") == "\u00fc (6).txt"


def test_an_upload_has_the_etag_that_its_file_has(storage: Storage, store: UploadStore) -> None:
    """The rename that publishes it is a change of the file, too."""
    with closing(begin(store, "a", 3)) as upload:
        upload.write(memoryview(b"abc"))
        entry = upload.publish("fail")
    assert storage.stat("a") == entry
    assert storage.sha256_of(storage.stat("a")) == sha256(b"abc")


def test_a_hash_is_not_of_what_another_program_has_written_by_then(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = disk.rename_if_free

    def rename_and_write(source: Any, target: Any) -> None:
        rename(source, target)
        (storage.root / "a").write_bytes(b"other")

    monkeypatch.setattr(disk, "rename_if_free", rename_and_write)
    put(store, "a", b"abc")
    assert storage.sha256_of(storage.stat("a")) is None


@pytest.fixture(params=["in one step", "look and rename"])
def way_to_rename(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the system's own step that fails if the name is taken, and where it has none."""
    if request.param == "look and rename":
        monkeypatch.setattr(disk, "_renameat2", None)


def in_threads(*works: Callable[[], Any]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("way_to_rename")
def test_of_many_uploads_of_one_name_each_gets_its_own(storage: Storage, store: UploadStore) -> None:
    published: list[str] = []
    in_threads(*[lambda n=n: published.append(put(store, "a/b.txt", b"%d" % n, "rename")) for n in range(20)])
    assert len(set(published)) == 20
    assert {content(storage, name) for name in published} == {b"%d" % n for n in range(20)}
    assert sorted(names(storage)) == sorted(published)
    assert hidden(storage) == []


@pytest.mark.usefixtures("way_to_rename")
def test_of_many_uploads_of_one_name_with_exists_fail_one_wins(storage: Storage, store: UploadStore) -> None:
    won: list[str] = []
    lost: list[str] = []
    uploads = [begin(store, "a", 1) for _ in range(10)]

    def end(upload: UploadWriter) -> None:
        with closing(upload):
            upload.write(memoryview(b"x"))
            try:
                won.append(upload.publish("fail").name)
            except ErrorReply as refusal:
                lost.append(refusal.code)
                upload.discard()

    in_threads(*[lambda upload=upload: end(upload) for upload in uploads])
    assert (won, lost) == (["a"], ["exists"] * 9)
    assert len(hidden(storage)) == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_where_the_system_has_no_such_step_a_file_is_looked_for_and_renamed(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(disk, "_renameat2", lambda *args: -1)
    monkeypatch.setattr(disk.ctypes, "get_errno", lambda: number)
    assert put(store, "x/a", b"1") == "x/a"
    assert put(store, "x/a", b"2", "rename") == "x/a (1)"
    with closing(begin(store, "x/b", 1)) as late:
        late.write(memoryview(b"3"))
        put(store, "x/b", b"4")
        assert code_of(lambda: late.publish("fail")) == "exists"
        late.discard()
    assert [content(storage, name) for name in ("x/a", "x/a (1)", "x/b")] == [b"1", b"2", b"4"]
    assert hidden(storage) == []


def test_a_rename_that_the_disk_refuses_publishes_nothing(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_renameat2", lambda *args: -1)
    monkeypatch.setattr(disk.ctypes, "get_errno", lambda: errno.EXDEV)
    with closing(begin(store, "x/a", 1)) as upload:
        upload.write(memoryview(b"1"))
        assert code_of(lambda: upload.publish("fail")) == "internal"
    assert names(storage) == []
    assert store.state(upload.id).published is None


def test_the_disk_begins_with_a_long_upload_while_it_comes(
    store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(disk, "begin_write_out", lambda fd, offset, count: begun.append((offset, count)))
    monkeypatch.setattr(writer_module, "_WRITE_OUT", 1000)
    with closing(begin(store, "long", 4000)) as upload:
        for _ in range(10):
            upload.write(memoryview(bytes(400)))
    assert begun == [(0, 1200), (1200, 1200), (2400, 1200)]


def test_that_the_disk_begins_changes_nothing_and_its_refusal_is_left_to_the_flush(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb", buffering=0) as file:
        file.write(b"abc")
        disk.begin_write_out(file.fileno(), 0, 3)
        descriptor = file.fileno()
    disk.begin_write_out(descriptor, 0, 3)  # closed by now
    assert (tmp_path / "a").read_bytes() == b"abc"


# --- refusals before the first byte


BAD_NAMES = [
    "a:b",
    "con",
    "nul.txt",
    "a.",
    "e\u0301",
    "",
    "../a",
    "/a",
    "a/../b",
    ".a",
    "a\0",
    PARTIALS + "/x",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_upload_needs_a_portable_name(storage: Storage, store: UploadStore, name: str) -> None:
    with pytest.raises(ErrorReply) as refusal:
        begin(store, name)
    assert refusal.value.code == "bad-name"
    assert os.listdir(storage.root) == []


def test_an_upload_below_a_file_is_refused_at_the_start(storage: Storage, store: UploadStore) -> None:
    put(store, "a", b"file")
    assert code_of(lambda: begin(store, "a/b")) == "not-a-file"


Usage = namedtuple("Usage", "total used free")


def test_no_room_is_told_before_the_first_byte(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 95, 5))
    assert code_of(lambda: begin(store, "a", 6)) == "no-space"
    assert put(store, "a", b"12345") == "a"


def test_no_room_for_the_rest_is_told_too_and_what_has_come_is_kept(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = broken_off(store, "a", 9, b"abc")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 95, 5))
    assert code_of(lambda: resume(store, upload_id, 3)) == "no-space"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 94, 6))
    with closing(resume(store, upload_id, 3)) as upload:
        assert upload.offset == 3


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EROFS, "denied"), (errno.EACCES, "denied"), (errno.ENOSPC, "no-space"), (errno.EIO, "internal")],
)
@pytest.mark.parametrize("step", ["mkdir", "open", "fsync", "replace"])
def test_a_folder_that_cannot_be_written_is_told_before_the_first_byte_with_the_name(
    storage: Storage,
    store: UploadStore,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    number: int,
    code: str,
) -> None:
    real = getattr(os, step)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if step == "open" and not args[1] & os.O_CREAT:
            return real(*args, **kwargs)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, refuse)
    with pytest.raises(ErrorReply) as refusal:
        begin(store, "notes.txt")
    monkeypatch.undo()
    assert refusal.value.code == code
    assert "'notes.txt'" in refusal.value.message
    assert hidden(storage) == []


# --- disks that fail in the middle


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "no-space"),
        (errno.EDQUOT, "no-space"),
        (errno.EFBIG, "too-large"),
        (errno.EIO, "internal"),
        (errno.EROFS, "denied"),
    ],
)
def test_a_disk_that_fails_in_the_middle_is_told_with_its_code(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def write(fd: int, data: memoryview) -> int:
        raise OSError(number, os.strerror(number))

    with closing(begin(store, "a", 6)) as upload:
        monkeypatch.setattr(os, "write", write)
        assert code_of(lambda: upload.write(memoryview(b"abc"))) == code
        monkeypatch.undo()
        upload.discard()
    assert hidden(storage) == []


def test_a_disk_that_takes_a_part_gets_the_rest(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:2]))
    put(store, "a", b"0123456789")
    monkeypatch.undo()
    assert content(storage, "a") == b"0123456789"


@pytest.mark.parametrize(("number", "code"), [(errno.EIO, "internal"), (errno.ENOSPC, "no-space")])
def test_a_disk_that_fails_at_the_flush_publishes_nothing(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def fsync(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with closing(begin(store)) as upload:
        upload.write(memoryview(b"abc"))
        monkeypatch.setattr(os, "fsync", fsync)
        assert code_of(lambda: upload.publish("fail")) == code
        monkeypatch.undo()
    assert names(storage) == []
    state = store.state(upload.id)
    assert (state.offset, state.published) == (3, None)


def test_file_description_and_folders_are_flushed_before_a_file_counts_as_published(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int | str] = []
    fsync, rename = os.fsync, disk.rename_if_free
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append(os.fstat(fd).st_ino), fsync(fd)))
    monkeypatch.setattr(disk, "rename_if_free", lambda *places: (steps.append("rename"), rename(*places)))
    with closing(begin(store, "w/a")) as upload:
        upload.write(memoryview(b"abc"))
        upload.publish("fail")
    before, after = steps[: steps.index("rename")], steps[steps.index("rename") + 1 :]
    assert (storage.root / "w" / "a").stat().st_ino in before
    assert (storage.root / PARTIALS / f"{upload.id}.json").stat().st_ino in before
    if storage.paths.root.fd is not None:
        assert storage.root.stat().st_ino in before
        assert {(storage.root / "w").stat().st_ino, (storage.root / PARTIALS).stat().st_ino} <= set(after)


def test_a_folder_that_goes_between_its_making_and_the_rename_is_made_again(
    storage: Storage, store: UploadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, tries = disk.rename_if_free, []

    def once_without_folder(*places: Any) -> None:
        tries.append(1)
        if len(tries) == 1:
            os.rmdir(storage.root / "w")
        rename(*places)

    monkeypatch.setattr(disk, "rename_if_free", once_without_folder)
    assert put(store, "w/a", b"abc") == "w/a"
    assert len(tries) == 2


def test_uploads_and_deletes_in_one_folder_do_not_disturb_each_other(
    storage: Storage, store: UploadStore
) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                storage.delete(put(store, f"shared/deep/{number}.txt", b"x"))
        except BaseException as error:
            failures.append(error)

    in_threads(*[lambda n=n: work(n) for n in range(4)])
    assert failures == []
    assert names(storage) == []


# --- sweeping


def test_a_sweep_removes_what_nobody_has_gone_on_with_and_nothing_else(
    storage: Storage, store: UploadStore, clock: Clock
) -> None:
    young = broken_off(store, "young", 6, b"abc")
    old = broken_off(store, "old", 6, b"abc")
    fresh_bytes = broken_off(store, "fresh bytes", 6, b"abc")
    make_old(storage, old, f"{old}.json", f"{fresh_bytes}.json")
    put(store, "file")
    os.utime(storage.root / "file", (time.time() - 2 * DAY,) * 2)
    store = later(storage, clock)
    assert store.sweep() == 1
    assert hidden(storage) == sorted([young, f"{young}.json", fresh_bytes, f"{fresh_bytes}.json"])
    assert names(storage) == ["file"]
    assert store.sweep() == 0
    assert not store._claims


def test_a_sweep_keeps_what_is_being_written_however_slowly(storage: Storage, store: UploadStore) -> None:
    with closing(begin(store)) as upload:
        make_old(storage, upload.id, f"{upload.id}.json")
        assert store.sweep() == 0
        upload.write(memoryview(b"abc"))
        upload.publish("fail")
    assert content(storage, "a") == b"abc"


def test_a_sweep_removes_the_trace_of_a_success_after_a_day_only(
    storage: Storage, store: UploadStore, clock: Clock
) -> None:
    with closing(begin(store)) as upload:
        upload.write(memoryview(b"abc"))
        upload.publish("fail")
    clock.now += DAY - 1
    assert store.sweep() == 0
    clock.now += 1
    assert store.sweep() == 1
    assert hidden(storage) == []
    assert content(storage, "a") == b"abc"


def test_a_sweep_removes_what_a_crash_has_left_and_what_was_never_ours(
    storage: Storage, store: UploadStore, clock: Clock
) -> None:
    folder = storage.root / PARTIALS
    folder.mkdir()
    strange = [UNKNOWN, f"{UNKNOWN}.draft", "f" * 32 + ".draft", "theirs", "theirs.txt", ".x", "a.b.c"]
    for name in strange:
        (folder / name).write_bytes(b"")
    store = later(storage, clock)
    assert store.sweep() == 0
    make_old(storage, *strange)
    assert store.sweep() == 5
    assert hidden(storage) == []


def test_a_sweep_goes_on_behind_what_it_cannot_remove(
    storage: Storage, store: UploadStore, clock: Clock
) -> None:
    old = [broken_off(store, f"{n}", 6, b"abc") for n in range(5)]
    for number in range(10):
        (storage.root / PARTIALS / f"{number:032x}").mkdir()
    for name in hidden(storage):
        make_old(storage, name)
    assert later(storage, clock).sweep() == len(old)
    assert len(hidden(storage)) == 10


@pytest.mark.parametrize("step", [-3600.0, 25 * 3600.0], ids=["an hour back", "25 hours forward"])
def test_a_step_of_the_clock_removes_nothing_that_somebody_is_still_at(
    storage: Storage, clock: Clock, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = storage.uploads(clock=clock)
    upload_id = broken_off(before, "a", 6, b"abc")
    wall = time.time
    monkeypatch.setattr(module.time, "time", lambda: wall() + step)
    assert before.sweep() == 0  # the same server
    clock.now = 5.0  # another one, perhaps after a start of the machine
    store = storage.uploads(clock=clock)
    assert store.sweep() == 0
    clock.now += GRACE_SECONDS - 1
    assert store.sweep() == 0
    with closing(resume(store, upload_id, 3)) as upload:
        upload.write(memoryview(b"de"))
    make_old(storage, *hidden(storage))  # as it looks to a clock that was set forward meanwhile
    clock.now += DAY - 1
    assert store.sweep() == 0
    clock.now += 1
    assert store.sweep() == 1
    assert hidden(storage) == []


def test_what_is_dated_to_the_future_goes_too_when_nobody_has_come_for_long(
    storage: Storage, store: UploadStore, clock: Clock
) -> None:
    broken_off(store, "a", 6, b"abc")
    make_old(storage, *hidden(storage), age=-30 * DAY)
    after = later(storage, clock)
    assert after.sweep() == 0
    clock.now += DAY - GRACE_SECONDS
    assert after.sweep() == 1


def test_a_sweep_of_a_folder_without_uploads_is_nothing(storage: Storage, store: UploadStore) -> None:
    assert store.sweep() == 0
    assert os.listdir(storage.root) == []


# --- nothing outside


@needs_links
def test_uploads_are_never_put_behind_a_link(storage: Storage, store: UploadStore) -> None:
    outside = storage.root.parent / "elsewhere"
    outside.mkdir()
    (outside / "theirs").write_text("x")
    os.utime(outside / "theirs", (1, 1))
    upload_id = broken_off(store, "a", 6, b"abc")
    os.rename(storage.root / PARTIALS, outside / "moved")
    (storage.root / PARTIALS).symlink_to(outside / "moved")
    before = sorted(outside.rglob("*"))
    code_of(lambda: begin(store, "b"))
    for call in (store.state, store.delete, lambda i: resume(store, i, 3)):
        assert code_of(lambda: call(upload_id)) == "not-found"  # noqa: B023
    store.forget(upload_id)
    assert store.sweep() == 0
    assert sorted(outside.rglob("*")) == before


@needs_links
@pytest.mark.parametrize("part", ["bytes", "description", "draft"])
def test_a_link_in_the_hidden_folder_is_never_followed(
    storage: Storage, store: UploadStore, clock: Clock, part: str
) -> None:
    upload_id = broken_off(store, "a", 10, b"outside")
    folder, secret = storage.root / PARTIALS, storage.root.parent / "secret.txt"
    link = (
        folder / {"bytes": upload_id, "description": f"{upload_id}.json", "draft": f"{upload_id}.draft"}[part]
    )
    if part == "description":
        os.rename(link, storage.root.parent / "description.json")
        link.symlink_to(storage.root.parent / "description.json")
    else:
        link.unlink(missing_ok=True)
        link.symlink_to(secret)
    if part == "draft":
        with closing(resume(store, upload_id, 7)) as upload:
            upload.write(memoryview(b"abc"))
            upload.publish("fail")
        assert content(storage, "a") == b"outsideabc"
        assert not link.is_symlink()
    else:
        assert code_of(lambda: resume(store, upload_id, 7)) == "not-found"
        assert code_of(lambda: resume(storage.uploads(), upload_id, 7)) == "not-found"
    os.utime(link if part != "draft" else secret, (1, 1), follow_symlinks=False)
    later(storage, clock).sweep()
    assert secret.read_text() == "outside"


@needs_fifo
@pytest.mark.parametrize("ending", ["", ".json"])
def test_a_fifo_in_the_hidden_folder_holds_nobody_up(
    storage: Storage, store: UploadStore, ending: str
) -> None:
    upload_id = broken_off(store, "a", 6, b"abc")
    path = storage.root / PARTIALS / (upload_id + ending)
    path.unlink()
    os.mkfifo(path)
    assert code_of(lambda: resume(store, upload_id, 0)) == "not-found"
    assert code_of(lambda: resume(store, upload_id, 3)) == "not-found"


@needs_links
def test_a_folder_that_becomes_a_link_during_an_upload_leads_nowhere(
    storage: Storage, store: UploadStore
) -> None:
    with closing(begin(store, "sub/secret.txt", 3, "replace")) as upload:
        upload.write(memoryview(b"new"))
        (storage.root / "sub").symlink_to("..")
        assert code_of(lambda: upload.publish("replace")) == "not-found"
    assert (storage.root.parent / "secret.txt").read_text() == "outside"
    assert store.state(upload.id).published is None


@needs_links
def test_a_link_in_the_place_of_the_file_is_never_written_through(
    storage: Storage, store: UploadStore
) -> None:
    with closing(begin(store, "a", 3, "replace")) as upload:
        upload.write(memoryview(b"new"))
        (storage.root / "a").symlink_to("../secret.txt")
        assert code_of(lambda: upload.publish("replace")) == "not-a-file"
        assert code_of(lambda: upload.publish("fail")) == "exists"
    assert (storage.root / "a").is_symlink()
    assert (storage.root.parent / "secret.txt").read_text() == "outside"


def test_a_file_can_be_read_as_any_other_and_its_description_by_the_owner_only(
    storage: Storage, store: UploadStore
) -> None:
    if sys.platform == "win32":
        pytest.skip("other permissions there")
    old = os.umask(0o022)
    try:
        put(store, "a")
        upload_id = broken_off(store, "b", 6, b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((storage.root / "a").stat().st_mode) == 0o644
    assert stat.S_IMODE((storage.root / PARTIALS / f"{upload_id}.json").stat().st_mode) == 0o600
