"""Who has the port: ours are known by what they answer, whoever else is left alone after a second."""

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from files_app.hosting import neighbours
from files_app.hosting.neighbours import who_listens
from fileserver.limits import Limits
from tests.servers import run_server, wait_until


def test_a_file_server_is_known_even_if_it_takes_nobody(tmp_path: Path) -> None:
    with run_server(tmp_path, limits=Limits(max_clients=1)) as running:
        host, port = running.address
        assert who_listens(host, port) == "a file server of this kind"
        wait_until(lambda: running.server.registry.ping()["clients"] == 0)
        with running.peer() as only:
            only.ask("PING")
            assert who_listens(host, port) == "a file server of this kind"


class Site(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(500)  # whatever it answers
        self.end_headers()

    def version_string(self) -> str:
        return neighbours.SITE_NAME

    def log_message(self, *args: object) -> None:
        pass


class Stranger(Site):
    def version_string(self) -> str:
        return "nginx"


@pytest.fixture
def listening() -> Iterator[Callable[[type[Site]], int]]:
    running: list[tuple[http.server.HTTPServer, threading.Thread]] = []

    def start(handler: type[Site]) -> int:
        server = http.server.HTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="Listener")
        thread.start()
        running.append((server, thread))
        return int(server.server_port)

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_site_is_known_by_its_name(listening: Callable[[type[Site]], int]) -> None:
    assert who_listens("127.0.0.1", listening(Site)) == "the site of such a file server"


def test_another_program_is_not_ours(listening: Callable[[type[Site]], int]) -> None:
    assert who_listens("127.0.0.1", listening(Stranger)) is None


def test_who_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert who_listens("127.0.0.1", silent.getsockname()[1]) is None


def test_where_nobody_listens_nobody_is_named() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert who_listens("127.0.0.1", probe.getsockname()[1]) is None
