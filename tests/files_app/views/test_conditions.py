"""PUT and DELETE that ask for a state of the file, or for what nobody here can do: right, or not at all."""

import os
from collections.abc import Callable
from typing import Any
from wsgiref.handlers import format_date_time

import pytest

from fileserver.client.aio import AsyncClient
from fileserver.events import TransferStarted
from tests.files_app.conftest import Served
from tests.files_app.site import Answer, fetch

pytestmark = pytest.mark.usefixtures("database")

MODIFIED = 1_700_000_000.75
BEFORE, SINCE = format_date_time(MODIFIED - 1), format_date_time(MODIFIED)


@pytest.fixture
def etag(served: Served) -> str:
    """That of a file, quoted."""
    served.put("a.txt", b"old")
    os.utime(served.folder / "a.txt", (MODIFIED, MODIFIED))
    return f'"{served.storage.stat("a.txt").etag}"'


def put(url: str = "/files/a.txt", body: bytes = b"new", **headers: str) -> Answer:
    return fetch("PUT", url, body=body, headers=dashed(headers))


def delete(**headers: str) -> Answer:
    return fetch("DELETE", "/files/a.txt", headers=dashed(headers))


def dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def content(served: Served) -> bytes | None:
    path = served.folder / "a.txt"
    return path.read_bytes() if path.exists() else None


MET = [
    {"if_match": "ETAG"},
    {"if_match": '"x", ETAG'},
    {"if_match": "*"},
    {"if_unmodified_since": SINCE},
    {"if_unmodified_since": "no date"},
    {"if_match": "ETAG", "if_unmodified_since": BEFORE},
    {"if_none_match": '"x"'},
    {"if_match": "*", "if_none_match": '"x"'},
]
UNMET = [
    {"if_match": '"x"'},
    {"if_match": "W/ETAG"},
    {"if_match": ""},
    {"if_match": "junk"},
    {"if_unmodified_since": BEFORE},
    {"if_match": '"x"', "if_unmodified_since": SINCE},
    {"if_none_match": "*"},
    {"if_none_match": "ETAG"},
    {"if_none_match": "W/ETAG"},
    {"if_match": "ETAG", "if_none_match": "*"},
]


def filled(headers: dict[str, str], etag: str) -> dict[str, str]:
    return {name: value.replace("ETAG", etag) for name, value in headers.items()}


@pytest.mark.parametrize("headers", MET)
def test_a_change_whose_conditions_hold_is_made(served: Served, etag: str, headers: dict[str, str]) -> None:
    assert put("/files/a.txt?exists=replace", **filled(headers, etag)).status == 200
    assert content(served) == b"new"


@pytest.mark.parametrize("headers", MET)
def test_a_file_whose_conditions_hold_is_deleted(served: Served, etag: str, headers: dict[str, str]) -> None:
    assert delete(**filled(headers, etag)).status == 204
    assert content(served) is None


@pytest.mark.parametrize("headers", UNMET)
def test_conditions_that_fail_are_412_and_change_nothing(
    served: Served, etag: str, headers: dict[str, str]
) -> None:
    for answer in (
        put(**filled(headers, etag)),
        put("/files/a.txt?exists=replace", **filled(headers, etag)),
        put("/files/a.txt?exists=rename", **filled(headers, etag)),
        delete(**filled(headers, etag)),
    ):
        assert answer.status == 412
        assert answer.text.endswith(".\n")
    assert content(served) == b"old"
    assert [path.name for path in served.folder.rglob("*") if path.is_file()] == ["a.txt"]
    assert not served.events.of(TransferStarted)


def test_the_file_that_if_match_names_may_be_replaced_without_another_word(served: Served, etag: str) -> None:
    assert put(if_match=etag).status == 200
    assert content(served) == b"new"
    assert put(if_match=etag).status == 412
    assert put(body=b"newest", if_match="*").status == 200
    assert put("/files/a.txt?exists=fail", if_match="*").status == 409
    assert put("/files/a.txt?exists=rename", if_match="*").json["name"] == "a (1).txt"
    assert content(served) == b"newest"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if_match": "*"}, 412),
        ({"if_match": '"x"'}, 412),
        ({"if_none_match": "*"}, 201),
        ({"if_none_match": '"x"'}, 201),
        ({"if_unmodified_since": BEFORE}, 201),
    ],
)
def test_where_no_file_is_there_is_no_state(served: Served, headers: dict[str, str], status: int) -> None:
    for url in ("/files/a.txt", "/files/w/a.txt?exists=replace"):
        assert put(url, **headers).status == status
    assert (content(served) is None) == (status == 412)


@pytest.mark.parametrize("headers", [{"if_match": "*"}, {"if_none_match": "*"}, {"if_match": '"x"'}])
def test_to_delete_what_is_not_there_is_404_under_any_condition(
    served: Served, headers: dict[str, str]
) -> None:
    assert delete(**headers).status == 404


def before(monkeypatch: pytest.MonkeyPatch, verb: str, change: Callable[[], None]) -> None:
    """``change`` is made between the look and the first request of that verb."""
    request, made = AsyncClient.request, []

    async def late(self: AsyncClient, word: str, **fields: Any) -> Any:
        if word == verb and not made:
            made.append(change())
        return await request(self, word, **fields)

    monkeypatch.setattr(AsyncClient, "request", late)


def replace(served: Served) -> None:
    (served.folder / "a.txt").write_bytes(b"other")


@pytest.mark.parametrize("condition", ["its own", "*"])
def test_a_file_that_is_replaced_just_before_is_judged_anew_for_a_delete(
    served: Served, etag: str, monkeypatch: pytest.MonkeyPatch, condition: str
) -> None:
    before(monkeypatch, "DELETE", lambda: replace(served))
    answer = delete(if_match="*" if condition == "*" else etag)
    assert answer.status == (204 if condition == "*" else 412)
    assert content(served) == (None if condition == "*" else b"other")


@pytest.mark.parametrize(("condition", "status"), [("its own", 412), ("*", 200)])
def test_a_file_that_is_replaced_just_before_is_not_put_over(
    served: Served, etag: str, monkeypatch: pytest.MonkeyPatch, condition: str, status: int
) -> None:
    before(monkeypatch, "PUT", lambda: replace(served))
    assert put(if_match="*" if condition == "*" else etag).status == status
    assert content(served) == (b"new" if status == 200 else b"other")


def test_a_file_that_appears_just_before_stays_where_only_a_new_one_was_wanted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(monkeypatch, "PUT", lambda: replace(served))
    assert put("/files/a.txt?exists=replace", if_none_match="*").status == 412
    assert content(served) == b"other"


def test_one_that_never_stays_the_same_is_given_up_with_a_sentence(
    served: Served, etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, count = AsyncClient.request, 0

    async def late(self: AsyncClient, word: str, **fields: Any) -> Any:
        nonlocal count
        if word == "DELETE":
            count += 1
            (served.folder / "a.txt").write_bytes(b"x" * count)
        return await request(self, word, **fields)

    monkeypatch.setattr(AsyncClient, "request", late)
    answer = delete(if_match="*")
    assert (answer.status, answer.text) == (503, "'a.txt' changes again and again; try again later.\n")
    assert content(served) is not None


# --- what nobody here can do


@pytest.mark.parametrize("value", ["bytes 3-5/6", "bytes 0-5/6", "bytes */6", "junk"])
@pytest.mark.parametrize("url", ["/files/a.txt?exists=replace", "/files/new.txt"])
def test_a_part_of_a_file_is_400_and_not_taken_for_the_whole(
    served: Served, etag: str, url: str, value: str
) -> None:
    answer = put(url, content_range=value)
    assert (answer.status, "Content-Range" in answer.text) == (400, True)
    assert content(served) == b"old"
    assert [path.name for path in served.folder.iterdir()] == ["a.txt"]


def test_a_packed_body_is_415_for_it_would_be_kept_packed(served: Served) -> None:
    answer = put(content_encoding="gzip")
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "identity")
    assert "gzip" in answer.text
    assert content(served) is None
    assert put(content_encoding="Identity").status == 201
