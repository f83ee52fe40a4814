"""Signals that ask a program to end."""

import signal
import threading

import pytest

from files_app.hosting.ending import SIGNALS, ends_on_signal
from files_app.hosting.lifeline import ends_with_supervisor


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_hurries_what_the_first_has_begun(number: int) -> None:
    hurried = threading.Event()
    before = signal.getsignal(number)
    with ends_on_signal() as ending:
        ending.hurry_with(hurried.set)
        assert not ending.is_asked
        signal.raise_signal(number)
        ending.wait()
        assert ending.is_asked
        assert not hurried.is_set()
        signal.raise_signal(number)
        assert hurried.wait(5)
    assert signal.getsignal(number) is before


def test_whatever_hurries_has_ended_with_the_block() -> None:
    go_on, ended = threading.Event(), threading.Event()

    def hurry() -> None:
        assert go_on.wait(5)
        ended.set()

    with ends_on_signal() as ending:
        ending.hurry_with(hurry)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        go_on.set()
    assert ended.is_set()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no such signal")
def test_a_closed_terminal_ends_it_and_hurries_nothing() -> None:
    hurried = threading.Event()
    with ends_on_signal() as ending, ends_with_supervisor(ending.ask):
        ending.hurry_with(hurried.set)
        for _ in range(3):  # the system tells of it, and the shell
            signal.raise_signal(signal.SIGHUP)
        ending.wait()
    assert not hurried.is_set()
