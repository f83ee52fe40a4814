"""The limits of the process fit the number of clients, as far as the system allows."""

import gc
import logging
import sys
from collections.abc import Iterator

import pytest

from files_app.hosting import process

resource = pytest.importorskip("resource")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    limits, interval = resource.getrlimit(resource.RLIMIT_NOFILE), sys.getswitchinterval()
    threshold = gc.get_threshold()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_a_process_for_many_clients_may_open_as_many_files_as_they_need() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    process.prepare_for(clients=200)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (700, hard)


def test_a_limit_that_is_high_enough_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process.prepare_for(clients=1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_what_the_system_does_not_allow_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    process.prepare_for(clients=10_000)
    assert asked == [(4096, 4096)]
    assert "allows 4096 open files; with all clients at once 30100 may be needed" in caplog.text
    monkeypatch.undo()


def test_a_system_that_refuses_is_no_reason_not_to_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with caplog.at_level(logging.WARNING):
        process.prepare_for(clients=1000)
    assert "allows 256 open files" in caplog.text
    monkeypatch.undo()


def test_threads_ask_for_the_interpreter_less_often() -> None:
    process.prepare_for(clients=1)
    assert sys.getswitchinterval() == pytest.approx(process.SWITCH_INTERVAL)


def test_what_is_there_from_the_start_is_not_looked_at_for_garbage_and_what_comes_is() -> None:
    process.prepare_for(clients=1)
    assert gc.get_freeze_count() > 1000
    assert gc.isenabled()
    assert gc.get_threshold()[0] == process.GARBAGE_THRESHOLD


@pytest.mark.parametrize(
    ("limits", "clients"), [((256, 256), 52), ((256, 4096), 1000), ((1024, 2000), 633), ((50, 50), 1)]
)
def test_who_asks_hears_how_many_clients_there_can_be(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], clients: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    assert process.allow_descriptors(1000) == clients
    monkeypatch.undo()
