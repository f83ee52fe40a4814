"""Many clients at once: limits, storms, shortages, and a shutdown that leaves nobody behind."""

import contextlib
import errno
import os
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fileserver import server as server_module
from fileserver.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    Event,
    FilePublished,
    TransferFinished,
    TransferStarted,
)
from fileserver.limits import Limits
from fileserver.net import listener, unacknowledged, waiter
from fileserver.rights import Principal
from fileserver.server import FileServer
from fileserver.storage import folder as storage_module
from fileserver.storage import pagecache
from fileserver.storage.folder import Storage
from fileserver.storage.partial_files import PARTIALS
from fileserver.workers.leader_followers import SPARE
from tests.servers import (
    ALL,
    RELAY,
    WORKER,
    Peer,
    Running,
    accounts,
    numbered_bytes,
    parsed,
    run_server,
    sha256,
    talk,
    wait_until,
)

BIG = 20_000_000  # bytes: more than all buffers on the way


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with run_server(tmp_path) as running:
        yield running


def client_threads() -> list[threading.Thread]:
    """Those that have a client."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("ClientThread-")]


def no_thread_is_left() -> bool:
    return not client_threads() and SPARE not in [thread.name for thread in threading.enumerate()]


def paced_get(running: Running, peer: Peer, name: str, pause: float = 60) -> int:
    """The id of a download that has begun and takes its time."""
    header = peer.ask("GET", name=name, pace={"chunk": 1, "pause": pause})
    assert isinstance(header["id"], int)
    return header["id"]


# --- one server


def test_it_listens_as_soon_as_it_is_entered_and_on_the_port_that_it_names(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage, FileServer(storage) as server:
        host, port = server.address
        assert host == "127.0.0.1"
        assert port > 0
        with Peer(server.address) as peer:
            peer.send(b"PING\n")
            thread = threading.Thread(target=server.serve_forever, name="Server")
            thread.start()
            assert peer.ok()["protocol"] == "CFS/1"
            server.shutdown()
            thread.join()


def test_it_can_be_entered_and_left_without_having_served(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage, FileServer(storage):
        pass


def test_a_port_that_is_taken_is_an_error_and_nothing_stays_open(running: Running, tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        server = FileServer(storage, port=running.address[1])
        with pytest.raises(OSError, match="in use") as error:
            server.__enter__()
        assert error.value.errno == errno.EADDRINUSE


def test_it_speaks_ipv6_too(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    (tmp_path / "a").write_bytes(b"abc")
    with run_server(tmp_path, host="::1") as running:
        assert running.talk(b"GET a\n").endswith(b'abcEND {"id": 1, "sent": 3}\n')
        assert running.events.of(ClientConnected)[0].client.startswith("[::1]:")


def test_no_partial_file_is_swept_when_it_starts(tmp_path: Path) -> None:
    """Perhaps it is only the clock that was set: who sends it still has an hour to go on."""
    (tmp_path / PARTIALS).mkdir()
    for name, age in (("old", 100_000), ("young", 10)):
        path = tmp_path / PARTIALS / name
        path.write_bytes(b"")
        os.utime(path, (time.time() - age,) * 2)
    with run_server(tmp_path):
        assert sorted(os.listdir(tmp_path / PARTIALS)) == ["old", "young"]


def test_events_of_a_client_come_in_order_and_in_its_thread(tmp_path: Path) -> None:
    threads: list[str] = []

    def observe(event: Event) -> None:
        threads.append(threading.current_thread().name)

    (tmp_path / "a").write_bytes(b"x")
    with run_server(tmp_path, observer=observe) as running:
        with running.peer() as peer:
            peer.send(b'GET a\nPUT {"name": "b", "size": 0}\nQUIT\n')
            peer.rest()
        running.events.wait_for_kind(ClientDisconnected)
        kinds = [type(event) for event in running.events]
        assert kinds == [
            ClientConnected,
            TransferStarted,
            TransferFinished,
            TransferStarted,
            FilePublished,
            TransferFinished,
            ClientDisconnected,
        ]
        assert threads == ["ClientThread-1"] * 7
        assert running.events.of(ClientConnected)[0].thread == "ClientThread-1"


# --- many clients


def test_each_client_has_a_thread_of_its_own_with_a_number(running: Running) -> None:
    with running.peer() as first, running.peer() as second:
        first.ask("PING")
        second.ask("PING")
        assert {thread.name for thread in client_threads()} == {"ClientThread-1", "ClientThread-2"}
        assert not any(thread.daemon for thread in client_threads())
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)


def test_500_silent_clients_delay_nobody(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(numbered_bytes(100_000))
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(running.peer())
        begun = time.monotonic()
        with running.peer() as peer:
            assert peer.ask("GET", name="a")["length"] == 100_000
            peer.read(100_000)
            peer.end()
            assert time.monotonic() - begun < 5  # whoever waited for them would wait for half a minute
            assert wait_until(lambda: peer.ask("PING")["clients"] == 501)
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)


def test_a_storm_of_clients_that_end_in_every_way_has_one_ending_for_each_beginning(tmp_path: Path) -> None:
    """200 clients: complete, cut at random, cancelled by others, uploads whole and broken, relayed or not."""
    data = numbered_bytes(1_500_000)
    (tmp_path / "big").write_bytes(data)
    (tmp_path / "small").write_bytes(data[:5000])
    failures: list[BaseException] = []
    expected: Counter[str] = Counter()
    lock = threading.Lock()

    access = accounts({None: (Principal("guest"), ALL), "secret": (RELAY, ALL)})

    def whole(peer: Peer, name: str, **fields: Any) -> int:
        header = peer.ask("GET", name=name, **fields)
        assert peer.read(header["length"]) == data[: header["length"]]
        peer.end()
        assert isinstance(header["id"], int)
        return header["id"]

    def client(number: int) -> None:
        chance = random.Random(number)
        name = chance.choice(["big", "small"])
        with running.peer() as peer:
            match number % 8:
                case 0:
                    whole(peer, name)
                    outcome = "complete"
                case 1:
                    peer.ask("AUTH", token="secret")
                    peer.ask("RECEIPT", id=whole(peer, name, via="web"))
                    outcome = "complete"
                case 2:
                    peer.ask("AUTH", token="secret")
                    whole(peer, name, via="web")
                    outcome = "aborted"
                case 3:
                    header = peer.ask("GET", name="big", pace={"chunk": 100_000, "pause": 0.05})
                    peer.read(chance.randrange(500_000))
                    chance.choice([peer.close, peer.reset])()
                    assert running.events.ending(header["id"], 20).outcome == "aborted"
                    outcome = "aborted"
                case 4:
                    transfer_id = paced_get(running, peer, "big")
                    with running.peer() as other:
                        other.ask("CANCEL", id=transfer_id)
                    peer.rest()
                    outcome = "cancelled"
                case 5:
                    peer.ask("PUT", name=f"new/{number}", size=len(data))
                    peer.send(data)
                    assert peer.end()["sha256"] == sha256(data)
                    outcome = "complete"
                case 6:
                    peer.ask("PUT", name="new/broken", size=len(data), exists="rename")
                    peer.send(data[: chance.randrange(len(data))])
                    chance.choice([peer.close, peer.reset])()
                    outcome = "aborted"
                case _:
                    peer.ask("PUT", name="new/wrong", size=10, sha256="0" * 64)
                    peer.send(data[:10])
                    assert peer.err()["code"] == "checksum"
                    outcome = "failed"
        with lock:
            expected[outcome] += 1

    def guarded(number: int) -> None:
        try:
            client(number)
        except BaseException as error:
            failures.append(error)

    with run_server(tmp_path, access=access) as running:
        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        wait_until(lambda: running.server.registry.ping()["clients"] == 0, 10)
        started = [event.id for event in running.events.of(TransferStarted)]
        finished = running.events.of(TransferFinished)
        assert sorted(started) == list(range(1, 201))
        assert sorted(event.id for event in finished) == sorted(started)
        assert Counter(event.outcome for event in finished) == expected
        order = [event for event in running.events if isinstance(event, TransferStarted | TransferFinished)]
        begun: set[int] = set()
        for event in order:
            if isinstance(event, TransferStarted):
                begun.add(event.id)
            else:
                assert event.id in begun
        assert running.server.registry.live() == []
    assert len(os.listdir(tmp_path / "new")) == 25
    # Those 25 that broke can be gone on with.
    assert len(os.listdir(tmp_path / PARTIALS)) == 2 * 25


# --- limits


def test_above_the_limit_a_client_reads_that_the_server_is_busy_even_behind_its_request(
    tmp_path: Path,
) -> None:
    with run_server(tmp_path, limits=Limits(max_clients=2)) as running:
        with running.peer() as first, running.peer() as second:
            first.ask("PING")
            second.ask("PING")
            for _ in range(5):
                with running.peer() as third:
                    third.send(b"PING\n" + bytes(10_000))
                    word, fields = parsed(third.rest().rstrip(b"\n"))
                    assert (word, fields["code"]) == ("ERR", "busy")
            assert first.is_usable()
            refused = running.events.of(ClientRefused)
            assert len(refused) == 5
            assert all(event.client.startswith("127.0.0.1:") for event in refused)
        wait_until(lambda: b"OK" in running.talk(b"PING\n"))


def test_clients_from_loopback_are_not_counted_by_address(tmp_path: Path) -> None:
    with (
        run_server(tmp_path, limits=Limits(max_clients_per_address=1)) as running,
        running.peer() as first,
        running.peer() as second,
    ):
        assert first.is_usable()
        assert second.is_usable()


def test_clients_of_one_address_beyond_its_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "is_own_client", lambda sock, host: False)
    with run_server(tmp_path, limits=Limits(max_clients_per_address=2)) as running:
        with running.peer() as first, running.peer() as second:
            first.ask("PING")
            second.ask("PING")
            with running.peer() as third:
                assert third.err()["code"] == "busy"
            assert running.server._reason_to_refuse(first.sock, "192.0.2.1") is None
        wait_until(lambda: b"OK" in running.talk(b"PING\n"))


def test_the_count_of_clients_is_right_however_they_come_and_go(running: Running) -> None:
    def come_and_go() -> None:
        for _ in range(20):
            running.talk(b"PING\n")

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)
    running.server.shutdown()
    assert no_thread_is_left()


# --- shortages


def test_the_accept_loop_survives_a_lack_of_descriptors(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, failures = (
        socket.socket.accept,
        iter([errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOMEM]),
    )

    def failing(sock: socket.socket) -> Any:
        for number in failures:
            raise OSError(number, os.strerror(number))
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", failing)
    assert running.talk(b"PING\n").startswith(b"OK")
    # The thread that was refused says so; another may have taken the client in by then.
    wait_until(lambda: "cannot accept a client" in caplog.text)


def test_a_thread_that_cannot_start_is_a_busy_server_and_not_its_end(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    if WORKER == "leader_followers":  # its first leader is one of those that could not start
        wait_until(lambda: SPARE in [thread.name for thread in threading.enumerate()])
    start = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        if thread.name.startswith((SPARE, "ClientThread")):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with running.peer() as peer:
        assert peer.err()["code"] == "busy"
        assert peer.rest() == b""
    wait_until(lambda: running.server.registry.ping()["clients"] == 0)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert running.talk(b"PING\n").startswith(b"OK")


def test_a_lack_of_descriptors_is_said_once_however_long_it_lasts(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "_ACCEPT_PAUSE", 0.001)
    accept, tries = socket.socket.accept, iter(range(20))

    def failing(sock: socket.socket) -> Any:
        for _ in tries:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return accept(sock)

    monkeypatch.setattr(socket.socket, "accept", failing)
    assert running.talk(b"PING\n").startswith(b"OK")  # by an accept that had begun before
    assert running.talk(b"PING\n").startswith(b"OK")
    assert next(tries, None) is None
    assert caplog.text.count("cannot accept a client") == 1


@pytest.mark.parametrize("where", ["disk", "taking", "giving"])
def test_whoever_has_to_wait_lets_another_wait_for_clients(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """One client whose thread stands still: the disk is slow, or the peer takes nothing, or gives nothing."""
    waiting, go_on = threading.Event(), threading.Event()
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "slow").write_bytes(bytes(30_000_000))
    require_regular = storage_module.require_regular

    def slow_disk(place: Any, name: str) -> Any:
        if name == "slow":
            waiting.set()
            go_on.wait(10)
        return require_regular(place, name)

    if where == "disk":
        monkeypatch.setattr(storage_module, "require_regular", slow_disk)
        monkeypatch.setattr(pagecache, "open_file", lambda *_: None)
    with running.peer(receive_buffer=4096) as first:
        if where == "giving":
            first.send(b"GET sl")
        else:
            first.send(b"GET slow\n")
            wait_until(waiting.is_set if where == "disk" else running.server.registry.live)
        for _ in range(3):
            assert running.talk(b"GET small\n").startswith(b"OK")
        go_on.set()


@pytest.mark.parametrize("flood", [b"\n" * 65536, b"GET {}\n" * 9000, b"PING\n" * 13000])
def test_a_client_that_always_has_more_to_say_holds_up_nobody(running: Running, flood: bytes) -> None:
    """Neither the threads that wait for clients, nor those that take turns."""
    over, sent = threading.Event(), threading.Semaphore(0)

    def talk_on() -> None:
        with running.peer() as peer, contextlib.suppress(OSError):
            peer.sock.settimeout(0.5)
            while not over.is_set():
                peer.send(flood)
                sent.release()
                with contextlib.suppress(TimeoutError, BlockingIOError):
                    while not over.is_set() and len(peer.sock.recv(1 << 20, socket.MSG_DONTWAIT)):
                        pass

    talker = threading.Thread(target=talk_on)
    talker.start()
    try:
        assert sent.acquire(timeout=10)
        with running.peer() as peer:
            begun = time.monotonic()
            for _ in range(20):
                peer.ask("PING")
            assert time.monotonic() - begun < 4
    finally:
        over.set()
        talker.join()


def test_what_breaks_the_housekeeping_ends_the_server_and_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr(server_module, "_HOUSEKEEPING_SECONDS", 0.01)
    with Storage(tmp_path) as storage, FileServer(storage) as server:
        monkeypatch.setattr(server.registry, "end_waiting", broken)
        with pytest.raises(KeyError):
            server.serve_forever()
        monkeypatch.undo()
    assert no_thread_is_left()


def test_a_session_that_fails_takes_nobody_with_it(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = server_module.Session.run

    def broken(session: Any) -> None:
        run(session)
        raise RuntimeError("a mistake")

    monkeypatch.setattr(server_module.Session, "run", broken)
    running.talk(b"PING\n")
    running.events.wait_for_kind(ClientDisconnected)
    monkeypatch.setattr(server_module.Session, "run", run)
    assert running.talk(b"PING\n").startswith(b"OK")
    assert "a mistake" in caplog.text


# --- shutdown


def stop_in_thread(running: Running, grace: float) -> threading.Thread:
    thread = threading.Thread(target=lambda: running.server.shutdown(grace), name="Stopper")
    thread.start()
    return thread


def test_idle_clients_are_told_and_let_go(running: Running) -> None:
    with (
        running.peer() as silent,
        running.peer() as idle,
        running.peer() as typing,
        running.peer() as watcher,
    ):
        idle.ask("PING")
        typing.ask("PING")
        typing.send(b"PIN")
        watcher.ask("WATCH")
        watcher.json()
        silent.ask("PING")
        begun = time.monotonic()
        running.server.shutdown(grace=30)
        assert time.monotonic() - begun < 5
        for peer in (silent, idle, typing, watcher):
            last = peer.rest().splitlines()
            assert parsed(last[-1])[1]["code"] == "shutting-down"
        assert no_thread_is_left()


def test_a_running_download_comes_to_its_end_within_the_grace(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    with running.peer() as peer:
        transfer_id = paced_get(running, peer, "a", pause=0.02)
        stopper = stop_in_thread(running, grace=30)
        assert peer.read(10) == bytes(10)
        assert peer.end()["sent"] == 10
        assert peer.err()["code"] == "shutting-down"
        stopper.join()
    assert running.events.ending(transfer_id).outcome == "complete"
    assert no_thread_is_left()


def test_a_running_upload_comes_to_its_end_within_the_grace(running: Running, tmp_path: Path) -> None:
    with running.peer() as peer:
        peer.ask("PUT", name="a", size=6)
        peer.send(b"abc")
        wait_until(lambda: running.live().done == 3)
        stopper = stop_in_thread(running, grace=30)
        wait_until(running.server._stopping.is_set)
        peer.send(b"def")
        assert peer.end()["size"] == 6
        stopper.join()
    assert (tmp_path / "a").read_bytes() == b"abcdef"


@pytest.mark.parametrize("awaited", [True, False])
def test_a_relayed_download_may_still_get_its_receipt(
    tmp_path: Path, awaited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the server was waiting for the receipt already or was not yet done with the sending."""
    (tmp_path / "a").write_bytes(b"abc")
    with run_server(tmp_path, access=accounts({None: (RELAY, ALL)})) as running, running.peer() as peer:
        peer.ask("PING")
        session = running.server._current()[0].session
        if not awaited:
            monkeypatch.setattr(
                session.connection,
                "wait_acknowledged",
                lambda *rest: wait_until(lambda: session.peer.is_stopping),
            )
        header = peer.ask("GET", name="a", via="web")
        peer.read(3)
        peer.end()
        if awaited:
            wait_until(lambda: session.downloads.awaits_receipt)
        stopper = stop_in_thread(running, grace=30)
        wait_until(lambda: session.peer.is_stopping)
        assert peer.ask("RECEIPT", id=header["id"]) == {"verified": None}
        assert peer.err()["code"] == "shutting-down"
        stopper.join()
        assert running.events.ending(header["id"]).outcome == "complete"


@pytest.mark.parametrize("kind", ["paced", "unpaced", "upload", "unreceipted"])
def test_a_transfer_that_does_not_end_within_the_grace_is_aborted(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(bytes(BIG))
    (tmp_path / "s").write_bytes(b"x")
    with run_server(tmp_path, access=accounts({None: (RELAY, ALL)})) as running, running.peer() as peer:
        if kind == "paced":
            paced_get(running, peer, "a")
        elif kind == "unpaced":
            peer.ask("GET", name="a")
        elif kind == "upload":
            peer.ask("PUT", name="b", size=10)
        else:
            peer.ask("GET", name="s", via="web")
            peer.read(1)
            peer.end()
        transfer = running.live()
        begun = time.monotonic()
        running.server.shutdown(grace=0.1)
        assert 0.1 <= time.monotonic() - begun < 5
        ending = running.events.ending(transfer.id)
        assert (ending.outcome, ending.error) == ("aborted", "shutting-down")
        assert b"END" not in peer.rest()[-200:]
        assert no_thread_is_left()
        assert not (tmp_path / "b").exists()


def test_a_second_call_hurries_the_first(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    with running.peer() as peer:
        transfer_id = paced_get(running, peer, "a")
        begun = time.monotonic()
        stopper = stop_in_thread(running, grace=60)
        wait_until(running.server._stopping.is_set)
        running.server.shutdown(grace=0)
        stopper.join()
        assert time.monotonic() - begun < 10
        assert running.events.ending(transfer_id).error == "shutting-down"


def test_it_may_be_called_again_and_again_and_after_the_end(tmp_path: Path) -> None:
    with run_server(tmp_path) as running:
        for _ in range(3):
            running.server.shutdown()
        running.thread.join(5)
        assert not running.thread.is_alive()
    running.server.shutdown()
    running.server.shutdown(grace=0)


def test_a_client_that_reads_nothing_does_not_hold_it_up(running: Running, tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}{'x' * 200}").write_bytes(b"")
    with running.peer(receive_buffer=2048) as peer:
        with contextlib.suppress(TimeoutError):
            peer.sock.settimeout(0.5)
            while True:
                peer.send(b"LIST\n" * 1000)
        begun, busy = time.monotonic(), time.process_time()
        running.server.shutdown(grace=1)
        assert time.monotonic() - begun < 6
        assert time.process_time() - busy < 0.7  # waiting costs nothing
    assert no_thread_is_left()


def test_after_it_nobody_is_let_in(running: Running) -> None:
    address = running.address
    running.server.shutdown()
    running.thread.join()
    with pytest.raises(ConnectionError):
        Peer(address)


def test_clients_that_come_meanwhile_are_turned_away_and_no_thread_is_missed(tmp_path: Path) -> None:
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError):
                talk(address, b"PING\n")

    for _ in range(5):
        over.clear()
        with run_server(tmp_path) as running:
            address = running.address
            knockers = [threading.Thread(target=knock) for _ in range(4)]
            for thread in knockers:
                thread.start()
            running.events.wait_for_kind(ClientDisconnected)
            running.server.shutdown(grace=1)
            running.thread.join()
            wait_until(no_thread_is_left)
            over.set()
            for thread in knockers:
                thread.join()
            connected, gone = (len(running.events.of(kind)) for kind in (ClientConnected, ClientDisconnected))
            assert connected == gone


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the queue is counted on Linux only")
@pytest.mark.parametrize("how", [Peer.close, Peer.reset])
def test_a_client_that_breaks_off_at_the_very_end_costs_no_processor_time(
    running: Running, tmp_path: Path, how: Callable[[Peer], None]
) -> None:
    (tmp_path / "a").write_bytes(bytes(1_000_000))
    with running.peer(receive_buffer=2048) as peer:
        peer.send(b"GET a\n")
        transfer = running.live()
        wait_until(lambda: transfer.done == 1_000_000)
        busy = time.process_time()
        how(peer)
        assert running.events.ending(transfer.id).error == "disconnected"
        assert time.process_time() - busy < 1


def test_the_observer_hears_of_every_ending_before_shutdown_returns(running: Running, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(10))
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            paced_get(running, stack.enter_context(running.peer()), "a")
        running.server.shutdown(grace=0)
        assert len(running.events.of(TransferFinished)) == 20
        assert len(running.events.of(ClientDisconnected)) == 20


def test_a_wait_for_clients_ends_by_itself_where_nothing_else_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "ACCEPT_SECONDS", 0.02)
    pause = threading.Event()
    with run_server(tmp_path) as running:
        for _ in range(5):
            pause.wait(0.03)
            with running.peer() as peer:
                peer.send(b"QUIT\n")
                assert peer.rest().startswith(b"OK")
        monkeypatch.setattr(socket.socket, "shutdown", lambda *_: None)
        begun = time.monotonic()
        running.server.shutdown()
        assert time.monotonic() - begun < 5
    assert no_thread_is_left()


def test_waits_are_cut_in_slices_where_a_system_wakes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: no poll, no wake-up by a shutdown of the socket, no dir_fd, no sendfile."""
    import select

    monkeypatch.setattr(waiter, "_SLICE", 0.02)
    monkeypatch.setattr(unacknowledged, "SYSTEM_TELLS", False)
    monkeypatch.delattr(select, "poll", raising=False)
    monkeypatch.delattr(os, "sendfile", raising=False)
    data = numbered_bytes(1_000_000)
    (tmp_path / "a").write_bytes(data)
    with run_server(tmp_path, use_dir_fd=False) as running, running.peer() as peer, running.peer() as slow:
        first = peer.ask("GET", name="a")["id"]
        assert peer.read(len(data)) == data
        peer.end()
        running.events.ending(first)  # else the shutdown may end it, and its connection with it
        transfer_id = paced_get(running, slow, "a")
        running.server.shutdown(grace=0)
        assert peer.err()["code"] == "shutting-down"
        assert running.events.ending(transfer_id).error == "shutting-down"


def test_what_is_sent_to_a_client_is_never_held_back_for_more(running: Running) -> None:
    with running.peer():
        wait_until(lambda: running.server._clients)
        session = running.server._current()[0].session
        assert session.connection._transport.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
