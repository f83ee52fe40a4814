"""Heads of HTTP/1.1: tables of bytes and of what they become."""

import pytest

from fileserver.wire.http import (
    STATUS_OF_CODE,
    Refused,
    content_disposition,
    file_headers,
    head_of,
    is_direct,
    is_http,
    parse_head,
    turned_away,
)
from tests.fileserver.wire.heads import REFUSED


def test_a_request_becomes_its_values() -> None:
    lines = [b"GET /get/a.b:c-d_e/week%203/%C3%BC HTTP/1.1", b"Host:x", b"RANGE: \t bytes=0-1 \t", b"Empty:"]
    request = parse_head(lines)
    assert (request.method, request.ticket, request.name) == ("GET", "a.b:c-d_e", "week 3/ü")
    assert request.headers == {"host": "x", "range": "bytes=0-1", "empty": ""}
    assert not request.closes


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"", ""),
        (b"a", "a"),
        (b"a%20b", "a b"),
        (b"a+b", "a+b"),
        (b"a%2fb", "a/b"),
        (b"%252e", "%2e"),  # decoded once
        (b"%zz%", "%zz%"),
        (b"a?b#c", "a?b#c"),  # nothing here has a query: it is a name, and no ticket is for it
        (b"//a", "//a"),
        (b"../a", "../a"),
        (b"%2e%2e/a", "../a"),
        (b"%00", "\0"),
        (b"%F0%9F%8E%89", "🎉"),
    ],
)
def test_a_name_is_decoded_once_and_left_as_it_is(path: bytes, name: str) -> None:
    assert parse_head([b"GET /get/t/%b HTTP/1.0" % path]).name == name


@pytest.mark.parametrize(
    ("version", "connection", "closes"),
    [
        (b"1.1", None, False),
        (b"1.1", b"keep-alive", False),
        (b"1.1", b"close", True),
        (b"1.1", b"Keep-Alive , CLOSE", True),
        (b"1.1", b"closed", False),
        (b"1.0", None, True),
        (b"1.0", b"keep-alive", True),
    ],
)
def test_a_connection_stays_unless_one_side_ends_it(
    version: bytes, connection: bytes | None, closes: bool
) -> None:
    lines = [b"GET /get/t/a HTTP/" + version, b"Host: x"]
    lines += [] if connection is None else [b"Connection: " + connection]
    assert parse_head(lines).closes is closes


@pytest.mark.parametrize(("lines", "status"), REFUSED)
def test_whatever_is_not_exactly_a_download_is_refused(lines: list[bytes], status: int) -> None:
    with pytest.raises(Refused) as refusal:
        parse_head(lines)
    assert refusal.value.status == status
    assert str(refusal.value).endswith(".")


@pytest.mark.parametrize(
    ("line", "is_it"),
    [
        (b"GET /get/t/a HTTP/1.1", True),
        (b"POST /get/t/a HTTP/1.1", True),  # refused, but in HTTP
        (b"GET /get/ HTTP/1.1", True),
        (b"GET /get HTTP/1.1", False),
        (b"GET / HTTP/1.1", False),
        (b"GET //get/t/a HTTP/1.1", False),
        (b"GET http://localhost/get/t/a HTTP/1.1", False),
        (b"GET  /get/t/a HTTP/1.1", False),
        (b"\x16\x03\x01 /get/", False),
        (b"", False),
    ],
)
def test_a_request_for_a_download_is_known_by_its_path(line: bytes, is_it: bool) -> None:
    assert is_direct(line) is is_it


@pytest.mark.parametrize(
    ("name", "disposition"),
    [
        ("plain.txt", 'attachment; filename="plain.txt"'),
        ("week 3/two words.txt", 'attachment; filename="two words.txt"'),
        ('say "hi".txt', r'attachment; filename="say \"hi\".txt"'),
        ("back\\slash", r'attachment; filename="back\\slash"'),
        ("Übung.txt", "attachment; filename*=utf-8''%C3%9Cbung.txt"),
        ("🎉.txt", "attachment; filename*=utf-8''%F0%9F%8E%89.txt"),
        ("a;b,c=d.txt", 'attachment; filename="a;b,c=d.txt"'),
        ("100%.txt", 'attachment; filename="100%.txt"'),
        ("100%4.txt", 'attachment; filename="100%4.txt"'),
        ("100%41.txt", "attachment; filename=\"100%41.txt\"; filename*=utf-8''100%2541.txt"),
        ("%e2%82%ac/%2e", "attachment; filename=\"%2e\"; filename*=utf-8''%252e"),
        ("a\r\nb", "attachment; filename*=utf-8''a%0D%0Ab"),
    ],
)
def test_a_file_is_kept_under_the_last_part_of_its_name(name: str, disposition: str) -> None:
    assert content_disposition(name) == disposition


def test_each_code_has_a_status_that_says_no() -> None:
    assert all(400 <= status < 600 for status in STATUS_OF_CODE.values())


@pytest.mark.parametrize(
    ("line", "is_it"),
    [
        (b"GET / HTTP/1.1", True),
        (b"POST /x HTTP/1.0", True),
        (b"get /get/t/a HTTP/1.1", True),
        (b"OPTIONS * HTTP/1.1", True),
        (b"GET http://localhost/ HTTP/1.1", True),
        (b"GET  /two blanks HTTP/1.1", False),
        (b"GET a HTTP/1.1", False),
        (b'GET {"name": "/a HTTP/1.1', False),
        (b"GET / HTTP/2.0", False),
        (b"GET / HTTP/1.10", False),
        (b"GET /", False),
        (b"", False),
    ],
)
def test_a_line_of_http_is_known_whether_it_is_right_or_not(line: bytes, is_it: bool) -> None:
    assert is_http(line) is is_it


PAGE = "http://127.0.0.1:8000/"


@pytest.mark.parametrize(
    ("line", "page_url", "status", "location"),
    [
        (b"GET / HTTP/1.0", PAGE, 303, PAGE),
        (b"HEAD / HTTP/1.0", PAGE, 303, PAGE),
        (b"GET /a HTTP/1.0", PAGE, 404, None),
        (b"GET /get/t/a HTTP/1.0", PAGE, 404, None),
        (b"GET / HTTP/1.0", None, 404, None),
        (b"GET  / HTTP/1.0", PAGE, 400, None),
    ],
)
def test_a_request_for_no_download_is_told_where_the_page_is(
    line: bytes, page_url: str | None, status: int, location: str | None
) -> None:
    refusal = turned_away([line], page_url)
    assert (refusal.status, refusal.headers.get("Location")) == (status, location)


def test_what_is_wrong_with_any_request_is_said_before_where_the_page_is() -> None:
    with pytest.raises(Refused) as refusal:
        turned_away([b"POST / HTTP/1.1", b"Host: x"], PAGE)
    assert (refusal.value.status, refusal.value.headers) == (405, {"Allow": "GET, HEAD"})


def test_a_head_is_its_lines_and_an_empty_one() -> None:
    lines = head_of(206, {"Content-Length": "5", "ETag": '"a"'}).split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 206 Partial Content"
    assert lines[1].startswith(b"Date: ")
    assert lines[1].endswith(b" GMT")
    assert lines[2:] == [b"Content-Length: 5", b'ETag: "a"', b"", b""]


@pytest.mark.parametrize(
    ("mtime", "date"),
    [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (1.9, "Thu, 01 Jan 1970 00:00:01 GMT"),
        (-1e9, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (9e11, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ],
)
def test_a_file_of_any_year_has_a_date_of_four_digits(mtime: float, date: str) -> None:
    assert file_headers("a", "e", mtime)["Last-Modified"] == date


def test_a_file_never_runs_as_a_page() -> None:
    headers = file_headers("week 3/a.html", "1-2", 0)
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == 'attachment; filename="a.html"'
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert (headers["X-Content-Type-Options"], headers["ETag"]) == ("nosniff", '"1-2"')
