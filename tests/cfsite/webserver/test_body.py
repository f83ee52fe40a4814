"""Bodies that go to the application while they come in: its order, its memory, and its endings."""

import asyncio
import hashlib
import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsite.webserver.body import AHEAD, Body, BodyLost
from tests.cfsite.webserver.test_flow import (
    MIB,
    Site,
    ending,
    needs_proc,
    numbered_lines,
    respond,
    serving,
    until,
)
from tests.cfsite.webserver.test_flow import pytestmark as pytestmark


class Reading:
    """Whether the browser's socket is read now."""

    def __init__(self) -> None:
        self.on = True
        self.changes = 0

    def pause(self) -> None:
        assert self.on
        self.on, self.changes = False, self.changes + 1

    def resume(self) -> None:
        assert not self.on
        self.on, self.changes = True, self.changes + 1


def new_body() -> tuple[Body, Reading]:
    reading = Reading()
    return Body(reading.pause, reading.resume), reading


async def whole(body: Body) -> bytes:
    return b"".join([piece async for piece in body])


# The queue by itself


@given(pieces=st.lists(st.binary(max_size=20)), before=st.integers(0, 20))
def test_pieces_come_out_in_order_whether_they_came_before_or_while_somebody_waits(
    pieces: list[bytes], before: int
) -> None:
    async def run() -> bytes:
        body, _ = new_body()
        for piece in pieces[:before]:
            body.feed(piece)
        reader = asyncio.create_task(whole(body))
        for piece in pieces[before:]:
            await asyncio.sleep(0)
            body.feed(piece)
        body.end()
        return await reader

    assert asyncio.run(run()) == b"".join(pieces)


def test_reading_stops_when_too_much_waits_and_goes_on_when_half_of_it_is_gone() -> None:
    async def run() -> None:
        body, reading = new_body()
        quarter = bytes(AHEAD // 4)
        for _ in range(3):
            body.feed(quarter)
        assert reading.on
        body.feed(quarter)
        assert not reading.on
        body.feed(quarter)  # what was on its way already
        pieces = aiter(body)
        for _ in range(3):
            await anext(pieces)
            assert not reading.on
        await anext(pieces)
        assert (reading.on, reading.changes) == (True, 2)
        body.end()
        assert [len(piece) async for piece in pieces] == [len(quarter)]

    asyncio.run(run())


def test_a_body_that_is_lost_raises_behind_what_has_come() -> None:
    async def run() -> None:
        body, _ = new_body()
        body.feed(b"some")
        body.lose()
        pieces = aiter(body)
        assert await anext(pieces) == b"some"
        with pytest.raises(BodyLost):
            await anext(pieces)

    asyncio.run(run())


def test_who_waits_hears_that_the_body_is_lost() -> None:
    async def run() -> None:
        body, _ = new_body()
        reader = asyncio.create_task(whole(body))
        await asyncio.sleep(0)
        body.lose()
        with pytest.raises(BodyLost):
            await reader

    asyncio.run(run())


def test_a_body_that_is_whole_is_not_lost_when_the_client_leaves() -> None:
    async def run() -> bytes:
        body, _ = new_body()
        body.feed(b"all")
        body.end()
        body.lose()
        return await whole(body)

    assert asyncio.run(run()) == b"all"


# Under the server


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("body")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Site:
    shared_site.request("GET", "/state?reset=1")
    return shared_site


def head(target: str, length: int, *more: str) -> bytes:
    lines = [f"PUT {target} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more, "", ""]
    return "\r\n".join(lines).encode()


def fill(client: socket.socket, data: bytes) -> int:
    """Send until nothing more is taken for a while; how much was."""
    client.settimeout(0.5)
    sent = 0
    try:
        while sent < len(data):
            sent += client.send(data[sent : sent + MIB])
    except TimeoutError:
        pass
    client.settimeout(10)
    return sent


def next_answer(answers: BinaryIO) -> tuple[int, bytes]:
    """One of several responses that come behind each other."""
    status = int(answers.readline().split()[1])
    headers = http.client.parse_headers(answers)
    return status, answers.read(int(headers["content-length"]))


@pytest.mark.parametrize("size", [1, 65_537, 3 * MIB + 1])
def test_a_body_arrives_whole_and_the_connection_can_be_used_again(site: Site, size: int) -> None:
    content = numbered_lines(size)
    with site.connect() as client:
        for _ in range(3):
            site.request("GET", "/state?reset=1")
            client.sendall(head("/stream/hash", size) + content)
            status, answer = respond(client)
            told = json.loads(answer)
            assert (status, told["size"]) == (200, size)
            assert told["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_application_starts_before_the_body_and_reads_it_as_it_comes(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/hash", 20))
        for count in (5, 15, 20):
            client.sendall(bytes(count - site.state()["read"]))
            until(lambda: site.state()["read"] == count)  # noqa: B023
        assert respond(client)[0] == 200


@needs_proc
def test_a_browser_waits_while_the_application_does_not_read_and_memory_stays_flat(tmp_path: Path) -> None:
    content = numbered_lines(48 * MIB)
    with serving(tmp_path) as site, site.connect() as client:
        before = site.memory()
        client.sendall(head("/stream/hash?gate=1", len(content)))
        until(lambda: site.state()["waiting"])
        sent = fill(client, content)
        assert sent < 24 * MIB  # what two kernels hold
        assert site.memory() - before < 16 * MIB
        assert site.state()["read"] == 0
        site.request("GET", "/gate")
        client.sendall(content[sent:])
        told = json.loads(respond(client)[1])
        assert (told["size"], told["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert max(told["memory"], site.memory()) - before < 16 * MIB


def test_a_browser_that_waits_longer_than_idle_connections_may_is_not_dropped(tmp_path: Path) -> None:
    content = numbered_lines(12 * MIB)
    with serving(tmp_path, "--idle", "0.5") as site, site.connect() as client:
        client.sendall(head("/stream/hash?gate=1", len(content)))
        sent = fill(client, content)
        client.settimeout(1.5)
        with pytest.raises(TimeoutError):  # no answer, and no end, for three times as long
            client.recv(1)
        client.settimeout(10)
        site.request("GET", "/gate")
        client.sendall(content[sent:])
        told = json.loads(respond(client)[1])
        assert (told["size"], told["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_browser_that_says_nothing_in_the_middle_of_a_body_is_dropped(tmp_path: Path) -> None:
    with serving(tmp_path, "--idle", "0.5") as site, site.connect() as client:
        client.sendall(head("/stream/hash", 100) + b"some")
        assert ending(client) in ("closed", "reset")
        until(lambda: site.state()["lost"] == 1)


@pytest.mark.parametrize("manner", ["close", "reset", "half"])
def test_a_client_that_leaves_in_the_middle_of_its_body_raises(site: Site, manner: str) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/hash", 100) + b"some")
        until(lambda: site.state()["read"] == 4)
        if manner == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if manner == "half":
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        until(lambda: site.state()["lost"] == 1)
    assert site.request("GET", "/state")[0] == 200


def test_a_client_that_leaves_while_the_application_does_not_read_raises_too(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/hash?gate=1", 40 * MIB))
        fill(client, bytes(40 * MIB))
    site.request("GET", "/gate")
    until(lambda: site.state()["lost"] == 1)


@pytest.mark.parametrize("after", [0, 1, 3 * MIB])
def test_an_early_answer_reaches_a_client_that_sends_everything_before_it_reads(
    site: Site, after: int
) -> None:
    with site.connect() as client:
        client.sendall(head(f"/stream/early?after={after}", 64 * MIB))
        client.sendall(bytes(64 * MIB))
        assert respond(client) == (409, b"no, thank you" * 1000)
        assert ending(client) == "closed"
    assert "Traceback" not in site.log.read_text()


def test_an_early_answer_reaches_a_client_that_had_to_wait(site: Site) -> None:
    sent: list[int] = []
    with site.connect() as client:
        client.sendall(head("/stream/early?after=0&gate=1", 64 * MIB))
        until(lambda: site.state()["waiting"])
        sent.append(fill(client, bytes(64 * MIB)))
        assert sent[0] < 64 * MIB
        site.request("GET", "/gate")
        client.sendall(bytes(64 * MIB - sent[0]))
        assert respond(client) == (409, b"no, thank you" * 1000)
        assert ending(client) == "closed"


def test_an_early_answer_says_that_the_connection_ends(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/early?after=0", 100) + b"some")
        answer = b""
        while data := client.recv(MIB):
            answer += data
    assert b"\r\nConnection: close\r\n" in answer.partition(b"\r\n\r\n")[0] + b"\r\n"
    assert answer.count(b"HTTP/1.1") == 1


def test_an_answer_that_comes_with_the_last_byte_keeps_the_connection(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/early?after=4", 4) + b"some")
        assert respond(client)[0] == 409
        client.sendall(b"GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert respond(client)[0] == 200


@pytest.mark.parametrize("gate", [0, 1])
def test_a_request_behind_a_streamed_body_waits_its_turn(site: Site, gate: int) -> None:
    size = 3 * MIB
    content = numbered_lines(size)
    with site.connect() as client:

        def send() -> None:
            client.sendall(head(f"/stream/hash?gate={gate}", size) + content)
            client.sendall(head("/stream/hash", 5) + b"again")
            client.sendall(b"GET /file?size=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")

        sender = threading.Thread(target=send)
        sender.start()
        if gate:
            until(lambda: site.state()["waiting"])
            site.request("GET", "/gate")
        with client.makefile("rb") as answers:
            first, second, third = (next_answer(answers) for _ in range(3))
        sender.join()
    assert json.loads(first[1])["sha256"] == hashlib.sha256(content).hexdigest()
    assert (second[0], json.loads(second[1])["size"]) == (200, size + 5)
    assert third == (200, numbered_lines(1000))


def test_an_application_can_cut_the_connection_in_the_middle_of_a_body(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/abort", 100) + b"some")
        assert ending(client) == "reset"
    assert "Traceback" not in site.log.read_text()


def test_who_asks_before_sending_is_told_to_go_on(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/hash", 5, "Expect: 100-continue"))
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert respond(client)[0] == 200


def test_it_is_told_so_when_the_application_wants_the_body_and_not_before(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/hash?gate=1", 5, "Expect: 100-Continue"))
        until(lambda: site.state()["waiting"])
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        site.request("GET", "/gate")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert respond(client)[0] == 200
        client.sendall(head("/stream/hash", 5, "Expect: 100-continue"))  # and the next one anew
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert respond(client)[0] == 200


@pytest.mark.parametrize("sends", [0, 64 * MIB])
def test_who_asks_before_sending_gets_an_early_answer_and_is_not_told_to_go_on(
    site: Site, sends: int
) -> None:
    """It may have begun to send all the same, for it waits for a while only."""
    with site.connect() as client:
        client.sendall(head("/stream/early?after=0", 64 * MIB, "Expect: 100-continue"))
        client.sendall(bytes(sends))
        with client.makefile("rb") as answers:
            assert next_answer(answers) == (409, b"no, thank you" * 1000)
        assert ending(client) == "closed"


def test_who_does_not_wait_to_be_told_is_told_nothing(site: Site) -> None:
    with site.connect() as client:
        client.sendall(head("/stream/hash?gate=1", 5, "Expect: 100-continue") + b"12345")
        until(lambda: site.state()["waiting"])
        site.request("GET", "/gate")
        with client.makefile("rb") as answers:
            assert next_answer(answers)[0] == 200


def test_a_body_that_is_gathered_first_is_asked_for_at_once(site: Site) -> None:
    with site.connect() as client:
        client.sendall(b"POST /hash HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"12345")
        assert respond(client)[0] == 200


def test_an_old_client_is_never_told_to_go_on(site: Site) -> None:
    with site.connect() as client:
        request = head("/stream/hash", 5, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0")
        client.sendall(request)
        until(lambda: site.state()["read"] == 0)
        client.sendall(b"12345")
        with client.makefile("rb") as answers:
            assert answers.readline().split()[1] == b"200"


def test_a_chunked_body_is_gathered_first_and_gets_its_length(site: Site) -> None:
    told = json.loads(site.request("PUT", "/stream/headers", iter([b"one ", b"two"]), encode_chunked=True)[1])
    assert (told["headers"]["content-length"], told["streamed"]) == ("7", False)


def test_a_request_without_a_body_has_no_stream(site: Site) -> None:
    assert json.loads(site.request("GET", "/stream/headers")[1])["streamed"] is False
    told = json.loads(site.request("PUT", "/stream/headers", b"")[1])
    assert (told["streamed"], told["headers"]["content-length"]) == (False, "0")


def test_a_streamed_body_above_the_limit_is_refused_before_it_starts(tmp_path: Path) -> None:
    with serving(tmp_path, "--limit", "1000") as site, site.connect() as client:
        client.sendall(head("/stream/hash", 20 * MIB))
        client.sendall(bytes(20 * MIB))
        assert respond(client)[0] == 413
        assert ending(client) == "closed"
        assert site.state()["read"] == 0


def test_the_server_stops_in_the_middle_of_a_body(tmp_path: Path) -> None:
    with serving(tmp_path) as site, site.connect() as client:
        client.sendall(head("/stream/hash?gate=1", 100) + b"some")
        until(lambda: site.state()["waiting"])
        assert site.stop() == 0
        assert ending(client) == "reset"
