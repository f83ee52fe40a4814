"""A dead line keeps no upload: who names the right offset goes on with it, and nobody else disturbs it."""

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.events import TransferFinished, TransferStarted
from fileserver.storage import claims as claims_module
from fileserver.storage.folder import OpenFile
from fileserver.storage.writer import UploadWriter
from tests.servers import Peer, Running, numbered_bytes, request, run_server, sha256, wait_until

DATA = numbered_bytes(3_000_000)
HASH = sha256(DATA)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path) as running:
        yield running


@pytest.fixture
def old(running: Running) -> Iterator[Peer]:
    """A line that says nothing more, and of whose end nobody is told."""
    with running.peer() as peer:
        yield peer


@pytest.fixture
def new(running: Running) -> Iterator[Peer]:
    with running.peer() as peer:
        yield peer


def begin(peer: Peer, count: int = 0, **fields: Any) -> str:
    """The id of an upload of which ``count`` bytes are at the server."""
    upload = str(peer.ask("PUT", name="a", size=len(DATA), **fields)["upload"])
    peer.send(DATA[:count])
    return upload


def go_on(peer: Peer, upload: str, offset: int, **fields: Any) -> dict[str, Any]:
    return peer.ask("PUT", name="a", size=len(DATA), upload=upload, offset=offset, **fields)


def wait_for_bytes(peer: Peer, upload: str, count: int) -> None:
    wait_until(lambda: peer.ask("STAT", upload=upload)["offset"] == count)


def assert_one_whole_file(running: Running, folder: Path) -> None:
    ending = running.events.wait_for_kind(TransferFinished)
    assert (ending.outcome, ending.done) == ("complete", len(DATA))
    assert len(running.events.of(TransferStarted)) == len(running.events.of(TransferFinished)) == 1
    assert (folder / "a").read_bytes() == DATA
    assert running.server.registry.live() == []
    wait_until(lambda: not running.server._uploads._claims)


@pytest.mark.parametrize("length", [None, 2_000_000])
@pytest.mark.parametrize("new_length", [None, 10**9])
@pytest.mark.parametrize("count", [0, 1_000_000])
def test_the_newest_writer_that_names_the_right_offset_takes_over(
    running: Running,
    tmp_path: Path,
    old: Peer,
    new: Peer,
    length: int | None,
    new_length: int | None,
    count: int,
) -> None:
    upload = begin(old, count, length=length)
    wait_for_bytes(new, upload, count)
    assert go_on(new, upload, count, length=new_length) == {"id": 1, "upload": upload, "offset": count}
    told = old.err()
    assert (told["code"], told["message"]) == ("busy", "Another client has resumed this upload.")
    assert old.rest() == b""
    new.send(DATA[count:])
    assert new.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


def test_what_the_old_line_still_sends_reaches_nothing(
    running: Running, tmp_path: Path, old: Peer, new: Peer
) -> None:
    upload = begin(old, 1_000_000)
    wait_for_bytes(new, upload, 1_000_000)
    go_on(new, upload, 1_000_000)
    with contextlib.suppress(ConnectionError):
        old.send(b"x" * 500_000)
    new.send(DATA[1_000_000:])
    assert new.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


@pytest.mark.parametrize("offset", [0, 999_999, 1_000_001, len(DATA)])
def test_a_wrong_offset_disturbs_nobody(
    running: Running, tmp_path: Path, old: Peer, new: Peer, offset: int
) -> None:
    upload = begin(old, 1_000_000)
    wait_for_bytes(new, upload, 1_000_000)
    line = request("PUT", name="a", size=len(DATA), upload=upload, offset=offset)
    assert new.refusal(line)["code"] == "busy"
    old.send(DATA[1_000_000:])
    assert old.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


def test_who_asks_how_far_it_is_disturbs_nobody(
    running: Running, tmp_path: Path, old: Peer, new: Peer
) -> None:
    upload, step = begin(old), 100_000
    for offset in range(0, len(DATA), step):
        wait_for_bytes(new, upload, offset)
        old.send(DATA[offset : offset + step])
    assert old.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_line_after_line_dies_without_a_word_and_the_file_is_right(
    running: Running, tmp_path: Path, new: Peer, seed: int
) -> None:
    cuts = sorted(random.Random(seed).sample(range(len(DATA)), 12))
    dead: list[Peer] = []
    try:
        upload, offset = "", 0
        for cut in cuts:
            dead.append(running.peer())
            if upload:
                go_on(dead[-1], upload, offset)
            else:
                upload = begin(dead[-1])
            dead[-1].send(DATA[offset:cut])
            wait_for_bytes(new, upload, cut)
            offset = cut
        go_on(new, upload, offset)
        new.send(DATA[offset:])
        assert new.end()["sha256"] == HASH
        assert_one_whole_file(running, tmp_path)
    finally:
        for peer in dead:
            peer.close()


def test_of_many_that_take_over_at_once_one_has_it_in_the_end(
    running: Running, tmp_path: Path, old: Peer, new: Peer
) -> None:
    upload = begin(old, 1_000_000)
    wait_for_bytes(new, upload, 1_000_000)
    together, said = threading.Barrier(8), []

    def take_over() -> None:
        with running.peer() as peer:
            together.wait(5)
            peer.send(request("PUT", name="a", size=len(DATA), upload=upload, offset=1_000_000))
            word = peer.reply()[0]
            if word == "OK":
                with contextlib.suppress(ConnectionError):  # displaced while it sends
                    peer.send(DATA[1_000_000:])
                    word = peer.reply()[0]
            said.append(word)

    threads = [threading.Thread(target=take_over) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count("END") <= 1
    if "END" not in said:  # the last ones named an offset that the one before had just left behind
        offset = new.ask("STAT", upload=upload)["offset"]
        go_on(new, upload, offset)
        new.send(DATA[offset:])
        assert new.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


class Held:
    """A method of uploads whose thread waits in it for ``go``; ``reached`` says that one does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        method = getattr(UploadWriter, name)

        def held(upload: UploadWriter, *arguments: Any) -> Any:
            self.reached.set()
            assert self.go.wait(10)
            return method(upload, *arguments)

        monkeypatch.setattr(UploadWriter, name, held)


def test_one_that_is_being_published_is_published_and_the_newcomer_hears_its_end(
    running: Running, tmp_path: Path, old: Peer, new: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(monkeypatch, "publish")
    upload = begin(old, len(DATA), length=len(DATA))
    assert held.reached.wait(5)
    new.send(request("PUT", name="a", size=len(DATA), upload=upload, offset=len(DATA)))
    held.go.set()
    assert new.ok()["id"] == 0
    assert new.end()["sha256"] == HASH
    assert old.end()["sha256"] == HASH
    assert old.is_usable()
    assert_one_whole_file(running, tmp_path)


def test_one_that_takes_long_to_publish_is_busy_meanwhile(
    running: Running, tmp_path: Path, old: Peer, new: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "TAKE_OVER_SECONDS", 0.05)
    held = Held(monkeypatch, "publish")
    upload = begin(old, len(DATA))
    assert held.reached.wait(5)
    line = request("PUT", name="a", size=len(DATA), upload=upload, offset=len(DATA))
    assert new.refusal(line)["code"] == "busy"
    held.go.set()
    assert old.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


def test_a_writer_that_is_stuck_in_the_disk_keeps_it_until_it_lets_go(
    running: Running, tmp_path: Path, old: Peer, new: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "TAKE_OVER_SECONDS", 0.05)
    upload, held = begin(old), Held(monkeypatch, "write")
    old.send(DATA[:1000])
    assert held.reached.wait(5)
    line = request("PUT", name="a", size=len(DATA), upload=upload)
    assert new.refusal(line)["code"] == "busy"
    held.go.set()
    assert old.err()["code"] == "busy"
    wait_until(lambda: upload not in running.server._uploads._claims)
    with running.peer() as newest:
        go_on(newest, upload, 1000)
        newest.send(DATA[1000:])
        assert newest.end()["sha256"] == HASH
    assert_one_whole_file(running, tmp_path)


def test_a_line_that_reads_what_it_has_again_after_a_restart_is_taken_over_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first new byte the server hashes what is there: of many gigabytes that takes a while."""
    with run_server(tmp_path) as running, running.peer() as peer:
        upload = begin(peer, 2_500_000)
        wait_until(lambda: running.server._uploads.state(upload).offset == 2_500_000)
    reading, seen = threading.Event(), threading.Event()
    with run_server(tmp_path) as running, running.peer() as first, running.peer() as second:
        read = OpenFile.read

        def slowly(file: OpenFile, offset: int, size: int) -> bytes:
            if not reading.is_set():
                reading.set()
                assert seen.wait(10)
            return read(file, offset, size)

        monkeypatch.setattr(OpenFile, "read", slowly)
        first.send(request("PUT", name="a", size=len(DATA), upload=upload, offset=2_500_000))
        assert reading.wait(5)
        second.send(request("PUT", name="a", size=len(DATA), upload=upload, offset=2_500_000))
        claim = running.server._uploads._claims._held[upload]
        wait_until(lambda: claim._is_wanted)
        seen.set()
        assert first.err()["code"] == "busy"
        assert second.ok()["offset"] == 2_500_000
        second.send(DATA[2_500_000:])
        assert second.end()["sha256"] == HASH
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("verb", ["CANCEL", "DELETE"])
def test_one_that_is_cancelled_while_somebody_takes_over_leaves_nothing(
    running: Running, tmp_path: Path, old: Peer, new: Peer, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, held = begin(old), Held(monkeypatch, "write")
    old.send(DATA[:1000])
    assert held.reached.wait(5)
    new.send(request("PUT", name="a", size=len(DATA), upload=upload))
    claim = running.server._uploads._claims._held[upload]
    wait_until(lambda: claim._is_wanted)
    with running.peer() as third:
        third.ask(verb, **({"id": 1} if verb == "CANCEL" else {"upload": upload}))
    held.go.set()
    assert new.err()["code"] == "not-found"
    ending = running.events.wait_for_kind(TransferFinished)
    assert ending.outcome == "cancelled"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
