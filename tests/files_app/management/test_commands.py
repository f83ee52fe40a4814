"""The commands: what they say, what they leave, and that whatever goes wrong is one sentence."""

import contextlib
import io
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from rich.console import Console as RichConsole

from files_app.hosting import locks
from files_app.hosting.ending import Ending
from files_app.hosting.locks import only_server_of
from files_app.hosting.supervisor import Child
from files_app.management.commands import files as files_command
from files_app.management.commands.runfileserver import pace_of
from files_app.management.commands.watch import Board
from files_app.models import Transfer
from files_app.terminal import paths, send
from files_app.terminal import progress as terminal
from files_app.terminal.fetch import Fetch
from fileserver.client.blocking import Client, Incomplete, Readable
from fileserver.events import TransferStarted
from fileserver.pacing import SLOW_MOTION, Pace
from fileserver.server import FileServer
from fileserver.storage import root as root_module
from fileserver.storage.folder import Storage
from fileserver.storage.partial_files import PARTIALS
from fileserver.wire.lines import Fields
from fileserver.wire.replies import BadReply
from fileserver.workers import MODELS
from fileserver.workers.base import Workers
from tests.files_app.conftest import Served
from tests.servers import numbered_bytes, sha256, wait_until
from tests.stack import free_ports

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def manage(served: Served) -> Callable[..., str]:
    """Run a command that speaks to the file server; what it wrote to its standard output."""

    def run(*arguments: str) -> str:
        out = io.StringIO()
        call_command(*arguments, "--port", str(served.port), stdout=out)
        return out.getvalue()

    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


Manage = Callable[..., str]


class TestDownload:
    def test_a_file_arrives_where_the_user_is(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        served.put("week 3/notes.txt", b"hello")
        manage("download", "week 3/notes.txt")
        assert (home / "notes.txt").read_bytes() == b"hello"
        assert capsys.readouterr().out == "notes.txt is whole\n"
        assert served.row_of(1).verified is True

    def test_several_files_go_into_one_folder(self, served: Served, home: Path, manage: Manage) -> None:
        (home / "there").mkdir()
        for name in ("a.txt", "b.txt"):
            served.put(name, name.encode())
        manage("download", "a.txt", "b.txt", "--to", "there")
        assert names(home / "there") == ["a.txt", "b.txt"]

    def test_one_file_can_get_another_name(self, served: Served, home: Path, manage: Manage) -> None:
        served.put("a.txt", b"hello")
        manage("download", "a.txt", "--to", "b.txt")
        assert names(home) == ["b.txt"]

    def test_without_a_name_the_files_are_listed_and_one_is_asked_for(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.put("a.txt", b"hello")
        served.put("b.txt", b"world")
        asked: list[str] = []
        monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or " b.txt ")
        assert manage("download") == "  a.txt\n  b.txt\n"
        assert asked == ["Which file? "]
        assert names(home) == ["b.txt"]

    @pytest.mark.parametrize("answer", ["", "  ", EOFError(), KeyboardInterrupt()])
    def test_no_answer_is_no_file(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch, answer: Any
    ) -> None:
        def reply(question: str) -> str:
            if isinstance(answer, BaseException):
                raise answer
            return str(answer)

        monkeypatch.setattr("builtins.input", reply)
        with pytest.raises(CommandError, match=r"^No file was named\.$"):
            manage("download")

    def test_slow_motion_is_asked_for(self, served: Served, home: Path, manage: Manage) -> None:
        served.put("a.txt", b"hello")
        manage("download", "a.txt", "--slow-motion")
        assert served.row_of(1).pace == str(SLOW_MOTION)

    def test_what_broke_off_says_what_is_kept_and_goes_on(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = numbered_bytes(12 << 20)
        served.put("big.bin", data)
        with monkeypatch.context() as patch:
            run = Fetch.run

            def cut(self: Fetch, pace: Pace | None) -> Iterator[tuple[int, int]]:
                for step in run(self, pace):
                    for transfer in served.server.registry.live():
                        transfer.control.stop("cancelled")
                    yield step

            patch.setattr(Fetch, "run", cut)
            with pytest.raises(CommandError) as failure:
                manage("download", "big.bin")
        message = str(failure.value).replace("\xa0", " ")
        assert message.startswith("big.bin broke off: The connection ended with ")
        assert message.endswith("B are kept: the same command goes on from there.")
        kept = (home / "big.bin.part").stat().st_size
        manage("download", "big.bin")
        assert [event.offset for event in served.events.of(TransferStarted)] == [0, kept]
        assert sha256((home / "big.bin").read_bytes()) == sha256(data)
        assert names(home) == ["big.bin"]

    def test_with_no_resume_it_begins_anew(self, served: Served, home: Path, manage: Manage) -> None:
        served.put("a.txt", b"hello")
        (home / "a.txt.part").write_bytes(b"he")
        (home / "a.txt.part.etag").write_text(served.storage.stat("a.txt").etag)
        manage("download", "a.txt", "--no-resume")
        assert [event.offset for event in served.events.of(TransferStarted)] == [0]
        assert names(home) == ["a.txt"]

    def test_ctrl_c_says_what_is_kept(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.put("big.bin", bytes(12 << 20))
        run = Fetch.run

        def interrupted(self: Fetch, pace: Pace | None) -> Iterator[tuple[int, int]]:
            yield next(run(self, pace))
            raise KeyboardInterrupt

        monkeypatch.setattr(Fetch, "run", interrupted)
        with pytest.raises(CommandError, match=r"^big.bin was stopped\. .* are kept") as failure:
            manage("download", "big.bin")
        assert failure.value.returncode == 130

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nothing.txt"], "There is no file 'nothing.txt'"),
            (["../etc/passwd"], "cannot be used"),
            (["/etc/passwd"], "cannot be used"),
            ([".hidden"], "hidden"),
            (["a.txt", "--to", "no/such/folder/b.txt"], "The folder no/such/folder does not exist."),
            (["a.txt", "b.txt", "--to", "c.txt"], "c.txt is not a folder, but there are 2 files for it."),
            (["taken.txt"], "taken.txt exists and is another file: remove it, or use --to."),
            (["a.txt", "--to", "x" * 300], "cannot be written: File name too long."),
            (["a.txt", "--to", "taken.txt/"], "taken.txt/ cannot be a folder: there is a file of that name."),
            (["a.txt", "--to", "taken.txt/in/"], "cannot be a folder: there is a file of that name."),
            (["Week 03", "--to", "there"], "there is not a folder, but there are 2 files for it."),
            (["Week 04", "--to", "there"], "a folder is to go there. With a slash at its end, there/, it"),
            (["Week"], "There is no file 'Week'. What begins so: 'Week 03/', 'Week 04/'."),
            (["week/"], "There is no folder 'week' with files in it. What begins so: 'Week 03/', "),
            (["a.txt/"], "There is no folder 'a.txt' with files in it. What begins so: 'a.txt'."),
            (["Nothing/"], "There is no folder 'Nothing' with files in it."),
            (["/"], "cannot be used: it is empty"),
            (["Week 03//"], "cannot be used: it has an empty part"),
            (["../"], "cannot be used"),
            (["Week 03/1.txt", "Week 04/1.txt"], "would both be 1.txt: fetch one of them."),
        ],
    )
    def test_what_cannot_be_is_one_sentence(
        self, served: Served, home: Path, manage: Manage, arguments: list[str], words: str
    ) -> None:
        for name in ("a.txt", "b.txt", "taken.txt", "Week 03/1.txt", "Week 03/in/2.txt", "Week 04/1.txt"):
            served.put(name, b"hello")
        (home / "taken.txt").write_bytes(b"mine")
        with pytest.raises(CommandError) as failure:
            manage("download", *arguments)
        assert words in str(failure.value)
        assert (home / "taken.txt").read_bytes() == b"mine"
        assert names(home) == ["taken.txt"]

    def test_of_many_names_that_begin_so_the_first_are_told(
        self, served: Served, home: Path, manage: Manage
    ) -> None:
        for number in range(8):
            served.put(f"Week {number}/notes.txt", b"hello")
        with pytest.raises(CommandError, match=r"'Week 4/' and 3 more\.$"):
            manage("download", "Week")

    @pytest.mark.parametrize("to", ["there/", "new/there/", "./there//", "there/."])
    def test_a_slash_at_the_end_means_a_folder_which_is_made(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str], to: str
    ) -> None:
        if to == "there/.":  # as the shell completes it: no slash at the end, but there
            (home / "there").mkdir()
        served.put("Week 03/a.txt", b"hello")
        manage("download", "Week 03/a.txt", "--to", to)
        assert (home / to / "a.txt").read_bytes() == b"hello"
        assert capsys.readouterr().out == f"{Path(to) / 'a.txt'} is whole\n"

    def test_the_slash_of_this_system_means_a_folder_too(self) -> None:
        assert [paths.means_folder(text) for text in ("a/", "a", "", "a/b")] == [True, False, False, False]
        assert paths.separators("\\", "/") == ("/", "\\")

    @pytest.mark.parametrize("name", ["course/Week 03", "course/Week 03/"])
    @pytest.mark.parametrize(("to", "found"), [(None, "."), ("there/", "there"), (".", ".")])
    def test_all_files_of_a_folder_come_with_their_places_in_it(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        capsys: pytest.CaptureFixture[str],
        name: str,
        to: str | None,
        found: str,
    ) -> None:
        tree = {"1.txt": b"one", "in/2.txt": b"two", "in/deep/ü.txt": b"three"}
        for place, data in tree.items():
            served.put(f"course/Week 03/{place}", data)
        served.put("course/Week 03 solutions.txt", b"not this one")
        manage("download", name, *(["--to", to] if to else []))
        top = home / found / "Week 03"
        arrived = {path.relative_to(top).as_posix(): path for path in top.rglob("*") if path.is_file()}
        assert {place: path.read_bytes() for place, path in arrived.items()} == tree
        assert len(capsys.readouterr().out.splitlines()) == 3
        assert [served.row_of(number).verified for number in (1, 2, 3)] == [True] * 3
        manage("download", name, *(["--to", to] if to else []))  # all is there: nothing is fetched again
        assert len(served.events.of(TransferStarted)) == 3

    def test_a_folder_goes_on_where_it_broke_off(self, served: Served, home: Path, manage: Manage) -> None:
        for name in ("1.txt", "2.txt"):
            served.put(f"week/{name}", b"hello")
        (home / "week").mkdir()
        (home / "week" / "1.txt").write_bytes(b"hello")
        (home / "week" / "2.txt.part").write_bytes(b"hel")
        (home / "week" / "2.txt.part.etag").write_text(served.storage.stat("week/2.txt").etag)
        # Hashed, so that what is whole is known to be.
        served.storage.remember_hash("week/1.txt", served.storage.stat("week/1.txt").etag, sha256(b"hello"))
        manage("download", "week")
        moved = [(event.name, event.offset) for event in served.events.of(TransferStarted)]
        assert moved == [("week/2.txt", 3)]
        assert names(home / "week") == ["1.txt", "2.txt"]

    def test_one_file_of_a_folder_that_fails_keeps_no_other_from_coming_and_ends_with_1(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("1.txt", "2.txt", "3.txt", "4/x.txt"):
            served.put(f"week/{name}", b"hello")
        served.storage.remember_hash("week/2.txt", served.storage.stat("week/2.txt").etag, "0" * 64)
        (home / "week").mkdir()
        (home / "week" / "4").write_text("a file where a folder is to be")
        with pytest.raises(CommandError, match=r"^2 of 4 files could not be downloaded\.$") as failure:
            manage("download", "week")
        assert failure.value.returncode == 1
        assert names(home / "week") == ["1.txt", "3.txt", "4"]
        said = capsys.readouterr()
        assert said.out.splitlines() == ["week/1.txt is whole", "week/3.txt is whole"]
        assert [line.partition(" ")[0] for line in said.err.splitlines()] == ["week/2.txt", "week/4/x.txt"]

    def test_a_server_that_goes_in_the_middle_of_a_folder_ends_the_work(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("1.txt", "2.txt"):
            served.put(f"week/{name}", b"hello")
        run = Fetch.run

        def gone(self: Fetch, pace: Pace | None) -> Iterator[tuple[int, int]]:
            yield from run(self, pace)
            served.server.shutdown(grace=0)

        monkeypatch.setattr(Fetch, "run", gone)
        with pytest.raises(CommandError, match=r"^(No file server answers|week/2\.txt broke off|The conn)"):
            manage("download", "week")
        assert names(home / "week") == ["1.txt"]

    def test_a_folder_with_a_name_that_leads_out_of_it_is_refused(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.put("week/1.txt", b"hello")
        listed = [{"name": "week/../../out.txt", "size": 1, "mtime": 0}]
        monkeypatch.setattr(Client, "files", lambda self, prefix="": iter(listed))
        with pytest.raises(CommandError, match="cannot be used"):
            manage("download", "week")
        assert names(home) == []

    def test_a_wrong_hash_is_a_failure_and_leaves_nothing(
        self, served: Served, home: Path, manage: Manage
    ) -> None:
        served.put("a.txt", b"hello")
        served.storage.remember_hash("a.txt", served.storage.stat("a.txt").etag, "0" * 64)
        with pytest.raises(CommandError, match="wrong hash and was thrown away"):
            manage("download", "a.txt")
        assert names(home) == []


class TestConnection:
    @pytest.mark.parametrize(
        "command", [["download", "a.txt"], ["files"], ["watch"], ["upload", __file__]], ids=lambda c: c[0]
    )
    @pytest.mark.parametrize(
        ("host", "port"), [("127.0.0.1", "1"), ("no-such-host.invalid", "9999"), ("a..b", "9999")]
    )
    def test_a_server_that_does_not_answer_is_named_with_the_command_that_starts_one(
        self, command: list[str], host: str, port: str
    ) -> None:
        with pytest.raises(CommandError) as failure:
            call_command(*command, "--host", host, "--port", port)
        assert f"No file server answers at {host}:{port} (" in str(failure.value)
        assert "Start it with: python manage.py runfileserver" in str(failure.value)

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is no file server"),
            (b"OK nonsense\n", "is no file server"),
            (b"", "broke: The server closed the connection."),
            (b'ERR {"code": "busy", "message": "The server is full."}\n', "The server is full."),
        ],
    )
    def test_a_stranger_on_the_port_is_one_sentence(self, said: bytes, words: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def talk() -> None:
                peer, _ = listener.accept()
                with peer:
                    peer.recv(1000)
                    peer.sendall(said)

            stranger = threading.Thread(target=talk)
            stranger.start()
            with pytest.raises(CommandError) as failure:
                call_command("files", "--port", str(listener.getsockname()[1]))
            stranger.join()
        assert words in str(failure.value)

    @pytest.mark.parametrize("port", ["70000", "-1", "http"])
    def test_a_port_that_cannot_be_is_refused(self, port: str) -> None:
        with pytest.raises(CommandError, match="is no port"):
            call_command("files", f"--port={port}")

    def test_ctrl_c_is_no_traceback(
        self, served: Served, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(self: Client, *args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

        monkeypatch.setattr(Client, "files", interrupted)
        with pytest.raises(CommandError, match=r"^Stopped\.$") as failure:
            manage("files")
        assert failure.value.returncode == 130


@pytest.mark.usefixtures("cache")
class TestUpload:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where it remembers what it has begun."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))

    def test_a_file_is_there_under_its_name(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        data = numbered_bytes(1_000_000)
        (home / "a.bin").write_bytes(data)
        manage("upload", "a.bin")
        assert (served.folder / "a.bin").read_bytes() == data
        assert capsys.readouterr().out == "a.bin is there as a.bin\n"
        assert served.row_of(1).outcome == "complete"

    def test_several_files_and_another_name(self, served: Served, home: Path, manage: Manage) -> None:
        for name in ("a.txt", "b.txt", "empty"):
            (home / name).write_bytes(name.encode() if name != "empty" else b"")
        manage("upload", "a.txt", "b.txt", "empty")
        manage("upload", str(home / "a.txt"), "--as", "week 3/c.txt")
        assert (served.folder / "week 3" / "c.txt").read_bytes() == b"a.txt"
        assert (served.folder / "empty").read_bytes() == b""

    def test_a_taken_name_is_refused_replaced_or_numbered(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        served.put("a.txt", b"old")
        (home / "a.txt").write_bytes(b"new")
        with pytest.raises(CommandError, match=r"^1 of 1 files could not be uploaded\.$"):
            manage("upload", "a.txt")
        assert capsys.readouterr().err == "There is a file 'a.txt' already.\n"
        manage("upload", "a.txt", "--exists", "rename")
        assert capsys.readouterr().out == "a.txt is there as a (1).txt\n"
        manage("upload", "a.txt", "--exists", "replace")
        assert (served.folder / "a.txt").read_bytes() == b"new"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nothing.txt"], "nothing.txt is not there."),
            (["x" * 300], "cannot be read: File name too long."),
            (["empty folder"], "There is no file in what was named."),
            (["/dev/null"], "/dev/null is neither a file nor a folder."),
            (["a.txt", "a.txt", "--as", "b.txt"], "--as can name one PATH only; with a slash"),
            (["a.txt/"], "a.txt/ is no folder, but a file."),
            (["a.txt", "--as", "/"], "cannot be used"),
            (["a.txt", "--as", "../b.txt"], "cannot be used"),
            (["a.txt", "--as", "con"], "is a device on Windows"),
            (["a.txt", "--exists", "overwrite"], "invalid choice"),
        ],
    )
    def test_what_cannot_be_is_one_sentence(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        arguments: list[str],
        words: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (home / "a.txt").write_bytes(b"x")
        (home / "empty folder").mkdir()
        with pytest.raises(CommandError) as failure:
            manage("upload", *arguments)
        assert words in f"{failure.value}\n{capsys.readouterr().err}"
        assert names(served.folder) in ([], [PARTIALS])

    def test_a_file_that_arrived_wrong_is_said(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (home / "a.txt").write_bytes(b"hello")

        def sending_other_bytes(client: Client, source: Readable, length: int, sent: Any) -> Fields:
            sent(memoryview(b"hello"))
            return send_body(client, io.BytesIO(b"hallo"), length)

        send_body = Client.send_body
        monkeypatch.setattr(Client, "send_body", sending_other_bytes)
        with pytest.raises(CommandError):
            manage("upload", "a.txt")
        assert "was changed while it was sent, or arrived wrong" in capsys.readouterr().err

    def test_a_folder_keeps_its_structure_and_leaves_out_what_is_hidden_or_a_link(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tree = [
            "c.txt",
            "b/d.txt",
            "b/e/f g.txt",
            "a.txt",
            ".hidden.txt",
            ".git/config",
            "b/.cache/x",
            "ü/ä.txt",
        ]
        for name in tree:
            path = home / "week 3" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        (home / "outside.txt").write_text("outside")
        (home / "week 3" / "link.txt").symlink_to(home / "outside.txt")
        (home / "week 3" / "linked").symlink_to(home)
        (home / "week 3" / "empty").mkdir()
        manage("upload", "week 3")
        sent = sorted(name for name in tree if "." not in [part[0] for part in name.split("/")])
        found = {
            path.relative_to(served.folder).as_posix(): path.read_text()
            for path in served.folder.rglob("*")
            if path.is_file() and PARTIALS not in path.parts
        }
        assert found == {f"week 3/{name}": name for name in sent}
        assert len(capsys.readouterr().out.splitlines()) == len(sent)

    def test_a_slash_at_the_end_of_the_new_name_means_a_folder(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("a.txt", "b.txt"):
            (home / name).write_text(name)
        manage("upload", "a.txt", "--as", "week 4/text/")
        manage("upload", "a.txt", "b.txt", "--as", "week 5/")
        said = capsys.readouterr().out.splitlines()
        assert [line.rpartition(" is there as ")[2] for line in said] == [
            "week 4/text/a.txt",
            "week 5/a.txt",
            "week 5/b.txt",
        ]
        assert (served.folder / "week 5" / "b.txt").read_text() == "b.txt"

    @pytest.mark.parametrize("options", [[], ["--exists", "replace"], ["--exists", "rename"]])
    def test_a_file_does_not_get_the_name_of_a_folder(
        self, served: Served, home: Path, manage: Manage, options: list[str]
    ) -> None:
        served.put("week 3/a.txt", b"hello")
        (home / "b.txt").write_text("x")
        with pytest.raises(CommandError) as failure:
            manage("upload", "b.txt", "--as", "week 3", *options)
        told = "'week 3' is a folder there. To put the file into it, say: --as 'week 3/'"
        assert str(failure.value) == told
        assert names(served.folder) == ["week 3"]

    def test_what_a_folder_has_and_cannot_be_read_is_said_and_counted(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The system is made to refuse: no rights can be taken from an administrator, who may run tests."""
        for name in ("a.txt", "locked/b.txt", "no search/c.txt", "unreadable.txt", "z/d.txt"):
            (home / "week" / name).parent.mkdir(parents=True, exist_ok=True)
            (home / "week" / name).write_text(name)
        os.mkfifo(home / "week" / "pipe")
        Path(os.fsdecode(os.fsencode(home / "week") + b"/b\xffd.txt")).write_text("x")
        refuse = {
            "scandir": lambda path: str(path).endswith("locked"),
            "lstat": lambda path: str(path).endswith("c.txt"),
            "stat": lambda path: str(path).endswith("c.txt"),
        }
        for function, is_refused in refuse.items():
            self._refuse(monkeypatch, function, is_refused)
        real_open = Path.open

        def open_(path: Path, *arguments: Any, **more: Any) -> Any:
            if path.name == "unreadable.txt":
                raise PermissionError(13, "Permission denied", str(path))
            return real_open(path, *arguments, **more)

        monkeypatch.setattr(Path, "open", open_)
        with pytest.raises(CommandError, match=r"^5 of 7 files could not be uploaded\.$") as failure:
            manage("upload", "week")
        assert failure.value.returncode == 1
        assert names(served.folder / "week") == ["a.txt", "z"]
        said = capsys.readouterr().err
        assert sorted(line for line in said.splitlines() if "utf-8" not in line.lower()) == [
            "week/locked cannot be read: Permission denied.",
            "week/no search/c.txt cannot be read: Permission denied.",
            "week/pipe is neither a file nor a folder.",
            "week/unreadable.txt cannot be read: Permission denied.",
        ]
        assert len(said.splitlines()) == 5, said

    @staticmethod
    def _refuse(monkeypatch: pytest.MonkeyPatch, function: str, is_refused: Callable[[Any], bool]) -> None:
        real = getattr(os, function)

        def refusing(path: Any = ".", *arguments: Any, **more: Any) -> Any:
            if isinstance(path, str | Path) and is_refused(path):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **more)

        monkeypatch.setattr(os, function, refusing)

    def test_a_folder_that_cannot_be_read_at_all_is_no_empty_one(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (home / "locked").mkdir()
        self._refuse(monkeypatch, "scandir", lambda path: str(path).endswith("locked"))
        with pytest.raises(CommandError, match=r"^1 of 1 files could not be uploaded\.$"):
            manage("upload", "locked")
        assert "locked cannot be read: Permission denied." in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("path", "options", "stored"),
        [
            ("folder", ["--as", "week 4/text/"], "week 4/text/folder/a.txt"),
            ("folder", ["--as", "week 4/text"], "week 4/text/a.txt"),
            ("folder/", [], "folder/a.txt"),
            ("folder/.", [], "folder/a.txt"),
            ("folder/../folder", [], "folder/a.txt"),
        ],
    )
    def test_a_folder_is_there_under_its_own_name_or_another(
        self, served: Served, home: Path, manage: Manage, path: str, options: list[str], stored: str
    ) -> None:
        (home / "folder").mkdir()
        (home / "folder" / "a.txt").write_text("x")
        manage("upload", path, *options)
        assert (served.folder / stored).read_text() == "x"

    def test_one_that_cannot_be_sent_keeps_no_other_from_it(
        self, served: Served, home: Path, manage: Manage, capsys: pytest.CaptureFixture[str]
    ) -> None:
        served.put("b.txt", b"old")
        for name in ("a.txt", "b.txt", "c?.txt", "d.txt"):
            (home / name).write_text("new")
        with pytest.raises(CommandError, match=r"^2 of 4 files could not be uploaded\.$") as failure:
            manage("upload", "a.txt", "b.txt", "c?.txt", "d.txt")
        assert failure.value.returncode == 1
        assert [(served.folder / name).read_text() for name in ("a.txt", "b.txt", "d.txt")] == [
            "new",
            "old",
            "new",
        ]
        first, second = capsys.readouterr().err.splitlines()
        assert first == "There is a file 'b.txt' already."
        assert "'c?.txt'" in second

    def test_ctrl_c_says_that_it_goes_on_and_the_next_run_does(
        self, served: Served, home: Path, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = numbered_bytes(1_000_000)
        (home / "a.bin").write_bytes(data)
        send_body = Client.send_body

        def interrupted(client: Client, source: Readable, *rest: Any) -> Fields:
            with contextlib.suppress(Incomplete):
                send_body(client, io.BytesIO(data[:500_000]), *rest)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Client, "send_body", interrupted)
            with pytest.raises(
                CommandError, match="the same command goes on with it within a day"
            ) as failure:
                manage("upload", "a.bin")
        assert failure.value.returncode == 130
        assert served.events.ending(1).done == 500_000
        manage("upload", "a.bin")
        assert (served.folder / "a.bin").read_bytes() == data
        wait_until(lambda: len(served.events.of(TransferStarted)) == 2)
        assert served.events.of(TransferStarted)[1].done == 500_000

    def test_a_file_that_cannot_be_read_is_one_sentence(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (home / "a.txt").write_bytes(b"x")

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
        with pytest.raises(CommandError):
            manage("upload", "a.txt")
        assert capsys.readouterr().err == "a.txt cannot be read: Permission denied.\n"

    def test_a_stranger_that_takes_the_port_meanwhile_is_one_sentence(
        self,
        served: Served,
        home: Path,
        manage: Manage,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (home / "a.txt").write_bytes(b"x")

        def stranger(*args: Any, **kwargs: Any) -> None:
            raise BadReply("no")

        monkeypatch.setattr(send.Send, "run", stranger)
        with pytest.raises(CommandError):
            manage("upload", "a.txt")
        assert capsys.readouterr().err == f"What answers at 127.0.0.1:{served.port} is no file server.\n"


class TestFiles:
    def test_other_programs_get_bytes_time_and_name(self, served: Served, manage: Manage) -> None:
        served.put("week 3/Übung 🎉.txt", b"hello")
        served.put("a.txt", b"x")
        entry = served.storage.stat("a.txt")
        lines = manage("files").splitlines()
        assert lines[0] == f"1\t{entry.mtime:.0f}\ta.txt"
        assert lines[1].endswith("\tweek 3/Übung 🎉.txt")
        assert manage("files", "week").splitlines() == lines[1:]
        assert manage("files", "week 3/").splitlines() == lines[1:]

    @pytest.mark.parametrize(
        ("prefix", "words"),
        [
            ("nothing", "No file begins with 'nothing'."),
            ("Week", "No file begins with 'Week'. What begins so: 'week 3/', 'weekly.txt'."),
            ("week 3/b", "No file begins with 'week 3/b'."),
        ],
    )
    def test_a_beginning_that_no_file_has_is_a_sentence_and_a_failure(
        self, served: Served, manage: Manage, prefix: str, words: str
    ) -> None:
        for name in ("week 3/a.txt", "weekly.txt"):
            served.put(name, b"x")
        with pytest.raises(CommandError) as failure:
            manage("files", prefix)
        assert (str(failure.value), failure.value.returncode) == (words, 1)

    def test_an_empty_server_is_no_failure(self, served: Served, manage: Manage) -> None:
        assert manage("files") == ""

    def test_a_folder_that_cannot_be_read_is_a_sentence_and_no_empty_list(
        self, served: Served, manage: Manage
    ) -> None:
        served.put("a.txt", b"x")
        served.folder.rename(served.folder.with_name("away"))
        with pytest.raises(CommandError, match="folder cannot be read now: No such file") as failure:
            manage("files")
        assert failure.value.returncode == 1

    def test_a_list_that_lacks_a_part_of_the_folder_says_so(
        self,
        served: Served,
        manage: Manage,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        served.put("a.txt", b"x")
        served.put("closed/b.txt", b"x")
        scandir, closed = os.scandir, (served.folder / "closed").stat()

        def refusing(path: Any = ".") -> Any:
            if isinstance(path, int) and os.path.samestat(os.fstat(path), closed):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refusing)
        with pytest.raises(CommandError, match="These are not all files") as failure:
            manage("files")
        assert failure.value.returncode == 1

    def test_a_person_gets_a_table(
        self, served: Served, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.put("[red]a.txt", b"x" * 2048)
        served.put("b.txt", b"x")
        screen = RichConsole(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
        monkeypatch.setattr(files_command, "console", screen)
        assert manage("files") == ""
        assert isinstance(screen.file, io.StringIO)
        text = screen.file.getvalue().replace("\xa0", " ")
        assert "[red]a.txt" in text
        assert "2.0 KiB" in text
        assert "2 files" in text

    def test_a_file_dated_beyond_the_calendar_is_listed(
        self, served: Served, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listed = [{"name": "a.txt", "size": 1, "mtime": 1e13}]
        monkeypatch.setattr(Client, "files", lambda self, prefix, unread: iter(listed))
        screen = RichConsole(file=io.StringIO(), force_terminal=True, width=100)
        monkeypatch.setattr(files_command, "console", screen)
        manage("files")
        assert isinstance(screen.file, io.StringIO)
        assert "9999-12-" in screen.file.getvalue()


class TestWatch:
    STATUS = {"clients": 2, "max_clients": 1000, "send_rate": 2048.0, "receive_rate": 0.0}

    def row(self, number: int, **facts: Any) -> dict[str, Any]:
        usual = {
            "id": number,
            "direction": "download",
            "name": f"{number}.txt",
            "length": 200,
            "done": 100,
            "rate": 1024.0,
            "state": "running",
            "client": "127.0.0.1:5000",
            "thread": f"ClientThread-{number}",
        }
        return {**usual, **facts}

    def drawn(self, board: Board) -> str:
        screen = RichConsole(file=io.StringIO(), width=140, color_system=None)
        screen.print(board.drawn())
        assert isinstance(screen.file, io.StringIO)
        return screen.file.getvalue().replace("\xa0", " ")

    def line(self, **fields: Any) -> dict[str, Any]:
        return {"full": False, "status": self.STATUS, "transfers": [], "ended": [], **fields}

    def test_lines_add_up_to_what_moves_now(self) -> None:
        board = Board("127.0.0.1:9999")
        board.absorb(self.line(full=True, transfers=[self.row(1), self.row(2, direction="upload")]))
        board.absorb(self.line(transfers=[self.row(2, direction="upload", done=150)]))
        text = self.drawn(board)
        assert "127.0.0.1:9999  2/1000 clients  ↓ 2.0 KiB/s  ↑ 0 bytes/s" in text
        assert "ClientThread-1" in text
        assert "75" in text
        ended = self.row(1, outcome="failed", error="changed", seconds=1.5)
        board.absorb(self.line(ended=[ended]))
        text = self.drawn(board)
        assert "ClientThread-1" not in text
        assert "failed (changed)  1.txt  100 bytes in 1.50 s  127.0.0.1:5000" in text
        board.absorb(self.line(full=True))
        assert "nothing moves" in self.drawn(board)

    def test_an_upload_that_waits_for_its_next_part_has_no_rate(self) -> None:
        board = Board("127.0.0.1:9999")
        board.absorb(self.line(transfers=[self.row(1, direction="upload", state="waiting", rate=0.0)]))
        (row,) = (line for line in self.drawn(board).splitlines() if "1.txt" in line)
        assert "waiting" in row
        assert "bytes/s" not in row

    def test_a_folder_that_cannot_be_read_is_said(self) -> None:
        board = Board("127.0.0.1:9999")
        error = "The server's folder cannot be read now: Input/output error."
        board.absorb(self.line(full=True, status={**self.STATUS, "folder_error": error}))
        assert error in self.drawn(board)
        board.absorb(self.line(status={**self.STATUS, "folder_error": None}))
        assert "cannot be read" not in self.drawn(board)

    def test_names_and_clients_are_text(self) -> None:
        board = Board("127.0.0.1:9999")
        row = self.row(1, name="[bold]x[/bold]", client="[fe80::1]:5000")
        board.absorb(self.line(transfers=[row], ended=[{**self.row(2, name="[/red]"), **ENDED}]))
        text = self.drawn(board)
        for shown in ("[bold]x[/bold]", "[fe80::1]:5000", "[/red]"):
            assert shown in text

    def test_an_empty_file_is_no_division_by_nothing(self) -> None:
        board = Board("127.0.0.1:9999")
        board.absorb(self.line(transfers=[self.row(1, length=0, done=0)]))
        assert "1.txt" in self.drawn(board)

    def test_ctrl_c_ends_it_without_a_word(
        self, served: Served, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[dict[str, Any]] = []

        def absorb(self: Board, line: dict[str, Any]) -> None:
            seen.append(line)
            raise KeyboardInterrupt

        monkeypatch.setattr(Board, "absorb", absorb)
        manage("watch")
        assert seen[0]["full"] is True

    def test_a_server_that_ends_is_one_sentence(
        self, served: Served, manage: Manage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        absorb = Board.absorb
        closing: list[threading.Thread] = []

        def absorb_and_close(self: Board, line: dict[str, Any]) -> None:
            absorb(self, line)
            if not closing:
                closing.append(threading.Thread(target=served.server.shutdown))
                closing[0].start()

        monkeypatch.setattr(Board, "absorb", absorb_and_close)
        with pytest.raises(CommandError, match=r"shutting down|closed the connection"):
            manage("watch")
        closing[0].join()


ENDED = {"outcome": "complete", "error": "", "seconds": 0.5}


enter = FileServer.__enter__


class TestRunFileServer:
    def run(self, *arguments: str) -> None:
        call_command("runfileserver", "--port=0", *arguments)

    def test_it_serves_until_a_signal_comes_and_leaves_everything_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "a.txt").write_bytes(b"hello")
        wait = Ending.wait

        def use_and_signal(self: Ending) -> None:
            with Client(*_address()) as client:
                assert b"".join(map(bytes, client.get("a.txt"))) == b"hello"
            signal.raise_signal(signal.SIGTERM)
            wait(self)

        def _address() -> tuple[str, int]:
            listening = [thread for thread in threading.enumerate() if thread.name == "Server"]
            server = listening[0]._target.__self__  # type: ignore[attr-defined]
            return server.address  # type: ignore[no-any-return]

        monkeypatch.setattr(Ending, "wait", use_and_signal)
        before = signal.getsignal(signal.SIGTERM)
        self.run("--files", str(folder), "--slow-motion")
        assert signal.getsignal(signal.SIGTERM) is before
        row = Transfer.objects.get()
        assert (row.outcome, row.pace) == ("complete", str(SLOW_MOTION))

    @pytest.mark.parametrize("by_option", [True, False])
    @pytest.mark.parametrize(("name", "model"), MODELS.items())
    def test_the_model_of_workers_is_the_one_that_is_asked_for(
        self,
        folder: Path,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        model: type[Workers],
        by_option: bool,
    ) -> None:
        made: list[FileServer] = []
        monkeypatch.setattr(FileServer, "__enter__", lambda server: made.append(server) or enter(server))
        monkeypatch.setattr(Ending, "wait", lambda ending: None)
        if not by_option:
            settings.WORKER_MODEL = name
        self.run("--files", str(folder), *([f"--worker={name}"] if by_option else []))
        assert [type(server._workers) for server in made] == [model]

    @pytest.mark.parametrize(
        ("options", "pace"),
        [
            ({"slow_motion": True, "buffer_size": 5, "sleep_time": 1.0}, SLOW_MOTION),
            ({"slow_motion": False, "buffer_size": 500, "sleep_time": 0.1}, Pace(500, 0.1)),
            ({"slow_motion": False, "buffer_size": 500, "sleep_time": 0.0}, None),
        ],
    )
    def test_the_pace_follows_from_the_options(self, options: dict[str, Any], pace: Pace | None) -> None:
        assert pace_of(options) == pace

    @pytest.mark.parametrize(
        ("setting", "value", "words"),
        [
            ("SERVER_PORT", 70_000, "70000 is no port"),
            ("MAX_CLIENTS", 0, "0 must be a whole number of at least 1"),
            ("BUFFER_SIZE", 0, "0 must be a whole number of at least 1"),
            ("BUFFER_SIZE", -5, "-5 must be a whole number of at least 1"),
            ("SLEEP_TIME", -1.0, "-1.0 must be a number of seconds"),
            ("WORKER_MODEL", "magic", "magic is none of thread_per_client"),
        ],
    )
    def test_a_setting_that_cannot_be_is_refused_like_an_option(
        self, folder: Path, settings: Any, setting: str, value: Any, words: str
    ) -> None:
        setattr(settings, setting, value)
        with pytest.raises(CommandError, match=words):
            call_command("runfileserver", "--files", str(folder))

    @pytest.mark.parametrize(
        "option", ["--port=x", "--max-clients=0", "--buffer-size=none", "--sleep-time=-1", "--sleep-time=nan"]
    )
    def test_an_option_that_cannot_be_is_refused(self, folder: Path, option: str) -> None:
        with pytest.raises(CommandError, match=r"must be|is no port"):
            self.run("--files", str(folder), option)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "a..b"])
    def test_an_address_that_others_reach_is_refused(self, folder: Path, host: str) -> None:
        with pytest.raises(CommandError, match=r"Refusing to listen on .* set SERVER_HOST to 127.0.0.1"):
            self.run("--files", str(folder), "--host", host)

    def test_a_second_server_of_a_folder_or_of_a_database_is_refused(
        self, folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        with Storage(folder) as storage, only_server_of(storage):
            with pytest.raises(CommandError, match=r"The folder .*served is served by another file server"):
                self.run("--files", str(folder))
            with pytest.raises(CommandError, match=r"The database .* is used by another file server already"):
                self.run("--files", str(tmp_path / "other"))

    def test_a_lock_that_cannot_be_opened_is_told_with_its_path(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "db.sqlite3.lock").mkdir()
        monkeypatch.setattr(locks, "sqlite_file", lambda: tmp_path / "db.sqlite3")
        with pytest.raises(CommandError, match=r"db\.sqlite3\.lock cannot be opened: "):
            self.run("--files", str(folder))

    def test_a_taken_port_is_named_with_the_setting(self, served: Served, tmp_path: Path) -> None:
        with pytest.raises(CommandError) as failure:
            call_command("runfileserver", "--files", str(served.folder), "--port", str(served.port))
        assert str(failure.value) == (
            f"Cannot listen on 127.0.0.1:{served.port}: a file server of this kind is running there already. "
            "Stop it, or set SERVER_PORT (or --port) to another one."
        )

    def test_a_taken_port_leaves_the_history_of_the_other_server_alone(self, served: Served) -> None:
        served.put("big.bin", bytes(12 << 20))
        with served.peer(receive_buffer=4096) as peer:
            peer.ask("GET", name="big.bin")
            wait_until(Transfer.objects.filter(outcome="running").exists)
            with pytest.raises(CommandError, match="Cannot listen"):
                call_command("runfileserver", "--files", str(served.folder), "--port", str(served.port))
            assert Transfer.objects.get().outcome == "running"

    def test_a_missing_folder_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"does not exist; create it or set FILES_DIRECTORY"):
            self.run("--files", str(tmp_path / "nothing"))

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(CommandError, match=r"is not a folder; set FILES_DIRECTORY"):
            self.run("--files", str(tmp_path / "file"))

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (PermissionError(13, "Permission denied"), "cannot be read: permission denied"),
            (OSError(5, "Input/output error"), "cannot be served: Input/output error."),
        ],
    )
    def test_a_folder_that_cannot_be_read_is_a_sentence(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
    ) -> None:
        def refuse(path: Any) -> Any:
            raise error

        monkeypatch.setattr(root_module.os, "scandir", refuse)
        with pytest.raises(CommandError) as failure:
            self.run("--files", str(folder))
        assert words in str(failure.value)
        assert "Cannot listen" not in str(failure.value)

    def test_a_folder_whose_name_is_too_long_is_not_blamed_on_the_port(self) -> None:
        with pytest.raises(CommandError, match="cannot be served: File name too long"):
            self.run("--files", "/" + "x" * 300)

    def test_missing_migrations_are_named_with_the_command(self, folder: Path) -> None:
        rows = list(MigrationRecorder.Migration.objects.filter(app="files_app"))
        MigrationRecorder.Migration.objects.filter(app="files_app").delete()
        try:
            with pytest.raises(CommandError, match=r"Run: python manage\.py migrate"):
                self.run("--files", str(folder))
        finally:
            MigrationRecorder.Migration.objects.bulk_create(rows)

    def test_a_folder_with_the_database_in_it_is_refused(self) -> None:
        inside = Path(connection.settings_dict["NAME"]).parent
        with pytest.raises(CommandError, match="The database lies inside the served folder"):
            self.run("--files", str(inside))

    def test_a_locked_database_is_a_sentence(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        connection.close()
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.01)
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(CommandError, match="is locked by another program"):
                self.run("--files", str(folder))
        finally:
            other.close()
            connection.close()


class TestStart:
    @pytest.fixture(autouse=True)
    def _free(self, folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.SERVER_PORT, settings.WEB_PORT = free_ports(2)

        def no_child(*args: Any) -> None:
            pytest.fail("a server was started")

        monkeypatch.setattr(Child, "start", no_child)

    @pytest.mark.parametrize("setting", ["SERVER_HOST", "WEB_HOST"])
    def test_an_address_that_others_reach_is_refused(self, settings: Any, setting: str) -> None:
        setattr(settings, setting, "0.0.0.0")
        with pytest.raises(CommandError, match=f"Refusing to listen on 0.0.0.0.* set {setting} to 127.0.0.1"):
            call_command("start")

    @pytest.mark.parametrize("setting", ["SERVER_PORT", "WEB_PORT"])
    def test_a_taken_port_is_named_with_its_setting(self, settings: Any, setting: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            setattr(settings, setting, taken.getsockname()[1])
            with pytest.raises(CommandError, match=f"Address already in use.* set {setting} to another"):
                call_command("start")

    @pytest.mark.parametrize("setting", ["SERVER_PORT", "WEB_PORT"])
    def test_a_port_that_cannot_be_is_named_with_its_setting(self, settings: Any, setting: str) -> None:
        setattr(settings, setting, 70_000)
        with pytest.raises(CommandError, match=f"{setting} is 70000, which is no port"):
            call_command("start")

    def test_one_port_for_both_is_refused(self, settings: Any) -> None:
        settings.WEB_PORT = settings.SERVER_PORT
        with pytest.raises(CommandError, match=f"SERVER_PORT and WEB_PORT are both {settings.WEB_PORT}"):
            call_command("start")

    def test_a_folder_with_a_secret_in_it_is_refused(self, settings: Any, folder: Path) -> None:
        settings.SECRET_KEY_FILE = folder / ".secret_key"
        with pytest.raises(CommandError, match="The secret key lies inside"):
            call_command("start")


class TestRunServer:
    @pytest.mark.parametrize("address", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:8000"])
    def test_an_address_that_others_reach_is_refused(self, address: str) -> None:
        options = ["-6"] if "[" in address else []
        with pytest.raises(CommandError, match=r"Refusing to listen on .* set WEB_HOST"):
            call_command("runserver", address, "--noreload", *options)

    def test_a_taken_port_is_named_with_the_setting(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(CommandError, match=f"Cannot listen on 127.0.0.1:{port}.* set WEB_PORT"):
                call_command("runserver", f"127.0.0.1:{port}", "--noreload")


class TestTerminal:
    def test_bars_are_drawn_on_a_terminal_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for is_terminal in (True, False):
            screen = RichConsole(file=io.StringIO(), force_terminal=is_terminal)
            monkeypatch.setattr(terminal, "console", screen)
            with terminal.progress_bars() as bars:
                bars.update(bars.add_task("[bold]a.txt", total=10), completed=5)
            assert isinstance(screen.file, io.StringIO)
            assert ("[bold]a.txt" in screen.file.getvalue()) is is_terminal

    def test_bars_have_the_units_of_the_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = RichConsole(file=io.StringIO(), force_terminal=True, width=140, color_system=None)
        monkeypatch.setattr(terminal, "console", screen)
        with terminal.progress_bars() as bars:
            task = bars.add_task("a.txt", total=3 << 20)
            bars.update(task, completed=1280)
            bars.update(task, completed=3 << 20)
        assert isinstance(screen.file, io.StringIO)
        text = screen.file.getvalue().replace("\xa0", " ")
        assert "3.0 MiB of 3.0 MiB" in text
        assert "iB/s" in text
        assert " MB" not in text
