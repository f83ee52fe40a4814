"""What moves and who watches: transfers, counts, and the lines that a watcher gets."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fileserver.events import Event, TransferFacts, TransferFinished, TransferProgressed, TransferStarted
from fileserver.pacing import SLOW_MOTION, Pace
from fileserver.transfers import watch as module
from fileserver.transfers.rates import RateMeter
from fileserver.transfers.registry import Registry
from fileserver.transfers.transfer import Control, Stopped, Transfer
from fileserver.transfers.watch import MAX_ROWS, Watcher, row_of
from fileserver.wire.replies import ErrorReply
from tests.servers import Events, wait_until


def start(
    registry: Registry, *, pace: Pace | None = None, wake: Callable[[], None] = lambda: None, **facts: Any
) -> Transfer:
    usual = TransferFacts(
        0, "download", "a", 1000, 0, 1000, "1.2.3.4:5", None, "tcp", "ClientThread-1", str(pace or ""), 1.5
    )
    return registry.start(usual._replace(**facts), Control(wake, pace))


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def registry(events: Events) -> Registry:
    return Registry(events, max_clients=7)


def line_of(watcher: Watcher, seconds: float = 5.0) -> dict[str, Any]:
    line = watcher.next_line(seconds)
    assert line is not None
    return line


# --- transfers


def test_ids_are_given_in_order_and_each_beginning_has_its_ending(registry: Registry, events: Events) -> None:
    first, second = start(registry), start(registry, pace=SLOW_MOTION)
    assert (first.id, second.id) == (1, 2)
    second.advance(10)
    registry.finish(second, "aborted", "stalled")
    registry.finish(first, "complete", verified=True)
    kinds = [(type(event), event.id) for event in events]  # type: ignore[union-attr]
    assert kinds == [(TransferStarted, 1), (TransferStarted, 2), (TransferFinished, 2), (TransferFinished, 1)]
    assert [event.pace for event in events.of(TransferStarted)] == ["", "1000 bytes each 0.2 s"]
    ended = events.of(TransferFinished)
    assert [(e.done, e.outcome, e.error, e.verified) for e in ended] == [
        (10, "aborted", "stalled", None),
        (0, "complete", "", True),
    ]
    assert registry.live() == []


def test_a_cancel_wakes_the_transfer_and_says_why(registry: Registry) -> None:
    woken: list[int] = []
    transfer = start(registry, wake=lambda: woken.append(1))
    transfer.control.check()
    registry.cancel(transfer.id)
    assert woken == [1]
    with pytest.raises(Stopped, match="cancelled"):
        transfer.control.check()
    with pytest.raises(Stopped):
        transfer.control.sleep(60)


def test_a_transfer_is_stopped_once_and_not_after_its_end(registry: Registry) -> None:
    transfer = start(registry)
    registry.cancel(transfer.id)
    for transfer_id in (transfer.id, 99):
        with pytest.raises(ErrorReply) as refusal:
            registry.cancel(transfer_id)
        assert refusal.value.code == "not-running"
    closed = start(registry)
    registry.stop_all("shutting-down")
    assert transfer.control.close() == "cancelled"
    assert closed.control.close() == "shutting-down"
    late = start(registry)  # which had not quite begun
    assert late.control.close() == "shutting-down"


def test_a_transfer_that_is_closed_is_not_stopped_any_more(registry: Registry) -> None:
    closed = start(registry)
    assert closed.control.close() == ""
    assert not closed.control.stop("cancelled")
    closed.control.check()


def start_upload(registry: Registry, upload: str = "u", **facts: Any) -> Transfer:
    return start(registry, direction="upload", upload=upload, **facts)


def test_an_upload_waits_for_its_next_part_and_goes_on_in_another_thread(
    registry: Registry, events: Events
) -> None:
    woken: list[str] = []
    other, transfer = start_upload(registry, "other"), start_upload(registry, wake=lambda: woken.append("1"))
    assert registry.resume("u", "ClientThread-2", lambda: woken.append("2")) is None
    transfer.advance(10)
    assert transfer.control.wait_for_part() == ""
    row = row_of(transfer, time.monotonic())
    assert (row["state"], row["done"], other.state) == ("waiting", 10, "running")
    assert registry.resume("unknown", "ClientThread-2", lambda: None) is None
    assert registry.resume("u", "ClientThread-2", lambda: woken.append("2")) is transfer
    row = row_of(transfer, time.monotonic())
    assert (row["state"], row["thread"]) == ("running", "ClientThread-2")
    assert registry.resume("u", "ClientThread-3", lambda: None) is None
    registry.cancel(transfer.id)
    assert woken == ["2"]
    assert len(events.of(TransferStarted)) == 2


def test_an_upload_that_goes_on_later_begins_with_what_is_there(registry: Registry, events: Events) -> None:
    transfer = start_upload(registry, done=600)
    transfer.advance(100)
    registry.finish(transfer, "aborted", "disconnected")
    (started,) = events.of(TransferStarted)
    assert (started.upload, started.done, started.length) == ("u", 600, 1000)
    assert events.of(TransferFinished)[0].done == 700
    with registry.watching() as watcher:
        assert line_of(watcher)["status"]["received"] == 100


def test_what_waits_too_long_gets_its_ending_and_what_runs_does_not(
    registry: Registry, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    running, old, young = (start_upload(registry, name) for name in ("r", "o", "y"))
    old.control.wait_for_part()
    now[0] = 150.0
    young.control.wait_for_part()
    registry.end_waiting(60, "aborted", "disconnected")
    assert events.of(TransferFinished) == []
    now[0] = 160.0
    registry.end_waiting(60, "aborted", "disconnected")
    (ended,) = events.of(TransferFinished)
    assert (ended.id, ended.outcome, ended.error, ended.seconds) == (old.id, "aborted", "disconnected", 60.0)
    assert registry.live() == [running, young]
    assert registry.resume("o", "ClientThread-2", lambda: None) is None
    assert not old.control.stop("cancelled")


def test_a_cancel_ends_an_upload_that_waits_at_once(registry: Registry, events: Events) -> None:
    transfer = start_upload(registry)
    transfer.control.wait_for_part()
    assert registry.cancel(transfer.id) == "u"
    assert [event.outcome for event in events.of(TransferFinished)] == ["cancelled"]
    assert registry.live() == []
    with pytest.raises(ErrorReply):
        registry.cancel(transfer.id)
    assert registry.cancel(start(registry).id) == ""


def test_an_upload_that_was_stopped_does_not_wait(registry: Registry, events: Events) -> None:
    transfer = start_upload(registry)
    registry.cancel_upload("u")
    assert transfer.control.wait_for_part() == "cancelled"
    assert transfer.state != "waiting"
    assert registry.live() == [transfer]
    registry.cancel_upload("u")
    registry.cancel_upload("unknown")
    assert events.of(TransferFinished) == []


def test_each_upload_gets_one_ending_whoever_asks_first(registry: Registry, events: Events) -> None:
    """Parts that come and go, cancels and impatience, all at once."""
    uploads = [start_upload(registry, f"{number}") for number in range(200)]

    def part(transfer: Transfer) -> None:
        if transfer.control.wait_for_part():
            registry.finish(transfer, "cancelled")
        elif again := registry.resume(transfer.facts.upload, "ClientThread-2", lambda: None):
            assert again is transfer
            transfer.control.close()
            registry.finish(transfer, "complete")

    def cancel(transfer: Transfer) -> None:
        with contextlib.suppress(ErrorReply):
            registry.cancel(transfer.id)

    works = [
        lambda: [part(transfer) for transfer in uploads],
        lambda: [cancel(transfer) for transfer in uploads],
        lambda: [registry.end_waiting(0, "aborted", "disconnected") for _ in uploads],
    ]
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry.end_waiting(0, "aborted", "disconnected")
    assert registry.live() == []
    assert sorted(event.id for event in events.of(TransferFinished)) == [t.id for t in uploads]


def test_a_sleep_ends_when_the_transfer_is_stopped(registry: Registry) -> None:
    transfer = start(registry)
    ended: list[float] = []

    def sleep() -> None:
        begun = time.monotonic()
        with pytest.raises(Stopped):
            transfer.control.sleep(60)
        ended.append(time.monotonic() - begun)

    thread = threading.Thread(target=sleep)
    thread.start()
    registry.stop_all("shutting-down")
    thread.join(5)
    assert ended
    assert ended[0] < 5


def test_progress_is_told_now_and_then(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    transfer = start(Registry(events, 1))
    for _ in range(10):
        now[0] += 0.5
        transfer.advance(10)
    assert [(event.done, event.seconds) for event in events.of(TransferProgressed)] == [(40, 2.0), (80, 4.0)]


def test_of_many_who_stop_a_transfer_one_succeeds(registry: Registry) -> None:
    transfer = start(registry)
    won: list[bool] = []
    threads = [
        threading.Thread(target=lambda: won.append(transfer.control.stop("cancelled"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 19 + [True]


# --- counts


def test_ping_counts_clients_and_transfers(registry: Registry) -> None:
    registry.clients_changed(3)
    start(registry)
    ping = registry.ping()
    assert ping.pop("uptime") >= 0
    assert ping == {"clients": 3, "max_clients": 7, "transfers": 1, "folder_error": None}


def test_a_rate_looks_back_over_a_few_seconds() -> None:
    meter = RateMeter(0, 0.0)
    for second in range(1, 11):
        assert meter.rate(1000 * second, float(second)) == 1000.0
    assert meter.rate(10_000, 12.0) == pytest.approx(1000 / 3, rel=0.5)
    assert meter.rate(10_000, 14.0) == 0.0


def test_a_rate_of_the_first_moment_is_not_boundless() -> None:
    assert RateMeter(0, 0.0).rate(1000, 0.000001) == 1000 / module.TICK


# --- watchers


def test_the_first_line_is_full_and_has_every_live_transfer(registry: Registry) -> None:
    paced = start(registry, name="b", pace=SLOW_MOTION, offset=10, user="ann", via="web")
    start(registry, direction="upload")
    registry.files_changed(12)
    with registry.watching() as watcher:
        line = line_of(watcher)
    assert (line["type"], line["full"], line["ended"], line["files_changed"]) == ("live", True, [], False)
    assert [row["id"] for row in line["transfers"]] == [2, 1]
    assert set(line["status"]) == {
        "uptime",
        "clients",
        "max_clients",
        "transfers",
        "waiting",
        "files",
        "folder_error",
        "send_rate",
        "receive_rate",
        "sent",
        "received",
    }
    assert (line["status"]["transfers"], line["status"]["files"], line["status"]["max_clients"]) == (2, 12, 7)
    row = line["transfers"][1]
    wanted = {
        "id": 1,
        "direction": "download",
        "name": "b",
        "size": 1000,
        "offset": 10,
        "done": 0,
        "rate": 0.0,
        "state": "running",
        "pace": {"chunk": 1000, "pause": 0.2},
        "client": "1.2.3.4:5",
        "user": "ann",
        "via": "web",
        "thread": "ClientThread-1",
        "started": paced.facts.at,
    }
    assert {key: row[key] for key in wanted} == wanted


def test_more_endings_than_fit_in_a_line_are_told_by_the_whole_state(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    early, going_on = start(registry), start(registry)
    with registry.watching() as watcher:
        line_of(watcher)
        registry.finish(early, "complete")
        for _ in range(MAX_ROWS):
            registry.finish(start(registry), "complete")
        line = line_of(watcher)
        assert early.id not in [row["id"] for row in line["ended"]]
        assert line["full"] is True
        assert [row["id"] for row in line["transfers"]] == [going_on.id]
        registry.files_changed()
        assert line_of(watcher)["full"] is False


def test_later_lines_have_only_the_rows_that_changed(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    still, moving = start(registry), start(registry)
    with registry.watching() as watcher:
        line_of(watcher)
        moving.advance(10)
        line = line_of(watcher)
        assert not line["full"]
        assert [row["id"] for row in line["transfers"]] == [moving.id]
        assert line["transfers"][0]["done"] == 10
        registry.finish(still, "cancelled")
        registry.files_changed()
        line = wait_until(lambda: [found] if (found := line_of(watcher))["ended"] else None)[0]
        ended = line["ended"][0]
        assert (ended["id"], ended["outcome"], ended["error"]) == (still.id, "cancelled", "")
        assert ended["seconds"] >= 0
        assert line["files_changed"]
        assert line["status"]["transfers"] == 1


def test_lines_are_a_tick_apart_however_much_happens(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK", 0.1)
    over = threading.Event()

    def happen() -> None:
        while not over.wait(0.001):
            registry.finish(start(registry), "complete")

    thread = threading.Thread(target=happen)
    thread.start()
    try:
        begun = time.monotonic()
        with registry.watching() as watcher:
            for _ in range(5):
                line_of(watcher)
        took = time.monotonic() - begun
    finally:
        over.set()
        thread.join()
    # From before the first to behind the last: a line that this thread takes late brings the next one nearer.
    assert took >= 0.4


def test_a_line_comes_as_soon_as_there_is_news(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    with registry.watching() as watcher:
        line_of(watcher)
        timer = threading.Timer(0.05, lambda: registry.clients_changed(5))
        timer.start()
        begun = time.monotonic()
        assert line_of(watcher)["status"]["clients"] == 5
        assert time.monotonic() - begun < 3
        timer.join()


def test_without_news_there_is_a_heartbeat_and_nothing_else(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(module, "HEARTBEAT", 0.15)
    with registry.watching() as watcher:
        begun = time.monotonic()  # the time to the heartbeat is counted from the line that comes next
        line_of(watcher)
        line = line_of(watcher)
        assert 0.15 <= time.monotonic() - begun < 5
        assert (line["full"], line["transfers"], line["ended"]) == (False, [], [])


def test_a_slow_watcher_gets_the_newest_state_and_no_backlog(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK", 0.01)
    with registry.watching() as watcher:
        line_of(watcher)
        transfer = start(registry)
        for _ in range(2 * MAX_ROWS):
            transfer.advance(1)
            registry.finish(start(registry), "complete")
        line = line_of(watcher)
        assert [row["done"] for row in line["transfers"]] == [2 * MAX_ROWS]
        assert len(line["ended"]) == MAX_ROWS
        assert line["ended"][-1]["id"] == transfer.id + 2 * MAX_ROWS


def test_a_line_has_500_rows_at_most_the_newest_first_and_counts_them_all(registry: Registry) -> None:
    for _ in range(MAX_ROWS + 20):
        start(registry)
    with registry.watching() as watcher:
        line = line_of(watcher)
    ids = [row["id"] for row in line["transfers"]]
    assert ids == list(range(MAX_ROWS + 20, 20, -1))
    assert line["status"]["transfers"] == MAX_ROWS + 20


def test_bytes_of_ended_transfers_stay_in_the_sums(registry: Registry) -> None:
    for direction, count in (("download", 5), ("download", 7), ("upload", 11)):
        transfer = start(registry, direction=direction)
        transfer.advance(count)
        registry.finish(transfer, "complete")
    start(registry).advance(100)
    with registry.watching() as watcher:
        status = line_of(watcher)["status"]
    assert (status["sent"], status["received"]) == (112, 11)


def test_a_closed_registry_lets_every_watcher_go(registry: Registry) -> None:
    with registry.watching() as watcher:
        line_of(watcher)
        ends: list[object] = []
        thread = threading.Thread(target=lambda: ends.append(watcher.next_line(60)))
        thread.start()
        registry.close()
        thread.join(5)
        assert ends == [None]


def test_who_watches_no_more_is_told_nothing_more(registry: Registry) -> None:
    with registry.watching() as watcher:
        pass
    registry.finish(start(registry), "complete")
    assert not watcher.ended


def test_the_observer_is_called_in_the_thread_that_did_the_thing() -> None:
    threads: list[str] = []

    def observe(event: Event) -> None:
        threads.append(threading.current_thread().name)

    registry = Registry(observe, 1)
    work: Callable[[], object] = lambda: registry.finish(start(registry), "complete")  # noqa: E731
    thread = threading.Thread(target=work, name="ClientThread-7")
    thread.start()
    thread.join()
    assert threads == ["ClientThread-7"] * 2
