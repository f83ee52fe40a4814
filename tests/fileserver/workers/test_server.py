"""The real server and its sessions under each model: a small set that every model must pass."""

import json
import threading
from pathlib import Path

import pytest

from fileserver import workers
from fileserver.client.blocking import Client
from tests.servers import Running, run_server, wait_until

MODELS = list(workers.MODELS)


@pytest.fixture(params=MODELS)
def running(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    (tmp_path / "a.txt").write_bytes(b"abc")
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 8192)
    with run_server(tmp_path, worker=request.param) as running:
        yield running


def test_a_conversation_of_every_kind_of_verb(running: Running, tmp_path: Path) -> None:
    with Client(*running.address) as client:
        assert client.request("PING")["clients"] == 1
        assert [entry["name"] for entry in client.files()] == ["a.txt", "big.bin"]
        assert b"".join(map(bytes, client.get("big.bin", offset=5))) == (bytes(range(256)) * 8192)[5:]
        with open(tmp_path / "a.txt", "rb") as source:
            assert client.put("b.txt", source, 3)["name"] == "b.txt"
        assert client.request("DELETE", name="a.txt") == {"name": "a.txt"}
        client.request("QUIT")
    assert (tmp_path / "b.txt").read_bytes() == b"abc"


def test_clients_one_after_another_are_all_served(running: Running) -> None:
    for _ in range(50):
        assert running.talk(b"GET a.txt\n").split(b"\n", 1)[1].startswith(b"abc")


def test_a_watcher_is_told_what_moves_and_let_go_at_the_end(running: Running) -> None:
    with running.peer() as watcher:
        watcher.ask("WATCH")
        assert json.loads(watcher.line())["status"]["clients"] == 1
        stopper = threading.Thread(target=running.server.shutdown)
        stopper.start()
        assert watcher.err()["code"] == "shutting-down"
        stopper.join()


def test_idle_and_waiting_clients_do_not_hold_up_the_end(running: Running) -> None:
    peers = [running.peer() for _ in range(3)]
    wait_until(lambda: running.server.registry.ping()["clients"] >= 1)
    running.server.shutdown(grace=0)
    for peer in peers:
        peer.close()
