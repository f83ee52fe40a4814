"""Uploads over real sockets: by one PUT or by parts, broken off, gone on with, given up, and all at once."""

import contextlib
import errno
import itertools
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver import server as server_module
from fileserver.events import FilePublished, TransferFinished, TransferStarted
from fileserver.limits import Limits
from fileserver.rights import Access, Principal
from fileserver.storage.partial_files import PARTIALS
from fileserver.storage.writer import UploadWriter
from fileserver.transfers import watch as watch_module
from fileserver.transfers.registry import Registry
from fileserver.transfers.transfer import Control
from tests.lossy import lossy_proxy, random_cuts
from tests.servers import (
    ALL,
    Peer,
    Running,
    accounts,
    numbered_bytes,
    request,
    run_server,
    sha256,
    wait_until,
)

DATA = numbered_bytes(100_000)
HASH = sha256(DATA)
UNKNOWN = "0123456789abcdef" * 2


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path) as running:
        yield running


@pytest.fixture
def peer(running: Running) -> Iterator[Peer]:
    with running.peer() as peer:
        yield peer


@pytest.fixture(autouse=True)
def _quick_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HOUSEKEEPING_SECONDS", 0.02)


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and is_seen(p))


def is_seen(path: Path) -> bool:
    return PARTIALS not in path.parts


def hidden(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / PARTIALS)) if (folder / PARTIALS).exists() else []


def part(peer: Peer, data: bytes, start: int, stop: int, **fields: Any) -> dict[str, Any]:
    """Send one part; the fields of its ``END``."""
    begun = peer.ask("PUT", name="a", size=len(data), offset=start, length=stop - start, **fields)
    assert begun["offset"] == start
    peer.send(data[start:stop])
    return peer.end()


def rest(peer: Peer, upload: str, data: bytes = DATA, **fields: Any) -> dict[str, Any]:
    """What an upload still lacks; the fields of its ``END``."""
    offset = peer.ask("STAT", upload=upload)["offset"]
    peer.ask("PUT", **{"name": "a", "size": len(data), "upload": upload, "offset": offset} | fields)
    peer.send(data[offset:])
    return peer.end()


def break_off(running: Running, count: int, how: Callable[[Peer], None] = Peer.close, **fields: Any) -> str:
    """The id of an upload whose line broke after ``count`` bytes, when the server has noticed."""
    with running.peer() as peer:
        begun = peer.ask("PUT", **{"name": "a", "size": len(DATA)} | fields)
        peer.send(DATA[:count])
        wait_until(lambda: partial_size(running, begun["upload"]) == count)
        how(peer)
    free(running, begun["upload"])
    return str(begun["upload"])


def partial_size(running: Running, upload: str) -> int:
    return (running.storage.root / PARTIALS / upload).stat().st_size


def free(running: Running, upload: str) -> None:
    """Wait until nobody writes to an upload any more."""
    wait_until(lambda: upload not in running.server._uploads._claims)


def history(running: Running) -> list[tuple[str, str]]:
    return [(event.outcome, event.error) for event in running.events.of(TransferFinished)]


# --- one PUT that breaks


@pytest.mark.parametrize("seed", range(6))
def test_an_upload_goes_on_wherever_its_line_broke(running: Running, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    cuts = sorted(chance.sample(range(len(DATA) + 1), 5))
    upload = None
    for cut in cuts:
        with running.peer() as peer:
            start = peer.ask("STAT", upload=upload)["offset"] if upload else 0
            begun = peer.ask(
                "PUT", name="a", size=len(DATA), offset=start, **({"upload": upload} if upload else {})
            )
            upload = upload or begun["upload"]
            assert (begun["upload"], begun["offset"]) == (upload, start)
            if cut == len(DATA):
                continue
            peer.send(DATA[start:cut])
            wait_until(lambda: partial_size(running, upload) == cut)  # noqa: B023
            chance.choice([Peer.close, Peer.reset])(peer)
        free(running, upload)
    assert upload is not None
    with running.peer() as peer:
        end = rest(peer, upload)
    assert (end["name"], end["sha256"]) == ("a", HASH)
    assert (tmp_path / "a").read_bytes() == DATA
    wait_until(lambda: hidden(tmp_path) == [])
    started = running.events.of(TransferStarted)
    assert {event.upload for event in started} == {upload}
    assert [event.done for event in started] == [0, *[cut for cut in cuts if cut < len(DATA)]]
    assert history(running) == [("aborted", "disconnected")] * (len(started) - 1) + [("complete", "")]
    assert running.events.of(TransferFinished)[-1].done == len(DATA)


def test_an_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    with run_server(tmp_path) as running:
        upload = break_off(running, 70_000, sha256=HASH, exists="rename")
    (tmp_path / "a").write_bytes(b"other")
    with run_server(tmp_path) as running, running.peer() as peer:
        state = peer.ask("STAT", upload=upload)
        assert abs(state.pop("expires") - time.time() - 86400) < 60
        assert state == {
            "upload": upload,
            "name": "a",
            "size": len(DATA),
            "offset": 70_000,
            "published": None,
            "metadata": None,
        }
        end = rest(peer, upload)
        assert (end["name"], end["sha256"]) == ("a (1)", HASH)
        assert (tmp_path / "a (1)").read_bytes() == DATA
        assert running.events.of(TransferStarted)[0].done == 70_000


def test_a_shut_down_server_keeps_what_has_come(tmp_path: Path) -> None:
    with run_server(tmp_path) as running, running.peer() as peer:
        upload = peer.ask("PUT", name="a", size=len(DATA))["upload"]
        peer.send(DATA[:50_000])
        wait_until(lambda: partial_size(running, upload) == 50_000)
        running.server.shutdown(grace=0)
        assert history(running) == [("aborted", "shutting-down")]
    with run_server(tmp_path) as running, running.peer() as peer:
        assert rest(peer, upload)["sha256"] == HASH


WRONG = [
    ({"offset": 0}, "offset"),
    ({"offset": 2_999}, "offset"),
    ({"offset": 3_001}, "offset"),
    ({"offset": len(DATA) + 1}, "offset"),
    ({"offset": 2**63 - 1}, "offset"),
    ({"offset": -1}, "bad-range"),
    ({"offset": 3_000, "length": -1}, "bad-range"),
    ({"name": "b"}, "bad-request"),
    ({"name": "../a"}, "bad-request"),
    ({"size": len(DATA) + 1}, "bad-request"),
    ({"size": 3_000}, "bad-request"),
    ({"upload": UNKNOWN}, "not-found"),
    ({"upload": "../x"}, "not-found"),
    ({"upload": "/etc/passwd"}, "not-found"),
    ({"upload": "\ud800"}, "not-found"),
    ({"upload": ""}, "not-found"),
]


@pytest.mark.parametrize(("wrong", "code"), WRONG)
def test_a_wrong_question_is_refused_and_the_upload_goes_on(
    running: Running, tmp_path: Path, wrong: dict[str, Any], code: str
) -> None:
    upload = break_off(running, 3_000)
    right = {"name": "a", "size": len(DATA), "upload": upload, "offset": 3_000}
    with running.peer() as asking, running.peer() as peer:
        refusal = asking.refusal(request("PUT", **right | wrong))
        assert refusal["code"] == code
        assert refusal.get("offset") == (3_000 if code == "offset" else None)
        assert str(tmp_path) not in refusal["message"]
        assert rest(peer, upload)["sha256"] == HASH


def test_a_wrong_offset_with_bytes_behind_it_ends_the_conversation(running: Running, tmp_path: Path) -> None:
    upload = break_off(running, 3_000)
    (tmp_path / "x").write_bytes(b"")
    line = request("PUT", name="a", size=len(DATA), upload=upload, offset=2_000)
    answer = running.talk(line + b"DELETE x\n")
    assert b'"offset": 3000' in answer
    assert answer.count(b"\n") == 1
    assert (tmp_path / "x").exists()


def test_one_upload_has_one_writer_at_a_time(running: Running, peer: Peer) -> None:
    upload = peer.ask("PUT", name="a", size=len(DATA))["upload"]
    with running.peer() as other:
        assert other.ask("STAT", upload=upload)["offset"] == 0
        line = request("PUT", name="a", size=len(DATA), upload=upload, offset=1)
        assert other.refusal(line)["code"] == "busy"
        assert other.rest() == b""
    peer.send(DATA)
    assert peer.end()["sha256"] == HASH


def test_an_upload_above_a_new_limit_is_not_gone_on_with(tmp_path: Path) -> None:
    with run_server(tmp_path) as running:
        upload = break_off(running, 3_000)
    with run_server(tmp_path, limits=Limits(max_upload_size=50_000)) as running, running.peer() as peer:
        line = request("PUT", name="a", size=len(DATA), upload=upload, offset=3_000)
        assert peer.refusal(line)["code"] == "too-large"


# --- by parts


def test_an_upload_by_parts_is_one_transfer(running: Running, tmp_path: Path) -> None:
    upload = None
    for start, stop in itertools.pairwise([0, 0, 10_000, 60_000, len(DATA)]):
        with running.peer() as peer:
            end = part(peer, DATA, start, stop, **({"upload": upload} if upload else {}))
            upload = upload or end["upload"]
            if stop < len(DATA):
                assert abs(end.pop("expires") - time.time() - 86400) < 60
                assert end == {"id": 1, "upload": upload, "offset": stop}
                assert running.live().state == "waiting"
                assert files(tmp_path) == []
    assert end == {"id": 1, "name": "a", "size": len(DATA), "sha256": HASH, "replaced": False}
    assert (tmp_path / "a").read_bytes() == DATA
    (started,) = running.events.of(TransferStarted)
    assert (started.upload, started.length, started.done) == (upload, len(DATA), 0)
    assert history(running) == [("complete", "")]
    assert len(running.events.of(FilePublished)) == 1


def test_parts_may_come_over_one_connection(peer: Peer, tmp_path: Path) -> None:
    end = part(peer, DATA, 0, 1)
    end = part(peer, DATA, 1, 50_000, upload=end["upload"])
    assert rest(peer, end["upload"])["sha256"] == HASH
    assert peer.is_usable()


def test_a_part_that_breaks_waits_for_the_next(running: Running) -> None:
    upload = break_off(running, 30_000, length=50_000)
    assert running.live().state == "waiting"
    assert running.live().done == 30_000
    with running.peer() as peer:
        assert rest(peer, upload)["id"] == 1
    assert history(running) == [("complete", "")]


def test_a_part_that_stalls_waits_for_the_next(tmp_path: Path) -> None:
    with run_server(tmp_path, limits=Limits(stall=0.1)) as running, running.peer() as peer:
        upload = peer.ask("PUT", name="a", size=10, length=5)["upload"]
        peer.send(b"012")
        assert peer.rest() == b""
        assert running.live().state == "waiting"
        free(running, upload)
        with running.peer() as other:
            assert rest(other, upload, b"0123456789")["id"] == 1


def test_without_bytes_an_upload_is_made_and_takes_them_later(
    running: Running, peer: Peer, tmp_path: Path
) -> None:
    upload = peer.ask("PUT", name="w/a", size=len(DATA), length=0, sha256=HASH)["upload"]
    end = peer.end()
    assert (end["upload"], end["offset"]) == (upload, 0)
    assert hidden(tmp_path) == [upload, f"{upload}.json"]
    assert files(tmp_path) == []
    assert rest(peer, upload, name="w/a")["name"] == "w/a"


@pytest.mark.parametrize("fields", [{}, {"length": 0}, {"length": 5}])
def test_an_empty_file_is_whole_at_once(peer: Peer, tmp_path: Path, fields: dict[str, int]) -> None:
    peer.ask("PUT", name="a", size=0, **fields)
    assert peer.end()["sha256"] == sha256(b"")
    assert (tmp_path / "a").read_bytes() == b""


def test_a_part_longer_than_the_rest_ends_with_it(peer: Peer, tmp_path: Path) -> None:
    peer.ask("PUT", name="a", size=3, length=100)
    peer.send(b"abc")
    assert peer.end()["size"] == 3
    assert peer.is_usable()


@pytest.mark.parametrize(
    ("first", "last", "is_right"),
    [
        (HASH, None, True),
        (HASH.upper(), HASH, True),
        (None, HASH, True),
        ("0" * 64, None, False),
        (None, "0" * 64, False),
        ("0" * 64, HASH, False),
        (HASH, "0" * 64, False),
    ],
)
def test_a_hash_given_with_the_first_part_is_checked_at_the_last(
    running: Running, tmp_path: Path, first: str | None, last: str | None, is_right: bool
) -> None:
    with running.peer() as peer:
        upload = part(peer, DATA, 0, 50_000, sha256=first)["upload"]
        peer.ask("PUT", name="a", size=len(DATA), upload=upload, offset=50_000, sha256=last)
        peer.send(DATA[50_000:])
        if is_right:
            assert peer.end()["sha256"] == HASH
            return
        assert peer.err()["code"] == "checksum"
        assert peer.rest() == b""
    assert files(tmp_path) == hidden(tmp_path) == []
    assert history(running) == [("failed", "checksum")]
    with running.peer() as peer:
        assert peer.refusal(request("STAT", upload=upload))["code"] == "not-found"


def test_an_upload_that_waits_too_long_is_aborted_and_can_be_gone_on_with(tmp_path: Path) -> None:
    with run_server(tmp_path, limits=Limits(waiting=0.05)) as running, running.peer() as peer:
        upload = part(peer, DATA, 0, 50_000)["upload"]
        ending = running.events.ending(1)
        assert (ending.outcome, ending.error, ending.done) == ("aborted", "disconnected", 50_000)
        assert running.server.registry.live() == []
        assert rest(peer, upload)["id"] == 2
        started = running.events.of(TransferStarted)
        assert [(event.upload, event.done) for event in started] == [(upload, 0), (upload, 50_000)]


def test_uploads_that_wait_are_ended_by_a_shutdown_and_can_be_gone_on_with(tmp_path: Path) -> None:
    with run_server(tmp_path) as running:
        with running.peer() as peer:
            uploads = [part(peer, DATA, 0, 50_000)["upload"] for _ in range(3)]
        running.server.shutdown()
        assert history(running) == [("aborted", "shutting-down")] * 3
        assert running.server.registry.live() == []
    with run_server(tmp_path) as running, running.peer() as peer:
        assert rest(peer, uploads[0])["sha256"] == HASH


def test_a_part_whose_line_breaks_in_the_shutdown_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a thread comes to wait only after those that wait were ended."""
    stop_all = Registry.stop_all
    with run_server(tmp_path) as running:
        with running.peer() as peer:
            upload = peer.ask("PUT", name="a", size=len(DATA), length=50_000)["upload"]

            def stop_too_late(registry: Registry, reason: str) -> None:
                peer.close()
                free(running, upload)
                stop_all(registry, reason)

            monkeypatch.setattr(Registry, "stop_all", stop_too_late)
            running.server.shutdown(grace=0)
        assert history(running) == [("aborted", "shutting-down")]


def test_an_upload_that_nobody_goes_on_with_is_swept_while_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "SWEEP_INTERVAL", 0)
    with run_server(tmp_path, limits=Limits(keep_partial=0.5)) as running:
        old = break_off(running, 4_000)
        wait_until(lambda: hidden(tmp_path) == [])
        with running.peer() as peer:
            assert peer.refusal(request("STAT", upload=old))["code"] == "not-found"


# --- given up


def test_a_cancelled_upload_that_waits_leaves_nothing(running: Running, tmp_path: Path) -> None:
    with running.peer() as peer:
        upload = part(peer, DATA, 0, 50_000)["upload"]
        assert peer.ask("CANCEL", id=1) == {"id": 1, "state": "cancelled"}
        assert history(running) == [("cancelled", "")]
        assert peer.refusal(b"CANCEL 1\n")["code"] == "not-running"
        assert peer.refusal(request("STAT", upload=upload))["code"] == "not-found"
        line = request("PUT", name="a", size=len(DATA), upload=upload, offset=50_000)
        assert peer.refusal(line)["code"] == "not-found"
    assert files(tmp_path) == hidden(tmp_path) == []


@pytest.mark.parametrize("length", [None, 80_000])
@pytest.mark.parametrize("verb", ["CANCEL", "DELETE"])
def test_a_cancelled_upload_that_runs_leaves_nothing(
    running: Running, tmp_path: Path, verb: str, length: int | None
) -> None:
    with running.peer() as peer, running.peer() as other:
        upload = peer.ask("PUT", name="a", size=len(DATA), length=length)["upload"]
        peer.send(DATA[:50_000])
        if verb == "CANCEL":
            other.ask("CANCEL", id=1)
        else:
            assert other.ask("DELETE", upload=upload) == {"name": "a"}
        assert peer.rest() == b""
        free(running, upload)
        assert history(running) == [("cancelled", "")]
        assert files(tmp_path) == hidden(tmp_path) == []
        assert other.refusal(request("STAT", upload=upload))["code"] == "not-found"


@pytest.mark.parametrize("length", [None, 80_000])
def test_an_upload_that_nobody_moves_can_be_deleted(
    running: Running, tmp_path: Path, length: int | None
) -> None:
    upload = break_off(running, 50_000, length=length)
    with running.peer() as peer:
        assert peer.ask("DELETE", upload=upload) == {"name": "a"}
        assert peer.refusal(request("DELETE", upload=upload))["code"] == "not-found"
    assert files(tmp_path) == hidden(tmp_path) == []
    assert history(running) == [("cancelled", "") if length else ("aborted", "disconnected")]


@pytest.mark.parametrize("verb", ["CANCEL", "DELETE"])
def test_a_cancel_at_the_moment_when_a_part_ends_leaves_nothing(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The transfer waits already, but the thread of the part still holds the upload."""
    close = UploadWriter.close

    def cancel_first(upload: UploadWriter) -> None:
        monkeypatch.setattr(UploadWriter, "close", close)
        with running.peer() as other:
            other.ask(verb, **({"id": 1} if verb == "CANCEL" else {"upload": upload.id}))
        close(upload)

    monkeypatch.setattr(UploadWriter, "close", cancel_first)
    with running.peer() as peer:
        upload = part(peer, DATA, 0, 50_000)["upload"]
        assert history(running) == [("cancelled", "")]
        assert running.server.registry.live() == []
        assert peer.refusal(request("STAT", upload=upload))["code"] == "not-found"
    assert files(tmp_path) == hidden(tmp_path) == []


def test_an_upload_is_running_until_its_end_is_told(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, states = UploadWriter.publish, []

    def noted(upload: UploadWriter, *decided: Any) -> Any:
        states.append(running.live().state)
        return publish(upload, *decided)

    monkeypatch.setattr(UploadWriter, "publish", noted)
    monkeypatch.setattr(watch_module, "TICK", 0.02)
    with running.peer() as watcher, running.peer() as peer:
        watcher.ask("WATCH")
        peer.ask("PUT", name="a", size=len(DATA))
        peer.send(DATA)
        peer.end()
        while not (line := watcher.json())["ended"]:
            pass
        states.append(line["ended"][0]["state"])
    assert states == ["running", "running"]


def test_a_cancel_just_before_a_part_ends_stops_it(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = Control.wait_for_part

    def cancel_first(control: Control) -> str:
        running.server.registry.cancel(running.live().id)
        return wait(control)

    monkeypatch.setattr(Control, "wait_for_part", cancel_first)
    with running.peer() as peer:
        peer.ask("PUT", name="a", size=len(DATA), length=50_000)
        peer.send(DATA[:50_000])
        assert peer.rest() == b""
    assert running.events.ending(1).outcome == "cancelled"
    assert hidden(tmp_path) == []


def test_a_published_upload_can_be_deleted_and_keeps_its_file(peer: Peer, tmp_path: Path) -> None:
    upload = part(peer, DATA, 0, 50_000)["upload"]
    part(peer, DATA, 50_000, len(DATA), upload=upload)
    assert peer.ask("DELETE", upload=upload) == {"name": "a"}
    assert hidden(tmp_path) == []
    assert (tmp_path / "a").read_bytes() == DATA


# --- an END that was not heard


def published(running: Running) -> str:
    """An upload that is a file, and whose client did not hear it."""
    with running.peer() as peer:
        upload = str(part(peer, DATA, 0, 50_000)["upload"])
        part(peer, DATA, 50_000, len(DATA), upload=upload)
    return upload


def test_an_upload_whose_end_was_not_heard_says_so_when_asked(running: Running, tmp_path: Path) -> None:
    upload = published(running)
    with running.peer() as peer:
        state = peer.ask("STAT", upload=upload)
        assert (state["offset"], state["published"]) == (len(DATA), "a")
        for _ in range(2):
            assert part(peer, DATA, len(DATA), len(DATA), upload=upload)["name"] == "a"
        assert rest(peer, upload)["sha256"] == HASH
        assert peer.is_usable()
        assert hidden(tmp_path) == []
        assert peer.refusal(request("STAT", upload=upload))["code"] == "not-found"
    assert len(running.events.of(TransferStarted)) == 1


def test_bytes_sent_for_an_upload_that_has_ended_are_never_taken_for_requests(
    running: Running, tmp_path: Path
) -> None:
    upload = published(running)
    (tmp_path / "x").write_bytes(b"")
    for offset in (0, 50_000):
        answer = running.talk(
            request("PUT", name="a", size=len(DATA), upload=upload, offset=offset) + b"DELETE x\n"
        )
        assert f'"offset": {len(DATA)}'.encode() in answer
        assert answer.count(b"\n") == 1
    assert (tmp_path / "x").exists()


def test_an_end_that_nobody_took_is_remembered(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = UploadWriter.publish
    with running.peer() as peer:
        upload = peer.ask("PUT", name="a", size=len(DATA))["upload"]

        def lose_the_line(self: UploadWriter, *decided: Any) -> Any:
            peer.reset()
            return publish(self, *decided)

        monkeypatch.setattr(UploadWriter, "publish", lose_the_line)
        peer.send(DATA)
        running.events.ending(1)
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)
    assert history(running) == [("complete", "")]
    with running.peer() as peer:
        assert peer.ask("STAT", upload=upload)["published"] == "a"
        assert rest(peer, upload)["sha256"] == HASH


# --- names that are taken


def test_an_upload_that_replaces_asks_for_that_right_each_time_it_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    rights = {"add", "replace"}
    access = Access(may=lambda principal, right, name: right in rights)
    with run_server(tmp_path, access=access) as running:
        with running.peer() as peer:
            upload = peer.ask("PUT", name="a", size=3, length=0, exists="replace")["upload"]
            peer.end()
            rights.discard("replace")
            refusal = peer.refusal(request("PUT", name="a", size=3, upload=upload))
            assert refusal["code"] == "auth-required"
        with running.peer() as peer:
            begun = peer.ask("PUT", name="a", size=3, upload=upload, exists="fail", length=0)
            assert begun["offset"] == 0, "it may still be resumed as one that replaces nothing"
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_taken_name_is_refused_before_the_first_byte(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    line = request("PUT", name="a", size=len(DATA), length=0)
    assert peer.refusal(line)["code"] == "exists"
    assert hidden(tmp_path) == []
    assert peer.is_usable()


@pytest.mark.parametrize("then", ["replace", "rename"])
@pytest.mark.parametrize("by_parts", [True, False])
def test_a_name_taken_meanwhile_keeps_the_bytes_for_another_answer(
    running: Running, tmp_path: Path, then: str, by_parts: bool
) -> None:
    length = len(DATA) if by_parts else None
    with running.peer() as peer:
        upload = peer.ask("PUT", name="a", size=len(DATA), length=length, exists="fail")["upload"]
        (tmp_path / "a").write_bytes(b"old")
        peer.send(DATA)
        assert peer.err()["code"] == "exists"
        assert peer.rest() == b""
    assert history(running) == [("failed", "exists")]
    with running.peer() as peer:
        state = peer.ask("STAT", upload=upload)
        assert (state["offset"], state["published"]) == (len(DATA), None)
        end = rest(peer, upload, exists=then)
        assert end["name"] == {"replace": "a", "rename": "a (1)"}[then]
        assert peer.is_usable()
    assert (tmp_path / end["name"]).read_bytes() == DATA
    if then == "rename":
        assert (tmp_path / "a").read_bytes() == b"old"
    assert running.events.of(TransferStarted)[1].done == len(DATA)
    wait_until(lambda: hidden(tmp_path) == [])


def test_what_exists_means_may_be_said_with_the_first_part(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    upload = part(peer, DATA, 0, 50_000, exists="rename")["upload"]
    assert part(peer, DATA, 50_000, len(DATA), upload=upload)["name"] == "a (1)"


# --- disks


def test_a_disk_that_fills_up_in_a_part_leaves_nothing(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(fd: int, data: Any) -> int:
        if os.fstat(fd).st_size >= 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:10_000])

    with running.peer() as peer:
        upload = part(peer, DATA, 0, 20_000)["upload"]
        monkeypatch.setattr(os, "write", full)
        peer.ask("PUT", name="a", size=len(DATA), upload=upload, offset=20_000, length=60_000)
        peer.send(DATA[20_000:80_000])
        assert peer.err()["code"] == "no-space"
        assert peer.rest() == b""
    assert files(tmp_path) == hidden(tmp_path) == []
    assert history(running) == [("failed", "no-space")]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_told_before_the_first_byte(
    peer: Peer, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", refuse)
    refusal = peer.refusal(request("PUT", name="notes.txt", size=5, length=0))
    assert refusal["code"] == "denied"
    assert "'notes.txt'" in refusal["message"]
    assert str(tmp_path) not in refusal["message"]
    assert peer.is_usable()
    assert running.events.of(TransferStarted) == []


# --- who may


@pytest.mark.parametrize("line", ["STAT", "DELETE"])
def test_an_upload_is_the_business_of_those_who_may_write(tmp_path: Path, line: str) -> None:
    access = accounts(
        {
            None: (Principal("guest"), ALL),
            "reader": (Principal("user", "reader"), {"read", "delete"}),
            "writer": (Principal("user", "writer"), {"write"}),
        }
    )
    with run_server(tmp_path, access=access) as running:
        upload = break_off(running, 50_000)
        with running.peer() as peer:
            peer.ask("AUTH", token="reader")
            assert peer.refusal(request(line, upload=upload))["code"] == "denied"
            peer.ask("AUTH", token="writer")
            assert peer.ask(line, upload=upload)["name"] == "a"


# --- seen by others


def test_a_watcher_sees_that_an_upload_waits_and_how_it_ends(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "TICK", 0.02)
    with running.peer() as watcher, running.peer() as peer:
        watcher.ask("WATCH")
        part(peer, DATA, 0, 50_000)
        while not (line := watcher.json())["status"]["waiting"]:
            pass
        (row,) = line["transfers"]
        assert (row["state"], row["done"], row["direction"]) == ("waiting", 50_000, "upload")
        assert line["status"]["transfers"] == 1
        peer.ask("CANCEL", id=1)
        while not (line := watcher.json())["ended"]:
            pass
        assert line["ended"][0]["outcome"] == "cancelled"
        assert line["status"]["waiting"] == line["status"]["transfers"] == 0


@pytest.mark.parametrize("exists", ["fail", "replace"])
def test_nobody_ever_sees_a_name_before_its_file_is_whole(
    running: Running, tmp_path: Path, exists: str
) -> None:
    """Somebody who lists, gets and looks into the folder all the time, during 20 uploads in bits."""
    old, over = b"old" if exists == "replace" else None, threading.Event()
    seen: set[bytes | None] = set()
    failures: list[BaseException] = []
    if old:
        (tmp_path / "a").write_bytes(old)

    def look() -> None:
        try:
            with running.peer() as peer:
                while not over.is_set():
                    seen.add(get_or_none(peer))
                    count = peer.ask("LIST")["count"]
                    assert {(row := peer.json())["name"]: row["size"] for _ in range(count)}.items() <= {
                        ("a", len(old or DATA)),
                        ("a", len(DATA)),
                    }
                    assert set(os.listdir(tmp_path)) <= {"a", PARTIALS}
                    with contextlib.suppress(FileNotFoundError):
                        seen.add((tmp_path / "a").read_bytes())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            with running.peer() as peer:
                peer.ask("PUT", name="a", size=len(DATA), exists=exists)
                for start in range(0, len(DATA), 10_000):
                    peer.send(DATA[start : start + 10_000])
                peer.end()
                if exists == "fail":
                    peer.ask("DELETE", name="a")
    finally:
        over.set()
        thread.join()
    assert failures == []
    assert seen <= {old, DATA, None}


def get_or_none(peer: Peer) -> bytes | None:
    peer.send(b"GET a\n")
    word, fields = peer.reply()
    if word == "ERR":
        assert fields["code"] == "not-found"
        return None
    data = peer.read(fields["length"])
    peer.end()
    return data


# --- many at once


@pytest.mark.parametrize(
    ("exists", "wanted"), [("fail", ["a"]), ("replace", ["a"]), ("rename", ["a", "a (1)"])]
)
def test_of_two_uploads_to_one_name_at_once_there_is_never_a_mixture(
    running: Running, tmp_path: Path, exists: str, wanted: list[str]
) -> None:
    contents = [bytes([65 + n]) * 300_000 for n in range(2)]
    words: list[str] = []
    barrier = threading.Barrier(2)

    def send(data: bytes) -> None:
        with running.peer() as peer:
            peer.ask("PUT", name="a", size=len(data), exists=exists)
            peer.send(data[:-1])
            barrier.wait()
            peer.send(data[-1:])
            word, fields = peer.reply()
            words.append(fields["code"] if word == "ERR" else word)

    in_threads([lambda data=data: send(data) for data in contents])
    assert sorted(words) == (["END", "exists"] if exists == "fail" else ["END", "END"])
    assert files(tmp_path) == wanted
    found = [(tmp_path / name).read_bytes() for name in wanted]
    assert len(set(found)) == len(found)
    assert set(found) <= set(contents)


def in_threads(works: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_200_uploads_at_once_arrive_whole_and_leave_nothing_behind(running: Running, tmp_path: Path) -> None:
    size = 1 << 20
    data = numbered_bytes(size + 200)

    def send(number: int) -> None:
        mine = data[number : number + size]
        with running.peer() as peer:
            peer.sock.settimeout(60)
            peer.ask("PUT", name=f"many/{number}", size=size, sha256=sha256(mine))
            peer.send(mine)
            assert peer.end()["sha256"] == sha256(mine)
            peer.ask("QUIT")
            peer.rest()

    in_threads([lambda number=number: send(number) for number in range(200)])
    assert len(files(tmp_path)) == 200
    for number in range(200):
        assert (tmp_path / "many" / str(number)).read_bytes() == data[number : number + size]
    assert hidden(tmp_path) == []
    assert history(running) == [("complete", "")] * 200


# --- over a bad line


@pytest.mark.parametrize("seed", range(3))
def test_a_file_arrives_over_a_line_that_breaks_20_times(running: Running, tmp_path: Path, seed: int) -> None:
    data = numbered_bytes(2_000_000)
    cuts = random_cuts(seed, 20, 150_000)
    with lossy_proxy(running.address[1], cuts) as port:
        send_in_spite_of_all(running, port, data)
    assert list(cuts) == []
    assert (tmp_path / "a").read_bytes() == data
    assert files(tmp_path) == ["a"]
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)
    assert {outcome for outcome, _ in history(running)} <= {"aborted", "complete"}
    assert history(running)[-1] == ("complete", "")


def send_in_spite_of_all(running: Running, port: int, data: bytes) -> None:
    upload: dict[str, Any] = {}
    while True:
        wait_until(lambda: not running.server._uploads._claims)  # it has noticed that the line broke
        with contextlib.suppress(EOFError, ConnectionError), Peer(("127.0.0.1", port)) as peer:
            if upload:
                upload["offset"] = peer.ask("STAT", upload=upload["upload"])["offset"]
            peer.send(request("PUT", name="a", size=len(data), **upload))
            word, fields = peer.reply()
            if word == "ERR":
                assert fields["code"] in ("busy", "offset")  # it had not even begun with the last try
                continue
            upload = {"upload": fields["upload"]}
            peer.send(data[fields["offset"] :])
            assert peer.end()["sha256"] == sha256(data)
            return
