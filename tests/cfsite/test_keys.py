"""The secret key: made once, for its owner alone."""

import itertools
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from cfsite import keys


def test_the_first_start_makes_a_key_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / ".secret_key"
    before = os.umask(0)
    try:
        key = keys.load_or_make(path)
    finally:
        os.umask(before)
    assert len(key) >= 50
    assert path.read_text() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_the_next_start_finds_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / ".secret_key"
    assert keys.load_or_make(path) == keys.load_or_make(path)


def test_no_two_installations_have_the_same_key(tmp_path: Path) -> None:
    assert keys.load_or_make(tmp_path / "one") != keys.load_or_make(tmp_path / "two")


def test_a_key_that_somebody_wrote_is_kept(tmp_path: Path) -> None:
    path = tmp_path / ".secret_key"
    path.write_text("  mine\n")
    assert keys.load_or_make(path) == "mine"


def test_starts_at_the_same_moment_agree_on_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, count = tmp_path / ".secret_key", 20
    numbers = itertools.count(1)
    monkeypatch.setattr(keys.os, "getpid", lambda: next(numbers))
    together, found = threading.Barrier(count), []

    def start() -> None:
        together.wait(10)
        found.append(keys.load_or_make(path))

    threads = [threading.Thread(target=start) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == count
    assert len(set(found)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_without_links_keeps_a_key_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(keys.os, "link", refuse)
    path = tmp_path / ".secret_key"
    key = keys.load_or_make(path)
    assert keys.load_or_make(path) == key
    assert list(tmp_path.iterdir()) == [path]
