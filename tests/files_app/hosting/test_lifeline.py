"""Servers end with their supervisor and with their terminal; see ``tests/test_start.py`` for real ones."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from files_app.hosting import lifeline
from files_app.hosting.lifeline import ends_with_supervisor, on_hangup, once, watch

needs_hangup = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")


@pytest.fixture
def ends() -> list[str]:
    return []


@pytest.fixture
def pipe() -> Iterator[tuple[int, Any]]:
    """The end to read, and the other one as a file."""
    fd, other = os.pipe()
    with os.fdopen(fd, "rb"), os.fdopen(other, "wb", buffering=0) as supervisor:
        yield fd, supervisor


def test_the_end_of_the_pipe_is_the_end_and_what_comes_before_is_not(pipe: tuple[int, Any]) -> None:
    fd, supervisor = pipe
    over = threading.Event()
    thread = watch(fd, over.set)
    supervisor.write(b"x")
    assert not over.wait(0.05)
    supervisor.close()
    assert over.wait(5)
    thread.join(5)


@needs_hangup
def test_a_closed_terminal_ends_it_and_another_signal_afterwards_does_not_matter(ends: list[str]) -> None:
    with on_hangup(lambda: ends.append("end")):
        signal.raise_signal(signal.SIGHUP)
    assert ends == ["end"]
    signal.raise_signal(signal.SIGHUP)  # of the shell, after that of the system
    assert ends == ["end"]


@needs_hangup
def test_where_no_terminal_was_closed_all_is_as_before_afterwards(ends: list[str]) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with on_hangup(lambda: ends.append("end")):
        pass
    assert ends == []
    assert signal.getsignal(signal.SIGHUP) == before


@needs_hangup
def test_under_nohup_a_closed_terminal_does_not_matter(ends: list[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with on_hangup(lambda: ends.append("end")):
            signal.raise_signal(signal.SIGHUP)
        assert ends == []
        with on_hangup(lambda: ends.append("end"), even_if_ignored=True):
            signal.raise_signal(signal.SIGHUP)
        assert ends == ["end"]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_who_has_no_supervisor_does_not_read_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(lifeline.VARIABLE, raising=False)
    monkeypatch.setattr(lifeline, "watch", lambda *args: pytest.fail("it is read"))
    with ends_with_supervisor(lambda: None):
        pass


def test_the_child_of_a_child_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lifeline.environment().items():
        monkeypatch.setenv(name, value)
    watched: list[int] = []
    monkeypatch.setattr(lifeline, "watch", lambda fd, end: watched.append(fd))
    monkeypatch.setattr(lifeline, "_ask_for_a_signal", lambda: None)
    for _ in range(2):
        with ends_with_supervisor(lambda: None):
            pass
    assert watched == [0]


def test_once_is_once() -> None:
    calls: list[str] = []
    end = once(lambda: calls.append("end"))
    end()
    end()
    assert calls == ["end"]
