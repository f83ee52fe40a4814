"""Both servers as processes, with PostgreSQL in place of SQLite; ``scripts/postgres.sh`` makes one."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from tests.servers import Peer, numbered_bytes, wait_until
from tests.stack import Stack, run_stack

pytestmark = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="DATABASE_URL is no PostgreSQL: see scripts/postgres.sh"
)
BIG = 64 << 20  # bytes: more than fits into the buffers of a loopback connection that nobody reads


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, django_db_setup: None) -> Iterator[Stack]:
    options = connection.settings_dict
    url = f"postgres://{options['USER']}@/{options['HOST']}/{options['NAME']}"
    with run_stack(tmp_path_factory.mktemp("stack"), DATABASE_URL=url) as running:
        yield running


def test_what_comes_and_goes_is_catalogued_and_in_the_history(stack: Stack) -> None:
    content = numbered_bytes(3 << 20)
    assert stack.request("PUT", "/files/Gr%C3%B6%C3%9Fe.bin", content)[0] == 201
    status, body = stack.request("GET", "/files/Gr%C3%B6%C3%9Fe.bin")
    assert (status, hashlib.sha256(body).digest()) == (200, hashlib.sha256(content).digest())
    wait_until(lambda: len(stack.history(q="GRÖ", outcome="complete")) == 2, 15)
    wait_until(lambda: "Größe.bin" in stack.request("GET", "/?q=gr%C3%96")[1].decode(), 15)


def test_what_a_crash_cut_off_is_interrupted_after_the_next_start(stack: Stack) -> None:
    with (stack.files / "big.bin").open("wb") as file:
        file.truncate(BIG)
    with Peer(("127.0.0.1", stack.server_port), 4096) as peer:
        peer.ask("GET", name="big.bin")
        wait_until(lambda: stack.history(q="big.bin", outcome="running"), 15)
        stack.kill_server()
    stack.start_server()
    assert stack.ending("big.bin")["outcome"] == "interrupted"


def test_a_second_file_server_on_the_database_ends_with_a_sentence(stack: Stack, tmp_path: Path) -> None:
    refused = stack.manage("runfileserver", "--port=0", "--files", str(tmp_path))
    assert refused.returncode == 1
    name = connection.settings_dict["NAME"]
    assert f"The database {name} is used by another file server already. " in refused.stderr
    assert "Traceback" not in refused.stderr
