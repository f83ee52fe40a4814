"""What every model of workers owes its clients, and what each of them does in its own way."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from fileserver import workers
from fileserver.workers import pool as pool_module
from fileserver.workers import thread_per_client as module
from fileserver.workers.base import BUSY, Scheduler, Workers
from fileserver.workers.pool import Pool
from fileserver.workers.thread_per_client import RESTING, ThreadPerClient
from tests.servers import wait_until

Work = Callable[[], object]
THREADED = [name for name in workers.MODELS if name != "one_at_a_time"]


class Visitor:
    """A client that does its work when it is served."""

    def __init__(self, number: int, work: Work) -> None:
        self.thread = f"ClientThread-{number}"
        self.served_by: list[threading.Thread] = []
        self.name_meanwhile = ""
        self.refused = ""
        self.done = threading.Event()
        self._work = work

    def announce_to(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def serve(self) -> None:
        self.served_by.append(threading.current_thread())
        self.name_meanwhile = threading.current_thread().name
        self._work()
        self.done.set()

    def refuse(self, reason: str) -> None:
        self.refused = reason
        self.done.set()


class House:
    """A model at work, in a thread of its own as that of a server is."""

    def __init__(self, model: type[Workers]) -> None:
        self._door: queue.SimpleQueue[Visitor | None] = queue.SimpleQueue()
        self._count = 0
        self.model = model(self._accept)
        self.thread = threading.Thread(target=self.model.run, name="Server")

    def _accept(self) -> Visitor | None:
        visitor = self._door.get()
        if visitor is None:
            self._door.put(None)
        return visitor

    def visit(self, work: Work = lambda: None) -> Visitor:
        self._count += 1
        visitor = Visitor(self._count, work)
        self._door.put(visitor)
        return visitor

    def close(self) -> None:
        self._door.put(None)
        self.thread.join(10)
        self.model.join()


@contextlib.contextmanager
def at_work(model: type[Workers]) -> Iterator[House]:
    house, before = House(model), threading.active_count()
    house.thread.start()
    try:
        yield house
    finally:
        house.close()
        assert threading.active_count() == before


@pytest.fixture
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with at_work(workers.MODELS[request.param]) as house:
        yield house


@pytest.mark.parametrize("house", workers.MODELS, indirect=True)
def test_each_client_is_served_once_in_a_thread_of_its_name(house: House) -> None:
    visitors = [house.visit() for _ in range(20)]
    for visitor in visitors:
        assert visitor.done.wait(10)
        assert len(visitor.served_by) == 1
        assert visitor.name_meanwhile == visitor.thread


@pytest.mark.parametrize("house", workers.MODELS, indirect=True)
def test_when_nobody_comes_any_more_those_that_are_served_come_to_their_end(house: House) -> None:
    leave = threading.Event()
    visitor = house.visit(lambda: leave.wait(10))
    wait_until(lambda: visitor.served_by)
    house._door.put(None)
    leave.set()
    house.close()
    assert visitor.done.is_set()


@pytest.mark.parametrize("house", THREADED, indirect=True)
def test_a_client_that_stays_holds_up_nobody(house: House) -> None:
    leave = threading.Event()

    def stay() -> None:
        staying.scheduler.before_blocking()
        leave.wait(10)

    staying = house.visit(stay)
    staying.scheduler = workers.base.NullScheduler()
    for _ in range(5):
        assert house.visit().done.wait(10)
    leave.set()
    assert staying.done.wait(10)


def test_one_at_a_time_a_client_waits_until_the_one_before_has_left() -> None:
    with at_work(workers.MODELS["one_at_a_time"]) as house:
        leave = threading.Event()
        first, second = house.visit(lambda: leave.wait(10)), house.visit()
        wait_until(lambda: first.served_by)
        assert not second.served_by
        leave.set()
        assert second.done.wait(10)
        assert first.served_by == second.served_by == [house.thread]


@pytest.mark.parametrize("house", ["thread_per_client", "pool"], indirect=True)
def test_a_client_for_whom_the_system_has_no_thread_is_refused(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        visitor = house.visit()
        assert visitor.done.wait(10)
        assert (visitor.refused, visitor.served_by) == (BUSY, [])
    assert house.visit().done.wait(10)


def resting_in(house: House) -> int:
    assert isinstance(house.model, ThreadPerClient)
    return len(house.model._resting)


class TestThreadPerClient:
    def test_a_thread_whose_client_has_left_serves_the_next_one(self) -> None:
        with at_work(ThreadPerClient) as house:
            threads = set()
            for _ in range(5):
                visitor = house.visit()
                assert visitor.done.wait(10)
                wait_until(lambda: resting_in(house))
                assert visitor.served_by[0].name == RESTING
                threads.add(visitor.served_by[0])
            assert len(threads) == 1

    def test_clients_that_stay_have_a_thread_each(self) -> None:
        with at_work(ThreadPerClient) as house:
            together = threading.Barrier(9)
            visitors = [house.visit(lambda: together.wait(10)) for _ in range(8)]
            together.wait(10)
            assert len({visitor.served_by[0] for visitor in visitors}) == 8

    def test_a_thread_that_nobody_needs_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "REST_SECONDS", 0.01)
        with at_work(ThreadPerClient) as house:
            visitor = house.visit()
            assert visitor.done.wait(10)
            wait_until(lambda: not visitor.served_by[0].is_alive())
            assert house.visit().done.wait(10)

    def test_only_so_many_rest(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_RESTING", 2)
        with at_work(ThreadPerClient) as house:
            together = threading.Barrier(6)
            visitors = [house.visit(lambda: together.wait(10)) for _ in range(5)]
            together.wait(10)
            wait_until(lambda: sum(visitor.served_by[0].is_alive() for visitor in visitors) == 2)

    def test_no_client_is_lost_when_a_thread_ends_its_rest_just_then(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "REST_SECONDS", 0.0005)
        pause = threading.Event()
        with at_work(ThreadPerClient) as house:
            for number in range(500):
                assert house.visit().done.wait(10)
                pause.wait(0.0005 * (number % 3) / 2)  # so that some come just when one gives up


class TestPool:
    def test_as_many_are_served_at_once_as_there_are_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pool_module, "THREADS", 3)
        with at_work(Pool) as house:
            leave = threading.Event()
            visitors = [house.visit(lambda: leave.wait(10)) for _ in range(7)]
            wait_until(lambda: sum(bool(visitor.served_by) for visitor in visitors) == 3)
            wait_until(lambda: house.model._waiting.qsize() == 4)  # type: ignore[attr-defined]
            leave.set()
            assert all(visitor.done.wait(10) for visitor in visitors)
            assert len({visitor.served_by[0] for visitor in visitors}) == 3
