"""An observer in a thread of its own hears everything, in order, and holds nobody up."""

import logging
import threading

import pytest

from files_app.hosting import queued as module
from files_app.hosting.queued import QueuedObserver
from fileserver.events import ClientRefused, Event
from tests.servers import wait_until


def event(number: int) -> Event:
    return ClientRefused(str(number), "")


def test_everything_is_told_in_order_by_the_end() -> None:
    told: list[Event] = []
    with QueuedObserver(told.append, "Teller") as aside:
        for number in range(400):
            aside(event(number))
    assert told == [event(number) for number in range(400)]


def test_more_than_anybody_reads_is_counted_and_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    told: list[Event] = []
    busy, go_on = threading.Event(), threading.Event()

    def observe(event: Event) -> None:
        told.append(event)
        busy.set()
        go_on.wait(10)

    caplog.set_level(logging.INFO, module.__name__)
    with QueuedObserver(observe, "Teller") as aside:
        aside(event(0))
        assert busy.wait(10)
        for number in range(1, 10):
            aside(event(number))
        go_on.set()
    assert told == [event(number) for number in range(4)]
    assert caplog.messages == ["6 events were not told here: too many at once"]


def test_after_much_there_is_a_longer_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    aside = QueuedObserver(lambda event: None, "Teller")
    aside._ending.wait = rests.append  # type: ignore[assignment, method-assign]
    for number in range(250):
        aside(event(number))
    with aside:
        wait_until(lambda: rests)
    assert rests == [2.5]


def test_it_is_told_without_waiting_for_the_end_in_the_thread_of_that_name() -> None:
    names: list[str] = []
    told = threading.Semaphore(0)

    def observe(event: Event) -> None:
        names.append(threading.current_thread().name)
        told.release()

    with QueuedObserver(observe, "Teller") as aside:
        for number in range(3):
            aside(event(number))
            assert told.acquire(timeout=5)
    assert names == ["Teller"] * 3


def test_who_tells_does_not_wait_for_the_observer() -> None:
    go_on = threading.Event()
    with QueuedObserver(lambda event: go_on.wait(10) and None, "Teller") as aside:
        for number in range(10):
            aside(event(number))
        go_on.set()


def test_an_observer_that_fails_hears_the_next_event(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Event] = []

    def observe(what: Event) -> None:
        if what == event(1):
            raise ValueError("not this one")
        told.append(what)

    with caplog.at_level(logging.ERROR), QueuedObserver(observe, "Teller") as aside:
        for number in range(3):
            aside(event(number))
    assert told == [event(0), event(2)]
    assert "not told: ClientRefused(client='1'" in caplog.text
