"""The two byte loops, over real sockets, and the name that each way to end gets."""

import errno
import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.events import TransferFinished, TransferStarted
from fileserver.limits import Limits
from fileserver.net import unacknowledged
from fileserver.net.connection import Connection
from fileserver.net.stall import PeerGone, Stalled
from fileserver.pacing import Pace
from fileserver.rights import Principal
from fileserver.sessions import downloads as downloads_module
from fileserver.storage import pagecache
from fileserver.storage import syscalls as disk
from fileserver.storage.content import OpenFile
from fileserver.storage.partial_files import PARTIALS
from fileserver.transfers import copying
from fileserver.transfers.copying import SMALL, WINDOW, FileChanged, ending_of
from fileserver.transfers.transfer import Stopped
from fileserver.wire.replies import ErrorReply
from tests.servers import (
    ALL,
    RELAY,
    Peer,
    Running,
    accounts,
    numbered_bytes,
    request,
    run_server,
    sha256,
    wait_until,
)

BIG = 20_000_000  # bytes: more than all buffers on the way
QUICK = Pace(1000, 0.02)


@pytest.fixture(params=["sendfile", "no sendfile", "paths", "no SIOCOUTQ"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The fast way of a system, and each plain one with the fast one switched off."""
    if request.param == "sendfile" and not hasattr(os, "sendfile"):
        pytest.skip("this system has no sendfile")
    if request.param == "no sendfile":
        monkeypatch.delattr(os, "sendfile", raising=False)
    if request.param == "no SIOCOUTQ":
        monkeypatch.setattr(unacknowledged, "SYSTEM_TELLS", False)
    return str(request.param)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path) as running:
        yield running


def get(peer: Peer, name: str, **fields: Any) -> bytes:
    header = peer.ask("GET", name=name, **fields)
    data = peer.read(header["length"])
    assert peer.end() == {"id": header["id"], "sent": header["length"]}
    return data


SIZES = [0, 1, 3, 999, SMALL - 1, SMALL, SMALL + 1, WINDOW, WINDOW + 1, 3 * WINDOW + 17]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_arrives_whole_whatever_its_size(way: str, tmp_path: Path, size: int) -> None:
    data = numbered_bytes(size)
    (tmp_path / "a").write_bytes(data)
    with run_server(tmp_path, use_dir_fd=way != "paths") as running, running.peer() as peer:
        assert get(peer, "a") == data
        assert peer.is_usable()
        ending = running.events.ending(1)
        assert (ending.outcome, ending.done, ending.error) == ("complete", size, "")


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 10), (5, None), (1000, 0), (1234, 70_000), (2_000_000, None), (1_999_999, 5)]
)
def test_a_part_arrives_as_it_was_asked_for(
    way: str, tmp_path: Path, offset: int, length: int | None
) -> None:
    data = numbered_bytes(2_000_000)
    (tmp_path / "a").write_bytes(data)
    wanted = data[offset:] if length is None else data[offset : offset + length]
    fields = {} if length is None else {"length": length}
    with run_server(tmp_path, use_dir_fd=way != "paths") as running, running.peer() as peer:
        assert get(peer, "a", offset=offset, **fields) == wanted
        assert get(peer, "a", offset=offset, pace={"chunk": 700_000, "pause": 0.001}, **fields) == wanted
        assert running.events.ending(2).done == len(wanted)


@pytest.mark.parametrize(
    "data", [b"EOF", b"contentEOF", b"EOF\n", b'END {"id": 1, "sent": 3}\n', b"ERR {}\n" * 9000]
)
def test_a_file_that_ends_like_a_reply_arrives_whole(running: Running, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    with running.peer() as peer:
        assert get(peer, "a") == data
        assert peer.is_usable()


def test_where_the_file_system_knows_no_sendfile_the_bytes_are_read(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sendfile(*args: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", no_sendfile, raising=False)
    data = numbered_bytes(1_000_000)
    (tmp_path / "a").write_bytes(data)
    with running.peer() as peer:
        assert get(peer, "a") == data


def test_full_speed_is_the_default(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with running.peer() as peer:
        begun = time.monotonic()
        get(peer, "a")
        assert time.monotonic() - begun < 4  # at 1000 bytes each 0.2 s it would be an hour
    assert running.events.of(TransferStarted)[0].pace == ""


# --- pace


def test_a_paced_file_comes_a_chunk_at_a_time(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(10_500)
    (tmp_path / "a").write_bytes(data)
    with running.peer() as peer:
        begun = time.monotonic()
        assert get(peer, "a", pace=QUICK.as_json()) == data
        assert time.monotonic() - begun >= 0.2  # eleven chunks, the first at once
    assert running.events.of(TransferStarted)[0].pace == str(QUICK)


def test_a_chunk_may_be_larger_than_what_is_read_at_a_time(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(4 * WINDOW)
    (tmp_path / "a").write_bytes(data)
    with running.peer() as peer:
        begun = time.monotonic()
        assert get(peer, "a", pace={"chunk": 4 * WINDOW, "pause": 60}) == data
        assert time.monotonic() - begun < 5


def test_a_pace_that_is_lifted_lets_the_rest_go_at_full_speed(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(5_000_000)
    (tmp_path / "a").write_bytes(data)
    with running.peer() as peer:
        peer.ask("GET", name="a", pace={"chunk": 1000, "pause": 0.05})  # all of it would take four minutes
        wait_until(lambda: running.live().done >= 2000)
        running.live().control.pace = None
        assert peer.read(len(data)) == data
        assert peer.end()["sent"] == len(data)


def test_a_pace_that_is_set_holds_from_the_next_chunk_on(running: Running, tmp_path: Path) -> None:
    data = numbered_bytes(40_000_000)
    (tmp_path / "a").write_bytes(data)
    with running.peer() as peer:
        peer.ask("GET", name="a")
        wait_until(lambda: running.live().done > 0)  # the rest waits until the peer reads
        running.live().control.pace = Pace(3_000_000, 0.05)
        begun = time.monotonic()
        assert peer.read(len(data)) == data
        assert time.monotonic() - begun >= 0.25  # of at least six chunks; at full speed it is a tenth of that
        assert peer.end()["sent"] == len(data)


def test_an_upload_takes_a_changed_pace_at_its_next_chunk(tmp_path: Path) -> None:
    data = numbered_bytes(5_000_000)
    with run_server(tmp_path, pace=Pace(1000, 0.05)) as running, running.peer() as peer:
        peer.ask("PUT", name="a", size=len(data))
        sender = threading.Thread(target=peer.send, args=(data,))
        sender.start()
        wait_until(lambda: running.live().done >= 2000)
        running.live().control.pace = None
        sender.join()
        assert peer.end()["sha256"] == sha256(data)
    assert (tmp_path / "a").read_bytes() == data


def test_three_paced_downloads_side_by_side_take_as_long_as_one_each_in_its_own_thread(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(20_000))

    def download() -> None:
        with running.peer() as peer:
            get(peer, "a", pace=QUICK.as_json())

    begun = time.monotonic()
    download()
    alone = time.monotonic() - begun
    threads = [threading.Thread(target=download) for _ in range(3)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together = time.monotonic() - begun
    assert alone >= 0.38
    assert together < 3 * 0.38  # which they need at least, one after another
    started = running.events.of(TransferStarted)
    assert len({event.thread for event in started}) == 4
    assert all(event.thread.startswith("ClientThread-") for event in started)


def test_the_servers_pace_holds_for_all_and_only_a_slower_one_may_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(3_000))
    with run_server(tmp_path, pace=QUICK) as running, running.peer() as peer:
        get(peer, "a")
        get(peer, "a", pace={"chunk": 1000, "pause": 0.03})
        refusal = peer.refusal(request("GET", name="a", pace={"chunk": 1001, "pause": 0.02}))
        assert refusal["code"] == "denied"
        get(peer, "a", pace={"chunk": 100_000, "pause": 0})  # that is: none of its own
        paces = [event.pace for event in running.events.of(TransferStarted)]
        assert paces == [str(QUICK), "1000 bytes each 0.03 s", str(QUICK)]


def test_the_servers_pace_holds_for_uploads_too(tmp_path: Path) -> None:
    data = numbered_bytes(10_500)
    with run_server(tmp_path, pace=QUICK) as running, running.peer() as peer:
        begun = time.monotonic()
        peer.ask("PUT", name="a", size=len(data))
        peer.send(data)
        assert peer.end()["sha256"] == sha256(data)
        assert time.monotonic() - begun >= 0.2


def test_all_parts_of_an_upload_share_one_pace(tmp_path: Path) -> None:
    data = numbered_bytes(10_500)
    with run_server(tmp_path, pace=QUICK) as running, running.peer() as peer:
        begun, upload = time.monotonic(), {}
        for offset in range(0, len(data), 1000):
            peer.ask("PUT", name="a", size=len(data), offset=offset, length=1000, **upload)
            peer.send(data[offset : offset + 1000])
            end = peer.end()
            upload = {"upload": end.get("upload")}
        assert end["sha256"] == sha256(data)
        assert time.monotonic() - begun >= 0.2


def test_a_pause_may_be_as_short_as_a_number_can_be(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    with running.peer() as peer:
        assert get(peer, "a", pace={"chunk": 1, "pause": 1e-320}) == bytes(1000)


@pytest.mark.parametrize("verb", ["GET", "PUT"])
def test_who_is_gone_in_a_long_pause_keeps_no_thread(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_LOOK_SECONDS", 0.05)
    (tmp_path / "a").write_bytes(bytes(1000))
    with run_server(tmp_path, pace=Pace(1, 3600)) as running, running.peer() as peer:
        begun = peer.ask(verb, name="a" if verb == "GET" else "b", **({} if verb == "GET" else {"size": 9}))
        if verb == "PUT":
            peer.send(b"1")
        else:
            peer.read(1)
        peer.reset()
        ending = running.events.ending(begun["id"])
        assert (ending.outcome, ending.error) == ("aborted", "disconnected")
        wait_until(lambda: running.server.registry.ping()["clients"] == 0)


# --- downloads that end otherwise


@pytest.mark.parametrize(
    ("how", "ending"),
    [
        ("cancel", ("cancelled", "")),
        ("shutdown", ("aborted", "shutting-down")),
        ("stall", ("aborted", "stalled")),
    ],
)
@pytest.mark.parametrize("size", [60_000, BIG])
def test_what_was_stopped_never_arrives_with_its_end(
    tmp_path: Path, size: int, how: str, ending: tuple[str, str]
) -> None:
    """All of a small file may wait in the queue of the system, ``END`` too."""
    (tmp_path / "a").write_bytes(bytes(size))
    limits = Limits(stall=0.2 if how == "stall" else 60.0)
    with run_server(tmp_path, limits=limits) as running, running.peer(receive_buffer=4096) as peer:
        begun = peer.ask("GET", name="a")
        if how == "cancel":
            with running.peer() as other:
                assert other.ask("CANCEL", id=begun["id"])["state"] == "cancelled"
        elif how == "shutdown":
            running.server.shutdown(grace=0)
        found = running.events.ending(begun["id"])
        assert (found.outcome, found.error) == ending
        assert b"END" not in peer.rest()


def test_a_connection_remembers_what_it_got_and_not_the_files(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with running.peer() as peer:
        for _ in range(20):
            get(peer, "a")
        gc.collect()
        assert sum(isinstance(each, OpenFile) for each in gc.get_objects()) <= 1


def test_a_connection_cut_at_40_percent_is_a_failure_for_the_client_and_aborted_for_the_observer(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with running.peer() as peer:
        header = peer.ask("GET", name="a")
        peer.read(BIG * 4 // 10)
        peer.close()
    ending = running.events.ending(header["id"])
    assert (ending.outcome, ending.error) == ("aborted", "disconnected")
    assert BIG * 4 // 10 <= ending.done < BIG


def test_a_server_that_goes_at_40_percent_sends_no_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with run_server(tmp_path) as running, running.peer() as peer:
        peer.ask("GET", name="a")
        peer.read(BIG * 4 // 10)
        running.server.shutdown(grace=0)
        rest = peer.rest()
        assert len(rest) < BIG * 6 // 10
        assert b"END" not in rest


@pytest.mark.parametrize("how", [Peer.close, Peer.reset])
@pytest.mark.parametrize("size", [SMALL, 700_000])
def test_a_peer_that_takes_nothing_and_goes_is_no_complete_download(
    running: Running, tmp_path: Path, how: Callable[[Peer], None], size: int
) -> None:
    """All bytes fit into the buffers of this system, but not into the peer's: they never arrive."""
    (tmp_path / "a").write_bytes(bytes(size))
    with running.peer(receive_buffer=2048) as peer:
        peer.send(b"GET a\n")
        transfer = running.live()
        how(peer)
    ending = running.events.ending(transfer.id, seconds=5)
    assert (ending.outcome, ending.error) == ("aborted", "disconnected")


def test_a_peer_that_takes_nothing_stalls_and_is_let_go(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with run_server(tmp_path, limits=Limits(stall=0.2)) as running, running.peer(receive_buffer=4096) as peer:
        peer.send(b"GET a\n")
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error) == ("aborted", "stalled")
        assert b"END" not in peer.rest()[-100:]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_small_file_that_the_peer_never_takes_stalls_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(SMALL))
    with run_server(tmp_path, limits=Limits(stall=0.2)) as running, running.peer(receive_buffer=2048) as peer:
        peer.send(b"GET a\n")
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error) == ("aborted", "stalled")


def test_a_paced_download_is_never_held_against_its_peer(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(5))
    with run_server(tmp_path, limits=Limits(stall=0.05)) as running, running.peer() as peer:
        get(peer, "a", pace={"chunk": 1, "pause": 0.1})
        assert running.events.ending(1).outcome == "complete"


def test_a_file_that_is_replaced_or_deleted_meanwhile_arrives_as_it_was(way: str, tmp_path: Path) -> None:
    data = numbered_bytes(BIG)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "other").write_bytes(b"other")
    with (
        run_server(tmp_path, use_dir_fd=way != "paths") as running,
        running.peer() as peer,
        running.peer() as second,
    ):
        header, second_header = peer.ask("GET", name="a"), second.ask("GET", name="a")
        os.replace(tmp_path / "other", tmp_path / "a")
        assert peer.read(header["length"]) == data
        assert peer.end()["sent"] == BIG
        os.unlink(tmp_path / "a")
        assert second.read(second_header["length"]) == data
        assert second.end()["sent"] == BIG
        assert {running.events.ending(n).outcome for n in (1, 2)} == {"complete"}


@pytest.mark.parametrize("pace", [None, {"chunk": 100_000, "pause": 0.001}])
def test_a_file_that_is_cut_short_meanwhile_ends_without_end(
    way: str, tmp_path: Path, pace: dict[str, Any] | None
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with run_server(tmp_path, use_dir_fd=way != "paths") as running, running.peer() as peer:
        peer.ask("GET", name="a", pace=pace)
        os.truncate(tmp_path / "a", BIG - 1)
        rest = peer.rest()
        assert len(rest) < BIG
        assert rest.count(0) == len(rest)  # no reply among the bytes
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error) == ("failed", "changed")


@pytest.mark.parametrize("pace", [None, {"chunk": 100_000, "pause": 0.001}])
def test_a_file_that_is_written_to_meanwhile_gets_changed_in_place_of_end(
    way: str, tmp_path: Path, pace: dict[str, Any] | None
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with run_server(tmp_path, use_dir_fd=way != "paths") as running, running.peer() as peer:
        peer.ask("GET", name="a", pace=pace)
        with open(tmp_path / "a", "ab") as file:
            file.write(b"more")
        assert peer.read(BIG) == bytes(BIG)
        assert peer.err()["code"] == "changed"
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error, ending.done) == ("failed", "changed", BIG)
        assert peer.is_usable()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no moment of the last change")
@pytest.mark.parametrize("pace", [None, {"chunk": 100_000, "pause": 0.001}])
def test_a_write_whose_time_is_put_back_gets_changed_in_place_of_end(
    way: str, tmp_path: Path, pace: dict[str, Any] | None
) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(BIG))
    with run_server(tmp_path, use_dir_fd=way != "paths") as running, running.peer() as peer:
        before = peer.ask("GET", name="a", pace=pace)
        found = path.stat()
        with path.open("r+b") as file:
            file.seek(BIG // 2)
            file.write(b"mixed")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
        peer.read(BIG)
        assert peer.err()["code"] == "changed"
        assert running.events.ending(1).error == "changed"
        # Nor is what has come gone on with: it is of another content.
        refusal = peer.refusal(request("GET", name="a", offset=1000, etag=before["etag"]))
        assert refusal["code"] == "changed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows moves no open file")
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.chmod(0o600),
        lambda path: os.link(path, path.with_name("b")),
        lambda path: path.rename(path.with_name("b")),
        lambda path: path.unlink(),
    ],
)
def test_what_leaves_the_content_of_a_file_leaves_its_transfers(
    way: str, tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    data = numbered_bytes(BIG)
    (tmp_path / "a").write_bytes(data)
    with run_server(tmp_path, use_dir_fd=way != "paths") as running, running.peer() as peer:
        peer.ask("GET", name="a")
        change(tmp_path / "a")
        assert peer.read(BIG) == data
        assert peer.end()["sent"] == BIG


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_a_file_that_is_written_to_while_its_last_bytes_are_on_the_way_has_no_end(
    running: Running, tmp_path: Path
) -> None:
    """What sendfile has queued are the pages of the file: the write reaches them before the peer does."""
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    with running.peer(receive_buffer=2048) as peer:
        peer.send(b"GET a\n")
        transfer = running.live()
        wait_until(lambda: transfer.done == 1_000_000)
        with open(tmp_path / "a", "r+b") as file:
            file.write(b"changed" * 100_000)
        peer.ok()
        peer.read(1_000_000)
        assert peer.err()["code"] == "changed"
        assert running.events.ending(transfer.id).error == "changed"


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_small_file_that_is_written_to_meanwhile_gets_changed_in_place_of_end(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"before")
    reader: Any = pagecache if is_cached else OpenFile
    read = reader.read

    def read_and_change(*args: Any) -> Any:
        data = read(*args)
        os.utime(path, (1, 1))
        return data

    if not is_cached:
        monkeypatch.setattr(pagecache, "read", lambda *_: None)
    monkeypatch.setattr(reader, "read", read_and_change)
    with running.peer() as peer:
        peer.ask("GET", name="a")
        assert peer.read(6) == b"before"
        assert peer.err()["code"] == "changed"
        assert running.events.ending(1).error == "changed"
        assert peer.is_usable()


def test_a_file_that_is_written_to_after_its_end_was_complete(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that was sent is right: history must say what the client was told."""
    path = tmp_path / "a"
    path.write_bytes(b"before")
    wait = Connection.wait_acknowledged

    def change_and_wait(*args: Any) -> None:
        path.write_bytes(b"after")
        wait(*args)

    monkeypatch.setattr(Connection, "wait_acknowledged", change_and_wait)
    with running.peer() as peer:
        assert get(peer, "a") == b"before"
        assert running.events.ending(1).outcome == "complete"


def test_a_disk_that_fails_in_the_middle_puts_no_reply_among_the_bytes(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a").write_bytes(bytes(200_000))
    read = OpenFile.read

    def broken(file: OpenFile, offset: int, size: int) -> bytes:
        if offset + size > 100_000:
            raise OSError(errno.EIO, "Input/output error")
        return read(file, offset, size)

    monkeypatch.setattr(pagecache, "read", lambda *_: None)
    monkeypatch.setattr(OpenFile, "read", broken)
    with running.peer() as peer:
        peer.ask("GET", name="a", pace={"chunk": 50_000, "pause": 0.001})
        # Chunks that are late leave together: the second may have gone with the third.
        assert peer.rest() in (bytes(50_000), bytes(100_000))
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error) == ("failed", "internal")
    assert "could not be sent" in caplog.text


@pytest.mark.parametrize("pace", [None, {"chunk": 1, "pause": 3600}])
def test_a_cancelled_download_closes_without_end(
    running: Running, tmp_path: Path, pace: dict[str, Any] | None
) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    with running.peer() as peer, running.peer() as other:
        header = peer.ask("GET", name="a", pace=pace)
        assert other.ask("CANCEL", id=header["id"]) == {"id": header["id"], "state": "cancelled"}
        rest = peer.rest()
        assert len(rest) < BIG
        assert b"END" not in rest[-100:]
        ending = running.events.ending(header["id"])
        assert (ending.outcome, ending.error) == ("cancelled", "")
        assert other.is_usable()


# --- uploads


def files_of(running: Running) -> list[str]:
    return sorted(set(os.listdir(running.storage.root)) - {PARTIALS})


def partials_of(running: Running) -> list[str]:
    folder = running.storage.root / PARTIALS
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_003])
@pytest.mark.parametrize("use_dir_fd", [True, False])
def test_an_upload_arrives_whole_and_is_hashed(tmp_path: Path, size: int, use_dir_fd: bool) -> None:
    data = numbered_bytes(size)
    with run_server(tmp_path, use_dir_fd=use_dir_fd) as running, running.peer() as peer:
        started = peer.ask("PUT", name="w/a", size=size, sha256=sha256(data))
        assert started["offset"] == 0
        peer.send(data)
        wanted = {"id": started["id"], "name": "w/a", "size": size, "sha256": sha256(data), "replaced": False}
        assert peer.end() == wanted
        assert (tmp_path / "w" / "a").read_bytes() == data
        assert files_of(running) == ["w"]
        ending = running.events.ending(started["id"])
        assert (ending.outcome, ending.done) == ("complete", size)
        assert peer.is_usable()
        assert partials_of(running) == []


def test_an_upload_is_seen_by_nobody_before_it_is_whole(running: Running) -> None:
    with running.peer() as peer, running.peer() as other:
        peer.ask("PUT", name="a", size=10)
        peer.send(b"123456789")
        wait_until(lambda: running.live().done == 9)
        assert other.refusal(b"STAT a\n")["code"] == "not-found"
        assert other.ask("LIST") == {"count": 0, "more": False}
        peer.send(b"0")
        peer.end()
        assert other.ask("STAT", name="a")["size"] == 10


@pytest.mark.parametrize("how", [Peer.close, Peer.reset])
@pytest.mark.parametrize("exists", ["fail", "replace"])
def test_an_upload_whose_peer_goes_leaves_no_file_and_keeps_what_came(
    running: Running, how: Callable[[Peer], None], exists: str
) -> None:
    if exists == "replace":
        (running.storage.root / "a").write_bytes(b"old")
    with running.peer() as peer:
        started = peer.ask("PUT", name="a", size=1_000_000, exists=exists)
        peer.send(bytes(400_000))
        wait_until(lambda: running.live().done > 0)
        how(peer)
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error) == ("aborted", "disconnected")
    assert files_of(running) == (["a"] if exists == "replace" else [])
    assert partials_of(running) == [started["upload"], started["upload"] + ".json"]
    if exists == "replace":
        assert (running.storage.root / "a").read_bytes() == b"old"


def test_an_upload_whose_peer_gives_nothing_stalls(tmp_path: Path) -> None:
    with run_server(tmp_path, limits=Limits(stall=0.1)) as running, running.peer() as peer:
        started = peer.ask("PUT", name="a", size=10)
        peer.send(b"123")
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error, ending.done) == ("aborted", "stalled", 3)
        assert peer.rest() == b""
        assert files_of(running) == []
        assert partials_of(running) == [started["upload"], started["upload"] + ".json"]


def test_a_cancelled_upload_leaves_nothing(running: Running) -> None:
    with running.peer() as peer, running.peer() as other:
        started = peer.ask("PUT", name="a", size=10)
        peer.send(b"123")
        other.ask("CANCEL", id=started["id"])
        assert peer.rest() == b""
        ending = running.events.ending(started["id"])
        assert (ending.outcome, ending.error) == ("cancelled", "")
        assert files_of(running) == partials_of(running) == []


def test_a_wrong_hash_is_a_checksum_error_and_nothing_is_kept(running: Running) -> None:
    with running.peer() as peer:
        peer.ask("PUT", name="a", size=3, sha256="0" * 64)
        peer.send(b"abc")
        assert peer.err()["code"] == "checksum"
        assert peer.rest() == b""
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error) == ("failed", "checksum")
    assert files_of(running) == partials_of(running) == []


def test_a_disk_that_fills_up_in_the_middle_is_told_and_nothing_is_kept(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(fd: int, data: Any) -> int:
        if os.fstat(fd).st_size > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:50_000])

    monkeypatch.setattr(os, "write", full)
    with running.peer() as peer:
        peer.ask("PUT", name="a", size=300_000)
        peer.send(bytes(300_000))
        assert peer.err()["code"] == "no-space"
        assert peer.rest() == b""
    ending = running.events.ending(1)
    assert (ending.outcome, ending.error) == ("failed", "no-space")
    monkeypatch.undo()
    assert files_of(running) == partials_of(running) == []


@pytest.mark.parametrize("renameat2", [True, False])
def test_a_name_that_is_taken_during_the_upload_is_refused_at_the_end(
    running: Running, renameat2: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not renameat2:
        monkeypatch.setattr(disk, "_renameat2", None)
    with running.peer() as peer:
        started = peer.ask("PUT", name="a", size=3)
        (running.storage.root / "a").write_bytes(b"other")
        peer.send(b"abc")
        assert peer.err()["code"] == "exists"
        assert peer.rest() == b""
    assert running.events.ending(1).error == "exists"
    assert (running.storage.root / "a").read_bytes() == b"other"
    assert files_of(running) == ["a"]
    assert partials_of(running) == [started["upload"], started["upload"] + ".json"]


# --- names of endings

ENDINGS: list[tuple[BaseException | None, tuple[str, str]]] = [
    (None, ("complete", "")),
    (Stopped("cancelled"), ("cancelled", "")),
    (Stopped("shutting-down"), ("aborted", "shutting-down")),
    (Stalled(), ("aborted", "stalled")),
    (PeerGone(), ("aborted", "disconnected")),
    (FileChanged(), ("failed", "changed")),
    (ErrorReply("no-space", ""), ("failed", "no-space")),
    (OSError(errno.EIO, ""), ("failed", "internal")),
    (MemoryError(), ("failed", "internal")),
]


@pytest.mark.parametrize(("error", "ending"), ENDINGS)
def test_each_way_to_end_has_its_name(error: BaseException | None, ending: tuple[str, str]) -> None:
    assert ending_of(error) == ending


# --- receipts of relayed transfers


ACCESS = accounts({None: (Principal("guest"), ALL), "secret": (RELAY, ALL)})


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[tuple[Running, Peer]]:
    (tmp_path / "a").write_bytes(b"content")
    with run_server(tmp_path, access=ACCESS) as running, running.peer() as peer:
        assert peer.ask("AUTH", token="secret")["user"] == "site"
        yield running, peer


def test_a_relayed_download_is_complete_with_its_receipt_and_not_before(
    relayed: tuple[Running, Peer],
) -> None:
    running, peer = relayed
    header = peer.ask("GET", name="a", via="web", client="10.0.0.7:1234", user="ann")
    peer.read(7)
    peer.end()
    started = running.events.of(TransferStarted)[0]
    assert (started.via, started.client, started.user) == ("web", "10.0.0.7:1234", "ann")
    assert [transfer.id for transfer in running.server.registry.live()] == [header["id"]]
    assert running.events.of(TransferFinished) == []
    assert peer.ask("RECEIPT", id=header["id"]) == {"verified": None}
    ending = running.events.ending(header["id"])
    assert (ending.outcome, ending.done, ending.verified) == ("complete", 7, None)


@pytest.mark.parametrize(
    ("given", "verified", "outcome", "error"),
    [(sha256(b"content"), True, "complete", ""), ("0" * 64, False, "failed", "checksum")],
)
def test_a_receipt_with_a_hash_verifies_or_fails_a_relayed_download(
    relayed: tuple[Running, Peer], given: str, verified: bool, outcome: str, error: str
) -> None:
    running, peer = relayed
    header = peer.ask("GET", name="a", via="web")
    peer.read(7)
    peer.end()
    assert peer.ask("RECEIPT", id=header["id"], sha256=given) == {"verified": verified}
    ending = running.events.ending(header["id"])
    assert (ending.outcome, ending.error, ending.verified) == (outcome, error, verified)


@pytest.mark.parametrize("how", ["close", "reset", "another request", "half close"])
def test_a_relayed_download_without_a_receipt_is_aborted(relayed: tuple[Running, Peer], how: str) -> None:
    running, peer = relayed
    header = peer.ask("GET", name="a", via="web")
    peer.read(7)
    peer.end()
    if how == "close":
        peer.close()
    elif how == "reset":
        peer.reset()
    elif how == "half close":
        peer.sock.shutdown(socket.SHUT_WR)
    else:
        peer.ask("PING")
    ending = running.events.ending(header["id"])
    assert (ending.outcome, ending.error, ending.done) == ("aborted", "disconnected", 7)


def test_a_relayed_download_that_is_cancelled_while_its_receipt_is_awaited_is_cancelled(
    relayed: tuple[Running, Peer],
) -> None:
    running, peer = relayed
    header = peer.ask("GET", name="a", via="web")
    peer.read(7)
    peer.end()
    session = running.server._current()[0].session
    wait_until(lambda: session.downloads.awaits_receipt)
    with running.peer() as other:
        other.ask("CANCEL", id=header["id"])
    ending = running.events.ending(header["id"])
    assert (ending.outcome, ending.error) == ("cancelled", "")
    assert peer.rest() == b""


def test_a_receipt_of_another_id_aborts_what_was_relayed(relayed: tuple[Running, Peer]) -> None:
    running, peer = relayed
    header = peer.ask("GET", name="a", via="web")
    peer.read(7)
    peer.end()
    assert peer.refusal(request("RECEIPT", id=header["id"] + 1))["code"] == "not-running"
    assert running.events.ending(header["id"]).outcome == "aborted"


def test_a_relay_that_speaks_for_nobody_needs_no_receipt(relayed: tuple[Running, Peer]) -> None:
    running, peer = relayed
    header = peer.ask("GET", name="a")
    peer.read(7)
    peer.end()
    assert running.events.ending(header["id"]).outcome == "complete"


def test_a_session_forgets_old_deliveries(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads_module, "MAX_RECEIPTS", 2)
    (tmp_path / "a").write_bytes(b"a")
    with running.peer() as peer:
        ids = []
        for _ in range(3):
            ids.append(peer.ask("GET", name="a")["id"])
            peer.read(1)
            peer.end()
        assert peer.refusal(request("RECEIPT", id=ids[0]))["code"] == "not-running"
        assert peer.ask("RECEIPT", id=ids[2], sha256=sha256(b"a")) == {"verified": True}
