"""Downloads as browsers and download managers ask for them: ranges, conditions, and a file that changes."""

import asyncio
import os
from typing import Any
from wsgiref.handlers import format_date_time

import pytest

from files_app.models import Transfer
from files_app.views import files as downloads
from fileserver.client.aio import AsyncClient
from fileserver.events import TransferFinished, TransferStarted
from fileserver.pacing import SLOW_MOTION
from fileserver.sessions.files import FileVerbs
from fileserver.storage.folder import Storage
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Stat
from tests.files_app.conftest import Served
from tests.files_app.site import Answer, Exchange, fetch, run
from tests.servers import numbered_bytes, wait_until

pytestmark = pytest.mark.usefixtures("database")

DATA = numbered_bytes(1_000_000)
SIZE = len(DATA)
URL = "/files/week%203/film.mp4"
NAME = "week 3/film.mp4"
BROWSER = {"accept": "text/html,application/xhtml+xml"}
MODIFIED = 1_700_000_000.75


@pytest.fixture
def film(served: Served) -> str:
    """The etag of a file with a date of its own, quoted."""
    served.put(NAME, DATA)
    os.utime(served.folder / NAME, (MODIFIED, MODIFIED))
    return f'"{served.storage.stat(NAME).etag}"'


def date(seconds: float) -> str:
    return format_date_time(seconds)


def get(**headers: str) -> Answer:
    return fetch("GET", URL, headers=named(headers))


def head(**headers: str) -> Answer:
    return fetch("HEAD", URL, headers=named(headers))


def named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def row(served: Served) -> Transfer:
    """The one row of the history, with its ending."""
    wait_until(lambda: served.events.of(TransferFinished))
    served.settle()
    return Transfer.objects.get()


def moved_nothing(served: Served) -> bool:
    served.settle()
    return not served.events.of(TransferStarted) and not Transfer.objects.exists()


class TestRange:
    @pytest.mark.parametrize(
        ("value", "offset", "length"),
        [
            ("bytes=0-499", 0, 500),
            ("bytes=400000-", 400_000, 600_000),
            ("bytes=-1000", 999_000, 1000),
            ("bytes=999999-", 999_999, 1),
            ("bytes=0-", 0, SIZE),
            ("bytes=900000-99999999999999999999", 900_000, 100_000),
        ],
    )
    def test_a_range_is_206_with_its_bytes_and_one_row_with_its_place(
        self, served: Served, film: str, value: str, offset: int, length: int
    ) -> None:
        answer = get(range=value)
        assert (answer.status, answer.body) == (206, DATA[offset : offset + length])
        assert answer.headers["content-range"] == f"bytes {offset}-{offset + length - 1}/{SIZE}"
        assert answer.headers["content-length"] == str(length)
        done = row(served)
        assert (done.offset, done.length, done.done, done.size) == (offset, length, length, SIZE)
        assert (done.outcome, done.via) == ("complete", "web")

    def test_a_range_has_all_the_headers_of_the_whole_file(self, served: Served, film: str) -> None:
        whole, part = get(), get(range="bytes=5-9")
        own = {"content-length", "content-range"}
        assert {k: v for k, v in part.headers.items() if k not in own} == {
            k: v for k, v in whole.headers.items() if k not in own
        }
        assert (whole.headers["accept-ranges"], whole.headers["etag"]) == ("bytes", film)
        assert whole.headers["last-modified"] == date(MODIFIED)

    @pytest.mark.parametrize(
        "value",
        ["bytes=0-1,5-6", "bytes=0-1, -5", "bytes=5-2", "bytes=x-", "items=0-5", "bytes=" + "9" * 5000],
    )
    def test_several_ranges_and_unreadable_ones_are_answered_with_the_whole_file(
        self, served: Served, film: str, value: str
    ) -> None:
        answer = get(range=value)
        assert (answer.status, answer.body) == (200, DATA)
        assert answer.headers["content-length"] == str(SIZE)
        assert "content-range" not in answer.headers
        assert (row(served).offset, row(served).length) == (0, SIZE)

    @pytest.mark.parametrize("value", [f"bytes={SIZE}-", "bytes=9999999-99999999", "bytes=-0"])
    def test_a_range_outside_the_file_is_416_with_the_size_and_moves_nothing(
        self, served: Served, film: str, value: str
    ) -> None:
        answer = get(range=value)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{SIZE}")
        assert answer.text == f"'{NAME}' has {SIZE} bytes, and none in that range.\n"
        assert answer.headers["content-length"] == str(len(answer.body))
        assert moved_nothing(served)

    def test_an_empty_file_has_no_bytes_to_choose_from(self, served: Served) -> None:
        served.put("empty", b"")
        refused = fetch("GET", "/files/empty", headers={"range": "bytes=0-"})
        assert (refused.status, refused.headers["content-range"]) == (416, "bytes */0")
        whole = fetch("GET", "/files/empty", headers={"range": "bytes=-5"})
        assert (whole.status, whole.body, whole.headers["content-length"]) == (200, b"", "0")

    def test_a_range_in_slow_motion_is_paced(self, served: Served, film: str) -> None:
        answer = fetch("GET", URL + "?pace=slow-motion", headers={"range": "bytes=998500-"})
        assert (answer.status, answer.body) == (206, DATA[998_500:])
        done = row(served)
        assert (done.pace, done.offset, done.length) == (str(SLOW_MOTION), 998_500, 1500)

    def test_nobody_packs_the_bytes_on_their_way(self, served: Served) -> None:
        served.put("a.txt", b"a" * 100_000)
        headers = {"accept-encoding": "gzip, deflate, br", "range": "bytes=0-49999"}
        answer = fetch("GET", "/files/a.txt", headers=headers)
        assert answer.body == b"a" * 50_000
        assert "content-encoding" not in answer.headers
        assert answer.headers["etag"].startswith('"')  # GZipMiddleware would make it a weak one

    @pytest.mark.parametrize("delivered", [True, False])
    def test_a_range_is_complete_only_when_the_browsers_system_has_it(
        self, served: Served, film: str, delivered: bool
    ) -> None:
        fetch("GET", URL, headers={"range": "bytes=5-9"}, delivered=delivered)
        assert row(served).outcome == ("complete" if delivered else "aborted")

    def test_a_browser_that_leaves_within_a_range_makes_one_aborted_row(self, served: Served) -> None:
        served.put("big.bin", bytes(24 << 20))

        async def leave() -> None:
            exchange = Exchange("GET", "/files/big.bin", headers={"range": "bytes=1000000-"})
            assert (await exchange.next())["status"] == 206
            await exchange.next()
            await exchange.cut()

        run(leave())
        left = row(served)
        assert (left.outcome, left.error, left.offset) == ("aborted", "disconnected", 1_000_000)
        assert 0 < left.done < left.length

    @pytest.mark.parametrize("headers", [BROWSER, {}])
    def test_what_is_not_there_is_404_with_a_range_too(self, served: Served, headers: dict[str, str]) -> None:
        for condition in ({"range": "bytes=5-"}, {"if-none-match": "*"}, {"if-match": "*"}):
            for method in ("GET", "HEAD"):
                assert fetch(method, "/files/nothing", headers={**headers, **condition}).status == 404


class TestWrittenInPlace:
    """A file that is written to while the site passes it on: what came of it must not look whole."""

    PACED = 3000  # bytes that slow motion sends in three pieces

    @pytest.mark.parametrize("size", [PACED, 24 << 20], ids=["slow motion", "full speed"])
    @pytest.mark.parametrize("offset", [0, 1000])
    def test_its_last_byte_never_leaves_and_the_connection_is_reset(
        self, served: Served, size: int, offset: int
    ) -> None:
        served.put("log.bin", bytes(size))
        query = "?pace=slow-motion" if size == self.PACED else ""

        async def passed_on() -> tuple[int, bool]:
            headers = {"range": f"bytes={offset}-"} if offset else {}
            exchange = Exchange("GET", "/files/log.bin" + query, headers=headers, can_abort=True)
            assert (await exchange.next())["status"] == (206 if offset else 200)
            # The site holds a piece that nobody takes, and the rest has not been sent yet.
            count = len((await exchange.next())["body"])
            with (served.folder / "log.bin").open("r+b") as file:
                file.write(b"changed")
            more = True
            while more:
                message = await exchange.next()
                count += len(message.get("body", b""))
                more = message.get("more_body", False)
            await exchange.task
            return count, exchange.was_reset

        count, was_reset = run(passed_on())
        assert 0 < count < size - offset
        assert was_reset
        left = row(served)
        assert (left.outcome, left.error) == ("failed", "changed")

    @pytest.mark.parametrize("size", [0, 1, SIZE])
    def test_a_verdict_that_comes_behind_the_last_byte_comes_in_time(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, size: int
    ) -> None:
        refusal = ErrorReply("changed", "The file was changed while it was sent.").line()
        monkeypatch.setattr("fileserver.wire.replies.content_end", lambda *facts: refusal)
        served.put("a", bytes(size))

        async def passed_on() -> tuple[int, bool]:
            exchange = Exchange("GET", "/files/a", can_abort=True)
            return len((await exchange.answer()).body), exchange.was_reset

        count, was_reset = run(passed_on())
        assert was_reset
        assert count < max(1, size)


class TestIfRange:
    def test_the_same_state_is_gone_on_with(self, served: Served, film: str) -> None:
        for same in (film, date(MODIFIED)):
            answer = get(range="bytes=900000-", if_range=same)
            assert (answer.status, answer.body) == (206, DATA[900_000:])

    def test_another_state_is_sent_whole(self, served: Served, film: str) -> None:
        for other in ('"x"', f"W/{film}", date(MODIFIED + 1), date(MODIFIED - 1), "junk"):
            answer = get(range="bytes=900000-", if_range=other)
            assert (answer.status, answer.body) == (200, DATA)

    def test_a_resumed_download_never_mixes_two_files(self, served: Served, film: str) -> None:
        first = get(range="bytes=0-499999")
        served.put(NAME, bytes(SIZE))
        rest = get(range="bytes=500000-", if_range=first.headers["etag"])
        assert (rest.status, rest.body) == (200, bytes(SIZE))
        assert get(range="bytes=500000-", if_match=first.headers["etag"]).status == 412


class TestConditions:
    """What a 304 or 412 is answered to; the tables are in ``test_selection``."""

    def test_what_a_cache_has_already_is_304_without_a_body_and_moves_nothing(
        self, served: Served, film: str
    ) -> None:
        for answer in (
            get(if_none_match=film),
            head(if_none_match=film),
            get(if_none_match=f'"x", W/{film}'),
            get(if_none_match="*"),
            get(if_modified_since=date(MODIFIED)),
            head(if_modified_since=date(MODIFIED + 60)),
            get(if_none_match=film, range="bytes=5-9"),
        ):
            assert (answer.status, answer.body) == (304, b"")
        assert moved_nothing(served)

    def test_a_304_refreshes_a_cache_with_the_headers_of_the_file(self, served: Served, film: str) -> None:
        refreshed, plain = get(if_none_match=film).headers, head().headers
        assert plain.pop("content-type") == "application/octet-stream"  # which the cache knows
        assert refreshed == plain
        for name in ("etag", "last-modified", "cache-control", "content-security-policy"):
            assert name in refreshed

    def test_what_a_cache_does_not_have_is_sent(self, served: Served, film: str) -> None:
        for condition in ({"if_none_match": '"x"'}, {"if_modified_since": date(MODIFIED - 1)}):
            answer = get(**condition)
            assert (answer.status, answer.body) == (200, DATA)

    def test_a_condition_that_fails_is_412_with_a_sentence_and_moves_nothing(
        self, served: Served, film: str
    ) -> None:
        for condition in ({"if_match": '"x"'}, {"if_unmodified_since": date(MODIFIED - 1)}):
            answer = get(**condition)
            assert (answer.status, answer.text) == (
                412,
                f"'{NAME}' is not in the state that was asked for.\n",
            )
            assert head(**condition).status == 412
        assert moved_nothing(served)

    def test_a_condition_that_holds_changes_nothing(self, served: Served, film: str) -> None:
        for condition in ({"if_match": film}, {"if_match": "*"}, {"if_unmodified_since": date(MODIFIED)}):
            assert get(**condition).body == DATA
            assert head(**condition).status == 200

    def test_a_browser_gets_the_refusals_on_a_page(self, served: Served, film: str) -> None:
        for status, condition in ((412, {"if-match": '"x"'}), (416, {"range": "bytes=1000000-"})):
            answer = fetch("GET", URL, headers={**BROWSER, **condition})
            assert answer.status == status
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert "film.mp4" in answer.text

    @pytest.mark.parametrize("url", ["/files/.hidden", "/files/a%00b", URL + "?pace=warp"])
    def test_what_cannot_be_asked_for_is_400_under_any_condition(self, served: Served, url: str) -> None:
        assert fetch("GET", url, headers={"range": "bytes=5-", "if-none-match": "*"}).status == 400


class TestHead:
    def test_head_tells_of_ranges_but_has_none(self, served: Served, film: str) -> None:
        for answer in (head(), head(range="bytes=5-9"), head(range="bytes=9999999-")):
            assert (answer.status, answer.body) == (200, b"")
            assert (answer.headers["content-length"], answer.headers["accept-ranges"]) == (str(SIZE), "bytes")
            assert "content-range" not in answer.headers
        assert moved_nothing(served)


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that the file server was asked about with STAT."""
    asked: list[str] = []
    stat = FileVerbs.stat

    def noted(verbs: FileVerbs, request: Stat) -> None:
        asked.append(request.name or "")
        stat(verbs, request)

    monkeypatch.setattr(FileVerbs, "stat", noted)
    return asked


class TestOneState:
    """Between the look at a file and its bytes somebody may replace it."""

    def replace_before_get(
        self, monkeypatch: pytest.MonkeyPatch, served: Served, contents: list[bytes]
    ) -> None:
        asked = AsyncClient.get

        async def get(self: AsyncClient, name: str, **fields: Any) -> Any:
            if contents:
                fresh = served.folder / "fresh"
                fresh.write_bytes(contents.pop(0))
                os.replace(fresh, served.folder / name)
            return await asked(self, name, **fields)

        monkeypatch.setattr(AsyncClient, "get", get)

    def test_a_plain_download_looks_at_nothing_before_it_begins(
        self, served: Served, film: str, stats: list[str]
    ) -> None:
        assert get().status == 200
        assert get(if_range=film).status == 200
        assert stats == []
        assert get(range="bytes=5-").status == 206
        assert stats == [NAME]

    def test_a_file_that_is_replaced_in_between_is_looked_at_again(
        self, served: Served, film: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.replace_before_get(monkeypatch, served, [b"b" * 500, b"c" * 300])
        answer = get(range="bytes=100-")
        assert (answer.status, answer.body) == (206, b"c" * 200)
        assert answer.headers["content-range"] == "bytes 100-299/300"
        assert answer.headers["etag"] == f'"{served.storage.stat(NAME).etag}"'
        assert (row(served).size, row(served).outcome) == (300, "complete")

    def test_the_new_file_is_judged_anew(
        self, served: Served, film: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.replace_before_get(monkeypatch, served, [b"b" * 500])
        whole = get(range="bytes=100-", if_range=film)
        assert (whole.status, whole.body) == (200, b"b" * 500)

        self.replace_before_get(monkeypatch, served, [b"c" * 50])
        assert get(range="bytes=100-").headers["content-range"] == "bytes */50"

        self.replace_before_get(monkeypatch, served, [b"d" * 500])
        now = f'"{served.storage.stat(NAME).etag}"'
        assert get(range="bytes=10-", if_match=now).status == 412

    def test_a_file_that_never_stays_the_same_is_given_up_with_a_sentence(
        self, served: Served, film: str, monkeypatch: pytest.MonkeyPatch, stats: list[str]
    ) -> None:
        changes = [b"x" * number for number in range(1, 100)]
        self.replace_before_get(monkeypatch, served, changes)
        answer = get(range="bytes=0-")
        assert answer.status == 503
        assert answer.text == f"'{NAME}' changes again and again; try again later.\n"
        assert len(stats) == downloads.MAX_LOOKS
        assert moved_nothing(served)

    def test_a_file_that_is_deleted_in_between_is_404(
        self, served: Served, film: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = Storage.open

        def gone(storage: Storage, name: str, *hooks: Any) -> Any:
            (served.folder / NAME).unlink()
            return opened(storage, name, *hooks)

        monkeypatch.setattr(Storage, "open", gone)
        assert get(range="bytes=5-").status == 404


def test_every_ending_closes_the_connection_to_the_file_server(served: Served, film: str) -> None:
    """On a loop that goes on: what is open here would stay open in a real server."""

    async def ask_all() -> None:
        for method in ("GET", "HEAD"):
            for condition in (
                {"range": "bytes=5-9"},
                {"range": "bytes=9999999-"},
                {"if-none-match": "*"},
                {"if-match": '"x"'},
            ):
                await Exchange(method, URL, headers=condition).answer()
        await Exchange("GET", "/files/nothing", headers={"range": "bytes=5-"}).answer()
        deadline = asyncio.get_running_loop().time() + 5
        while served.server.registry.ping()["clients"]:
            assert asyncio.get_running_loop().time() < deadline, "a connection was left open"
            await asyncio.sleep(0.001)

    run(ask_all())
