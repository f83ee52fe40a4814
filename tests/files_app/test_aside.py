"""An observer in a thread of its own hears everything, in order, and holds nobody up."""

import logging
import threading

import pytest

from files_app.aside import Aside
from fileserver.events import ClientRefused, Event


def event(number: int) -> Event:
    return ClientRefused(str(number), "")


def test_everything_is_told_in_order_by_the_end() -> None:
    told: list[Event] = []
    with Aside(told.append, "Teller") as aside:
        for number in range(1000):
            aside(event(number))
    assert told == [event(number) for number in range(1000)]


def test_it_is_told_without_waiting_for_the_end_in_the_thread_of_that_name() -> None:
    names: list[str] = []
    told = threading.Semaphore(0)

    def observe(event: Event) -> None:
        names.append(threading.current_thread().name)
        told.release()

    with Aside(observe, "Teller") as aside:
        for number in range(3):
            aside(event(number))
            assert told.acquire(timeout=5)
    assert names == ["Teller"] * 3


def test_who_tells_does_not_wait_for_the_observer() -> None:
    go_on = threading.Event()
    with Aside(lambda event: go_on.wait(10) and None, "Teller") as aside:
        for number in range(10):
            aside(event(number))
        go_on.set()


def test_an_observer_that_fails_hears_the_next_event(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def observe(what: Event) -> None:
        if what == event(1):
            raise ValueError("not this one")
        told.append(what)

    with caplog.at_level(logging.ERROR), Aside(observe, "Teller") as aside:
        for number in range(3):
            aside(event(number))
    assert told == [event(0), event(2)]
    assert "not told: ClientRefused(client='1'" in caplog.text
