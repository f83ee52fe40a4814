"""Who may write to an upload: one at a time, the next when the one before has let go."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from fileserver.storage import claims as module
from fileserver.storage.claims import Claim, Claims, Displaced, no_wake
from fileserver.wire.replies import ErrorReply
from tests.servers import wait_until


@pytest.fixture
def claims() -> Claims:
    return Claims()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Writer:
    """Lets go as soon as it is woken, if ``is_there``; counts how often it was."""

    def __init__(self, claims: Claims, is_there: bool = True) -> None:
        self.woken = 0
        self._release: Callable[[], object] = lambda: claims.release("u")
        self._is_there = is_there
        self.threads: list[threading.Thread] = []
        self.claim = claims.take("u", self.wake)

    def wake(self) -> None:
        self.woken += 1
        if self._is_there:
            self.threads.append(threading.Thread(target=self._release))
            self.threads[-1].start()


def is_busy(claims: Claims, may_take_over: bool = False) -> bool:
    try:
        claims.take("u", no_wake, lambda: may_take_over)
    except ErrorReply as error:
        return error.code == "busy"
    return False


def test_one_who_has_not_proved_itself_asks_nobody(claims: Claims) -> None:
    old = Writer(claims)
    assert is_busy(claims)
    assert old.woken == 0
    old.claim.check()
    assert claims.release("u")
    assert not is_busy(claims)


def test_one_who_has_asks_the_writer_and_waits_until_it_lets_go(claims: Claims) -> None:
    old = Writer(claims)
    assert not is_busy(claims, may_take_over=True)
    assert old.woken == 1
    with pytest.raises(Displaced) as ending:
        old.claim.check()
    assert ending.value.code == "busy"
    for thread in old.threads:
        thread.join()


def test_a_writer_that_does_not_let_go_keeps_it_and_is_asked_once(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAKE_OVER_SECONDS", 0.01)
    old = Writer(claims, is_there=False)
    assert is_busy(claims, may_take_over=True)
    assert is_busy(claims, may_take_over=True)
    assert old.woken == 1


def test_a_writer_that_has_all_is_not_asked_and_the_next_waits_for_its_end(
    claims: Claims, pool: ThreadPoolExecutor
) -> None:
    old = Writer(claims)
    claims.settle(old.claim)
    taking = pool.submit(claims.take, "u", no_wake, lambda: True)
    assert not taking.done()
    assert claims.release("u")
    assert isinstance(taking.result(5), Claim)
    assert old.woken == 0
    old.claim.check()


def test_who_was_asked_before_it_had_all_may_not_end_it(
    claims: Claims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAKE_OVER_SECONDS", 0.01)
    old = Writer(claims, is_there=False)
    assert is_busy(claims, may_take_over=True)
    with pytest.raises(Displaced):
        claims.settle(old.claim)


def test_of_several_that_wait_for_one_writer_one_gets_it(claims: Claims, pool: ThreadPoolExecutor) -> None:
    old = Writer(claims, is_there=False)
    together = threading.Barrier(4)

    def proved() -> bool:
        together.wait(5)
        return True

    takers: list[Future[Claim]] = [pool.submit(claims.take, "u", no_wake, proved) for _ in range(4)]
    wait_until(lambda: old.woken)
    assert claims.release("u")
    assert len([taker for taker in takers if taker.exception(10) is None]) == 1
    assert {getattr(error, "code", "") for taker in takers if (error := taker.exception())} == {"busy"}


def test_one_who_proved_itself_to_a_writer_that_has_gone_displaces_no_newer_one(claims: Claims) -> None:
    Writer(claims)
    newer: list[Writer] = []

    def meanwhile() -> bool:
        claims.release("u")
        newer.append(Writer(claims))
        return True

    with pytest.raises(ErrorReply):
        claims.take("u", no_wake, meanwhile)
    assert newer[0].woken == 0


def test_a_claim_that_was_given_up_is_released_when_nothing_is_left(claims: Claims) -> None:
    Writer(claims)
    assert claims.give_up("u")
    assert claims.is_given_up("u")
    assert not claims.release("u")
    assert is_busy(claims)
    claims.clear("u")
    assert not claims.give_up("u")  # from here on it is ours
    assert is_busy(claims)
    assert claims.release("u")
    assert not claims
