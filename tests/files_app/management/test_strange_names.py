"""Names that the terminal cannot show: every command does its work and says it as well as it can."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests.stack import Stack

NAME, SHOWN = "\u65e5\u672c.txt", "\\u65e5\\u672c.txt"

SAID = [
    (f"download {NAME} --to {{here}}/to/", 0, f"to/{SHOWN}"),
    (f"download {NAME}x --to {{here}}/to/", 1, f"{SHOWN}x"),
    (f"upload {{here}}/{NAME} --as there{NAME}", 0, f"{SHOWN} is there as there{SHOWN}"),
    (f"upload {{here}}/absent{NAME}", 1, f"absent{SHOWN} is not there"),
    (f"files {NAME}x", 1, f"No file begins with '{SHOWN}x'"),
    (f"files --host {NAME}", 1, SHOWN),
    (f"watch --host {NAME}", 1, SHOWN),
    (f"runfileserver --port 0 --files {{here}}/absent{NAME}", 1, f"absent{SHOWN} does not exist"),
    (f"migrate {NAME}", 1, SHOWN),
    (f"runserver {NAME}:8000", 1, SHOWN),
    (f"start {NAME}", 2, SHOWN),
    (f"adduser {NAME} --generate", 0, f"{SHOWN} has an account now"),
    (f"makecert --name {NAME}", 2, SHOWN),
    (f"token make --user x{NAME}", 1, f"There is no open account 'x{SHOWN}'"),
    (f"resetadmin --name x{NAME}", 1, f"There is no account 'x{SHOWN}'"),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running file server with one file, and commands in a terminal that knows nothing but ASCII."""
    stack = Stack(tmp_path_factory.mktemp("home"))
    stack.environment["PYTHONIOENCODING"] = "ascii:strict"
    (stack.files / NAME).write_bytes(b"abc")
    assert stack.manage("migrate", "--verbosity", "0").returncode == 0
    try:
        stack.start_server()
        yield stack
    finally:
        stack.stop()


def test_every_command_is_in_the_table() -> None:
    ours = (Path(settings.BASE_DIR) / "files_app" / "management" / "commands").glob("[a-z]*.py")
    assert {command.split()[0] for command, *_ in SAID} == {path.stem for path in ours}


@pytest.mark.parametrize(("command", "code", "said"), SAID)
def test_a_command_says_it_in_the_letters_that_there_are(
    stack: Stack, tmp_path: Path, command: str, code: int, said: str
) -> None:
    (tmp_path / NAME).write_bytes(b"abc")
    done = stack.manage(*command.format(here=tmp_path).split())
    assert "Traceback" not in done.stderr
    assert said in done.stdout + done.stderr
    assert done.returncode == code


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
def test_an_upload_goes_on_behind_a_path_that_is_no_text(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xff")
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(name)
    done = stack.manage("upload", str(folder), "--as", "week/")
    assert done.returncode == 1, "a name that is no text cannot be kept"
    done = stack.manage("upload", *(str(folder / name) for name in ("a.txt", "b.txt")), "--as", "week/")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert sorted(os.listdir(stack.files / "week")) == ["a.txt", "b.txt"]


def test_what_other_programs_read_is_utf8(stack: Stack) -> None:
    done = stack.manage("files", NAME, encoding="utf-8")
    size, _, name = done.stdout.rstrip("\n").split("\t")
    assert (size, name) == ("3", NAME)
