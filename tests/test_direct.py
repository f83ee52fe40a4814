"""Direct downloads with both servers as processes: from a link of the page to a row of the history."""

import contextlib
import http.client
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from fileserver.client.blocking import Client
from tests.servers import Peer, numbered_bytes, wait_until
from tests.stack import Stack, run_stack

MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


def redirected(stack: Stack, name: str, query: str = "direct=1") -> str:
    """Where the site sends a browser that asks for this file."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.web_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", f"/files/{quote(name)}?{query}", headers={"Host": "localhost"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (302, b"")
        url = answer.headers["Location"]
    assert url.startswith(f"http://localhost:{stack.server_port}/get/")
    return url


def ask(stack: Stack, url: str, receive_buffer: int | None = None) -> Peer:
    """A browser that has asked the file server for ``url`` and read the head of the answer."""
    browser = Peer(("127.0.0.1", stack.server_port), receive_buffer, seconds=30)
    browser.send(f"GET {urlsplit(url).path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert browser.line() == b"HTTP/1.1 200 OK\r"
    assert list(iter(browser.line, b"\r"))
    return browser


def test_a_link_leads_to_the_bytes_and_they_are_one_complete_row(stack: Stack) -> None:
    content = numbered_bytes(30 * MEBIBYTE)
    (stack.files / "week 3").mkdir()
    (stack.files / "week 3" / "whole ü.bin").write_bytes(content)
    url = redirected(stack, "week 3/whole ü.bin")
    with ask(stack, url) as browser:
        assert browser.read(len(content)) == content
        client = "{}:{}".format(*browser.sock.getsockname())
    row = stack.ending("week 3/whole ü.bin")
    assert (row["outcome"], row["done"], row["via"]) == ("complete", len(content), "web")
    assert row["client"] == client
    assert row["thread"].startswith("ClientThread-")


def test_a_browser_that_leaves_at_forty_percent_is_an_aborted_row(stack: Stack) -> None:
    size = 50 * MEBIBYTE
    with (stack.files / "cut.iso").open("wb") as file:
        file.truncate(size)
    with ask(stack, redirected(stack, "cut.iso"), receive_buffer=64 * 1024) as browser:
        browser.read(size * 4 // 10)
    row = stack.ending("cut.iso")
    assert (row["outcome"], row["error"]) == ("aborted", "disconnected")
    assert size * 0.4 <= row["done"] < size


def test_slow_motion_is_slow_and_a_cancel_breaks_it_off(stack: Stack) -> None:
    (stack.files / "slow.bin").write_bytes(bytes(MEBIBYTE))
    with ask(stack, redirected(stack, "slow.bin", "pace=slow-motion&direct=1")) as browser:
        browser.read(1000)
        with Client(port=stack.server_port) as client:
            (row,) = wait_until(lambda: next(client.watch())["transfers"])
        assert (row["pace"], row["via"]) == ({"chunk": 1000, "pause": 0.2}, "web")
        with Client(port=stack.server_port) as client:
            client.request("CANCEL", id=row["id"])
        with pytest.raises(ConnectionResetError):
            browser.read(MEBIBYTE)
    ending = stack.ending("slow.bin")
    assert (ending["outcome"], ending["pace"]) == ("cancelled", "1000 bytes each 0.2 s")
    assert 0 < ending["done"] < MEBIBYTE / 2


def test_a_ticket_of_one_site_is_nothing_to_the_file_server_of_another(stack: Stack, tmp_path: Path) -> None:
    (stack.files / "mine.txt").write_text("x")
    url = redirected(stack, "mine.txt")
    with run_stack(tmp_path, SECRET_KEY="another key, and long enough for a check of its length") as other:
        (other.files / "mine.txt").write_text("theirs")
        answer = talk(other.server_port, url)
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"theirs" not in answer
    assert talk(stack.server_port, url).startswith(b"HTTP/1.1 200 ")


def talk(port: int, url: str) -> bytes:
    with Peer(("127.0.0.1", port)) as browser:
        browser.send(f"GET {urlsplit(url).path} HTTP/1.0\r\n\r\n".encode())
        browser.sock.shutdown(socket.SHUT_WR)
        return browser.rest()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_follows_resumes_and_keeps_the_name(stack: Stack, tmp_path: Path) -> None:
    content = numbered_bytes(5 * MEBIBYTE)
    (stack.files / "by curl ü.bin").write_bytes(content)
    url = f"{stack.file_url('by curl ü.bin')}?direct=1"
    for already in (0, 2 * MEBIBYTE, len(content) - 1):
        (tmp_path / "got").write_bytes(content[:already])
        command = ["curl", "-sSfL", "--noproxy", "*", "-C", str(already), "-o", "got"]
        done = subprocess.run([*command, url], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "got").read_bytes() == content
    wait_until(lambda: [row["outcome"] for row in stack.history(q="by curl")] == ["complete"] * 3)
    offsets = [row["offset"] for row in stack.history(q="by curl")]
    assert sorted(offsets) == [0, 2 * MEBIBYTE, len(content) - 1]


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_that_does_not_ask_for_it_is_relayed(stack: Stack, tmp_path: Path) -> None:
    (stack.files / "relayed.bin").write_bytes(b"x")
    command = ["curl", "-sSf", "--noproxy", "*", "-o", "got", "-w", "%{http_code}"]
    done = subprocess.run(
        [*command, stack.file_url("relayed.bin")], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "200")
