"""The served folder, with ``dir_fd`` and without: what may be had, what may be made, and nothing outside."""

import contextlib
import hashlib
import itertools
import logging
import os
import shutil
import sys
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fileserver.storage import folder as storage_module
from fileserver.storage import pagecache
from fileserver.storage.base import UploadRequest
from fileserver.storage.cached import CachedOpener
from fileserver.storage.folder import Storage
from fileserver.storage.partial_files import PARTIALS
from fileserver.storage.place import HAS_DIR_FD
from fileserver.storage.root import FolderError
from fileserver.wire.replies import ErrorReply
from tests.servers import sha256

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="Windows lets few people make links")
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")


@pytest.fixture(params=["at once", "dir_fd", "paths"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param != "paths" and not HAS_DIR_FD:
        pytest.skip("this system has no dir_fd")
    if request.param == "at once" and pagecache._syscall is None:
        pytest.skip("this system does not say what it has in memory")
    served = tmp_path / "served"
    served.mkdir()
    (tmp_path / "secret.txt").write_text("outside")
    if request.param == "at once":
        with Storage(served) as behind, CachedStorage(served, behind) as storage:
            yield storage
    else:
        with Storage(served, use_dir_fd=request.param != "paths") as storage:
            yield storage


class CachedStorage(Storage):
    """One whose files are opened as servers do it, on a disk that has proved to tell what is in memory."""

    def __init__(self, root: Path, behind: Storage) -> None:
        super().__init__(root)
        self._opener = CachedOpener(behind, lambda: None)
        self._opener._is_quick = True

    def open(self, name: str) -> Any:
        return self._opener.open(name)


def put(storage: Storage, name: str, data: bytes = b"new", exists: str = "fail") -> str:
    uploads = storage.uploads()
    upload = uploads.begin(UploadRequest(name, len(data), exists))
    try:
        upload.write(memoryview(data))
        return upload.publish(exists).name
    finally:
        upload.close()
        uploads.forget(upload.id)


def content(storage: Storage, name: str) -> bytes:
    with storage.open(name) as file:
        return file.read(0, file.size)


def names(storage: Storage, prefix: str = "", after: str = "") -> list[str]:
    return [entry.name for entry in storage.entries(prefix, after)]


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ErrorReply) as refusal:
        call()
    assert "/served" not in refusal.value.message
    assert "served" not in refusal.value.message.split()
    return refusal.value.code


# --- reading


def test_a_file_is_opened_with_its_size_time_and_etag(storage: Storage) -> None:
    path = storage.root / "week 3" / "slides.pdf"
    path.parent.mkdir()
    path.write_bytes(b"12345")
    os.utime(path, (1000, 1763800000.5))
    with storage.open("week 3/slides.pdf") as file:
        assert (file.name, file.size, file.mtime) == ("week 3/slides.pdf", 5, 1763800000.5)
        assert file.read(1, 3) == b"234"
        entry = storage.stat("week 3/slides.pdf")
        assert (entry.name, entry.size, entry.mtime, entry.etag) == (
            file.name,
            file.size,
            file.mtime,
            file.etag,
        )


def test_an_etag_changes_with_size_time_and_inode(storage: Storage) -> None:
    path = storage.root / "a"
    path.write_bytes(b"1")
    os.utime(path, (1000, 1000))
    seen = [storage.stat("a").etag]
    path.write_bytes(b"12")
    os.utime(path, (1000, 1000))
    seen.append(storage.stat("a").etag)
    os.utime(path, (1000, 2000))
    seen.append(storage.stat("a").etag)
    (storage.root / "b").write_bytes(b"12")
    os.utime(storage.root / "b", (1000, 2000))
    os.replace(storage.root / "b", path)
    seen.append(storage.stat("a").etag)
    assert len(set(seen)) == 4


def test_a_file_that_is_not_there_is_not_found(storage: Storage) -> None:
    (storage.root / "file").write_bytes(b"")
    for name in ("a", "a/b", "file/below"):
        for method in (storage.open, storage.stat, storage.delete):
            assert code_of(lambda: method(name)) == "not-found"  # noqa: B023


def test_a_folder_is_not_a_file(storage: Storage) -> None:
    (storage.root / "folder").mkdir()
    for method in (storage.open, storage.stat, storage.delete):
        assert code_of(lambda: method("folder")) == "not-a-file"  # noqa: B023
    assert (storage.root / "folder").is_dir()


BAD_NAMES = [
    "",
    "../secret.txt",
    "a/../../secret.txt",
    "/etc/passwd",
    ".",
    "..",
    "a//b",
    "a/",
    ".hidden",
    "a/.b",
    "a\0b",
    "a\nb",
    "a\\b",
    "..\\secret.txt",
    "\ud800",
    "x" * 256,
    PARTIALS + "/x",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_unsafe_name_reaches_nothing(storage: Storage, name: str) -> None:
    (storage.root / ".hidden").write_text("hidden")
    (storage.root / "a").mkdir()
    (storage.root / "a" / ".b").write_text("hidden")
    for method in (storage.open, storage.stat, storage.delete):
        assert code_of(lambda: method(name)) == "bad-name"  # noqa: B023
    assert code_of(lambda: storage.uploads().begin(UploadRequest(name, 1, "replace"))) == "bad-name"
    assert (storage.root / ".hidden").exists()
    assert (storage.root / "a" / ".b").exists()
    assert (storage.root.parent / "secret.txt").read_text() == "outside"


@needs_links
def test_a_link_as_the_last_part_is_not_a_file(storage: Storage) -> None:
    inside = storage.root / "inside.txt"
    inside.write_text("inside")
    targets = {
        "out": "../secret.txt",
        "absolute": str(storage.root.parent / "secret.txt"),
        "in": "inside.txt",
        "dangling": "nowhere",
        "folder": "..",
        "self": "self",
    }
    for name, target in targets.items():
        (storage.root / name).symlink_to(target)
        for method in (storage.open, storage.stat, storage.delete):
            assert code_of(lambda: method(name)) == "not-a-file"  # noqa: B023
        assert code_of(lambda: storage.uploads().begin(UploadRequest(name, 1, "replace"))) == "not-a-file"  # noqa: B023
        assert (storage.root / name).is_symlink()
    assert names(storage) == ["inside.txt"]


@needs_links
def test_a_link_on_the_way_leads_nowhere(storage: Storage) -> None:
    (storage.root / "real").mkdir()
    (storage.root / "real" / "a.txt").write_text("a")
    (storage.root / "up").symlink_to("..")
    (storage.root / "side").symlink_to("real")
    for name in ("up/secret.txt", "side/a.txt"):
        for method in (storage.open, storage.stat, storage.delete):
            assert code_of(lambda: method(name)) == "not-found"  # noqa: B023
    for exists in ("fail", "replace", "rename"):
        upload = UploadRequest("up/new.txt", 1, exists)
        assert code_of(lambda: storage.uploads().begin(upload)) == "not-a-file"  # noqa: B023
    assert names(storage) == ["real/a.txt"]
    assert sorted(os.listdir(storage.root.parent)) == ["secret.txt", "served"]


@needs_fifo
def test_a_fifo_is_not_a_file_and_holds_nobody_up(storage: Storage) -> None:
    os.mkfifo(storage.root / "pipe")
    for method in (storage.open, storage.stat, storage.delete):
        assert code_of(lambda: method("pipe")) == "not-a-file"  # noqa: B023
    assert names(storage) == []


@needs_fifo
def test_a_fifo_that_takes_the_place_of_a_file_before_it_is_opened_holds_nobody_up(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(storage.root / "pipe")
    regular = storage.root / "regular"
    regular.write_text("a")
    monkeypatch.setattr(storage_module, "require_regular", lambda place, name: regular.stat())
    assert code_of(lambda: storage.open("pipe")) == "not-a-file"


SEGMENT = st.sampled_from(
    ["..", ".", "", "a", "up", "secret.txt", "served", "real", ".x", "b\0", "~", "link"]
)


@needs_links
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(SEGMENT, min_size=1, max_size=6).map("/".join))
def test_no_name_whatever_reaches_a_file_outside(storage: Storage, name: str) -> None:
    if not (storage.root / "real").exists():
        (storage.root / "real").mkdir()
        (storage.root / "real" / "a").write_text("inside")
        (storage.root / "up").symlink_to("..")
        (storage.root / "link").symlink_to("../secret.txt")
    try:
        assert content(storage, name) == b"inside"
    except ErrorReply as refusal:
        assert refusal.code in ("bad-name", "not-found", "not-a-file")  # noqa: PT017


def test_an_open_file_is_read_as_it_was_when_replaced_or_deleted(storage: Storage) -> None:
    put(storage, "a", b"old")
    with storage.open("a") as file:
        put(storage, "a", b"newer", "replace")
        assert file.read(0, 10) == b"old"
        storage.delete("a")
        assert file.read(0, 10) == b"old"
        assert not file.has_changed()


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"other"),
        lambda path: os.truncate(path, 1),
        lambda path: os.utime(path, (1, 1)),
    ],
)
def test_an_open_file_knows_that_it_was_written_to(storage: Storage, change: Callable[[Path], Any]) -> None:
    put(storage, "a", b"old")
    with storage.open("a") as file:
        assert not file.has_changed()
        change(storage.root / "a")
        assert file.has_changed()


def test_a_file_is_read_without_pread_too(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    put(storage, "a", b"0123456789")
    with storage.open("a") as file:
        assert [file.read(7, 2), file.read(0, 2), file.read(9, 5)] == [b"78", b"01", b"9"]


def test_a_hash_is_of_the_whole_file_and_can_be_given_up(storage: Storage) -> None:
    data = os.urandom(2_500_000)
    put(storage, "a", data)
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) == 5:
            raise KeyboardInterrupt

    with storage.open("a") as file:
        assert file.sha256(check) == sha256(data)
        assert len(looks) == 3
        with pytest.raises(KeyboardInterrupt):
            file.sha256(check)


# --- listing


def test_entries_come_in_the_byte_order_of_their_names(storage: Storage) -> None:
    wanted = ["a b", "a-b", "a.txt", "a/b", "a/b.txt", "a/b/c", "a0", "b", "z", "é", "\uffee", "\U0001f600"]
    wanted = [name for name in wanted if name not in ("a/b",)]
    for name in wanted:
        path = storage.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    wanted.sort(key=lambda name: name.encode())
    assert names(storage) == wanted
    for index, name in enumerate(wanted):
        assert names(storage, after=name) == wanted[index + 1 :]


def test_entries_keep_to_their_prefix(storage: Storage) -> None:
    for name in ("a", "ab", "a/x", "a/y/z", "b/a"):
        if name != "a":
            put(storage, name)
    assert names(storage, "a") == ["a/x", "a/y/z", "ab"]
    assert names(storage, "a/") == ["a/x", "a/y/z"]
    assert names(storage, "a/y") == ["a/y/z"]
    assert names(storage, "a/y/") == ["a/y/z"]
    assert names(storage, "a/y/z") == ["a/y/z"]
    assert names(storage, "c") == []
    assert names(storage, "../") == []
    assert names(storage, "/") == []
    assert names(storage, "a", after="a/x") == ["a/y/z", "ab"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(
        st.lists(st.sampled_from(["a", "b", "a.b", "a b", "é", "a-"]), min_size=1, max_size=3).map("/".join)
    ),
    st.sampled_from(["", "a", "a/", "a.", "b/a", "é", "zz", "a/b/c"]),
    st.sampled_from(["", "a", "a/", "a/b", "a b/b", "é", "zz", "\ud800"]),
)
def test_entries_are_those_of_a_plain_sort_and_filter(
    storage: Storage, files: set[str], prefix: str, after: str
) -> None:
    shutil.rmtree(storage.root)
    storage.root.mkdir()
    made = []
    for name in sorted(files):
        path = storage.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        except OSError:  # a folder has that name, or a file that of a folder
            continue
        made.append(name)
    with Storage(storage.root, use_dir_fd=storage.paths.root.fd is not None) as again:
        key = after.encode("utf-8", "surrogatepass")
        wanted = sorted((n for n in made if n.startswith(prefix) and n.encode() > key), key=str.encode)
        assert names(again, prefix, after) == wanted


def test_hidden_and_unsafe_names_are_left_out_and_the_unsafe_ones_logged_once(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (".hidden", "ok", "line\nbreak"):
        (storage.root / name).write_bytes(b"")
    with open(os.fsencode(storage.root) + b"/\xff\xfe", "wb"):
        pass
    (storage.root / ".git").mkdir()
    (storage.root / ".git" / "config").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert names(storage) == ["ok"]
        assert names(storage) == ["ok"]
    assert len(caplog.records) == 2
    assert all("left out of listings" in record.getMessage() for record in caplog.records)
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_a_file_that_goes_during_a_listing_is_left_out(storage: Storage) -> None:
    for name in ("a", "b", "c"):
        put(storage, name)
    found = storage.entries()
    assert next(found).name == "a"
    storage.delete("b")
    assert [entry.name for entry in found] == ["c"]


class Calls(Counter[str]):
    """How often each of some functions of ``os`` was called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *watched: str) -> None:
        super().__init__()
        for name in watched:
            monkeypatch.setattr(os, name, self._counting(name, getattr(os, name)))

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self[name] += 1
            return function(*args, **kwargs)

        return call


def page(storage: Storage, size: int, after: str = "") -> list[str]:
    with contextlib.closing(storage.entries("", after)) as found:
        return [entry.name for entry in itertools.islice(found, size)]


def test_a_page_of_a_large_folder_costs_no_more_calls_than_one_of_a_small_folder(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    (storage.root / "folder").mkdir()
    costs = []
    for count in (20, 400):
        for number in range(count):
            (storage.root / "folder" / f"{number:04}").write_bytes(b"")
        with monkeypatch.context() as patch:
            calls = Calls(patch, "stat", "open", "lstat", "scandir")
            assert page(storage, 5, "folder/0009") == [f"folder/{number:04}" for number in range(10, 15)]
        costs.append(calls)
    assert costs[0] == costs[1]
    assert costs[0]["stat"] == 7  # one for each of the page, two to see that the served folder can be read
    assert costs[0]["scandir"] == 3


def test_a_page_reads_only_the_folders_that_it_comes_to(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (storage.root / f"{number:02}").mkdir()
        (storage.root / f"{number:02}" / "file").write_bytes(b"")
    calls = Calls(monkeypatch, "scandir")
    assert page(storage, 2, "09/file") == ["10/file", "11/file"]
    assert calls["scandir"] <= 5  # the root twice, the two, and the one in which the page before ended


def test_a_listing_that_is_left_early_leaves_no_folder_open(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/b/1", "a/b/2", "a/c/1"):
        put(storage, name)
    calls = Calls(monkeypatch, "open", "close")
    assert page(storage, 1) == ["a/b/1"]
    assert calls["open"] == calls["close"]


@needs_links
def test_a_folder_that_a_link_replaces_during_a_listing_is_not_followed(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, "folder/secret.txt")
    children = storage._listing._children

    def replaced(folder: str, wanted: Any) -> list[str]:
        found = children(folder, wanted)
        if folder:
            shutil.rmtree(storage.root / "folder")
            (storage.root / "folder").symlink_to(tmp_path)
        return found

    monkeypatch.setattr(storage._listing, "_children", replaced)
    assert names(storage) == []
    assert (storage.root / "folder" / "secret.txt").exists()  # seen through the link


def test_a_tree_as_deep_as_a_name_can_be_is_listed(storage: Storage) -> None:
    deepest = "/".join(["d"] * 500 + ["f"])
    path = storage.root / deepest
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    found: list[str] = []
    size = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=lambda: found.extend(names(storage)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert found == [deepest]


# --- Unicode's two forms

NFC, NFD = "caf\u00e9/\u00fc.txt", "cafe\u0301/u\u0308.txt"
MIXED = "cafe\u0301/\u00fc.txt"
needs_both_forms = pytest.mark.skipif(sys.platform == "darwin", reason="its disks take both forms for one")


def lay(storage: Storage, name: str, data: bytes = b"by hand") -> None:
    """A file under exactly this name, as somebody else's program makes one."""
    path = storage.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@needs_both_forms
@pytest.mark.parametrize("kept", [NFC, NFD, MIXED])
@pytest.mark.parametrize("asked", [NFC, NFD, MIXED])
def test_a_name_is_found_in_whichever_form_and_answers_with_that_of_the_disk(
    storage: Storage, kept: str, asked: str
) -> None:
    lay(storage, kept)
    assert names(storage) == [kept]
    with storage.open(asked) as file:
        assert (file.name, file.read(0, 10)) == (kept, b"by hand")
    entry = storage.stat(asked)
    storage.remember_hash(kept, entry.etag, "f" * 64)
    assert (entry.name, storage.sha256_of(storage.stat(asked))) == (kept, "f" * 64)
    assert storage.delete(asked) == kept
    assert names(storage) == []
    for method in (storage.open, storage.stat, storage.delete):
        assert code_of(lambda: method(asked)) == "not-found"  # noqa: B023


@needs_both_forms
def test_of_two_files_whose_names_look_the_same_each_is_found_by_its_own(storage: Storage) -> None:
    lay(storage, NFC, b"composed")
    lay(storage, NFD, b"decomposed")
    assert names(storage) == sorted([NFC, NFD])
    assert (content(storage, NFC), content(storage, NFD)) == (b"composed", b"decomposed")
    storage.delete(NFD)
    assert (content(storage, NFC), content(storage, NFD)) == (b"composed", b"composed")


@needs_both_forms
def test_a_name_too_long_in_one_form_is_found_by_it_in_the_other(storage: Storage) -> None:
    lay(storage, "\u00e9" * 127)
    assert content(storage, "e\u0301" * 127) == b"by hand"
    assert code_of(lambda: storage.stat("e\u0301" * 126 + "x")) in ("not-found", "bad-name")


@needs_links
@pytest.mark.parametrize(
    "name", ["../u\u0308", "u\u0308/../../secret.txt", ".u\u0308", "u\u0308\n", "li\u0301nk/secret.txt"]
)
def test_another_form_leads_no_further_than_the_name_itself(storage: Storage, name: str) -> None:
    (storage.root / "l\u00ednk").symlink_to(storage.root.parent)
    for method in (storage.open, storage.stat, storage.delete):
        assert code_of(lambda: method(name)) in ("bad-name", "not-found")  # noqa: B023


# --- deleting


def test_a_delete_takes_the_file_and_the_folders_that_it_leaves_empty(storage: Storage) -> None:
    put(storage, "a/b/c.txt")
    put(storage, "a/d.txt")
    storage.delete("a/b/c.txt")
    assert not (storage.root / "a" / "b").exists()
    assert names(storage) == ["a/d.txt"]
    storage.delete("a/d.txt")
    assert not (storage.root / "a").exists()
    assert storage.root.is_dir()
    assert code_of(lambda: storage.delete("a/d.txt")) == "not-found"


def test_a_delete_leaves_a_folder_with_hidden_things(
    storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    put(storage, "a/b")
    (storage.root / "a" / ".keep").write_bytes(b"")
    storage.delete("a/b")
    assert (storage.root / "a" / ".keep").exists()
    assert caplog.records == []


def test_a_hash_is_known_for_one_state_of_a_file_only(storage: Storage) -> None:
    put(storage, "a", b"abc")
    entry = storage.stat("a")
    assert storage.sha256_of(entry) == hashlib.sha256(b"abc").hexdigest()
    (storage.root / "a").write_bytes(b"other")
    assert storage.sha256_of(storage.stat("a")) is None
    storage.remember_hash("a", storage.stat("a").etag, "f" * 64)
    assert storage.sha256_of(storage.stat("a")) == "f" * 64
    storage.delete("a")
    assert storage.sha256_of(entry) is None


# --- the folder itself


def test_a_folder_that_cannot_be_served_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("missing", "file"):
        with pytest.raises(FolderError, match="FILES_DIRECTORY"):
            Storage(tmp_path / name)


# --- identities


def test_an_identity_outlives_a_change_and_a_new_name_and_not_what_takes_the_place(tmp_path: Path) -> None:
    (tmp_path / "week").mkdir()
    (tmp_path / "week" / "a.txt").write_bytes(b"hello")
    with Storage(tmp_path) as storage:
        folder, file = storage.identity("week/"), storage.identity("week/a.txt")
        assert folder != file
        (tmp_path / "week" / "a.txt").write_bytes(b"other")
        (tmp_path / "week" / "b.txt").write_bytes(b"new")
        assert (storage.identity("week/"), storage.identity("week/a.txt")) == (folder, file)
        (tmp_path / "week").rename(tmp_path / "month")
        assert (storage.identity("month/"), storage.identity("month/a.txt")) == (folder, file)
        for path in (tmp_path / "month" / "a.txt", tmp_path / "month" / "b.txt"):
            path.unlink()
        (tmp_path / "month").rmdir()
        (tmp_path / "week").mkdir()  # which gets the same inode on many disks
        (tmp_path / "week" / "a.txt").write_bytes(b"hello")
        assert storage.identity("week/") != folder
        assert storage.identity("week/a.txt") != file


def test_the_served_folder_has_an_identity_too(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        assert storage.identity("") == storage.identity("")


def test_a_folder_is_found_in_either_form_of_unicode(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Übung")
    (tmp_path / decomposed).mkdir()
    with Storage(tmp_path) as storage:
        assert storage.identity("Übung/") == storage.identity(f"{decomposed}/")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("nothing/", "not-found"),
        ("a.txt/", "not-found"),
        ("week", "not-a-file"),
        ("../", "bad-name"),
        ("/", "bad-name"),
        ("link/", "not-found"),
        ("week/.hidden/", "bad-name"),
    ],
)
def test_what_is_no_file_or_folder_has_no_identity(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "week").mkdir()
    (tmp_path / "a.txt").write_bytes(b"hello")
    (tmp_path / "link").symlink_to(tmp_path / "week")
    with Storage(tmp_path) as storage, pytest.raises(ErrorReply) as refused:
        storage.identity(name)
    assert refused.value.code == code


def test_where_the_system_tells_no_time_of_birth_the_inode_alone_is_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fileserver.storage.identity.birth_ns", lambda place: None)
    with Storage(tmp_path) as storage:
        assert storage.identity("") == f"{tmp_path.stat().st_ino:x}"
