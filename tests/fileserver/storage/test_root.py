"""The served folder away, back, replaced, forbidden: said as what it is, never taken for empty."""

import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver.storage import root as module
from fileserver.storage.folder import Storage
from fileserver.storage.place import HAS_DIR_FD
from fileserver.wire.replies import ErrorReply
from tests.servers import Running, no_descriptor_left, run_server, wait_until

LINES = [b"LIST\n", b"LIST week/\n", b"STAT week/a\n", b"GET week/a\n", b"DELETE week/a\n"]
UPLOAD = b'PUT {"name": "new", "size": 1}\n'


@pytest.fixture(params=[True, False], ids=["dir_fd", "paths"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    if request.param and not HAS_DIR_FD:
        pytest.skip("this system has no dir_fd")
    fill(tmp_path / "served")
    with run_server(tmp_path / "served", use_dir_fd=request.param) as running:
        with running.peer() as peer:  # the ways of a folder that is known already
            for _ in range(2):
                peer.ask("GET", name="week/a")
                peer.read(len(b"week"))
                peer.end()
        yield running


def fill(folder: Path, content: bytes = b"week") -> None:
    (folder / "week").mkdir(parents=True)
    (folder / "week" / "a").write_bytes(content)


def codes(running: Running) -> set[str]:
    with running.peer() as peer:
        refusals = [peer.refusal(line) for line in [*LINES, UPLOAD]]
    assert all("folder" in refusal["message"] for refusal in refusals)
    return {refusal["code"] for refusal in refusals}


def content(running: Running) -> bytes:
    with running.peer() as peer:
        header = peer.ask("GET", name="week/a")
        data = peer.read(header["length"])
        peer.end()
        return data


def is_away(running: Running) -> bool:
    """Within a second at most: so long an open folder is taken to be the one at its path."""
    with running.peer() as peer:
        peer.send(b"STAT week/a\n")
        return b"unavailable" in peer.line()


def test_a_folder_that_is_moved_away_and_back_is_unavailable_meanwhile(
    running: Running, tmp_path: Path
) -> None:
    (tmp_path / "served").rename(tmp_path / "elsewhere")
    wait_until(lambda: is_away(running))
    assert codes(running) == {"unavailable"}
    (tmp_path / "elsewhere").rename(tmp_path / "served")
    assert content(running) == b"week"


def test_an_upload_is_not_lost_while_the_folder_is_away(running: Running, tmp_path: Path) -> None:
    """``not-found`` would make its client begin anew."""
    with running.peer() as peer:
        upload = peer.ask("PUT", name="new", size=2, length=1)["upload"]
        peer.send(b"1")
        peer.end()
        (tmp_path / "served").rename(tmp_path / "elsewhere")
        wait_until(lambda: is_away(running))
        for line in (b'STAT {"upload": "%s"}\n', b'DELETE {"upload": "%s"}\n'):
            assert peer.refusal(line % upload.encode())["code"] == "unavailable"
        (tmp_path / "elsewhere").rename(tmp_path / "served")
        peer.ask("PUT", name="new", size=2, upload=upload, offset=1)
        peer.send(b"2")
        assert peer.end()["name"] == "new"
    assert (tmp_path / "served" / "new").read_bytes() == b"12"


def test_a_folder_that_is_removed_and_made_again_is_served_at_once(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(tmp_path / "served")
    assert codes(running) == {"unavailable"}  # at once: nothing is missing before that was looked at
    fill(tmp_path / "served", b"made again")
    assert content(running) == b"made again"
    with running.peer() as peer:
        assert peer.ask("LIST")["count"] == 1
        peer.line()
        peer.ask("PUT", name="new", size=1)
        peer.send(b"x")
        assert peer.end()["name"] == "new"
    assert (tmp_path / "served" / "new").read_bytes() == b"x"


def test_another_folder_in_its_place_is_served(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk that is mounted over it, or a copy that is put back: the open one works on."""
    fill(tmp_path / "copy", b"copy")
    (tmp_path / "served").rename(tmp_path / "before")
    (tmp_path / "copy").rename(tmp_path / "served")
    with running.peer() as peer:
        assert peer.ask("LIST")["count"] == 1  # a listing looks in any case
        peer.line()
    assert content(running) == b"copy"
    fill(tmp_path / "again", b"again")
    (tmp_path / "served").rename(tmp_path / "copy")
    (tmp_path / "again").rename(tmp_path / "served")
    assert wait_until(lambda: content(running) == b"again", module._LOOK_SECONDS + 2)


def test_a_folder_is_opened_anew_under_the_same_number_and_nothing_stays_open(tmp_path: Path) -> None:
    """Else a thread that is about to use it might find it closed, or to be something else."""
    if not HAS_DIR_FD:
        pytest.skip("this system has no dir_fd")
    fill(tmp_path / "served")
    with Storage(tmp_path / "served") as storage:
        number = storage.paths.root.fd
        assert number is not None
        before = len(os.listdir("/dev/fd"))
        for turn in range(3):
            (tmp_path / "served").rename(tmp_path / f"before {turn}")
            fill(tmp_path / "served")
            assert storage.fault() == ""
            assert storage.paths.root.fd == number
            assert os.path.samestat(os.fstat(number), (tmp_path / "served").stat())
            assert not os.get_inheritable(number)
        assert len(os.listdir("/dev/fd")) == before


def test_many_threads_see_either_folder_and_nothing_else(tmp_path: Path) -> None:
    for name in ("served", "other"):
        fill(tmp_path / name)
    wrong: list[BaseException] = []
    stop = threading.Event()
    with Storage(tmp_path / "served") as storage:

        def read() -> None:
            while not stop.is_set():
                try:
                    with storage.open("week/a") as file:
                        assert file.read(0, 9) == b"week"
                    assert [entry.name for entry in storage.entries()] == ["week/a"]
                except ErrorReply as error:
                    if error.code != "unavailable":
                        wrong.append(error)
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            (tmp_path / "served").rename(tmp_path / "swap")
            (tmp_path / "other").rename(tmp_path / "served")
            (tmp_path / "swap").rename(tmp_path / "other")
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("function", ["scandir", "stat"])
def test_a_folder_that_must_not_be_read_or_looked_into_is_unavailable(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """To read the names in a folder is one right, to look at the files of these names is another."""
    really = getattr(os, function)

    def forbidden(path: Any = ".", **kwargs: Any) -> Any:
        if str(path) in (str(tmp_path / "served"), str(tmp_path / "served") + "/.") and (
            function == "scandir" or str(path).endswith(".")
        ):
            raise PermissionError(13, "Permission denied")
        return really(path, **kwargs)

    with running.peer() as peer, monkeypatch.context() as patch:
        patch.setattr(os, function, forbidden)
        refusal = peer.refusal(b"LIST\n")
        assert (refusal["code"], refusal["message"]) == (
            "unavailable",
            "The server's folder cannot be read now: Permission denied.",
        )
        assert peer.refusal(b"STAT missing\n")["code"] == "unavailable"
    assert content(running) == b"week"


def test_watchers_and_ping_are_told_that_the_folder_is_away_and_back(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fileserver.server._HOUSEKEEPING_SECONDS", 0.01)
    sentence = "The server's folder cannot be read now: No such file or directory."
    with running.peer() as asking, running.peer() as watching:
        watching.ask("WATCH")

        def told(wanted: str | None) -> bool:
            return bool(json.loads(watching.line())["status"]["folder_error"] == wanted)

        wait_until(lambda: told(None))
        (tmp_path / "served").rename(tmp_path / "elsewhere")
        wait_until(lambda: told(sentence))
        assert asking.ask("PING")["folder_error"] == sentence
        (tmp_path / "elsewhere").rename(tmp_path / "served")
        wait_until(lambda: told(None))
        assert asking.ask("PING")["folder_error"] is None


def test_a_folder_opened_anew_is_told_in_the_log_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not HAS_DIR_FD:
        pytest.skip("this system has no dir_fd")
    fill(tmp_path / "served")
    with Storage(tmp_path / "served") as storage, caplog.at_level(logging.WARNING):
        (tmp_path / "served").rename(tmp_path / "before")
        fill(tmp_path / "served")
        for _ in range(3):
            assert storage.fault() == ""
    assert caplog.text.count("another folder is in the place") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of POSIX")
def test_a_folder_that_cannot_be_opened_for_want_of_descriptors_is_not_faulty_for_long(
    tmp_path: Path,
) -> None:
    fill(tmp_path)
    with Storage(tmp_path) as storage:
        with no_descriptor_left():
            assert "Too many open files" in storage.fault()
            with pytest.raises(ErrorReply, match="Too many open files"):
                next(storage.entries())
        assert storage.fault() == ""
