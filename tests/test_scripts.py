"""The scripts that start everything, and what they stand on."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import prepare

ROOT = Path(__file__).resolve().parent.parent
SHELL = {"start_all.sh": "sh", "run_tests.sh": "sh", "scripts/python.sh": "sh", ".ci/run": "bash"}
BATCH = ["start_all.bat", "run_tests.bat", "scripts/python.bat"]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="shell scripts")


@needs_posix
@pytest.mark.parametrize(("script", "shell"), SHELL.items())
def test_the_shell_can_read_the_script(script: str, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, "-n", ROOT / script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@needs_posix
@pytest.mark.parametrize("script", ["start_all.sh", "run_tests.sh", ".ci/run", "manage.py"])
def test_what_is_started_is_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_line_ends_are_those_of_the_system_that_runs_the_script() -> None:
    for script in SHELL:
        assert b"\r" not in (ROOT / script).read_bytes(), script
    for script in BATCH:
        lines = (ROOT / script).read_bytes().splitlines(keepends=True)
        assert all(line.endswith(b"\r\n") for line in lines), script


@needs_posix
def test_without_a_python_that_is_new_enough_a_sentence_says_so(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "dirname").symlink_to(shutil.which("dirname") or "")
    for name in ("python3.13", "python3"):  # too old, or a stand-in for one that is not installed
        (commands / name).write_text("#!/bin/sh\nexit 1\n")
        (commands / name).chmod(0o755)
    done = start(commands)
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr


@needs_posix
def test_a_python_that_makes_no_environments_is_named(tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "dirname").symlink_to(shutil.which("dirname") or "")
    (commands / "python3").write_text("#!/bin/sh\ncase $2 in *venv*) exit 1;; esac\n")
    (commands / "python3").chmod(0o755)
    done = start(commands)
    assert done.returncode == 1
    assert "python3 is here, but it cannot make environments" in done.stderr
    assert "python3-venv" in done.stderr


def start(path: Path) -> "subprocess.CompletedProcess[str]":
    """Run ``start_all.sh`` from another folder, with nothing but ``path`` to find commands in."""
    shell = shutil.which("sh") or "/bin/sh"
    return subprocess.run(
        [shell, ROOT / "start_all.sh"], env={"PATH": str(path)}, cwd="/", capture_output=True, text=True
    )


# --- the environment


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project with a list of requirements, in which installations are only pretended."""
    folder = tmp_path / "a project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "base.txt").write_text("one~=1.0\n")
    (folder / "more.txt").write_text("-r base.txt\ntwo~=2.0\n")
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was installed, in order; a new environment is noted as ``new``."""
    done: list[str] = []

    def run_or_exit(command: list[str], complaint: str) -> None:
        if "venv" in command:
            done.append("new")
            prepare.PYTHON.parent.mkdir(parents=True)
            prepare.PYTHON.touch()
        else:
            done.append(command[-1])

    monkeypatch.setattr(prepare, "run_or_exit", run_or_exit)
    monkeypatch.setattr(prepare, "works", prepare.PYTHON.exists)
    return done


@pytest.mark.usefixtures("project")
def test_the_environment_is_made_once(installed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    prepare.main("base.txt")
    prepare.main("base.txt")
    assert installed == ["new", "base.txt"]
    assert capsys.readouterr().out == f"{prepare.PYTHON}\n" * 2


def test_a_changed_list_is_installed_anew_also_by_those_that_include_it(
    project: Path, installed: list[str]
) -> None:
    prepare.main("base.txt")
    prepare.main("more.txt")
    (project / "base.txt").write_text("one~=1.1\n")
    prepare.main("more.txt")
    prepare.main("more.txt")
    prepare.main("base.txt")
    assert installed == ["new", "base.txt", "more.txt", "more.txt", "base.txt"]


@pytest.mark.usefixtures("project")
def test_a_half_made_environment_is_made_anew(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = prepare.run_or_exit

    def breaks_off(command: list[str], complaint: str) -> None:
        whole(command, complaint)
        if "pip" in command:
            raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "run_or_exit", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        prepare.main("base.txt")
    monkeypatch.setattr(prepare, "run_or_exit", whole)
    prepare.main("base.txt")
    assert installed == ["new", "base.txt", "new", "base.txt"]


@pytest.mark.usefixtures("project")
def test_an_environment_whose_python_is_gone_is_made_anew(installed: list[str]) -> None:
    prepare.main("base.txt")
    prepare.PYTHON.unlink()
    prepare.main("base.txt")
    assert installed == ["new", "base.txt", "new", "base.txt"]


@pytest.mark.usefixtures("project")
def test_what_fails_is_shown_and_ends_the_script() -> None:
    with pytest.raises(SystemExit, match=r"(?s)no such thing.*did not work"):
        prepare.run_or_exit(
            [sys.executable, "-c", "import sys; sys.exit('no such thing')"], "It did not work."
        )


# --- the lists


def test_every_requirement_is_pinned_to_a_series_and_says_why() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text("utf-8").splitlines():
            if line and not line.startswith(("#", "-r ")):
                assert re.fullmatch(r"[\w-]+~=\d+(\.\d+)+ +# .+", line), f"{name}: {line}"
