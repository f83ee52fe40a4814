"""What the server relies on, of any store: the same cases for the folder and for one in memory."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.limits import Options
from fileserver.rights import Principal, Ticket
from fileserver.server import FileServer
from fileserver.storage.ages import GRACE_SECONDS
from fileserver.storage.base import Store, UploadRequest, Uploads, UploadStatus, Writer
from fileserver.storage.claims import Displaced
from fileserver.storage.folder import Storage
from fileserver.transfers.copying import SMALL
from fileserver.wire.replies import ErrorReply
from tests.fileserver.storage.memory import MemoryStore
from tests.servers import (
    ALL,
    WORKER,
    Events,
    Peer,
    Running,
    accounts,
    numbered_bytes,
    request,
    sha256,
    wait_until,
)

KEEP_SECONDS = 7200.0
BIG = numbered_bytes(2_000_003)


class Clock:
    """A monotonic clock that tests put forward."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        with Storage(tmp_path) as storage:
            yield storage


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def uploads(store: Store, clock: Clock) -> Uploads:
    return store.uploads(KEEP_SECONDS, clock)


def put(uploads: Uploads, name: str, data: bytes = b"new", exists: str = "fail") -> str:
    """The name that the file got."""
    with contextlib.closing(uploads.begin(UploadRequest(name, len(data), exists))) as writer:
        writer.write(memoryview(data))
        entry = writer.publish(exists)
    uploads.forget(writer.id)
    return entry.name


def part(uploads: Uploads, name: str, data: bytes, size: int) -> str:
    """The id of an upload of which only ``data`` has come."""
    with contextlib.closing(uploads.begin(UploadRequest(name, size))) as writer:
        writer.write(memoryview(data))
    return writer.id


def resume(uploads: Uploads, upload: str, offset: int, wake: Callable[[], None] = lambda: None) -> Writer:
    writer = uploads.resume(upload, offset, lambda: None, wake)
    assert not isinstance(writer, UploadStatus)
    return writer


def content(store: Store, name: str) -> bytes:
    with store.open(name) as file:
        return bytes(file.read(0, file.size))


def names(store: Store, prefix: str = "", after: str = "") -> list[str]:
    return [entry.name for entry in store.entries(prefix, after)]


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(ErrorReply) as refusal:
        call()
    return refusal.value.code


# --- reading


def test_a_file_is_opened_and_looked_at_with_the_same_facts(store: Store, uploads: Uploads) -> None:
    put(uploads, "week 3/slides.pdf", b"0123456789")
    entry = store.stat("week 3/slides.pdf")
    with store.open("week 3/slides.pdf") as file:
        for field, value in {"name": "week 3/slides.pdf", "size": 10}.items():
            assert getattr(file, field) == getattr(entry, field) == value
        assert (file.mtime, file.etag) == (entry.mtime, entry.etag)
        assert (file.read(2, 3), file.read(8, 5), file.read(10, 5)) == (b"234", b"89", b"")
        assert file.sha256(lambda: None) == sha256(b"0123456789")
    assert list(store.entries()) == [entry]
    assert store.fault() == ""
    store.require()


def test_what_takes_the_place_of_a_file_has_another_identity(store: Store, uploads: Uploads) -> None:
    put(uploads, "week/a", b"old")
    file, folder = store.identity("week/a"), store.identity("week/")
    assert store.identity("week/a") == file
    put(uploads, "week/a", b"new", "replace")
    assert store.identity("week/a") != file
    assert store.identity("week/") == folder
    assert code_of(lambda: store.identity("gone")) == "not-found"
    assert code_of(lambda: store.identity("gone/")) == "not-found"


def test_a_folder_that_was_made_stays_when_it_is_empty(store: Store, uploads: Uploads) -> None:
    assert store.make_folder("class/week") == "class/week/"
    own = store.identity("class/week/")
    put(uploads, "class/week/a")
    assert names(store) == ["class/week/a"]
    store.delete("class/week/a")
    assert store.identity("class/week/") == own
    assert store.make_folder("class/week/") == "class/week/"
    assert store.identity("class/week/") == own
    put(uploads, "a")
    for name, code in (("a", "not-a-file"), ("a/b", "not-a-file"), ("../x", "bad-name"), ("CON", "bad-name")):
        assert code_of(lambda name=name: store.make_folder(name)) == code  # type: ignore[misc]


def test_a_hash_is_known_of_what_was_uploaded_and_of_that_state_only(store: Store, uploads: Uploads) -> None:
    put(uploads, "a", b"old")
    entry = store.stat("a")
    assert store.sha256_of(entry) == sha256(b"old")
    with store.open("a") as file:
        assert store.sha256_of(file) == sha256(b"old")
    put(uploads, "a", b"new", "replace")
    assert store.sha256_of(entry) is None
    assert store.sha256_of(store.stat("a")) == sha256(b"new")


def test_an_open_file_stays_as_it_was_when_another_takes_its_place_or_it_is_deleted(
    store: Store, uploads: Uploads
) -> None:
    put(uploads, "a", b"old")
    with store.open("a") as file:
        put(uploads, "a", b"newer", "replace")
        assert (file.read(0, 10), file.has_changed()) == (b"old", False)
        store.delete("a")
        assert (file.read(0, 10), file.has_changed()) == (b"old", False)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("missing", "not-found"),
        ("a/b", "not-a-file"),
        ("../a", "bad-name"),
        (".a", "bad-name"),
        ("", "bad-name"),
    ],
)
def test_what_is_no_file_is_refused_by_every_method(
    store: Store, uploads: Uploads, name: str, code: str
) -> None:
    put(uploads, "a/b/c")
    for method in (store.open, store.stat, store.delete):
        assert code_of(lambda: method(name)) == code  # noqa: B023


def test_entries_have_the_order_of_bytes_and_keep_to_prefix_and_after(store: Store, uploads: Uploads) -> None:
    wanted = ["a", "a b", "a/x", "a/y/z", "ab", "b", "é", "\U0001f600"]
    wanted.remove("a")  # there is a folder of that name
    for name in reversed(wanted):
        put(uploads, name)
    assert names(store) == sorted(wanted, key=str.encode)
    assert names(store, "a/") == ["a/x", "a/y/z"]
    assert names(store, "a", after="a/x") == ["a/y/z", "ab"]
    assert names(store, "c") == []


def test_a_name_is_found_in_unicode_s_other_form(store: Store, uploads: Uploads) -> None:
    put(uploads, "café")
    for method in (lambda: store.stat("cafe\u0301").name, lambda: store.delete("cafe\u0301")):
        assert method() == "café"


# --- deleting


def test_a_file_is_deleted_in_the_state_that_was_named_and_no_other(store: Store, uploads: Uploads) -> None:
    put(uploads, "a/b", b"old")
    old = store.stat("a/b").etag
    put(uploads, "a/b", b"newer", "replace")
    assert code_of(lambda: store.delete("a/b", old)) == "changed"
    assert content(store, "a/b") == b"newer"
    assert store.delete("a/b", store.stat("a/b").etag) == "a/b"
    assert names(store) == []
    assert code_of(lambda: store.delete("a/b", "*")) == "not-found"
    put(uploads, "a")  # the folder went with its last file


# --- uploads


def test_an_upload_is_nowhere_to_be_seen_until_it_is_published(store: Store, uploads: Uploads) -> None:
    asked = UploadRequest("a", 6, "fail", sha256(b"abcdef"), metadata="filename YQ==")
    with contextlib.closing(uploads.begin(asked)) as writer:
        writer.write(memoryview(b"abc"))
        assert (names(store), writer.offset, writer.sha256) == ([], 3, sha256(b"abc"))
        state = uploads.state(writer.id)
        assert (state.name, state.size, state.offset, state.published) == ("a", 6, 3, None)
        assert state.metadata == "filename YQ=="
        writer.write(memoryview(b"def"))
        writer.check()
        writer.settle()
        entry = writer.publish("fail")
    assert store.stat("a") == entry
    assert content(store, "a") == b"abcdef"


def test_an_upload_that_has_ended_says_so_until_it_is_forgotten(store: Store, uploads: Uploads) -> None:
    with contextlib.closing(uploads.begin(UploadRequest("a", 3))) as writer:
        writer.write(memoryview(b"abc"))
        writer.publish("fail")
    for state in (uploads.state(writer.id), uploads.resume(writer.id, 3, lambda: None)):
        assert isinstance(state, UploadStatus)
        assert (state.published, state.offset, state.sha256) == ("a", 3, sha256(b"abc"))
    uploads.forget(writer.id)
    assert code_of(lambda: uploads.state(writer.id)) == "not-found"
    assert content(store, "a") == b"abc"


def test_exists_fail_refuses_a_taken_name_at_the_start_and_at_the_end(store: Store, uploads: Uploads) -> None:
    with contextlib.closing(uploads.begin(UploadRequest("a", 3))) as writer:
        writer.write(memoryview(b"abc"))
        put(uploads, "a", b"first")
        assert code_of(lambda: writer.publish("fail")) == "exists"
    assert code_of(lambda: uploads.begin(UploadRequest("a", 3))) == "exists"
    assert uploads.state(writer.id).offset == 3
    assert content(store, "a") == b"first"


def test_exists_rename_takes_the_first_free_number(store: Store, uploads: Uploads) -> None:
    got = [put(uploads, "week/a.txt", data, "rename") for data in (b"0", b"1", b"2")]
    assert got == ["week/a.txt", "week/a (1).txt", "week/a (2).txt"]
    assert content(store, "week/a (2).txt") == b"2"


def test_exists_replace_takes_the_place_of_a_file_and_never_of_a_folder(
    store: Store, uploads: Uploads
) -> None:
    put(uploads, "a", b"old", "replace")
    assert put(uploads, "a", b"new", "replace") == "a"
    assert content(store, "a") == b"new"
    put(uploads, "b/c")
    assert code_of(lambda: uploads.begin(UploadRequest("b", 3, "replace"))) == "not-a-file"
    assert code_of(lambda: uploads.begin(UploadRequest("a/b", 3, "replace"))) == "not-a-file"


@pytest.mark.parametrize(
    ("exists", "there", "name", "replaced"),
    [
        ("fail", "b", "a", False),
        ("replace", "b", "a", False),
        ("replace", "a", "a", True),
        ("rename", "a", "a (1)", False),
    ],
)
def test_a_writer_knows_whether_it_has_replaced_a_file(
    uploads: Uploads, exists: str, there: str, name: str, replaced: bool
) -> None:
    put(uploads, there, b"old")
    with contextlib.closing(uploads.begin(UploadRequest("a", 3, exists))) as writer:
        writer.write(memoryview(b"new"))
        assert (writer.publish(exists).name, writer.replaced) == (name, replaced)


@pytest.mark.parametrize("state", ["its own", "*"])
def test_a_file_is_replaced_in_the_state_that_was_named(store: Store, uploads: Uploads, state: str) -> None:
    put(uploads, "a", b"old")
    etag = "*" if state == "*" else store.stat("a").etag
    with contextlib.closing(uploads.begin(UploadRequest("a", 3, "replace", etag=etag))) as writer:
        writer.write(memoryview(b"new"))
        writer.publish("replace", etag)
    assert content(store, "a") == b"new"


def test_a_file_that_changes_meanwhile_is_left_alone_and_the_bytes_are_kept(
    store: Store, uploads: Uploads
) -> None:
    assert code_of(lambda: uploads.begin(UploadRequest("a", 3, "replace", etag="*"))) == "changed"
    put(uploads, "a", b"old")
    etag = store.stat("a").etag
    with contextlib.closing(uploads.begin(UploadRequest("a", 3, "replace", etag=etag))) as writer:
        writer.write(memoryview(b"new"))
        put(uploads, "a", b"other", "replace")
        assert code_of(lambda: writer.publish("replace", etag)) == "changed"
    assert content(store, "a") == b"other"
    assert uploads.state(writer.id).offset == 3


@pytest.mark.parametrize(("name", "code"), [("a:b", "bad-name"), ("con", "bad-name"), ("../a", "bad-name")])
def test_an_upload_needs_a_portable_name(uploads: Uploads, name: str, code: str) -> None:
    assert code_of(lambda: uploads.begin(UploadRequest(name, 1))) == code


def test_an_upload_is_resumed_where_it_broke_and_at_no_other_offset(store: Store, uploads: Uploads) -> None:
    upload = part(uploads, "a", b"abc", 6)
    for wrong in (0, 2, 4):
        with pytest.raises(ErrorReply) as refusal:
            uploads.resume(upload, wrong, lambda: None)
        assert (refusal.value.code, refusal.value.extra) == ("offset", {"offset": 3})
    with contextlib.closing(resume(uploads, upload, 3)) as writer:
        writer.write(memoryview(b"def"))
        assert writer.sha256 == sha256(b"abcdef")
        writer.publish("fail")
    assert content(store, "a") == b"abcdef"


def test_who_names_the_right_offset_takes_over_and_the_old_writer_is_displaced(
    store: Store, uploads: Uploads
) -> None:
    woken = threading.Event()
    upload = part(uploads, "a", b"abc", 6)
    old = resume(uploads, upload, 3, woken.set)
    assert code_of(lambda: uploads.resume(upload, 2, lambda: None)) == "busy"
    old.check()
    displaced: list[bool] = []

    def let_go() -> None:
        assert woken.wait(5)
        with contextlib.closing(old), pytest.raises(Displaced):
            old.check()
        displaced.append(True)

    thread = threading.Thread(target=let_go)
    thread.start()
    with contextlib.closing(resume(uploads, upload, 3)) as writer:
        writer.write(memoryview(b"def"))
        writer.publish("fail")
    thread.join()
    assert displaced == [True]
    assert content(store, "a") == b"abcdef"


def test_nobody_takes_over_from_a_writer_that_has_settled(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fileserver.storage.claims.TAKE_OVER_SECONDS", 0.01)
    upload = part(uploads, "a", b"abc", 3)
    with contextlib.closing(resume(uploads, upload, 3)) as writer:
        writer.settle()
        assert code_of(lambda: uploads.resume(upload, 3, lambda: None)) == "busy"
        writer.check()


def test_a_discarded_upload_leaves_nothing(store: Store, uploads: Uploads) -> None:
    with contextlib.closing(uploads.begin(UploadRequest("a", 3))) as writer:
        writer.write(memoryview(b"abc"))
        writer.discard()
    assert code_of(lambda: uploads.state(writer.id)) == "not-found"
    assert names(store) == []


def test_a_deleted_upload_goes_at_once_or_with_its_writer(store: Store, uploads: Uploads) -> None:
    upload = part(uploads, "a", b"abc", 6)
    assert uploads.delete(upload) == "a"
    assert code_of(lambda: uploads.delete(upload)) == "not-found"
    with contextlib.closing(uploads.begin(UploadRequest("b", 3))) as writer:
        writer.write(memoryview(b"abc"))
        assert uploads.delete(writer.id) == "b"
        assert code_of(lambda: writer.publish("fail")) == "not-found"
    assert code_of(lambda: uploads.state(writer.id)) == "not-found"
    assert names(store) == []


@pytest.mark.parametrize("upload", ["0" * 32, "", "../a", "é"])
def test_an_upload_that_never_was_is_not_found(uploads: Uploads, upload: str) -> None:
    for method in (uploads.state, uploads.delete, lambda upload: uploads.resume(upload, 0, lambda: None)):
        assert code_of(lambda: method(upload)) == "not-found"  # noqa: B023
    uploads.forget(upload)


def test_a_sweep_removes_what_nobody_has_resumed_for_long(uploads: Uploads, clock: Clock) -> None:
    old = part(uploads, "old", b"abc", 6)
    clock.now += GRACE_SECONDS
    young = part(uploads, "young", b"abc", 6)
    with contextlib.closing(resume(uploads, part(uploads, "written", b"abc", 6), 3)) as written:
        clock.now += KEEP_SECONDS - GRACE_SECONDS
        assert uploads.sweep() == 1
        clock.now += KEEP_SECONDS
        assert uploads.sweep() == 1
        assert uploads.state(written.id).offset == 3
    for upload in (old, young):
        assert code_of(lambda: uploads.state(upload)) == "not-found"  # noqa: B023


# --- a server over it


ACCESS = accounts(
    {
        None: (Principal("guest"), ALL),
        "ticket": (Principal("ticket", ticket=Ticket("big")), ALL),
    }
)


@pytest.fixture
def running(store: Any) -> Iterator[Running]:
    events = Events()
    options = Options(worker=WORKER, direct=True)
    with FileServer(store, observer=events, access=ACCESS, options=options) as server:
        thread = threading.Thread(target=server.serve_forever, name="Server")
        thread.start()
        try:
            yield Running(server, store, events, thread)
        finally:
            server.shutdown(grace=0)
            thread.join()


@pytest.fixture
def peer(running: Running) -> Iterator[Peer]:
    with running.peer() as peer:
        yield peer


def send_file(peer: Peer, name: str, data: bytes, **fields: Any) -> dict[str, Any]:
    peer.ask("PUT", name=name, size=len(data), **fields)
    peer.send(data)
    return peer.end()


def test_what_a_server_takes_it_lists_tells_and_sends(peer: Peer, running: Running) -> None:
    for name, data in {"big": BIG, "small": b"0123456789", "empty": b""}.items():
        assert send_file(peer, name, data)["sha256"] == sha256(data)
        state = peer.ask("STAT", name=name)
        assert (state["size"], state["sha256"]) == (len(data), sha256(data))
        header = peer.ask("GET", name=name, etag=state["etag"])
        assert peer.read(header["length"]) == data
        assert peer.end()["sent"] == len(data)
        ending = running.events.ending(header["id"])
        assert (ending.outcome, ending.done) == ("complete", len(data))
    assert peer.ask("LIST")["count"] == 3
    assert [peer.json()["name"] for _ in range(3)] == ["big", "empty", "small"]


@pytest.mark.parametrize(("offset", "length"), [(0, 10), (5, SMALL), (17, SMALL + 1), (1_000_000, None)])
@pytest.mark.parametrize("pace", [None, {"chunk": 700_000, "pause": 0.001}])
def test_a_part_arrives_as_it_was_asked_for(
    peer: Peer, offset: int, length: int | None, pace: dict[str, Any] | None
) -> None:
    send_file(peer, "big", BIG)
    header = peer.ask("GET", name="big", offset=offset, length=length, pace=pace)
    wanted = BIG[offset:] if length is None else BIG[offset : offset + length]
    assert peer.read(header["length"]) == wanted
    assert peer.end()["sent"] == len(wanted)


def test_an_upload_by_parts_goes_on_over_another_connection(peer: Peer, running: Running) -> None:
    upload = peer.ask("PUT", name="a", size=6, length=3)["upload"]
    peer.send(b"abc")
    peer.end()
    with running.peer() as again:
        assert again.ask("STAT", upload=upload)["offset"] == 3
        again.ask("PUT", name="a", size=6, upload=upload, offset=3)
        again.send(b"def")
        assert again.end()["sha256"] == sha256(b"abcdef")


def test_a_file_is_replaced_and_deleted_under_conditions(peer: Peer) -> None:
    send_file(peer, "a", b"old")
    etag = peer.ask("STAT", name="a")["etag"]
    send_file(peer, "a", b"newer", exists="replace")
    assert peer.refusal(request("DELETE", name="a", etag=etag))["code"] == "changed"
    assert peer.ask("DELETE", name="a", etag=peer.ask("STAT", name="a")["etag"]) == {"name": "a"}
    assert peer.refusal(request("STAT", name="a"))["code"] == "not-found"


@pytest.mark.parametrize(
    ("headers", "status", "wanted"),
    [
        ("", 200, BIG),
        ("Range: bytes=5-14\r\n", 206, BIG[5:15]),
        ("Range: bytes=-70000\r\n", 206, BIG[-70_000:]),
        ("Range: bytes=9000000-\r\n", 416, None),
    ],
)
def test_a_browser_downloads_with_a_ticket(
    peer: Peer, running: Running, headers: str, status: int, wanted: bytes | None
) -> None:
    send_file(peer, "big", BIG)
    peer.ask("QUIT")
    request = f"GET /get/ticket/big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
    with running.peer() as browser:
        browser.send(request.encode())
        head, _, body = browser.rest().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    if wanted is not None:
        assert body == wanted
    wait_until(lambda: not running.server.registry.live())
