"""The server is killed at every step of an upload: the file is whole or not there, and can be finished.

What a power failure does to a disk that lies about its flushes is beyond a test; that nothing relies on an
unflushed step is what ``test_uploads`` looks at.
"""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fileserver.storage.base import UploadRequest
from fileserver.storage.folder import Storage
from fileserver.storage.partial_files import PARTIALS
from fileserver.wire.replies import ErrorReply
from tests.crashing import Crasher, crasher
from tests.servers import Peer, Running, numbered_bytes, request, run_server, sha256

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="servers are forked")

DATA = numbered_bytes(1000)
FEWEST_STEPS = 20  # of an upload; fewer would mean that the steps are not seen


@pytest.fixture(scope="module")
def killer() -> Iterator[Crasher]:
    with crasher() as started:
        yield started


# how, name asked for, what is there before, name that it gets
WAYS = [
    ("fail", "new/folder/a.txt", {}, "new/folder/a.txt"),
    ("replace", "a.txt", {"a.txt": b"old"}, "a.txt"),
    ("replace", "new/a.txt", {}, "new/a.txt"),
    ("rename", "week/a.txt", {"week/a.txt": b"old"}, "week/a (1).txt"),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("exists", "name", "before", "final"), WAYS)
def test_a_crash_at_any_step_leaves_the_whole_file_or_none_and_the_upload_can_be_finished(
    killer: Crasher,
    tmp_path: Path,
    exists: str,
    name: str,
    before: dict[str, bytes],
    final: str,
    after: bool,
) -> None:
    for step in itertools.count(1):
        folder = tmp_path / f"{step}"
        for old, content in before.items():
            (folder / old).parent.mkdir(parents=True)
            (folder / old).write_bytes(content)
        folder.mkdir(exist_ok=True)
        try:
            upload, heard_end, survived = upload_until_crash(killer, folder, step, after, name, exists)
            look_at_folder(folder, before, final, heard_end)
            finish(folder, upload, heard_end, name, exists, before | {final: DATA})
        except BaseException as error:
            error.add_note(f"killed {'after' if after else 'before'} step {step}")
            raise
        if survived:
            break
    assert step > FEWEST_STEPS


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_while_an_upload_is_given_up_never_makes_it_a_success(
    killer: Crasher, tmp_path: Path, after: bool
) -> None:
    with Storage(tmp_path) as storage:
        for step in itertools.count(1):
            store = storage.uploads()
            upload = store.begin(UploadRequest("a", 3))
            upload.write(memoryview(b"abc"))
            upload.close()
            with killer.server(tmp_path, step, after) as port, Peer(("127.0.0.1", port)) as peer:
                peer.send(request("DELETE", upload=upload.id))
                peer.sock.shutdown(socket.SHUT_WR)
                survived = peer.rest()
            if survived:
                break
            with contextlib.suppress(ErrorReply):
                assert store.state(upload.id).published is None
            assert files(tmp_path) == {}
    assert step > 3


def upload_until_crash(
    killer: Crasher, folder: Path, step: int, after: bool, name: str, exists: str
) -> tuple[str | None, bool, bool]:
    """The upload, if the client was told; whether it heard ``END``; whether the server got over it."""
    upload, heard_end = None, False
    with (
        killer.server(folder, step, after) as port,
        Peer(("127.0.0.1", port)) as peer,
        contextlib.suppress(EOFError, ConnectionError),
    ):
        upload = peer.ask("PUT", name=name, size=len(DATA), exists=exists)["upload"]
        peer.send(DATA)
        assert peer.end()["sha256"] == sha256(DATA)
        heard_end = True
        peer.ask("QUIT")
        return upload, heard_end, True
    return upload, heard_end, False


def look_at_folder(folder: Path, before: dict[str, bytes], final: str, heard_end: bool) -> None:
    found = files(folder)
    whole = before | {final: DATA}
    assert found == whole if heard_end else found in (before, whole)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and PARTIALS not in path.parts
    }


def finish(
    folder: Path, upload: str | None, heard_end: bool, name: str, exists: str, wanted: dict[str, bytes]
) -> None:
    """As a client does that knows no more than what it was told."""
    with run_server(folder) as running:
        with running.peer() as peer:
            if upload is None:
                peer.ask("PUT", name=name, size=len(DATA), exists=exists)
                peer.send(DATA)
                assert peer.end()["sha256"] == sha256(DATA)
            elif not heard_end:
                go_on(peer, upload, name, wanted)
            peer.ask("QUIT")
            peer.rest()
        assert files(folder) == wanted
        if upload is None or heard_end:
            sweep_all(running)  # nobody will ask for what is left of it
        assert os.listdir(folder / PARTIALS) == []


def go_on(peer: Peer, upload: str, name: str, wanted: dict[str, bytes]) -> None:
    state = peer.ask("STAT", upload=upload)
    assert (state["name"], state["size"]) == (name, len(DATA))
    if state["published"]:
        assert (state["offset"], wanted[state["published"]]) == (len(DATA), DATA)
    peer.ask("PUT", name=name, size=len(DATA), upload=upload, offset=state["offset"])
    peer.send(DATA[state["offset"] :])
    end = peer.end()
    assert (wanted[end["name"]], end["sha256"]) == (DATA, sha256(DATA))


def sweep_all(running: Running) -> None:
    with Storage(running.storage.root) as storage:
        storage.uploads(keep_seconds=-60).sweep()
