"""Lines and values: tables of bytes, and what must hold for every line there is."""

import contextlib
import json
import time
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fileserver.pacing import Pace
from fileserver.storage.base import Entry
from fileserver.wire import lines, replies
from fileserver.wire.lines import ForeignProtocol, encode_line, refuse_foreign, request_line
from fileserver.wire.replies import BadReply, ErrorReply, parse_bare, parse_reply
from fileserver.wire.verbs import VERBS, parse_request

RELAY = {"client": None, "user": None, "via": None, "principal": None}
GET = {"offset": 0, "length": None, "etag": None, "pace": None, **RELAY}
PUT = {
    "offset": 0,
    "length": None,
    "upload": None,
    "sha256": None,
    "exists": None,
    "etag": None,
    "metadata": None,
    **RELAY,
}
STAT = {"upload": None, "identity": False}
DELETE = {"upload": None, "etag": None, **RELAY}
HASH = "0123456789abcdef" * 4

READ = [
    (b"PING", "PING", {}),
    (b"ping", "PING", {}),
    (b"pInG", "PING", {}),
    (b"PING ", "PING", {}),
    (b"PING {}", "PING", {}),
    (b"LIST", "LIST", {"prefix": "", "after": "", "limit": 1000}),
    (b"LIST ", "LIST", {"prefix": "", "after": "", "limit": 1000}),
    (b"LIST week 3/", "LIST", {"prefix": "week 3/", "after": "", "limit": 1000}),
    (b'LIST {"limit": 1}', "LIST", {"prefix": "", "after": "", "limit": 1}),
    (b'LIST {"limit": 10000, "after": "b"}', "LIST", {"prefix": "", "after": "b", "limit": 10000}),
    (b"STAT a", "STAT", {"name": "a", **STAT}),
    (b"STAT two  blanks ", "STAT", {"name": "two  blanks ", **STAT}),
    (b"STAT  a", "STAT", {"name": " a", **STAT}),
    (b"STAT [1]", "STAT", {"name": "[1]", **STAT}),
    (b'STAT "a"', "STAT", {"name": '"a"', **STAT}),
    (b"STAT a}", "STAT", {"name": "a}", **STAT}),
    ("STAT é".encode(), "STAT", {"name": "é", **STAT}),
    (b'STAT {"name": "{a}"}', "STAT", {"name": "{a}", **STAT}),
    (b'STAT {"name": "\\u00e9"}', "STAT", {"name": "é", **STAT}),
    (b'STAT {"name": "a{[{[b"} ', "STAT", {"name": "a{[{[b", **STAT}),
    (b'STAT {"name": "\\"[{{{"}', "STAT", {"name": '"[{{{', **STAT}),
    (b"STAT week 1/", "STAT", {"name": "week 1/", **STAT}),
    (b'STAT {"name": "a", "identity": true}', "STAT", {"name": "a", **STAT, "identity": True}),
    (b"GET a b.txt", "GET", {"name": "a b.txt", **GET}),
    (b'GET {"name": "a", "offset": 10}', "GET", {"name": "a", **GET, "offset": 10}),
    (b'GET {"name":"a","length":0}', "GET", {"name": "a", **GET, "length": 0}),
    (
        b'GET {"name": "a", "offset": 9223372036854775807}',
        "GET",
        {"name": "a", **GET, "offset": 2**63 - 1},
    ),
    (b'GET {"name": "a", "pace": null, "etag": null, "length": null}', "GET", {"name": "a", **GET}),
    (
        b'GET {"name": "a", "pace": {"chunk": 1000, "pause": 0.2}}',
        "GET",
        {"name": "a", **GET, "pace": Pace(1000, 0.2)},
    ),
    (b'GET {"name": "a", "pace": {"chunk": 1, "pause": 1}}', "GET", {"name": "a", **GET, "pace": Pace(1, 1)}),
    (b'GET {"name": "a", "pace": {"chunk": 1, "pause": 0}}', "GET", {"name": "a", **GET}),
    (b'GET {"name": "a", "via": "web", "user": "u"}', "GET", {"name": "a", **GET, "via": "web", "user": "u"}),
    (b"RECEIPT 7", "RECEIPT", {"id": 7, "sha256": None}),
    (b'RECEIPT {"id": 7, "sha256": null}', "RECEIPT", {"id": 7, "sha256": None}),
    (b'RECEIPT {"id": 7, "sha256": "%s"}' % HASH.upper().encode(), "RECEIPT", {"id": 7, "sha256": HASH}),
    (b'PUT {"name": "a", "size": 5}', "PUT", {"name": "a", "size": 5, **PUT}),
    (
        b'PUT {"name": "a", "size": 0, "exists": "rename"}',
        "PUT",
        {"name": "a", "size": 0, **PUT, "exists": "rename"},
    ),
    (
        b'PUT {"name": "a", "size": 1, "etag": "*", "metadata": "%s"}' % (b"~" * 4096),
        "PUT",
        {"name": "a", "size": 1, **PUT, "etag": "*", "metadata": "~" * 4096},
    ),
    (b'PUT {"name": "a", "size": 1, "exists": null, "sha256": null}', "PUT", {"name": "a", "size": 1, **PUT}),
    (
        b'PUT {"name": "a", "size": 9, "upload": "3f9c", "offset": 4, "length": 5}',
        "PUT",
        {"name": "a", "size": 9, **PUT, "upload": "3f9c", "offset": 4, "length": 5},
    ),
    (b'PUT {"name": "a", "size": 9, "length": 0}', "PUT", {"name": "a", "size": 9, **PUT, "length": 0}),
    (b'STAT {"upload": "3f9c"}', "STAT", {"name": None, **STAT, "upload": "3f9c"}),
    (b'STAT {"upload": "3f9c", "name": null}', "STAT", {"name": None, **STAT, "upload": "3f9c"}),
    (b"DELETE a", "DELETE", {"name": "a", **DELETE}),
    (b'DELETE {"upload": "3f9c"}', "DELETE", {"name": None, **DELETE, "upload": "3f9c"}),
    (b"CANCEL 12", "CANCEL", {"id": 12, **RELAY}),
    (b'CANCEL {"id": 12}', "CANCEL", {"id": 12, **RELAY}),
    (b'CANCEL {"id": 1, "principal": "local"}', "CANCEL", {"id": 1, **RELAY, "principal": ("local", 0)}),
    (b'CANCEL {"id": 1, "principal": "guest"}', "CANCEL", {"id": 1, **RELAY, "principal": ("guest", 0)}),
    (b'CANCEL {"id": 1, "principal": "user:17"}', "CANCEL", {"id": 1, **RELAY, "principal": ("user", 17)}),
    (b'CANCEL {"id": 1, "principal": "link:9"}', "CANCEL", {"id": 1, **RELAY, "principal": ("link", 9)}),
    (b"AUTH s3cret token", "AUTH", {"token": "s3cret token"}),
    (b"WATCH", "WATCH", {}),
    (b"HELP", "HELP", {}),
    (b"QUIT", "QUIT", {}),
]

REFUSED = [
    (b"FETCH a", "unknown-verb"),
    (b" PING", "unknown-verb"),
    (b"PING\t", "unknown-verb"),
    (b"PAUSE 1", "unknown-verb"),
    (b"RESUME 1", "unknown-verb"),
    (b'PACE {"id": 1, "pace": null}', "unknown-verb"),
    (b"\x00\xff\xfe", "unknown-verb"),
    ("ﬁnd".encode(), "unknown-verb"),
    (b"{}", "unknown-verb"),
    (b"PING now", "bad-request"),
    (b'QUIT {"a": 1}', "bad-request"),
    (b"GET", "bad-request"),
    (b"GET {}", "bad-request"),
    (b"GET \xff", "bad-request"),
    (b"GET \xed\xa0\x80", "bad-request"),
    (b'GET {"name": "\xff"}', "bad-request"),
    (b'GET {"name": "a"', "bad-request"),
    (b"GET {name: a}", "bad-request"),
    (b'GET {"name": "a"} x', "bad-request"),
    (b'GET {"name": "a", "name": "b"}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 1, "chunk": 2, "pause": 1}}', "bad-request"),
    (b'GET {"name": "a", "size": 1}', "bad-request"),
    (b'GET {"name": 1}', "bad-request"),
    (b'GET {"name": null}', "bad-request"),
    (b'GET {"name": ["a"]}', "bad-request"),
    (b'GET {"name": {"a": {"b": 1}}}', "bad-request"),
    (b'GET {"name": ' + b"[" * 4000 + b"]" * 4000 + b"}", "bad-request"),
    (b"GET " + b'{"name":' * 900 + b"1" + b"}" * 900, "bad-request"),
    (b'GET {"name": "a", "offset": NaN}', "bad-request"),
    (b'GET {"name": "a", "offset": Infinity}', "bad-request"),
    (b'GET {"name": "a", "offset": 1e999}', "bad-request"),
    (b'GET {"name": "a", "offset": true}', "bad-request"),
    (b'GET {"name": "a", "offset": false}', "bad-request"),
    (b'GET {"name": "a", "offset": 1.0}', "bad-request"),
    (b'GET {"name": "a", "offset": "1"}', "bad-request"),
    (b'GET {"name": "a", "offset": null}', "bad-request"),
    (b'GET {"name": "a", "offset": +1}', "bad-request"),
    (b'GET {"name": "a", "offset": 01}', "bad-request"),
    ('GET {"name": "a", "offset": ٣}'.encode(), "bad-request"),
    (b'GET {"name": "a", "offset": ' + b"9" * 5000 + b"}", "bad-request"),
    (b'GET {"name": "a", "offset": -1}', "bad-range"),
    (b'GET {"name": "a", "offset": 9223372036854775808}', "bad-range"),
    (b'GET {"name": "a", "length": -1}', "bad-range"),
    (b'GET {"name": "a", "pace": 5}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 5}}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 5, "pause": 1, "x": 1}}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": true, "pause": 1}}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 5, "pause": true}}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 5, "pause": "1"}}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 5, "pause": 1e999}}', "bad-request"),
    (b'GET {"name": "a", "pace": {"chunk": 0, "pause": 1}}', "bad-range"),
    (b'GET {"name": "a", "pace": {"chunk": -5, "pause": 1}}', "bad-range"),
    (b'GET {"name": "a", "pace": {"chunk": 5, "pause": -1}}', "bad-range"),
    (b'GET {"name": "a", "pace": {"chunk": 5, "pause": 3601}}', "bad-range"),
    (b'GET {"name": "a", "via": "tcp"}', "bad-request"),
    (b'GET {"name": "a", "principal": "relay"}', "bad-request"),
    (b'GET {"name": "a", "principal": "user"}', "bad-request"),
    (b'GET {"name": "a", "principal": "user:0"}', "bad-request"),
    (b'GET {"name": "a", "principal": "user:1\\n"}', "bad-request"),
    (b'GET {"name": "a", "principal": "user:-1"}', "bad-request"),
    (b'GET {"name": "a", "principal": "local:1"}', "bad-request"),
    (b'GET {"name": "a", "principal": 17}', "bad-request"),
    (b'LIST {"limit": 0}', "bad-range"),
    (b'LIST {"limit": 10001}', "bad-range"),
    (b"STAT", "bad-request"),
    (b"STAT {}", "bad-request"),
    (b'STAT {"upload": 5}', "bad-request"),
    (b'STAT {"name": "a", "identity": 1}', "bad-request"),
    (b'STAT {"name": "a", "upload": "x"}', "bad-request"),
    (b"PUT a", "bad-request"),
    (b'PUT {"name": "a"}', "bad-request"),
    (b'PUT {"size": 1}', "bad-request"),
    (b'PUT {"name": "a", "size": -1}', "bad-range"),
    (b'PUT {"name": "a", "size": 1, "exists": "overwrite"}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "sha256": "abc"}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "etag": 5}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "metadata": 5}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "metadata": "a\\r\\nSet-Cookie: a"}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "metadata": "\xc3\xa4"}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "metadata": "%s"}' % (b"a" * 4097), "bad-request"),
    (b'DELETE {"name": "a", "etag": 5}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "sha256": "%s"}' % (b"g" * 64), "bad-request"),
    (b'PUT {"name": "a", "size": 1, "sha256": 5}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "offset": null}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "offset": "1"}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "offset": -1}', "bad-range"),
    (b'PUT {"name": "a", "size": 1, "length": -1}', "bad-range"),
    (b'PUT {"name": "a", "size": 1, "length": true}', "bad-request"),
    (b'PUT {"name": "a", "size": 1, "upload": 5}', "bad-request"),
    (b'PUT {"size": 1, "upload": "x"}', "bad-request"),
    (b"DELETE", "bad-request"),
    (b"DELETE {}", "bad-request"),
    (b'DELETE {"name": "a", "upload": "x"}', "bad-request"),
    (b"CANCEL", "bad-request"),
    (b"CANCEL x", "bad-request"),
    (b"CANCEL +1", "bad-request"),
    (b"CANCEL 1 ", "bad-request"),
    (b"CANCEL 1_0", "bad-request"),
    ("CANCEL ٣".encode(), "bad-request"),
    (b"CANCEL -1", "bad-range"),
    (b"CANCEL 9223372036854775808", "bad-range"),
    (b"CANCEL " + b"9" * 30, "bad-range"),
    (b"CANCEL " + b"9" * 8000, "bad-request"),
    (b'CANCEL {"id": true}', "bad-request"),
    (b'RECEIPT {"id": 1, "sha256": ""}', "bad-request"),
    (b"AUTH", "bad-request"),
]


@pytest.mark.parametrize(("line", "verb", "fields"), READ)
def test_a_line_is_read_as_its_verb_and_fields(line: bytes, verb: str, fields: dict[str, Any]) -> None:
    request = parse_request(line)
    assert (request.verb, request.fields._asdict()) == (verb, fields)


@pytest.mark.parametrize(("line", "code"), REFUSED)
def test_a_broken_line_is_refused_with_its_code(line: bytes, code: str) -> None:
    with pytest.raises(ErrorReply) as refusal:
        parse_request(line)
    assert refusal.value.code == code
    assert refusal.value.message.endswith(".")
    assert refusal.value.closes is (code == "unknown-verb")


def refusal_of(line: bytes) -> ErrorReply | None:
    try:
        parse_request(line)
    except ErrorReply as refusal:
        return refusal
    return None


FOREIGN = [
    b"GET / HTTP/1.1",
    b"POST /x HTTP/1.0",
    b"DELETE x HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01",
    b"\x16\x03",
    b"SSH-2.0-OpenSSH_9.6",
]
NATIVE = [
    b"PING",
    b"GET x HTTP/1.10",
    b"GET HTTP/1.1 x",
    b"GET http/1.1",
    b'GET {"name": "x HTTP/1.1"}',
    b"\x16",
    b"",
]


@pytest.mark.parametrize("line", FOREIGN)
def test_another_protocol_is_known_by_its_first_line(line: bytes) -> None:
    with pytest.raises(ForeignProtocol):
        refuse_foreign(line)


@pytest.mark.parametrize("line", NATIVE)
def test_a_line_of_our_own_is_not_foreign(line: bytes) -> None:
    refuse_foreign(line)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from(sorted(VERBS)).flatmap(
            lambda verb: st.binary(max_size=60).map(lambda rest: verb.encode() + b" " + rest)
        ),
    )
)
@example(b'GET {"name": "\\ud800"}')
def test_no_line_raises_anything_but_a_refusal_that_can_be_sent(line: bytes) -> None:
    refusal = refusal_of(line)
    if refusal:
        assert refusal.line().endswith(b"\n")
        assert refusal.line().count(b"\n") == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FIELD_NAMES = sorted({name for verb in VERBS.values() for name in verb.fields})


@given(st.sampled_from(sorted(VERBS)), st.dictionaries(st.sampled_from(FIELD_NAMES), JSON, max_size=4))
def test_no_json_raises_anything_but_a_refusal(verb: str, fields: dict[str, Any]) -> None:
    refusal = refusal_of(f"{verb} {json.dumps(fields)}".encode())
    assert refusal is None or refusal.code in ("bad-request", "bad-range")


NUMBER = st.integers(0, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(name=TEXT, offset=NUMBER, length=NUMBER, etag=TEXT)
def test_a_written_get_is_read_as_it_was(name: str, offset: int, length: int, etag: str) -> None:
    line = request_line("GET", name=name, offset=offset, length=length, etag=etag)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    fields = parse_request(line[:-1]).fields._asdict()
    assert fields == {**GET, "name": name, "offset": offset, "length": length, "etag": etag}


@given(name=TEXT, upload=TEXT, size=NUMBER, offset=NUMBER, length=NUMBER)
def test_a_written_put_is_read_as_it_was(name: str, upload: str, size: int, offset: int, length: int) -> None:
    given = {"name": name, "upload": upload, "size": size, "offset": offset, "length": length}
    assert parse_request(request_line("PUT", **given)[:-1]).fields._asdict() == {**PUT, **given}


@given(st.integers(1, 1 << 30), st.floats(0.001, 3600))
def test_a_written_pace_is_read_as_it_was(chunk: int, pause: float) -> None:
    pace = Pace(chunk, pause)
    assert (
        parse_request(request_line("GET", name="a", pace=pace.as_json())[:-1]).fields._asdict()["pace"]
        == pace
    )


@given(TEXT.filter(lambda name: not name.startswith("{") and "\n" not in name))
def test_a_plain_argument_is_read_as_the_name_it_is(name: str) -> None:
    assert parse_request(b"STAT " + name.encode()).fields._asdict() == {"name": name, **STAT}


ANY_TEXT = st.text(st.characters(), max_size=30)


@given(st.dictionaries(TEXT, NUMBER | TEXT | st.none() | st.booleans(), max_size=4))
def test_a_written_reply_is_read_as_it_was(fields: dict[str, Any]) -> None:
    for write in (encode_line,):
        for word in ("OK", "END"):
            line = write(word, fields)
            assert line.count(b"\n") == 1
            assert parse_reply(line[:-1]) == fields
    assert parse_bare(lines.bare(fields)) == fields


@given(ANY_TEXT, ANY_TEXT, NUMBER)
def test_a_written_refusal_is_raised_as_it_was(code: str, message: str, offset: int) -> None:
    line = ErrorReply(code, message, offset=offset).line()
    assert line.count(b"\n") == 1
    with pytest.raises(ErrorReply) as refusal:
        parse_reply(line[:-1])
    assert (refusal.value.code, refusal.value.message) == (code, message)
    assert refusal.value.extra == {"offset": offset}


@pytest.mark.parametrize(
    "line",
    [b"", b"OK", b"OK {", b"OK []", b"ok {}", b"ERR nothing", b"HTTP/1.1 200 OK", b"END \xff", b"\x00"],
)
def test_a_reply_of_something_else_is_a_bad_reply(line: bytes) -> None:
    with pytest.raises(BadReply):
        parse_reply(line)


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"OK " + rest))
def test_no_reply_raises_anything_undocumented(line: bytes) -> None:
    with contextlib.suppress(BadReply, ErrorReply):
        parse_reply(line)


def test_unknown_fields_of_a_reply_are_kept_out_of_nobodys_way() -> None:
    assert parse_reply(b'OK {"new": 1, "id": 2}')["id"] == 2


def test_an_err_without_code_and_message_is_still_a_refusal() -> None:
    with pytest.raises(ErrorReply) as refusal:
        parse_reply(b"ERR {}")
    assert refusal.value.code == "internal"


def test_a_line_of_nothing_but_quotes_is_refused_at_once() -> None:
    line = b'GET {"' + b'\\"' * 4000
    begun = time.process_time()
    for _ in range(20):
        with pytest.raises(ErrorReply):
            parse_request(line)
    assert (time.process_time() - begun) / 20 < 0.02


def test_every_verb_explains_itself_in_one_line() -> None:
    for name, verb in VERBS.items():
        assert verb.help.startswith(name)
        assert "\n" not in verb.help


def test_after_these_codes_and_no_others_the_server_closes() -> None:
    wanted = {"unknown-verb", "too-long", "busy", "timeout", "shutting-down"}
    codes = {
        "bad-request",
        "unknown-verb",
        "too-long",
        "bad-name",
        "bad-range",
        "not-found",
        "not-a-file",
        "exists",
        "changed",
        "offset",
        "busy",
        "denied",
        "auth-required",
        "too-large",
        "no-space",
        "checksum",
        "not-running",
        "timeout",
        "shutting-down",
        "internal",
    }
    assert {code for code in codes if ErrorReply(code, "").closes} == wanted


@given(
    id=st.integers(1, 2**63),
    file=st.builds(
        Entry,
        name=st.text(st.characters(exclude_categories=["Cs"])),
        size=st.integers(0, 2**63),
        mtime=st.floats(allow_nan=False, allow_infinity=False),
        etag=st.text("0123456789abcdef-"),
    ),
    offset=st.integers(0, 2**63),
    length=st.integers(0, 2**63),
    sha256=st.none() | st.just(HASH),
)
def test_the_lines_around_content_are_as_any_other(
    id: int, file: Entry, offset: int, length: int, sha256: str | None
) -> None:
    wanted = replies.ok(id=id, **asdict(file), offset=offset, length=length, sha256=sha256)
    assert replies.content_ok(id, file, offset, length, sha256) == wanted
    assert replies.content_end(id, length) == replies.end(id=id, sent=length)
