"""curl, wget and aria2c against both servers as processes: killed at any byte, they go on and end right."""

import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fileserver.client.blocking import Client
from tests.servers import sha256, wait_until
from tests.stack import Stack, run_stack

MEBIBYTE = 1 << 20
SIZE = 32 * MEBIBYTE
SECONDS = 60.0
SEED = 20_260_501  # of contents and of the bytes at which a program is killed


@dataclass(frozen=True)
class Manager:
    """A program that goes on with the file of that name in its folder, if there is one."""

    arguments: tuple[str, ...]
    slowly: tuple[str, str]  # so that the kill meets it in the middle
    condition: tuple[str, ...] = ("--header",)  # before a header of the request; a refusal must be an error

    @property
    def program(self) -> str:
        return self.arguments[0]

    def command(self, url: str, *, slowly: bool = False, condition: str = "") -> list[str]:
        conditions = [*self.condition, condition] if condition else []
        return [*self.arguments, *(self.slowly if slowly else ()), *conditions, url]

    def received(self, file: Path) -> int:
        """Bytes in the file so far, or 0 while going on from it would not be safe yet."""
        if not file.exists():
            return 0
        if self is not ARIA2C:
            return file.stat().st_size
        # It writes at eight places at once, and only its own list tells which are there.
        return file.stat().st_blocks * 512 if file.with_name(file.name + ".aria2").exists() else 0


CURL = Manager(
    ("curl", "-q", "--silent", "--show-error", "--noproxy", "*", "-C", "-", "-O"),
    slowly=("--limit-rate", "16M"),
    condition=("--fail", "--header"),
)
WGET = Manager(
    ("wget", "--no-config", "--no-proxy", "--no-verbose", "--tries=1", "-c"),
    slowly=("--limit-rate", "16m"),
)
ARIA2C = Manager(
    (
        *("aria2c", "--no-conf", "--quiet", "--all-proxy=", "-x8", "-s8", "-k1M", "-c"),
        # What it has written at a kill must be what its list says.
        *("--file-allocation=none", "--disk-cache=0", "--auto-save-interval=1"),
    ),
    slowly=("--max-overall-download-limit", "16M"),
)


@pytest.fixture(params=[CURL, WGET, ARIA2C], ids=lambda manager: manager.program)
def manager(request: pytest.FixtureRequest) -> Manager:
    found: Manager = request.param
    need(found.program)
    return found


def need(program: str) -> None:
    if shutil.which(program):
        return
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(f"{program} is missing, and REQUIRE_BROWSER is set")
    pytest.skip(f"{program} is not installed: downloads with it are not tested")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the programs work: nothing in it is theirs but what they download."""
    path = tmp_path / "downloads"
    path.mkdir()
    return path


def publish(stack: Stack, name: str, seed: int = SEED, size: int = SIZE) -> bytes:
    content = random.Random(seed).randbytes(size)
    fresh = stack.home / "fresh"
    fresh.write_bytes(content)
    os.replace(fresh, stack.files / name)
    return content


def url_of(stack: Stack, name: str) -> str:
    return f"http://127.0.0.1:{stack.web_port}/files/{name}"


def etag_of(stack: Stack, name: str) -> str:
    with Client(port=stack.server_port) as client:
        return f'"{client.request("STAT", name=name)["etag"]}"'


def run_to_its_end(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=clean(folder), capture_output=True, text=True, timeout=SECONDS
    )


def run_and_kill(command: list[str], folder: Path, is_time: Callable[[], bool]) -> None:
    process = subprocess.Popen(
        command, cwd=folder, env=clean(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: is_time() or process.poll() is not None, SECONDS)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL, f"{command[0]} came to its end before it could be killed"


def clean(folder: Path) -> dict[str, str]:
    """Of the tester's environment nothing but the way to the programs: no proxy, no settings of theirs."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}


def rows_of_all_bytes(stack: Stack, name: str) -> list[dict[str, Any]]:
    """The transfers of that file, the oldest first, once each has ended and all bytes have moved."""

    def ended() -> list[dict[str, Any]]:
        rows = stack.history(q=name)
        moved = sum(row["done"] for row in rows)
        return [] if moved < SIZE or any(row["outcome"] == "running" for row in rows) else rows

    return wait_until(ended, 15)[::-1]


def has_received(manager: Manager, file: Path, count: int) -> bool:
    return manager.received(file) >= count


def test_a_program_that_is_killed_twice_goes_on_and_ends_with_the_right_file(
    stack: Stack, manager: Manager, folder: Path
) -> None:
    name = f"killed-{manager.program}.iso"
    content, file = publish(stack, name), folder / name
    dice = random.Random(f"{SEED} {manager.program}")
    begun_at = [0]
    for share in (0.4, 0.8):
        stop = dice.randrange(begun_at[-1] + 1, int(share * SIZE))
        is_time = partial(has_received, manager, file, stop)
        run_and_kill(manager.command(url_of(stack, name), slowly=True), folder, is_time)
        begun_at.append(manager.received(file))
        assert stop <= begun_at[-1] < SIZE

    done = run_to_its_end(manager.command(url_of(stack, name)), folder)
    assert done.returncode == 0, done.stderr
    assert sha256(file.read_bytes()) == sha256(content)
    rows = rows_of_all_bytes(stack, name)
    if manager is ARIA2C:
        assert len({row["offset"] for row in rows}) >= 8
    else:
        assert [row["offset"] for row in rows] == begun_at
        assert [row["length"] for row in rows] == [SIZE - offset for offset in begun_at]
        assert [row["outcome"] for row in rows] == ["aborted", "aborted", "complete"]


def test_what_is_there_already_is_not_sent_again(stack: Stack, folder: Path) -> None:
    name = "there.iso"
    content = publish(stack, name, size=MEBIBYTE)
    (folder / name).write_bytes(content)
    for manager in (CURL, WGET):
        need(manager.program)
        done = run_to_its_end(manager.command(url_of(stack, name)), folder)
        assert done.returncode == 0, done.stderr
        assert (folder / name).read_bytes() == content
    assert stack.history(q=name) == []


@pytest.mark.parametrize("size", [SIZE // 8, SIZE // 4])
def test_a_file_that_was_replaced_meanwhile_is_refused_and_then_fetched_anew(
    stack: Stack, manager: Manager, folder: Path, size: int
) -> None:
    name = f"replaced-{manager.program}-{size}.iso"
    part = publish(stack, name, size=SIZE // 4)[:MEBIBYTE]
    before = etag_of(stack, name)
    (folder / name).write_bytes(part)
    content = publish(stack, name, seed=SEED + 1, size=size)

    going_on = manager.command(url_of(stack, name), condition=f"If-Match: {before}")
    assert run_to_its_end(going_on, folder).returncode != 0
    assert (folder / name).read_bytes() == part
    assert stack.history(q=name) == []

    (folder / name).unlink()
    anew = run_to_its_end(manager.command(url_of(stack, name)), folder)
    assert anew.returncode == 0, anew.stderr
    assert (folder / name).read_bytes() == content


def test_curl_takes_the_whole_of_another_file_for_no_rest_of_the_first(stack: Stack, folder: Path) -> None:
    need("curl")
    name = "other-curl.iso"
    part = publish(stack, name, size=4 * MEBIBYTE)[:MEBIBYTE]
    before = etag_of(stack, name)
    (folder / name).write_bytes(part)
    going_on = CURL.command(url_of(stack, name), condition=f"If-Range: {before}")

    publish(stack, name, seed=SEED + 1, size=4 * MEBIBYTE)
    assert run_to_its_end(going_on, folder).returncode == 33  # CURLE_RANGE_ERROR
    assert (folder / name).read_bytes() == part

    same = CURL.command(url_of(stack, name), condition=f"If-Range: {etag_of(stack, name)}")
    assert run_to_its_end(same, folder).returncode == 0
    assert (folder / name).stat().st_size == 4 * MEBIBYTE


@pytest.mark.parametrize("manager", [CURL, WGET], ids=lambda manager: manager.program)
def test_a_file_that_is_written_in_place_meanwhile_is_an_error_and_not_whole(
    stack: Stack, manager: Manager, folder: Path
) -> None:
    need(manager.program)
    name, size = f"log-{manager.program}.bin", 5000
    publish(stack, name, size=size)
    command = manager.command(url_of(stack, name) + "?pace=slow-motion")
    process = subprocess.Popen(
        command, cwd=folder, env=clean(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: stack.history(q=name), SECONDS)  # its transfer has begun, at a second's length
        with (stack.files / name).open("r+b") as file:
            file.write(b"changed")
        assert process.wait(SECONDS) != 0
    finally:
        process.kill()
        process.wait()
    assert [file.stat().st_size < size for file in folder.iterdir()] in ([True], [])
    assert stack.ending(name)["error"] == "changed"
