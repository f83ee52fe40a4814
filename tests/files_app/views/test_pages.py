"""The site over HTTP: pages, files and JSON, with what they answer when things go wrong."""

import asyncio
import logging
import os
import re
import socket
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from files_app.models import File, Transfer
from files_app.views import lists
from files_app.views import pages as views
from fileserver.events import TransferFinished, TransferStarted
from fileserver.limits import Limits
from fileserver.storage.base import Entry
from fileserver.storage.folder import Storage
from fileserver.storage.writer import UploadWriter
from fileserver.wire import replies
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served, serving
from tests.files_app.rows import NOW, make_file, make_transfer
from tests.files_app.site import HOST, Answer, Exchange, ask, fetch, run
from tests.servers import numbered_bytes, sha256, wait_until

pytestmark = pytest.mark.usefixtures("database")

BROWSER = {"accept": "text/html,application/xhtml+xml"}
OWN_PAGE = {"origin": f"http://{HOST}"}
EVIL = '<img src=x onerror="alert(1)">'
BIG = 12 << 20


def row(served: Served) -> Transfer:
    """The one row of the history, with its ending."""
    wait_until(lambda: served.events.of(TransferFinished))
    served.settle()
    return Transfer.objects.get()


@pytest.fixture
def offline(settings: Any) -> Iterator[None]:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.SERVER_HOST, settings.SERVER_PORT = taken.getsockname()
        yield


class TestDownload:
    def test_a_download_is_the_file_with_headers_that_keep_it_a_file(self, served: Served) -> None:
        data = numbered_bytes(1_000_000)
        served.put("week 3/notes.html", data)
        answer = fetch("GET", "/files/week%203/notes.html")
        state = served.storage.stat("week 3/notes.html")
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["content-length"] == "1000000"
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == 'attachment; filename="notes.html"'
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["etag"] == f'"{state.etag}"'
        assert parsedate_to_datetime(answer.headers["last-modified"]).timestamp() == int(state.mtime)
        assert "set-cookie" not in answer.headers

    def test_a_whole_download_is_one_complete_row_via_web_for_the_browsers_address(
        self, served: Served
    ) -> None:
        served.put("a.txt", b"hello")
        fetch("GET", "/files/a.txt", client=("127.0.0.1", 51_234))
        done = row(served)
        assert (done.via, done.client, done.outcome) == ("web", "127.0.0.1:51234", "complete")
        assert (done.done, done.direction, done.name) == (5, "download", "a.txt")

    def test_an_ipv6_browser_is_named_with_brackets(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        fetch("GET", "/files/a.txt", client=("::1", 51_234), host="[::1]:8000")
        assert row(served).client == "[::1]:51234"

    @pytest.mark.parametrize("delivered", [True, False])
    def test_a_download_is_complete_only_when_the_browsers_system_has_it(
        self, served: Served, delivered: bool
    ) -> None:
        served.put("a.txt", b"hello")
        fetch("GET", "/files/a.txt", delivered=delivered)
        assert row(served).outcome == ("complete" if delivered else "aborted")

    def test_an_empty_file_is_downloaded_too(self, served: Served) -> None:
        served.put("empty.txt", b"")
        answer = fetch("GET", "/files/empty.txt")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
        assert row(served).outcome == "complete"

    @pytest.mark.parametrize(
        ("name", "disposition"),
        [
            ("plain.txt", 'attachment; filename="plain.txt"'),
            ("two words.txt", 'attachment; filename="two words.txt"'),
            ('say "hi".txt', r'attachment; filename="say \"hi\".txt"'),
            ("Übung.txt", "attachment; filename*=utf-8''%C3%9Cbung.txt"),
            ("🎉.txt", "attachment; filename*=utf-8''%F0%9F%8E%89.txt"),
            ("a;b,c=d.txt", 'attachment; filename="a;b,c=d.txt"'),
            ("100%.txt", 'attachment; filename="100%.txt"'),
            ("?#&.txt", 'attachment; filename="?#&.txt"'),
        ],
    )
    def test_the_browser_keeps_the_file_under_its_own_name(
        self, served: Served, name: str, disposition: str
    ) -> None:
        served.put(name, b"x")
        answer = fetch("GET", File.objects.get().get_absolute_url())
        assert (answer.status, answer.headers["content-disposition"]) == (200, disposition)

    def test_a_download_in_slow_motion_is_paced(self, served: Served) -> None:
        served.put("a.txt", b"x" * 1500)
        answer = fetch("GET", "/files/a.txt?pace=slow-motion")
        assert answer.body == b"x" * 1500
        assert row(served).pace == "1000 bytes each 0.2 s"

    def test_another_pace_is_refused(self, served: Served) -> None:
        served.put("a.txt", b"x")
        answer = fetch("GET", "/files/a.txt?pace=warp")
        assert (answer.status, answer.text) == (
            400,
            "The only pace that can be asked for is slow-motion.\n",
        )
        assert not served.events.of(TransferStarted)

    def test_a_file_dated_beyond_the_calendar_can_be_had(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        served.put("a.txt", b"x")
        monkeypatch.setattr("fileserver.sessions.files._file_fields", _dated_far_away)  # of HEAD
        monkeypatch.setattr(replies, "content_ok", partial(_content_dated_far_away, replies.content_ok))
        for method in ("GET", "HEAD"):
            answer = fetch(method, "/files/a.txt")
            assert (answer.status, answer.headers["last-modified"]) == (200, "Fri, 31 Dec 9999 23:59:59 GMT")

    def test_a_browser_that_leaves_makes_one_aborted_row(self, served: Served) -> None:
        served.put("big.bin", bytes(BIG))

        async def leave() -> int:
            exchange, got = Exchange("GET", "/files/big.bin"), 0
            await exchange.next()
            while got < 1_000_000:
                got += len((await exchange.next())["body"])
            await exchange.cut()
            return got

        got = run(leave())
        left = row(served)
        assert (left.outcome, left.error, left.via) == ("aborted", "disconnected", "web")
        assert 0 < got <= left.done < BIG

    def test_a_browser_that_leaves_before_the_first_byte_makes_one_aborted_row(self, served: Served) -> None:
        served.put("a.txt", b"hello")

        async def leave() -> None:
            exchange = Exchange("GET", "/files/a.txt")
            # There is no room for the start of the response: the application waits in its first send.
            exchange._outgoing.put_nowait({"type": "in the way"})
            while not served.events.of(TransferStarted):  # noqa: ASYNC110 - told by another thread
                await asyncio.sleep(0.001)
            await exchange.cut()
            # All of this on a loop that goes on: the connection must be closed, not left to the loop's end.
            deadline = asyncio.get_running_loop().time() + 5
            while not served.events.of(TransferFinished):
                assert asyncio.get_running_loop().time() < deadline, "the connection was left open"
                await asyncio.sleep(0.001)

        run(leave())
        assert row(served).outcome == "aborted"

    def test_a_browser_that_reads_slowly_holds_the_file_servers_thread_back(self, served: Served) -> None:
        served.put("big.bin", bytes(4 * BIG))

        async def read_slowly() -> None:
            exchange = Exchange("GET", "/files/big.bin")
            await exchange.next()
            await exchange.next()
            live = served.server.registry.live()[0]
            before, same = -1, 0
            while same < 20:  # until nothing moves any more
                await asyncio.sleep(0.01)
                same = same + 1 if live.done == before else 0
                before = live.done
            assert live.done < 3 * BIG
            await exchange.cut()

        run(read_slowly())
        assert row(served).outcome == "aborted"

    def test_a_cancelled_download_never_looks_whole(self, served: Served) -> None:
        served.put("big.bin", bytes(BIG))
        aborted: list[bool] = []

        async def cancel() -> None:
            exchange = Exchange("GET", "/files/big.bin", delivered=True)
            exchange.scope["extensions"]["cfsite.abort"] = lambda: aborted.append(True)
            await exchange.next()
            served.server.registry.cancel(served.events.of(TransferStarted)[0].id)
            got = 0
            while (message := await exchange.next()).get("more_body"):
                got += len(message["body"])
            assert got < BIG
            await asyncio.wait_for(exchange.task, 5)

        run(cancel())
        assert aborted == [True]
        assert row(served).outcome == "cancelled"


def _dated_far_away(file: Any) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "mtime": 1e13, "etag": file.etag}


def _content_dated_far_away(content_ok: Any, key: int, file: Any, *rest: Any) -> Any:
    return content_ok(key, Entry(file.name, file.size, 1e13, file.etag), *rest)


class TestHead:
    def test_head_tells_what_get_would_and_starts_no_transfer(self, served: Served) -> None:
        served.put("a b.txt", b"hello")
        get, head = fetch("GET", "/files/a%20b.txt"), fetch("HEAD", "/files/a%20b.txt")
        assert (head.status, head.body) == (200, b"")
        changing = {"date"}
        assert {k: v for k, v in head.headers.items() if k not in changing} == get.headers
        served.settle()
        assert len(served.events.of(TransferStarted)) == 1
        assert Transfer.objects.count() == 1

    def test_head_of_what_is_not_there_is_404(self, served: Served) -> None:
        assert fetch("HEAD", "/files/nothing").status == 404


class TestRefusals:
    @pytest.mark.parametrize(
        ("url", "status", "words"),
        [
            ("/files/nothing.txt", 404, "There is no file 'nothing.txt'"),
            ("/files/folder", 404, "not a regular file"),
            ("/files/../settings.py", 400, "cannot be used"),
            ("/files/%2e%2e/x", 400, "cannot be used"),
            ("/files//etc/passwd", 400, "cannot be used"),
            ("/files/.hidden", 400, "begins with a dot"),
            ("/files/a%00b", 400, "control character"),
            ("/files/a%0Ab", 400, "control character"),
            ("/files/a%5Cb", 400, "backslash"),
            ("/files/folder/", 400, "empty part"),
            ("/files/" + "x" * 300, 400, "longer than 255 bytes"),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    def test_a_name_that_cannot_be_had_is_refused_with_a_sentence(
        self, served: Served, method: str, url: str, status: int, words: str
    ) -> None:
        served.put("folder/x.txt", b"x")
        answer = fetch(method, url)
        assert answer.status == status
        assert words in answer.text
        assert str(served.folder) not in answer.text
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"

    def test_a_browser_gets_the_sentence_on_a_page(self, served: Served) -> None:
        answer = fetch("GET", "/files/nothing.txt", headers=BROWSER)
        assert answer.status == 404
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "There is no file &#x27;nothing.txt&#x27;" in answer.text
        assert "<h1>Not found</h1>" in answer.text

    @pytest.mark.parametrize("method", ["POST", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
    def test_other_methods_are_405_and_say_which_there_are(self, served: Served, method: str) -> None:
        answer = fetch(method, "/files/a.txt")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, PUT, DELETE")

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("bad-range", 416),
            ("changed", 412),
            ("denied", 403),
            ("auth-required", 401),
            ("too-large", 413),
            ("busy", 503),
            ("shutting-down", 503),
            ("no-space", 507),
            ("checksum", 422),
            ("internal", 502),
            ("something-new", 502),
        ],
    )
    def test_each_refusal_of_the_file_server_has_its_status(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, code: str, status: int
    ) -> None:
        def refuse(*args: Any) -> Any:
            raise ErrorReply(code, "A sentence.")

        monkeypatch.setattr(Storage, "open", refuse)
        answer = fetch("GET", "/files/a.txt")
        assert (answer.status, answer.text) == (status, "A sentence.\n")

    def test_a_file_server_that_is_full_is_503(self, folder: Path, settings: Any, quick_looks: None) -> None:
        with serving(folder, Limits(max_clients=1)) as served, served.client() as client:
            client.request("PING")
            settings.SERVER_PORT = served.port
            answer = fetch("GET", "/files/a.txt")
        assert answer.status == 503
        assert "try again" in answer.text


class TestUpload:
    def test_an_upload_makes_the_file_and_says_where_it_is(self, served: Served) -> None:
        answer = fetch("PUT", "/files/week%203/a.txt", body=b"hello")
        assert answer.status == 201
        assert answer.headers["location"] == "/files/week%203/a.txt"
        assert answer.json == {"name": "week 3/a.txt", "size": 5, "url": "/files/week%203/a.txt"}
        assert (served.folder / "week 3" / "a.txt").read_bytes() == b"hello"
        done = row(served)
        assert (done.direction, done.via, done.outcome, done.done) == ("upload", "web", "complete", 5)
        assert served.catalogued("week 3/a.txt").sha256 == sha256(b"hello")

    def test_a_large_upload_arrives_whole(self, served: Served) -> None:
        data = numbered_bytes(3 << 20)
        assert fetch("PUT", "/files/big.bin", body=data).status == 201
        assert (served.folder / "big.bin").read_bytes() == data

    def test_an_empty_upload_makes_an_empty_file(self, served: Served) -> None:
        assert fetch("PUT", "/files/empty", body=b"").status == 201
        assert (served.folder / "empty").read_bytes() == b""

    def test_a_name_that_is_taken_is_409_and_stays_as_it_is(self, served: Served) -> None:
        served.put("a.txt", b"old")
        answer = fetch("PUT", "/files/a.txt", body=b"new")
        assert (answer.status, answer.text) == (409, "There is a file 'a.txt' already.\n")
        assert (served.folder / "a.txt").read_bytes() == b"old"

    def test_a_taken_name_can_be_replaced_or_numbered(self, served: Served) -> None:
        served.put("a.txt", b"old")
        assert fetch("PUT", "/files/a.txt?exists=replace", body=b"new").json["name"] == "a.txt"
        answer = fetch("PUT", "/files/a.txt?exists=rename", body=b"second")
        assert (answer.json["name"], answer.headers["location"]) == ("a (1).txt", "/files/a%20%281%29.txt")
        assert (served.folder / "a.txt").read_bytes() == b"new"

    def test_another_word_for_what_to_do_is_400(self, served: Served) -> None:
        assert fetch("PUT", "/files/a.txt?exists=overwrite", body=b"x").status == 400

    @pytest.mark.parametrize("url", ["/files/con", "/files/a:b", "/files/a."])
    def test_a_name_that_not_every_system_can_keep_is_400(self, served: Served, url: str) -> None:
        answer = fetch("PUT", url, body=b"x")
        assert answer.status == 400
        assert "cannot be used" in answer.text
        assert not any(path.is_file() for path in served.folder.rglob("*"))

    @pytest.mark.parametrize("length", ["", "-1", "+5", "five", "5.0", "\xb2", "9" * 5000])
    def test_an_upload_without_a_length_that_is_a_number_is_411(self, served: Served, length: str) -> None:
        answer = fetch("PUT", "/files/a.txt", body=b"hello", headers={"content-length": length})
        assert answer.status == 411
        assert "Content-Length" in answer.text

    def test_an_upload_above_the_limit_is_413(self, folder: Path, settings: Any) -> None:
        with serving(folder, Limits(max_upload_size=4)) as served:
            settings.SERVER_PORT = served.port
            answer = fetch("PUT", "/files/a.txt", body=b"hello")
        assert answer.status == 413
        assert "the limit is 4" in answer.text

    def test_a_disk_that_is_too_small_is_507_before_the_first_byte(self, served: Served) -> None:
        answer = fetch("PUT", "/files/a.txt", headers={"content-length": str(10**17)})
        assert answer.status == 507
        assert "bytes" in answer.text
        assert not served.events.of(TransferStarted)

    def test_a_disk_that_fills_up_meanwhile_is_507(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(self: UploadWriter, data: memoryview) -> None:
            raise ErrorReply("no-space", "The disk is full: 'a.txt' does not fit.")

        monkeypatch.setattr(UploadWriter, "write", refuse)
        answer = fetch("PUT", "/files/a.txt", body=b"hello")
        assert (answer.status, answer.text) == (507, "The disk is full: 'a.txt' does not fit.\n")
        failed = row(served)
        assert (failed.outcome, failed.error) == ("failed", "no-space")

    def test_a_body_that_is_shorter_than_it_said_makes_no_file(self, served: Served) -> None:
        answer = fetch("PUT", "/files/a.txt", body=b"hel", headers={"content-length": "5"})
        assert answer.status >= 400
        assert not (served.folder / "a.txt").exists()
        assert row(served).outcome == "aborted"

    def test_a_browser_that_leaves_before_its_body_is_whole_makes_no_file(self, served: Served) -> None:
        async def leave() -> None:
            headers = {"content-length": "5"}
            exchange = Exchange("PUT", "/files/a.txt", headers=headers, holds_body=True)
            exchange._incoming.put_nowait({"type": "http.request", "body": b"hel", "more_body": True})
            await exchange.cut()

        run(leave())
        assert not (served.folder / "a.txt").exists()


class TestDelete:
    def test_a_deleted_file_is_gone_from_the_folder_and_the_list(self, served: Served) -> None:
        served.put("a.txt", b"x")
        answer = fetch("DELETE", "/files/a.txt")
        assert (answer.status, answer.body) == (204, b"")
        assert not (served.folder / "a.txt").exists()
        wait_until(lambda: not File.objects.exists())

    def test_deleting_what_is_not_there_is_404(self, served: Served) -> None:
        assert fetch("DELETE", "/files/nothing").status == 404


class TestWhoMayChange:
    """A change must come from our own page, or from a program that is no browser."""

    ALLOWED = [
        {},
        {"origin": "http://localhost:8000"},
        {"origin": "HTTP://LOCALHOST:8000"},
        {"origin": "http://localhost:8000", "cookie": "a=b", "sec-fetch-site": "same-origin"},
    ]
    REFUSED = [
        {"origin": "http://localhost:3000"},
        {"origin": "https://localhost:8000"},
        {"origin": "ftp://localhost:8000"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "http://localhost"},
        {"origin": "http://localhost:8000.evil.example"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"cookie": "cfs_session=x"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
    ]

    @pytest.mark.parametrize("headers", ALLOWED)
    def test_our_own_page_and_no_page_may(self, served: Served, headers: dict[str, str]) -> None:
        assert fetch("PUT", "/files/a.txt", body=b"x", headers=headers).status == 201
        assert fetch("DELETE", "/files/a.txt", headers=headers).status == 204

    @pytest.mark.parametrize("headers", REFUSED)
    def test_any_other_page_may_not(self, served: Served, headers: dict[str, str]) -> None:
        served.put("kept.txt", b"x")
        for method, url in (("PUT", "/files/new.txt"), ("DELETE", "/files/kept.txt")):
            answer = fetch(method, url, headers=headers)
            assert answer.status == 403
            assert answer.text == "This change was asked for by another site's page, so it was not made.\n"
        assert sorted(path.name for path in served.folder.iterdir()) == ["kept.txt"]

    def test_a_trusted_origin_of_the_settings_may(self, served: Served, settings: Any) -> None:
        settings.CSRF_TRUSTED_ORIGINS = ["https://files.example"]
        headers = {"origin": "https://files.example"}
        assert fetch("PUT", "/files/a.txt", body=b"x", headers=headers).status == 201

    def test_over_https_the_own_origin_is_https(self, served: Served) -> None:
        for origin, status in (("https://localhost:8000", 201), ("http://localhost:8000", 403)):
            headers = {"origin": origin}
            answer = fetch("PUT", "/files/a.txt", body=b"x", headers=headers, scheme="https")
            assert answer.status == status


class TestCancel:
    def live(self, served: Served) -> Any:
        served.put("big.bin", bytes(BIG))
        return served.peer(receive_buffer=4096)

    def page(self) -> Answer:
        return fetch("GET", "/", headers=BROWSER)

    def test_a_transfer_is_cancelled_with_the_token_of_the_page(self, served: Served) -> None:
        page = self.page()
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert found
        headers = {
            "cookie": f"cfs_csrf={page.cookies['cfs_csrf']}",
            "x-csrftoken": found[1],
            **OWN_PAGE,
        }
        with self.live(served) as peer:
            header = peer.ask("GET", name="big.bin")
            answer = fetch("POST", f"/transfers/{header['id']}/cancel/", headers=headers)
            assert (answer.status, answer.body) == (204, b"")
            assert served.row_of(header["id"]).outcome == "cancelled"
        again = fetch("POST", f"/transfers/{header['id']}/cancel/", headers=headers)
        assert (again.status, again.text) == (404, f"There is no live transfer {header['id']}.\n")

    def test_without_the_token_nothing_is_cancelled(self, served: Served) -> None:
        page = self.page()
        with self.live(served) as peer:
            header = peer.ask("GET", name="big.bin")
            cookie = {"cookie": f"cfs_csrf={page.cookies['cfs_csrf']}"}
            for headers in ({}, OWN_PAGE, cookie, {**cookie, "x-csrftoken": "x" * 64}):
                assert fetch("POST", f"/transfers/{header['id']}/cancel/", headers=headers).status == 403
            assert [live.id for live in served.server.registry.live()] == [header["id"]]

    def test_another_sites_page_cannot_cancel_even_with_the_token(self, served: Served) -> None:
        page = self.page()
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert found
        headers = {
            "cookie": f"cfs_csrf={page.cookies['cfs_csrf']}",
            "x-csrftoken": found[1],
            "origin": "http://localhost:3000",
        }
        assert fetch("POST", "/transfers/1/cancel/", headers=headers).status == 403

    def test_cancel_is_no_link(self, served: Served) -> None:
        assert fetch("GET", "/transfers/1/cancel/").status == 405

    def test_the_cookie_of_the_token_is_out_of_reach_of_scripts_and_other_sites(self, served: Served) -> None:
        cookie = self.page().headers["set-cookie"]
        assert cookie.startswith("cfs_csrf=")
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie


class TestOffline:
    SENTENCE = "Start it with: python manage.py runfileserver"

    @pytest.mark.parametrize(
        ("method", "url"),
        [
            ("GET", "/files/a.txt"),
            ("HEAD", "/files/a.txt"),
            ("PUT", "/files/a.txt"),
            ("DELETE", "/files/a.txt"),
        ],
    )
    def test_a_file_is_503_with_the_command_that_starts_the_server(
        self, offline: None, settings: Any, method: str, url: str
    ) -> None:
        answer = fetch(method, url, body=b"x" if method == "PUT" else b"")
        assert answer.status == 503
        assert f"127.0.0.1:{settings.SERVER_PORT}" in answer.text
        assert self.SENTENCE in answer.text

    def test_a_browser_gets_the_command_on_a_page(self, offline: None) -> None:
        answer = fetch("GET", "/files/a.txt", headers=BROWSER)
        assert answer.status == 503
        assert self.SENTENCE in answer.text
        assert "<h1>The file server is not available</h1>" in answer.text

    def test_status_is_503_with_the_command(self, offline: None) -> None:
        answer = fetch("GET", "/api/status")
        assert answer.status == 503
        assert self.SENTENCE in answer.text

    def test_the_pages_still_list_files_and_history(self, offline: None) -> None:
        make_file("kept.txt")
        make_transfer(name="moved.txt")
        assert "kept.txt" in fetch("GET", "/").text
        assert "moved.txt" in fetch("GET", "/history/").text
        assert fetch("GET", "/api/files").json["files"][0]["name"] == "kept.txt"
        assert fetch("GET", "/api/history").json["transfers"][0]["name"] == "moved.txt"

    @pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\xff\xfe\n", b"OK\n"])
    def test_a_stranger_on_the_port_is_503_and_not_a_mistake_of_ours(
        self, settings: Any, greeting: bytes
    ) -> None:
        async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(greeting)
            writer.close()
            await writer.wait_closed()

        async def visit() -> Answer:
            server = await asyncio.start_server(stranger, "127.0.0.1", 0)
            async with server:
                settings.SERVER_HOST, settings.SERVER_PORT = server.sockets[0].getsockname()
                return await ask("GET", "/files/a.txt")

        assert run(visit()).status == 503

    def test_a_file_server_that_breaks_off_is_502_or_503(self, served: Served, settings: Any) -> None:
        async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b'OK {"user": null, "can": []}\n')
            await reader.readline()
            writer.close()
            await writer.wait_closed()

        async def visit() -> Answer:
            server = await asyncio.start_server(breaks_off, "127.0.0.1", 0)
            async with server:
                settings.SERVER_PORT = server.sockets[0].getsockname()[1]
                return await ask("GET", "/files/a.txt")

        answer = run(visit())
        assert answer.status in (502, 503)
        assert answer.text.endswith(".\n")


def listed(answer: Answer) -> list[str]:
    return [file["name"] for file in answer.json["files"]]


class TestPages:
    def test_the_page_lists_files_and_recent_transfers(self) -> None:
        make_file("notes.txt", size=2048)
        make_transfer(name="moved.txt", outcome="complete")
        answer = fetch("GET", "/", headers=BROWSER)
        assert answer.status == 200
        assert 'data-name="notes.txt"' in answer.text
        assert "2.0\N{NO-BREAK SPACE}KiB" in answer.text
        assert "moved.txt" in answer.text
        assert 'href="/files/notes.txt"' in answer.text

    def test_what_has_not_ended_is_in_the_history_and_not_among_the_recent(self) -> None:
        make_transfer(name="moving.txt")  # or waiting, or left by a server that died: the history cannot know
        make_transfer(name="moved.txt", outcome="complete")
        for url in ("/", "/history/recent/"):
            text = fetch("GET", url).text
            assert "moved.txt" in text
            assert "moving.txt" not in text
        history = fetch("GET", "/history/").text
        assert history.count("Not ended") == 2  # the row, and what can be filtered by
        assert "Running" not in history

    def test_the_page_allows_no_script_but_its_own(self) -> None:
        answer = fetch("GET", "/")
        policy = dict(
            part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert " style=" not in answer.text
        assert "<script>" not in answer.text
        assert not re.search(r"\son\w+=", answer.text)

    def test_htmx_gets_the_table_alone(self) -> None:
        make_file("a.txt")
        for url in ("/", "/history/"):
            whole, part = fetch("GET", url), fetch("GET", url, headers={"hx-request": "true"})
            assert "<html" in whole.text
            assert "<html" not in part.text
            assert "HX-Request" in part.headers["vary"]

    def test_an_empty_site_says_so(self) -> None:
        assert "No files yet" in fetch("GET", "/").text
        assert "No transfers yet" in fetch("GET", "/history/").text
        assert fetch("GET", "/history/recent/").status == 200

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("notes", ["notes.txt"]),
            ("TXT%20notes", ["notes.txt"]),
            ("%25", ["100%.txt"]),
            ("_", ["a_b.txt"]),
            ("nothing", []),
        ],
    )
    def test_search_finds_words_and_takes_no_character_for_a_wildcard(
        self, query: str, found: list[str]
    ) -> None:
        for name in ("100%.txt", "a_b.txt", "notes.txt"):
            make_file(name)
        assert listed(fetch("GET", f"/api/files?q={query}")) == found
        page = fetch("GET", f"/?q={query}").text
        assert re.findall(r'<tr role="row" data-name="([^"]+)"', page) == found

    @pytest.mark.parametrize(
        "query",
        ["%ED%A0%80", "%F0%9F%8E%89", "a+" * 4000, "x" * 8000, "%25" * 2000, "%5C", "%27%22", "+"],
    )
    @pytest.mark.parametrize("url", ["/", "/history/", "/api/files", "/api/history"])
    def test_no_search_is_a_mistake_of_ours(self, url: str, query: str) -> None:
        make_file("a.txt")
        assert fetch("GET", f"{url}?q={query}").status == 200

    def test_files_are_sorted_and_an_unknown_order_is_by_name(self) -> None:
        make_file("b.txt", size=1)
        make_file("a.txt", size=2)
        assert listed(fetch("GET", "/api/files?sort=size")) == ["b.txt", "a.txt"]
        assert listed(fetch("GET", "/api/files?sort=-size")) == ["a.txt", "b.txt"]
        assert listed(fetch("GET", "/api/files?sort=transfers__user")) == ["a.txt", "b.txt"]
        assert 'name="sort" value="name"' in fetch("GET", "/?sort=evil").text

    def test_long_lists_are_paged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lists, "PER_PAGE", 2)
        for number in range(5):
            make_file(f"{number}.txt")
        last = fetch("GET", "/api/files?page=3").json
        assert (last["count"], last["page"], last["pages"]) == (5, 3, 3)
        assert [file["name"] for file in last["files"]] == ["4.txt"]
        page = fetch("GET", "/?q=txt&sort=-name&page=2").text
        assert "Page 2 of 3" in page
        assert 'href="/?q=txt&amp;sort=-name&amp;page=3"' in page

    @pytest.mark.parametrize(
        ("page", "number"),
        [("0", 2), ("-1", 2), ("99999999999999999999", 2), ("x", 1), ("%C2%B2", 1), ("", 1)],
    )
    def test_a_page_that_there_is_not_is_the_nearest(
        self, monkeypatch: pytest.MonkeyPatch, page: str, number: int
    ) -> None:
        monkeypatch.setattr(lists, "PER_PAGE", 1)
        make_file("a.txt")
        make_file("b.txt")
        assert fetch("GET", f"/api/files?page={page}").json["page"] == number

    def test_the_history_is_filtered_by_outcome_direction_and_way(self) -> None:
        make_transfer(name="one", outcome="complete")
        make_transfer(name="two", outcome="failed", error="checksum", via="web")
        make_transfer(name="three", direction="upload", outcome="complete", via="web")

        def found(query: str) -> list[str]:
            return sorted(row["name"] for row in fetch("GET", f"/api/history?{query}").json["transfers"])

        assert found("outcome=complete") == ["one", "three"]
        assert found("via=web") == ["three", "two"]
        assert found("direction=upload&via=web") == ["three"]
        assert found("outcome=complete&q=one") == ["one"]
        assert found("outcome=nonsense&direction=sideways&via=pigeon") == ["one", "three", "two"]
        page = fetch("GET", "/history/?outcome=failed").text
        assert 'data-name="two"' in page
        assert 'data-name="one"' not in page
        assert '<option value="failed" selected>' in page

    def test_a_page_of_history_asks_the_database_no_question_for_each_row(self) -> None:
        def questions() -> int:
            with CaptureQueriesContext(connection) as asked:
                assert views.history(RequestFactory().get("/history/")).status_code == 200
            return len(asked)

        make_transfer(file=make_file("0.txt"))
        few = questions()
        for number in range(1, 20):
            make_transfer(file=make_file(f"{number}.txt"))
        assert questions() == few

    @pytest.mark.parametrize(("url", "most"), [("/", 2), ("/?page=2&sort=-size", 2), ("/?q=txt", 3)])
    def test_a_page_of_files_counts_them_once_and_asks_no_question_for_each_row(
        self, url: str, most: int
    ) -> None:
        make_file("0.txt")
        for count in (1, 120):
            for number in range(1, count):
                make_transfer(file=make_file(f"{number}.txt"), outcome="complete")
            with CaptureQueriesContext(connection) as asked:
                answer = views.index(RequestFactory().get(url, headers={"HX-Request": "true"}))
            assert f"{count} file".encode() in answer.content
            assert len(asked) == most  # the totals and the page; a search is counted too

    def test_the_newest_transfers_come_first(self) -> None:
        for day in (3, 1, 2):
            make_transfer(name=f"day {day}", started_at=NOW.replace(day=day))
        names = [row["name"] for row in fetch("GET", "/api/history").json["transfers"]]
        assert names == ["day 3", "day 2", "day 1"]

    @pytest.mark.parametrize("url", ["/", "/history/", "/history/recent/", "/api/files", "/api/history"])
    def test_pages_are_only_read(self, url: str) -> None:
        assert fetch("POST", url, headers=OWN_PAGE).status in (403, 405)

    @pytest.mark.parametrize("url", ["/", "/history/", "/history/recent/"])
    def test_head_of_a_page_is_possible(self, url: str) -> None:
        assert fetch("HEAD", url).status == 200

    def test_a_slash_that_is_missing_is_added_and_an_unknown_address_is_404(self) -> None:
        assert fetch("GET", "/history").headers["location"] == "/history/"
        answer = fetch("GET", "/nothing/here/")
        assert answer.status == 404
        assert "There is nothing at this address" in answer.text


class TestJson:
    def test_files_have_all_that_the_page_shows(self) -> None:
        file = make_file("week 3/a.txt", size=5, sha256="f" * 64, added_by="maria")
        make_transfer(file=file, outcome="complete")
        answer = fetch("GET", "/api/files")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json == {
            "count": 1,
            "page": 1,
            "pages": 1,
            "total_size": 5,
            "files": [
                {
                    "name": "week 3/a.txt",
                    "size": 5,
                    "mtime": "2026-05-01T12:00:00Z",
                    "etag": "e",
                    "sha256": "f" * 64,
                    "content_type": "text/plain",
                    "added_at": answer.json["files"][0]["added_at"],
                    "added_by": "maria",
                    "downloads": 1,
                    "url": "/files/week%203/a.txt",
                }
            ],
        }

    def test_a_file_that_is_gone_is_in_no_list_count_or_total_and_no_link_leads_to_it(self) -> None:
        make_file("there.txt", size=5)
        gone = make_file("gone.txt", size=7, gone_at=NOW)
        make_transfer(name="gone.txt", file=gone, outcome="complete")
        answer = fetch("GET", "/api/files").json
        assert ([file["name"] for file in answer["files"]], answer["count"], answer["total_size"]) == (
            ["there.txt"],
            1,
            5,
        )
        assert fetch("GET", "/api/files?q=gone").json["count"] == 0
        page = fetch("GET", "/", headers=BROWSER).text
        assert ('href="/files/there.txt"' in page, 'href="/files/gone.txt"' in page) == (True, False)
        assert "1 file, 5" in page
        history = fetch("GET", "/history/").text
        assert ("gone.txt" in history, 'href="/files/gone.txt"' in history) == (True, False)

    def test_the_history_has_numbers_and_no_formatted_text(self) -> None:
        done = make_transfer(
            outcome="failed",
            error="checksum",
            verified=False,
            done=50,
            finished_at=NOW.replace(second=9),
            seconds=2.0,
        )
        assert fetch("GET", "/api/history").json["transfers"] == [
            {
                "id": done.pk,
                "name": "a.txt",
                "direction": "download",
                "size": 100,
                "offset": 0,
                "length": 100,
                "done": 50,
                "client": "127.0.0.1:5000",
                "user": "",
                "via": "tcp",
                "thread": "ClientThread-1",
                "pace": "",
                "started_at": "2026-05-01T12:00:00Z",
                "finished_at": "2026-05-01T12:00:09Z",
                "outcome": "failed",
                "error": "checksum",
                "verified": False,
                "seconds": 2.0,
                "rate": 25.0,
            }
        ]

    def test_the_status_is_that_of_the_file_server(self, served: Served) -> None:
        status = fetch("GET", "/api/status").json
        assert status["protocol"] == "CFS/1"
        assert status["address"] == f"127.0.0.1:{served.port}"
        assert (status["transfers"], status["max_clients"]) == (0, 1000)
        assert status["folder_error"] is None

    def test_the_status_says_when_the_folder_cannot_be_read(self, served: Served) -> None:
        served.folder.rename(served.folder.with_name("away"))
        error = wait_until(lambda: fetch("GET", "/api/status").json["folder_error"])
        assert error == "The server's folder cannot be read now: No such file or directory."
        answer = fetch("GET", "/files/a.txt", headers=BROWSER)
        assert (answer.status, "The file server is not available" in answer.text) == (503, True)
        served.folder.with_name("away").rename(served.folder)
        wait_until(lambda: fetch("GET", "/api/status").json["folder_error"] is None)


class TestNamesAreText:
    def test_in_the_list_the_history_and_what_was_moved_lately(self) -> None:
        make_transfer(name=EVIL, client=EVIL, user=EVIL, outcome="complete", file=make_file(EVIL))
        for url in ("/", "/history/", "/history/recent/", "/?q=" + "%3Cimg"):
            text = fetch("GET", url).text
            assert EVIL not in text
            assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in text

    @pytest.mark.parametrize("parameter", ["q", "sort", "page", "outcome", "direction", "via"])
    @pytest.mark.parametrize("url", ["/", "/history/"])
    def test_what_is_asked_for_is_text_too(self, url: str, parameter: str) -> None:
        text = fetch("GET", f"{url}?{parameter}=%22%3E%3Cscript%3Ealert(1)%3C/script%3E").text
        assert "<script>alert" not in text
        assert '"><' not in re.sub(r'"><(/?[a-z]|!)', "", text) or "alert(1)" not in text

    def test_on_the_error_page(self, served: Served) -> None:
        answer = fetch("GET", "/files/%3Cscript%3Ealert(1)%3C%2Fscript%3E", headers=BROWSER)
        assert answer.status == 404
        assert "<script>alert" not in answer.text
        assert "&lt;script&gt;alert(1)" in answer.text

    def test_in_plain_answers_that_no_browser_takes_for_a_page(self, served: Served) -> None:
        answer = fetch("GET", "/files/%3Cscript%3E")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_in_json(self) -> None:
        make_file(EVIL)
        answer = fetch("GET", "/api/files")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.json["files"][0]["name"] == EVIL


class TestFromWhere:
    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
    def test_this_machine_is_answered_under_its_own_names(self, host: str) -> None:
        assert fetch("GET", "/", host=host).status == 200

    @pytest.mark.parametrize(
        "host",
        ["rebound.evil.example", "0.0.0.0:8000", "localhost.evil.example", "192.168.0.1", "", "a b", "[::]"],
    )
    @pytest.mark.parametrize("url", ["/", "/files/a.txt", "/static/css/site.css", "/admin/", "/api/files"])
    def test_any_other_name_is_400(self, url: str, host: str, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.CRITICAL, "django.security")
        assert fetch("GET", url, host=host).status == 400

    @pytest.mark.parametrize("address", ["192.168.0.7", "8.8.8.8", "fe80::1", "::", "0.0.0.0"])
    @pytest.mark.parametrize("url", ["/", "/files/a.txt", "/api/files", "/history/", "/api/status"])
    def test_somebody_from_elsewhere_may_nothing_without_a_rule(self, url: str, address: str) -> None:
        answer = fetch("GET", url, client=(address, 5000))
        assert answer.status == 401
        assert answer.text.endswith(".\n")

    def test_what_a_proxy_says_about_the_client_is_not_believed(self) -> None:
        headers = {"x-forwarded-for": "127.0.0.1", "x-real-ip": "127.0.0.1"}
        assert fetch("GET", "/", client=("192.168.0.7", 5000), headers=headers).status == 401
        assert fetch("GET", "/", headers=headers).status == 401


class TestStatic:
    @pytest.mark.parametrize(
        ("url", "kind"),
        [
            ("/static/css/site.css", "text/css"),
            ("/static/js/app.js", "text/javascript"),
            ("/static/favicon.svg", "image/svg+xml"),
            ("/static/admin/css/base.css", "text/css"),
        ],
    )
    def test_static_files_are_served_without_debug(self, settings: Any, url: str, kind: str) -> None:
        assert settings.DEBUG is False
        answer = fetch("GET", url)
        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        assert answer.body

    def test_all_that_a_page_names_is_there(self) -> None:
        page = fetch("GET", "/").text
        named = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page))
        assert named
        for url in named:
            assert fetch("GET", url).status == 200, url

    @pytest.mark.parametrize("url", ["/static/../cfsite/settings.py", "/static/%2e%2e/manage.py", "/static/"])
    def test_nothing_else_is_served_as_static(self, url: str) -> None:
        assert fetch("GET", url).status in (400, 404)


def test_a_mistake_of_ours_is_a_page_without_details(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(views, "files_context", broken)
    answer = fetch("GET", "/")
    assert answer.status == 500
    assert "Something went wrong here" in answer.text
    assert "secret detail" not in answer.text
    assert os.getcwd() not in answer.text
