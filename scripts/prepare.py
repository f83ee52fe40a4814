"""Makes ``.venv`` and keeps it in step with a list of requirements. Standard library only.

``python scripts/prepare.py requirements.txt`` prints the path of the environment's Python, for the scripts
that call it; everything for people goes to standard error. When nothing has changed it takes no time.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
# Here from before the first change until the last one is done: an environment that has it is half made.
UNFINISHED = VENV / "unfinished"
WORKS = "import sys, pip; sys.exit(sys.version_info < (3, 11))"


def main(requirements: str) -> None:
    with one_at_a_time():
        state = state_of(Path(requirements))
        stamp = VENV / f"installed-{requirements}"
        fresh = UNFINISHED.exists() or not works()
        if fresh or not stamp.exists() or stamp.read_text("ascii") != state:
            install(requirements, fresh)
            stamp.write_text(state, "ascii")
            UNFINISHED.unlink()
    print(PYTHON)


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two scripts started together must not build the same environment: the second one waits."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    folder = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def state_of(requirements: Path) -> str:
    """A hash of a list and of those that it includes."""
    content = requirements.read_bytes()
    included = [line.split()[1] for line in content.decode().splitlines() if line.startswith("-r ")]
    parts = content + "".join(state_of(requirements.with_name(name)) for name in included).encode()
    return hashlib.sha256(parts).hexdigest()


def works() -> bool:
    """Whether the environment is there and has a Python and a pip that run."""
    try:
        return run([str(PYTHON), "-c", WORKS]).returncode == 0
    except OSError:
        return False


def install(requirements: str, fresh: bool) -> None:
    begun = time.monotonic()
    if fresh:
        say(f"{'Repairing' if VENV.exists() else 'Making'} the environment {VENV} ...")
        if VENV.is_symlink() or VENV.is_file():
            sys.exit(f"{VENV} is not a folder: remove it, then try again.")
        if VENV.exists():
            shutil.rmtree(VENV)
        VENV.mkdir()
        UNFINISHED.touch()
        run_or_exit([sys.executable, "-m", "venv", str(VENV)], "The environment could not be made.")
    UNFINISHED.touch()
    say(f"Installing what {requirements} lists; the first time this takes a minute ...")
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]
    run_or_exit(pip, "The installation failed. Is there a connection to the network?")
    say(f"Installed in {time.monotonic() - begun:.0f} s.")


def run(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(  # noqa: S603 - our own commands
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def run_or_exit(command: list[str], complaint: str) -> None:
    done = run(command)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{complaint} The lines above say why; then start again, it is repaired.")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parent.parent)
    try:
        main(sys.argv[1])
    except OSError as error:
        sys.exit(f"The environment {VENV} could not be made: {error}.")
    except KeyboardInterrupt:
        sys.exit("Stopped; the next start goes on.")
