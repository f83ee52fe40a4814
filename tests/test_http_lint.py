"""Answers of both servers, as httplint sees them: nothing that it calls bad, and no warning without a reason.

httplint knows what the RFCs ask of a message; the requests are of every kind that the site, tus and the file
server's own port answer.
"""

import contextlib
import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

from tests.servers import wait_until
from tests.stack import Stack, run_stack

OLD = {"If-Match": '"x"'}
TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}
NEW = {**TUS, "Upload-Length": "3", "Upload-Metadata": "filename dC50eHQ="}
UNKNOWN = "/uploads/0123456789abcdef0123456789abcdef"


class Ask(NamedTuple):
    method: str
    path: str  # "{upload}" and the like, here and in headers, are known when the servers run
    status: int
    headers: dict[str, str] = {}
    body: bytes | None = None


SITE = [
    # pages, fragments, JSON
    Ask("GET", "/", 200),
    Ask("HEAD", "/", 200),
    Ask("GET", "/", 200, {"HX-Request": "true"}),
    Ask("GET", "/history/", 200),
    Ask("GET", "/history", 308),
    Ask("GET", "/history/recent/", 200),
    Ask("GET", "/api/files", 200),
    Ask("GET", "/api/history", 200),
    Ask("GET", "/api/status", 200),
    Ask("GET", "/admin/", 302),
    Ask("GET", "/admin/login/", 200),
    Ask("GET", "/nothing", 404),
    Ask("POST", "/", 403),
    Ask("POST", "/upload/", 400),
    Ask("POST", "/transfers/1/cancel/", 403),
    Ask("GET", "/", 400, {"Host": "evil.example"}),
    # static files
    Ask("GET", "/static/css/site.css", 200),
    Ask("GET", "/static/js/app.js", 200, {"Accept-Encoding": "gzip, br"}),
    Ask("HEAD", "/static/favicon.svg", 200),
    Ask("GET", "/static/admin/css/base.css", 200),
    Ask("GET", "/static/css/site.css", 304, {"If-None-Match": "{static etag}"}),
    Ask("GET", "/static/css/site.css", 206, {"Range": "bytes=0-4"}),
    Ask("GET", "/static/nothing.css", 404),
    # files
    Ask("GET", "/files/a.txt", 200),
    Ask("HEAD", "/files/a.txt", 200),
    Ask("GET", "/files/%C3%BC.txt", 200),
    Ask("GET", "/files/empty", 200),
    Ask("GET", "/files/a.txt", 206, {"Range": "bytes=5-9"}),
    Ask("GET", "/files/a.txt", 416, {"Range": "bytes=9000-"}),
    Ask("GET", "/files/a.txt", 304, {"If-None-Match": "{etag}"}),
    Ask("HEAD", "/files/a.txt", 304, {"If-None-Match": "{etag}"}),
    Ask("GET", "/files/a.txt", 412, OLD),
    Ask("GET", "/files/a.txt?direct=1", 302),
    Ask("GET", "/files/nothing", 404),
    Ask("GET", "/files/nothing", 404, {"Accept": "text/html"}),
    Ask("POST", "/files/a.txt", 405),
    Ask("PUT", "/files/new.txt", 201, {}, b"xyz"),
    Ask("PUT", "/files/a.txt", 409, {}, b"xyz"),
    Ask("PUT", "/files/.hidden", 400, {}, b"xyz"),
    Ask("DELETE", "/files/unwanted", 204),
    Ask("DELETE", "/files/nothing", 404),
    # tus
    Ask("POST", "/uploads/", 201, NEW),
    Ask("POST", "/uploads", 201, NEW),
    Ask("POST", "/uploads/", 400, TUS),
    Ask("POST", "/uploads/", 412, NEW | {"Tus-Resumable": "9.9"}),
    Ask("GET", "/uploads/", 405),
    Ask("HEAD", "{upload}", 200, TUS),
    Ask("PATCH", "{upload}", 409, {**PART, "Upload-Offset": "1"}, b"x"),
    Ask("PATCH", "{upload}", 415, {**TUS, "Upload-Offset": "0"}, b"x"),
    Ask("PATCH", "{upload}", 413, {**PART, "Upload-Offset": "0"}, b"1234"),
    Ask("PATCH", "{another upload}", 204, {**PART, "Upload-Offset": "0"}, b"12"),
    Ask("DELETE", "{unwanted upload}", 204, TUS),
    Ask("HEAD", UNKNOWN, 404, TUS),
]
DIRECT = [
    Ask("GET", "{direct}", 200),
    Ask("HEAD", "{direct}", 200),
    Ask("GET", "{direct}", 200, {"Connection": "close"}),
    Ask("GET", "{direct}", 206, {"Range": "bytes=5-9"}),
    Ask("GET", "{direct}", 416, {"Range": "bytes=9000-"}),
    Ask("GET", "{direct}", 304, {"If-None-Match": "{etag}"}),
    Ask("GET", "{direct}", 412, OLD),
    Ask("POST", "{direct}", 405),
    Ask("GET", "/get/forged/a.txt", 403),
    Ask("GET", "{probe}", 204, {"Origin": "http://localhost"}),
]

STATIC_PUBLIC = "ServeStatic writes it; the files are the same for everybody, so it does no harm"
# What may be said of an answer: (status, the note's name): why it stands.
ACCEPTED = {
    (200, "STORE_PUBLIC_UNNECESSARY"): STATIC_PUBLIC,
    (206, "STORE_PUBLIC_UNNECESSARY"): STATIC_PUBLIC,
    (304, "STORE_PUBLIC_UNNECESSARY"): STATIC_PUBLIC,
    (200, "DISPOSITION_OMITS_FILENAME"): "a name that is not ASCII is in filename*, which all browsers read",
    (400, "STATUS_BAD_REQUEST"): "it says that the status is 400, which is meant",
    (412, "STATUS_412_WITHOUT_PRECONDITION"): "tus 1.0 wants it for a version that is not spoken",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack")) as running:
        for name, data in {
            "a.txt": b"hello\n" * 100,
            "ü.txt": b"hello",
            "empty": b"",
            "unwanted": b"",
        }.items():
            (running.files / name).write_bytes(data)
        running.known = known_of(running)  # type: ignore[attr-defined]
        yield running


def known_of(stack: Stack) -> dict[str, str]:
    """What the table cannot know before the servers run."""
    wait_until(lambda: b"empty" in stack.request("GET", "/api/files")[1], 15)
    port = stack.web_port
    page = stack.request("GET", "/")[1].decode()
    probe = re.search(r'data-probe="([^"]+)"', page)
    assert probe, page
    return {
        "{etag}": headers_of(port, "HEAD", "/files/a.txt")["etag"],
        "{static etag}": headers_of(port, "HEAD", "/static/css/site.css")["etag"],
        "{direct}": urlsplit(headers_of(port, "GET", "/files/a.txt?direct=1")["location"]).path,
        "{probe}": urlsplit(probe[1]).path,
        **{
            name: headers_of(port, "POST", "/uploads/", NEW)["location"]
            for name in ("{upload}", "{another upload}", "{unwanted upload}")
        },
    }


def headers_of(port: int, method: str, path: str, headers: dict[str, str] | None = None) -> dict[str, str]:
    _, pairs, _ = exchange(port, Ask(method, path, 0, headers or {}))
    return {name.decode().lower(): value.decode() for name, value in pairs}


def exchange(port: int, ask: Ask) -> tuple[http.client.HTTPResponse, list[tuple[bytes, bytes]], bytes]:
    headers = {"Host": f"localhost:{port}", "User-Agent": "test", **ask.headers}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(ask.method, ask.path, ask.body, headers)
        response = connection.getresponse()
        body = response.read()
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.getheaders()]
    return response, pairs, body


def notes_on(port: int, ask: Ask) -> tuple[int, list[Any]]:
    """The status, and what httplint says of the answer that is a warning or worse."""
    response, headers, body = exchange(port, ask)
    url = f"http://localhost:{port}{ask.path}"
    request = HttpRequestLinter()
    request.process_request_topline(ask.method.encode(), url.encode(), b"1.1")
    request.process_headers([(name.encode(), value.encode()) for name, value in ask.headers.items()])
    request.finish_content(True)
    linter = HttpResponseLinter(start_time=time.time())
    linter.request = request
    linter.base_uri = url
    linter.is_head_response = ask.method == "HEAD"
    linter.process_response_topline(b"1.1", str(response.status).encode(), response.reason.encode())
    linter.process_headers(headers)
    linter.feed_content(body)
    linter.finish_content(True)
    return response.status, [note for note in linter.notes if note.level in (levels.WARN, levels.BAD)]


def filled(ask: Ask, known: dict[str, str]) -> Ask:
    headers = {name: known.get(value, value) for name, value in ask.headers.items()}
    return ask._replace(path=known.get(ask.path, ask.path), headers=headers)


@pytest.mark.parametrize(
    ("door", "ask"),
    [*(("site", ask) for ask in SITE), *(("direct", ask) for ask in DIRECT)],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value[:3])),
)
def test_nothing_is_bad_and_each_warning_is_answered(stack: Stack, door: str, ask: Ask) -> None:
    port = stack.web_port if door == "site" else stack.server_port
    status, notes = notes_on(port, filled(ask, stack.known))  # type: ignore[attr-defined]
    assert status == ask.status
    bad = [f"{note.subject}: {note.summary}" for note in notes if note.level is levels.BAD]
    assert bad == []
    open_ones = [note.summary for note in notes if (status, type(note).__name__) not in ACCEPTED]
    assert open_ones == []


def test_what_is_bad_would_be_seen() -> None:
    linter = HttpResponseLinter(start_time=time.time())
    linter.process_response_topline(b"1.1", b"200", b"OK")
    linter.process_headers([(b"Last-Modified", b"yesterday"), (b"Content-Length", b"3")])
    linter.feed_content(b"four")
    linter.finish_content(True)
    found = {type(note).__name__ for note in linter.notes if note.level is levels.BAD}
    assert "CL_INCORRECT" in found


def test_a_body_that_is_too_long_is_refused_in_good_form(tmp_path: Path) -> None:
    """By the web server itself, before any view."""
    with run_stack(tmp_path, MAX_UPLOAD_SIZE="1000") as stack:
        ask = Ask("PUT", "/files/big.bin", 413, {}, bytes(5000))
        status, notes = notes_on(stack.web_port, ask)
    assert (status, [note.summary for note in notes]) == (413, [])
