"""Threads that are used again: each piece of work has one to itself, and none is left in the end."""

import threading

import pytest

from fileserver import crew as module
from fileserver.crew import Crew
from tests.servers import wait_until


def test_work_is_done_in_a_thread_of_the_given_name() -> None:
    crew, names = Crew(), []
    crew.take_on("ClientThread-1", lambda: names.append(threading.current_thread().name))
    crew.close()
    assert names == ["ClientThread-1"]


def test_work_at_the_same_time_has_a_thread_each() -> None:
    crew, together = Crew(), threading.Barrier(5)
    for number in range(4):
        crew.take_on(f"ClientThread-{number}", lambda: together.wait(10))
    together.wait(10)
    crew.close()


def test_one_thread_does_one_work_after_another_under_a_new_name_each_time() -> None:
    crew, seen = Crew(), []
    for number in range(3):
        crew.take_on(
            f"ClientThread-{number}",
            lambda: seen.append((threading.get_ident(), threading.current_thread().name)),
        )
        wait_until(lambda: len(crew._waiting) == 1)
    crew.close()
    assert len({ident for ident, _ in seen}) == 1
    assert [name for _, name in seen] == ["ClientThread-0", "ClientThread-1", "ClientThread-2"]


def test_a_thread_that_has_waited_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    crew = Crew()
    crew.take_on("ClientThread-1", lambda: None)
    wait_until(lambda: not crew._all)
    done = threading.Event()
    crew.take_on("ClientThread-2", done.set)
    assert done.wait(5)
    crew.close()


def test_no_work_is_lost_when_threads_end_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0005)
    before = threading.active_count()
    crew, done = Crew(), threading.Semaphore(0)
    pause = threading.Event()
    for number in range(500):
        crew.take_on(f"ClientThread-{number}", done.release)
        assert done.acquire(timeout=5)
        pause.wait(0.0005 * (number % 3) / 2)  # so that some come just when the last one gives up
    crew.close()
    assert threading.active_count() == before


def test_close_waits_for_work_and_takes_none_any_more() -> None:
    crew, go_on, closed = Crew(), threading.Event(), threading.Event()
    crew.take_on("ClientThread-1", lambda: go_on.wait(10))
    closing = threading.Thread(target=lambda: (crew.close(), closed.set()))
    closing.start()
    wait_until(lambda: crew._closed)
    assert not closed.is_set()
    with pytest.raises(RuntimeError):
        crew.take_on("ClientThread-2", lambda: None)
    go_on.set()
    closing.join()
    crew.close()  # may be called again


def test_where_the_system_has_no_thread_the_caller_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    crew = Crew()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            crew.take_on("ClientThread-1", lambda: None)
    done = threading.Event()
    crew.take_on("ClientThread-2", done.set)
    assert done.wait(5)
    crew.close()
