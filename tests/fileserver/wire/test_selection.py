"""Conditions and ranges of HTTP, by tables from RFC 9110, and what must hold for all headers there are."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fileserver.wire.selection import Selection, permits, select

ETAG = "2a-3e8-17f0"
SIZE = 1000
# RFC 9110's own example, in each of its three forms
DATE = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()
NOW = "Sun, 06 Nov 1994 08:49:37 GMT"
EARLIER = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
FORMS = [NOW, "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
NO_DATES = [
    "",
    "yesterday",
    "784111777",
    "Sun, 06 Nov 1994 08:49:37",
    "Sun, 06 Nov 1994 08:49:37 +0000",
    "Sun, 06 Nov 1994 09:49:37 CET",
    "Sun, 6 Nov 1994 08:49:37 GMT",
    "Sun, 31 Feb 1994 08:49:37 GMT",
    "Sun, 06 Nix 1994 08:49:37 GMT",
    "Sun, 06 Nov 0000 08:49:37 GMT",
    "Sun, 06 Nov 99999 08:49:37 GMT",
    "Sun, 06 Nov 1994 24:00:00 GMT",
    "Sun, 06 Nov 1994 08:60:00 GMT",
    "Sun, 06 Nov 1994 08:49:61 GMT",
    "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    f"{NOW}, {NOW}",
]


def chosen(method: str = "GET", *, size: int = SIZE, mtime: float = DATE, **headers: str) -> Selection:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return select(method, named, etag=ETAG, mtime=mtime, size=size)


def status(method: str = "GET", **headers: str) -> int:
    return chosen(method, **headers).status


def test_a_request_without_conditions_gets_the_whole_file() -> None:
    assert chosen() == chosen("HEAD") == Selection(200, 0, SIZE)


RANGES = [
    ("bytes=0-", 0, 1000),
    ("bytes=0-0", 0, 1),
    ("bytes=0-499", 0, 500),
    ("bytes=500-999", 500, 500),
    ("bytes=999-", 999, 1),
    ("bytes=999-999", 999, 1),
    ("bytes=500-1000", 500, 500),
    ("bytes=500-99999", 500, 500),
    ("bytes=-1", 999, 1),
    ("bytes=-500", 500, 500),
    ("bytes=-1000", 0, 1000),
    ("bytes=-1001", 0, 1000),
    ("BYTES=5-6", 5, 2),
    ("bytes=005-0006", 5, 2),
    (" bytes= \t5-6 ", 5, 2),
    ("bytes=,5-6", 5, 2),
    ("bytes=5-6 , ,", 5, 2),
    ("bytes=0-18446744073709551616", 0, 1000),
    ("bytes=0-" + "9" * 900, 0, 1000),
    ("bytes=-" + "9" * 900, 0, 1000),
]


@pytest.mark.parametrize(("value", "offset", "length"), RANGES)
def test_a_range_is_answered_with_its_bytes(value: str, offset: int, length: int) -> None:
    assert chosen(range=value) == Selection(206, offset, length)


@pytest.mark.parametrize(
    "value",
    [
        *("bytes=1000-", "bytes=1000-1000", "bytes=5000-6000", "bytes=-0", "bytes=-000"),
        *("bytes=18446744073709551616-", "bytes=" + "9" * 900 + "-"),
    ],
)
def test_a_range_outside_the_file_is_416(value: str) -> None:
    assert chosen(range=value) == Selection(416)


UNREADABLE = [
    *("", "bytes", "bytes=", "bytes=-", "bytes=,", "bytes=5", "bytes=a-b", "bytes=0x1-0x2", "bytes=--5"),
    *("bytes=5-2", "bytes=5000-2", "bytes=+5-6", "bytes=5-+6", "bytes=5 - 6", "bytes =5-6", "bytes=1.0-2"),
    *("bytes=٥-٦", "bytes=²-³", "bytes=5-6\n", "bytes=5-6;", "bytes:5-6", "bytes=bytes=5-6"),
    *("items=0-5", "none=0-5", "0-5", "=0-5", "byteſ=0-5"),
    *("bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000, "bytes=-" + "9" * 100_000),
]


@pytest.mark.parametrize("value", UNREADABLE)
def test_a_range_that_cannot_be_read_is_ignored(value: str) -> None:
    assert chosen(range=value) == Selection(200, 0, SIZE)


@pytest.mark.parametrize("value", ["bytes=0-1,5-6", "bytes=0-1, -5", "bytes=0-,0-", "bytes=5000-,0-1"])
def test_several_ranges_are_answered_with_the_whole_file(value: str) -> None:
    assert chosen(range=value) == Selection(200, 0, SIZE)


def test_an_empty_file_has_no_first_byte_but_all_of_its_last() -> None:
    for value in ("bytes=0-", "bytes=0-0", "bytes=5-9", "bytes=-0"):
        assert chosen(range=value, size=0) == Selection(416)
    assert chosen(range="bytes=-5", size=0) == Selection(200, 0, 0)


def test_a_range_is_for_get_only() -> None:
    assert chosen("HEAD", range="bytes=5-6") == Selection(200, 0, SIZE)
    assert chosen("HEAD", range="bytes=5000-") == Selection(200, 0, SIZE)


@pytest.mark.parametrize(
    ("value", "is_same"),
    [
        (f'"{ETAG}"', True),
        (f' "{ETAG}"\t', True),
        (f'W/"{ETAG}"', False),
        ('"another"', False),
        (ETAG, False),
        (f'"{ETAG}", "another"', False),
        ("*", False),
        *((form, True) for form in FORMS),
        (EARLIER, False),
        (LATER, False),
        *((no_date, False) for no_date in NO_DATES),
    ],
)
def test_a_range_of_another_state_of_the_file_is_answered_with_the_whole(value: str, is_same: bool) -> None:
    assert chosen(range="bytes=5-6", if_range=value).status == (206 if is_same else 200)
    assert chosen(range="bytes=5000-", if_range=value).status == (416 if is_same else 200)
    assert chosen(if_range=value).status == 200


ETAGS = [  # a list of etags, whether it names this state weakly, and whether strongly
    (f'"{ETAG}"', True, True),
    (f'  "{ETAG}"  ', True, True),
    (f'"x", "{ETAG}"', True, True),
    (f'"x","{ETAG}","y"', True, True),
    (f', ,"x" ,\t"{ETAG}",,', True, True),
    ('"x, y", *', False, False),
    (f'W/"{ETAG}"', True, False),
    (f'W/"x", W/"{ETAG}"', True, False),
    (f'W/"{ETAG}", "{ETAG}"', True, True),
    ("*", True, True),
    (" * ", True, True),
    ("", False, False),
    ('"x"', False, False),
    ('""', False, False),
    (ETAG, False, False),
    (f"'{ETAG}'", False, False),
    (f'w/"{ETAG}"', False, False),
    (f'"{ETAG}', False, False),
    (f'"{ETAG}" and more', False, False),
    (f'"x" "{ETAG.upper()}"', False, False),
    (f'"x, "{ETAG}"', False, False),
    (f'"é\xff", "{ETAG}"', True, True),
]


@pytest.mark.parametrize(("value", "weakly", "strongly"), ETAGS)
def test_etags_are_compared_weakly_for_a_cache_and_strongly_for_a_change(
    value: str, weakly: bool, strongly: bool
) -> None:
    for method in ("GET", "HEAD"):
        assert status(method, if_none_match=value) == (304 if weakly else 200)
        assert status(method, if_match=value) == (200 if strongly else 412)


@pytest.mark.parametrize(
    ("date", "modified_since", "unmodified_since"),
    [
        *((form, 304, 200) for form in FORMS),
        (f" {NOW} ", 304, 200),
        (LATER, 304, 200),
        (EARLIER, 200, 412),
        ("Fri, 31 Dec 9999 23:59:60 GMT", 304, 200),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 200, 412),
        *((no_date, 200, 200) for no_date in NO_DATES),
    ],
)
def test_a_date_is_compared_and_what_is_none_is_ignored(
    date: str, modified_since: int, unmodified_since: int
) -> None:
    for method in ("GET", "HEAD"):
        assert status(method, if_modified_since=date) == modified_since
        assert status(method, if_unmodified_since=date) == unmodified_since


def test_a_file_is_as_old_as_the_whole_second_that_is_told_of_it() -> None:
    for fraction in (0.0, 0.001, 0.999):
        assert chosen(mtime=DATE + fraction, if_modified_since=NOW).status == 304
        assert chosen(mtime=DATE + fraction, if_unmodified_since=NOW).status == 200
        assert chosen(mtime=DATE + fraction, if_range=NOW, range="bytes=5-6").status == 206
    before_1970 = "Wed, 31 Dec 1969 23:59:59 GMT"
    assert chosen(mtime=-0.5, if_range=before_1970, range="bytes=5-6").status == 206


@pytest.mark.parametrize("ago", range(50))
def test_two_digits_of_a_year_mean_one_that_is_not_far_ahead(ago: int) -> None:
    then = datetime(datetime.now(UTC).year - ago, 3, 1, tzinfo=UTC)
    written = f"Sunday, 01-Mar-{then.year % 100:02} 00:00:00 GMT"
    assert chosen(mtime=then.timestamp(), range="bytes=5-6", if_range=written).status == 206


CHANGES = [  # of a file in the state ETAG, as old as NOW; of one that is not there
    (True, True, {}),
    (True, False, {"if-match": f'"{ETAG}"'}),
    (True, False, {"if-match": f'"x", "{ETAG}"'}),
    (True, False, {"if-match": " * "}),
    (False, False, {"if-match": f'W/"{ETAG}"'}),
    (False, False, {"if-match": '"x"'}),
    (False, False, {"if-match": ""}),
    (False, True, {"if-none-match": "*"}),
    (False, True, {"if-none-match": f'W/"{ETAG}"'}),
    (True, True, {"if-none-match": '"x"'}),
    (True, True, {"if-none-match": "junk"}),
    (True, True, {"if-unmodified-since": NOW}),
    (False, True, {"if-unmodified-since": EARLIER}),
    (True, True, {"if-unmodified-since": "no date"}),
    (True, False, {"if-match": "*", "if-unmodified-since": EARLIER}),
    (False, False, {"if-match": '"x"', "if-none-match": '"x"'}),
    (False, False, {"if-match": "*", "if-none-match": "*"}),
    # these are for reading alone (sections 13.1.3 and 14.2)
    (True, True, {"if-modified-since": NOW, "range": "bytes=5-", "if-range": '"x"'}),
]


@pytest.mark.parametrize(("there", "not_there", "headers"), CHANGES)
def test_a_change_is_permitted_by_the_same_rules(
    there: bool, not_there: bool, headers: dict[str, str]
) -> None:
    assert permits(headers, etag=ETAG, mtime=DATE + 0.9) is there
    assert permits(headers, etag=None) is not_there


PRECEDENCE = [  # RFC 9110, section 13.2.2
    (412, {"if_match": '"x"', "if_none_match": f'"{ETAG}"'}),
    (412, {"if_unmodified_since": EARLIER, "if_none_match": f'"{ETAG}"'}),
    (412, {"if_match": '"x"', "range": "bytes=5000-"}),
    (304, {"if_none_match": f'"{ETAG}"', "range": "bytes=5-6"}),
    (304, {"if_modified_since": NOW, "range": "bytes=5000-"}),
    (304, {"if_match": f'"{ETAG}"', "if_none_match": "*"}),
    # an etag makes its date superfluous, also when they disagree
    (200, {"if_match": f'"{ETAG}"', "if_unmodified_since": EARLIER}),
    (200, {"if_none_match": '"x"', "if_modified_since": NOW}),
    (206, {"if_match": f'"{ETAG}"', "if_none_match": '"x"', "if_range": NOW, "range": "bytes=5-6"}),
    (412, {"if_match": "", "if_unmodified_since": NOW}),
]


@pytest.mark.parametrize(("expected", "headers"), PRECEDENCE)
def test_conditions_are_weighed_in_the_order_of_the_rfc(expected: int, headers: dict[str, str]) -> None:
    assert status(**headers) == expected


def test_the_content_range_names_first_and_last_byte_or_the_size_alone() -> None:
    assert chosen(range="bytes=500-").content_range(SIZE) == "bytes 500-999/1000"
    assert chosen(range="bytes=0-0").content_range(SIZE) == "bytes 0-0/1000"
    assert chosen(range="bytes=1000-").content_range(SIZE) == "bytes */1000"


# --- properties

DATA = bytes(range(256))
BLANKS = st.text(" \t", max_size=3)
NUMBER = st.integers(0, 300) | st.integers(0, 10**30)


@given(st.integers(0, 256), NUMBER, st.none() | NUMBER, BLANKS, BLANKS)
def test_a_range_from_a_first_byte_is_that_slice(
    size: int, first: int, last: int | None, before: str, behind: str
) -> None:
    data = DATA[:size]
    found = chosen(range=f"bytes={before}{first}-{'' if last is None else last}{behind}", size=size)
    wanted = data[first : None if last is None else last + 1]
    if last is not None and last < first:
        assert found == Selection(200, 0, size)
    elif wanted:
        assert data[found.offset :][: found.length] == wanted
        assert (found.status, found.offset, found.length) == (206, first, len(wanted))
    else:
        assert found == Selection(416)


@given(st.integers(0, 256), NUMBER)
def test_a_range_of_last_bytes_is_that_slice(size: int, last: int) -> None:
    data = DATA[:size]
    found = chosen(range=f"bytes=-{last}", size=size)
    wanted = data[-last:] if last else b""
    if wanted:
        assert data[found.offset :][: found.length] == wanted
        assert (found.status, found.length) == (206, len(wanted))
    else:
        assert found == (Selection(200) if last else Selection(416))


PIECES = st.sampled_from(
    [
        "bytes",
        "=",
        "-",
        ",",
        "0",
        "5",
        "999",
        "9" * 25,
        "W/",
        '"',
        ETAG,
        "*",
        " ",
        "\t",
        "x",
        "\xff",
        "GMT",
        *FORMS,
    ]
)
JUNK = st.text() | st.lists(PIECES, max_size=8).map("".join)
NAMES = ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"]


@given(
    st.sampled_from(["GET", "HEAD"]),
    st.dictionaries(st.sampled_from(NAMES), JUNK),
    st.integers(0, 2**63 - 1),
    st.floats(-1e12, 1e12),
)
@example("GET", dict.fromkeys(NAMES, '"' * 10_000), 1, 0.0)
@example("GET", {"range": "bytes=" + "," * 10_000}, 1, 0.0)
def test_whatever_the_headers_the_answer_lies_within_the_file(
    method: str, headers: dict[str, str], size: int, mtime: float
) -> None:
    found = select(method, headers, etag=ETAG, mtime=mtime, size=size)
    assert found.status in ((200, 206, 304, 412, 416) if method == "GET" else (200, 304, 412))
    if found.status == 206:
        assert found.length > 0
        assert 0 <= found.offset <= found.offset + found.length <= size
    else:
        assert (found.offset, found.length) == (0, size if found.status == 200 else 0)


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 30)))
def test_the_date_of_any_file_is_understood_when_it_comes_back(moment: datetime) -> None:
    told = f"{moment:%a}, {moment.day:02} {moment:%b} {moment.year:04} {moment:%H:%M:%S} GMT"
    epoch = datetime(1970, 1, 1)
    mtime = (moment - epoch) // timedelta(seconds=1)
    assert chosen(mtime=mtime, range="bytes=5-6", if_range=told).status == 206
    assert chosen(mtime=mtime + 1, range="bytes=5-6", if_range=told).status == 200
