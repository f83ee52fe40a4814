"""Changes that are asked for of one state of a file: PUT and DELETE with an etag, alone and at once."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.storage import syscalls as disk
from fileserver.storage.partial_files import PARTIALS
from tests.servers import Peer, Running, request, run_server, wait_until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path) as running:
        yield running


@pytest.fixture
def peer(running: Running) -> Iterator[Peer]:
    with running.peer() as peer:
        yield peer


@pytest.fixture
def etag(peer: Peer, tmp_path: Path) -> str:
    """That of a file, in whose place another one may be put."""
    (tmp_path / "a").write_bytes(b"old")
    return str(peer.ask("STAT", name="a")["etag"])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != PARTIALS)


def put(peer: Peer, data: bytes, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The last line of the reply: ``END``, or ``ERR`` from whenever it came."""
    peer.send(request("PUT", name="a", size=len(data), **fields))
    word, answer = peer.reply()
    if word == "ERR":
        return word, answer
    peer.send(data)
    return peer.reply()


@pytest.mark.parametrize("exists", [None, "replace"])
@pytest.mark.parametrize("state", ["its own", "*"])
def test_the_file_is_replaced_in_the_state_that_was_named(
    peer: Peer, tmp_path: Path, etag: str, exists: str | None, state: str
) -> None:
    word, end = put(peer, b"new!", etag="*" if state == "*" else etag, exists=exists)
    assert (word, end["name"]) == ("END", "a")
    assert (tmp_path / "a").read_bytes() == b"new!"


def test_it_is_deleted_in_the_state_that_was_named(peer: Peer, tmp_path: Path, etag: str) -> None:
    assert peer.refusal(request("DELETE", name="a", etag="other"))["code"] == "changed"
    assert (tmp_path / "a").read_bytes() == b"old"
    assert peer.ask("DELETE", name="a", etag=etag) == {"name": "a"}
    assert files(tmp_path) == []
    for state in (etag, "*"):
        assert peer.refusal(request("DELETE", name="a", etag=state))["code"] == "not-found"


@pytest.mark.parametrize("state", ["other", "", '"*"'])
def test_in_another_state_it_is_refused_before_the_first_byte(
    peer: Peer, tmp_path: Path, etag: str, state: str
) -> None:
    refused = peer.refusal(request("PUT", name="a", size=3, etag=state))
    assert (refused["code"], refused["message"]) == ("changed", "'a' is not in the state that was asked for.")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("state", ["*", "0-0-0"])
def test_what_is_not_there_is_in_no_state(running: Running, tmp_path: Path, state: str) -> None:
    for name in ("a", "folder/a"):
        with running.peer() as peer:
            assert peer.refusal(request("PUT", name=name, size=3, etag=state))["code"] == "changed"
    assert files(tmp_path) == []


def test_a_folder_that_went_with_its_file_is_not_made_again(peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a").write_bytes(b"old")
    peer.ask("PUT", name="w/a", size=3, etag="*")
    (tmp_path / "w" / "a").unlink()
    (tmp_path / "w").rmdir()
    peer.send(b"new")
    assert peer.err()["code"] == "changed"
    assert files(tmp_path) == []


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_file_that_changes_while_bytes_come_is_left_alone_and_they_are_kept(
    running: Running, peer: Peer, tmp_path: Path, etag: str, change: str
) -> None:
    begun = peer.ask("PUT", name="a", size=3, etag=etag)
    if change == "replaced":
        (tmp_path / "b").write_bytes(b"other")
        os.replace(tmp_path / "b", tmp_path / "a")
    else:
        (tmp_path / "a").unlink()
    peer.send(b"new")
    assert peer.err()["code"] == "changed"
    with running.peer() as again:
        assert again.ask("STAT", upload=begun["upload"])["offset"] == 3
    assert files(tmp_path) == (["a"] if change == "replaced" else [])


def test_the_state_is_remembered_for_whoever_goes_on_until_something_else_is_decided(
    running: Running, peer: Peer, tmp_path: Path, etag: str
) -> None:
    upload = peer.ask("PUT", name="a", size=3, length=0, etag=etag)["upload"]
    peer.end()
    (tmp_path / "b").write_bytes(b"other")
    os.replace(tmp_path / "b", tmp_path / "a")
    assert put(peer, b"new", upload=upload)[1]["code"] == "changed"
    with running.peer() as again:
        again.ask("PUT", name="a", size=3, upload=upload, offset=3, exists="rename")
        assert again.end()["name"] == "a (1)"
    assert (tmp_path / "a").read_bytes() == b"other"
    assert (tmp_path / "a (1)").read_bytes() == b"new"


@pytest.mark.parametrize("exists", ["fail", "rename"])
def test_a_state_of_what_is_not_to_be_replaced_makes_no_sense(peer: Peer, etag: str, exists: str) -> None:
    assert peer.refusal(request("DELETE", upload="0" * 32, etag=etag))["code"] == "bad-request"
    assert peer.refusal(request("PUT", name="a", size=3, etag=etag, exists=exists))["code"] == "bad-request"


@pytest.mark.parametrize("verb", ["PUT", "DELETE"])
def test_of_several_changes_of_one_state_only_one_is_made(
    running: Running, peer: Peer, tmp_path: Path, etag: str, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each looks at the file before any of them has changed it, if it can."""
    rename, looked = disk.rename, threading.Barrier(4)

    def late(*places: Any) -> None:
        with pytest.raises(threading.BrokenBarrierError):  # the others must not come so far
            looked.wait(0.1)
        rename(*places)

    monkeypatch.setattr(disk, "rename", late)
    said: list[str] = []

    def change(number: int) -> None:
        with running.peer() as other:
            if verb == "PUT" or number == 0:
                said.append(put(other, b"new %d" % number, etag=etag)[0])
            else:
                other.send(request("DELETE", name="a", etag=etag))
                said.append(other.reply()[0])

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 4
    assert len([word for word in said if word != "ERR"]) == 1
    assert len(files(tmp_path)) <= 1
    wait_until(lambda: not running.server._uploads._claims)


def test_what_is_kept_with_an_upload_is_told_with_its_state(running: Running, peer: Peer) -> None:
    plain = peer.ask("PUT", name="a", size=3, length=0)["upload"]
    peer.end()
    kept = peer.ask("PUT", name="a", size=3, length=0, metadata="filename YQ==,x")["upload"]
    peer.end()
    assert peer.ask("STAT", upload=plain)["metadata"] is None
    assert peer.ask("STAT", upload=kept)["metadata"] == "filename YQ==,x"
    put(peer, b"new", upload=kept, length=3, metadata="something else")
    assert peer.ask("STAT", upload=kept)["metadata"] == "filename YQ==,x"
