"""Threads that lead in turn: each client has one from its first moment, and none is left in the end."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fileserver.workers import leader_followers as module
from fileserver.workers.base import BUSY, Scheduler
from fileserver.workers.leader_followers import SKIPPED, SPARE, SPIN, FairLock, LeaderFollowers
from tests.servers import wait_until

Work = Callable[[], object]


class Door:
    """Clients that come when a test says so: what is put in is done by the thread that leads."""

    def __init__(self) -> None:
        self.waiting: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self.leaders: list[int] = []
        self.refused: list[str] = []
        self.workers = LeaderFollowers(self.accept)
        self.thread = threading.Thread(target=self.workers.run, name="Server")

    def accept(self) -> "Visitor | None":
        work = self.waiting.get()
        if work is None:
            self.waiting.put(None)
            return None
        return Visitor(self, work)

    def open(self) -> None:
        self.thread.start()

    def close(self) -> None:
        self.waiting.put(None)
        self.workers.join()
        self.thread.join()


class Visitor:
    thread = "ClientThread-1"

    def __init__(self, door: Door, work: Work) -> None:
        self._door = door
        self._work = work

    def announce_to(self, scheduler: Scheduler) -> None:
        assert scheduler is self._door.workers

    def serve(self) -> None:
        self._door.leaders.append(threading.get_ident())
        self._work()

    def refuse(self, reason: str) -> None:
        self._door.refused.append(reason)


@pytest.fixture
def door() -> Iterator[Door]:
    door, before = Door(), threading.active_count()
    door.open()
    yield door
    door.close()
    assert threading.active_count() == before


def test_what_need_not_wait_is_done_by_one_thread_which_goes_on_leading(door: Door) -> None:
    for _ in range(5):
        door.waiting.put(lambda: None)
    wait_until(lambda: len(door.leaders) == 5)
    assert len(set(door.leaders)) == 1


def test_who_is_about_to_wait_lets_another_lead(door: Door) -> None:
    together = threading.Barrier(5)

    def wait() -> None:
        door.workers.before_blocking()
        door.workers.before_blocking()  # as often as it likes
        together.wait(10)

    for _ in range(4):
        door.waiting.put(wait)
    together.wait(10)
    assert len(set(door.leaders)) == 4


def test_the_leader_goes_on_leading_if_its_client_needs_no_more_than_a_moment(door: Door) -> None:
    answers: list[bool] = []

    def ask() -> None:
        answers.append(door.workers.spin(lambda seconds: seconds == SPIN))

    for _ in range(5):
        door.waiting.put(ask)
    wait_until(lambda: len(answers) == 5)
    assert all(answers)
    assert len(set(door.leaders)) == 1


def test_who_does_not_lead_is_given_no_moment(door: Door) -> None:
    answers: list[bool] = []

    def wait() -> None:
        door.workers.before_blocking()
        answers.append(door.workers.spin(lambda seconds: True))

    door.waiting.put(wait)
    wait_until(lambda: answers == [False])


def test_clients_that_are_never_so_quick_are_given_a_moment_now_and_then_only(door: Door) -> None:
    asked: list[int] = []
    done = threading.Event()

    def ask() -> None:
        for number in range(2 + 3 * (SKIPPED + 1)):
            assert not door.workers.spin(lambda seconds: bool(asked.append(number)))  # noqa: B023
        assert not any(door.workers.spin(lambda seconds: True) for _ in range(SKIPPED))
        assert all(door.workers.spin(lambda seconds: True) for _ in range(100))
        done.set()

    door.waiting.put(ask)
    assert done.wait(10)
    assert asked == [0, 1, *range(SKIPPED + 2, 2 + 3 * (SKIPPED + 1), SKIPPED + 1)]


def test_a_thread_that_has_waited_leads_again_later(door: Door) -> None:
    for number in range(20):
        door.waiting.put(door.workers.before_blocking)
        wait_until(lambda: len(door.leaders) == number + 1)  # noqa: B023
    wait_until(lambda: len([t for t in threading.enumerate() if t.name == SPARE]) <= 3)
    assert len(set(door.leaders)) <= 3


def test_a_client_that_cannot_be_served_leaves_the_others_a_leader(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a mistake")

    done = threading.Event()
    door.waiting.put(fail)
    door.waiting.put(done.set)
    assert done.wait(10)
    wait_until(lambda: "a mistake" in caplog.text)


def test_followers_that_nobody_needs_leave_but_for_one(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    together = threading.Barrier(6)

    def wait() -> None:
        door.workers.before_blocking()
        together.wait(10)

    for _ in range(5):
        door.waiting.put(wait)
    together.wait(10)
    wait_until(lambda: len(door.workers._threads) == 2)  # who leads, and who would lead next
    done = threading.Event()
    door.waiting.put(done.set)
    assert done.wait(10)


def test_nobody_is_lost_when_followers_leave_while_clients_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0005)
    before = threading.active_count()
    door, done, pause = Door(), threading.Semaphore(0), threading.Event()

    def wait() -> None:
        door.workers.before_blocking()
        done.release()

    door.open()
    for number in range(500):
        door.waiting.put(wait)
        assert done.acquire(timeout=5)
        pause.wait(0.0005 * (number % 3) / 2)  # so that some come just when one gives up
    door.close()
    assert threading.active_count() == before


def test_close_waits_for_those_that_serve_and_may_be_called_again() -> None:
    door, go_on, closed = Door(), threading.Event(), threading.Event()
    door.open()

    def wait() -> None:
        door.workers.before_blocking()
        go_on.wait(10)

    door.waiting.put(wait)
    wait_until(lambda: door.leaders)
    closing = threading.Thread(target=lambda: (door.close(), closed.set()))
    closing.start()
    wait_until(lambda: door.workers._is_over.is_set())
    assert not closed.is_set()
    door.workers.ensure_spare()  # none starts any more
    go_on.set()
    closing.join()
    door.close()
    assert door.workers._followers == 0 or not any(member.is_alive() for member in door.workers._threads)


def test_where_the_system_has_no_thread_a_client_is_refused_and_the_next_one_is_served(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    wait_until(lambda: door.workers._followers == 0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        door.waiting.put(lambda: pytest.fail("it has no spare thread"))
        wait_until(lambda: door.refused == [BUSY])
    done = threading.Event()
    door.waiting.put(done.set)
    assert done.wait(5)


# --- turns


@contextlib.contextmanager
def another_has_the_turn(turns: FairLock) -> Iterator[None]:
    has, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        turns.acquire()
        has.set()
        go_on.wait(10)
        turns.release()

    thread = threading.Thread(target=hold)
    thread.start()
    has.wait(10)
    try:
        yield
    finally:
        go_on.set()
        thread.join()


def test_a_turn_is_one_threads_until_it_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_PATIENCE", 10)
    turns, at_work, most = FairLock(), [], []

    def work() -> None:
        for _ in range(200):
            turns.acquire()
            turns.acquire()  # it has it already
            at_work.append(1)
            most.append(len(at_work))
            at_work.pop()
            turns.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(most), max(most)) == (800, 1)


def test_nobody_waits_long_for_a_turn_and_nobody_gives_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_PATIENCE", 0.01)
    turns = FairLock()
    with another_has_the_turn(turns):
        begun = time.monotonic()
        turns.acquire()
        assert 0.01 <= time.monotonic() - begun < 5
        assert turns._owner not in (0, threading.get_ident())
        turns.release()
        assert turns._owner
        assert not turns._waiting
    turns.acquire()
    assert turns._owner == threading.get_ident()
    turns.release()
    assert not turns._owner


def test_who_comes_first_is_first_even_if_another_would_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_PATIENCE", 10)
    turns, order = FairLock(), []

    def work(number: int) -> None:
        turns.acquire()
        order.append(number)
        turns.release()

    turns.acquire()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_until(lambda: len(turns._waiting) == number + 1)  # noqa: B023
    turns.release()
    work(3)
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3]
