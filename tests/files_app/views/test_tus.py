"""Uploads over HTTP that go on: tus 1.0 to its letter, and the plain form.

The sentences of https://tus.io/protocols/resumable-upload that say MUST and SHOULD have a test here each.
"""

import asyncio
import base64
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from cfsite.webserver.body import BodyLost
from files_app.models import File, Transfer
from fileserver.events import TransferFinished, TransferStarted
from fileserver.limits import Limits
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served, serving
from tests.files_app.site import HOST, Answer, Exchange, fetch, run
from tests.servers import numbered_bytes, wait_until

pytestmark = pytest.mark.usefixtures("database")

TUS = {"tus-resumable": "1.0.0"}
PART = {**TUS, "content-type": "application/offset+octet-stream"}
NOWHERE = "/uploads/" + "0" * 32
DATA = numbered_bytes(100_000)


def b64(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def metadata(**pairs: str) -> str:
    return ",".join(f"{key} {b64(value)}" for key, value in pairs.items())


def ask_to_create(name: str, size: int, body: bytes = b"", exists: str = "", **headers: str) -> Answer:
    pairs = {"filename": name} | ({"exists": exists} if exists else {})
    given = {**(PART if body else TUS), "upload-length": str(size), "upload-metadata": metadata(**pairs)}
    return fetch("POST", "/uploads/", body=body, headers=given | dashed(headers))


def create(name: str, size: int, body: bytes = b"", exists: str = "") -> str:
    """The URL of a new upload."""
    answer = ask_to_create(name, size, body, exists)
    assert answer.status == 201, answer.text
    return answer.headers["location"]


def patch(url: str, offset: int, data: bytes, **headers: str) -> Answer:
    given = {**PART, "upload-offset": str(offset), "content-length": str(len(data))}
    return fetch("PATCH", url, body=data, headers=given | dashed(headers))


def look(url: str) -> Answer:
    return fetch("HEAD", url, headers=TUS)


def offset_of(url: str) -> int:
    answer = look(url)
    assert answer.status == 200, answer.status
    return int(answer.headers["upload-offset"])


def dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def finished(served: Served, number: int = 1) -> Transfer:
    """The one row of the history, after so many endings."""
    wait_until(lambda: len(served.events.of(TransferFinished)) >= number)
    served.settle()
    return Transfer.objects.get()


async def cut_part(url: str, offset: int, promised: int, data: bytes, served: Served, done: int) -> None:
    """A browser that sends ``data`` of a part with ``promised`` bytes, and goes when the server has them."""
    leave = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield data
        await leave.wait()
        raise BodyLost("gone")

    headers = {**PART, "upload-offset": str(offset), "content-length": str(promised)}
    exchange = Exchange("PATCH", url, headers=headers, stream=body())
    await asyncio.to_thread(
        wait_until, lambda: [t for t in served.server.registry.live() if t.done == done], 10
    )
    leave.set()
    await exchange.cut()


def break_off(url: str, served: Served, data: bytes = DATA[:40_000], offset: int = 0) -> None:
    """After it, ``data`` has come from a part that promised more."""
    run(cut_part(url, offset, len(DATA) - offset, data, served, offset + len(data)))
    # The file server hears of it a moment later.
    wait_until(lambda: all(t.state == "waiting" for t in served.server.registry.live()))


# --- core


class TestCore:
    def test_a_file_sent_in_two_parts_is_there_with_the_second(self, served: Served) -> None:
        url = create("week 3/a.bin", len(DATA))
        first = patch(url, 0, DATA[:60_000])
        assert (first.status, first.headers["upload-offset"], first.body) == (204, "60000", b"")
        assert not (served.folder / "week 3").exists()
        last = patch(url, 60_000, DATA[60_000:])
        assert (last.status, last.headers["upload-offset"]) == (204, str(len(DATA)))
        assert (served.folder / "week 3" / "a.bin").read_bytes() == DATA

    def test_head_tells_offset_and_length_and_is_not_to_be_cached(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        for offset in (0, 10):
            answer = look(url)
            assert (answer.status, answer.body) == (200, b"")
            assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == (
                str(offset),
                str(len(DATA)),
            )
            assert answer.headers["cache-control"] == "no-store"
            assert "stored-name" not in answer.headers
            if not offset:
                patch(url, 0, DATA[:10])

    def test_head_repeats_the_name_of_the_metadata(self, served: Served) -> None:
        answer = look(create("week 3/ä b.bin", 10))
        assert answer.headers["upload-metadata"] == metadata(filename="week 3/ä b.bin")

    def test_head_after_the_end_tells_the_end_and_the_name(self, served: Served) -> None:
        url = create("ü.bin", len(DATA))
        patch(url, 0, DATA)
        answer = look(url)
        assert answer.status == 200
        assert answer.headers["upload-offset"] == answer.headers["upload-length"] == str(len(DATA))
        assert unquote(answer.headers["stored-name"]) == "ü.bin"

    def test_an_empty_part_after_the_end_says_the_same_again(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        patch(url, 0, DATA)
        for _ in range(2):
            answer = patch(url, len(DATA), b"")
            assert (answer.status, answer.headers["stored-name"]) == (204, "a.bin")
        assert Transfer.objects.count() <= 1
        assert [path.name for path in served.folder.iterdir() if path.name[0] != "."] == ["a.bin"]

    @pytest.mark.parametrize("offset", [0, 9, 11, 50, 100])
    def test_a_wrong_offset_is_409_and_changes_nothing(self, served: Served, offset: int) -> None:
        url = create("a.bin", 100)
        patch(url, 0, DATA[:10])
        answer = patch(url, offset, b"x" * min(5, 100 - offset))
        assert (answer.status, "conflict" in answer.headers) == (409, False)
        assert "not" in answer.text
        assert offset_of(url) == 10
        patch(url, 10, DATA[10:100])
        assert (served.folder / "a.bin").read_bytes() == DATA[:100]

    @pytest.mark.parametrize("offset", [0, 99])
    def test_a_wrong_offset_after_the_end_is_409_too(self, served: Served, offset: int) -> None:
        url = create("a.bin", 100)
        patch(url, 0, DATA[:100])
        assert patch(url, offset, b"x").status == 409
        assert (served.folder / "a.bin").read_bytes() == DATA[:100]

    @pytest.mark.parametrize(("offset", "size"), [(0, 101), (10, 91), (99, 2)])
    def test_a_part_that_goes_beyond_the_end_is_413_and_changes_nothing(
        self, served: Served, offset: int, size: int
    ) -> None:
        url = create("a.bin", 100)
        if offset:
            patch(url, 0, DATA[:offset])
        answer = patch(url, offset, b"x" * size)
        assert (answer.status, f"only {100 - offset} are missing" in answer.text) == (413, True)
        assert offset_of(url) == offset

    @pytest.mark.parametrize("kind", ["", "application/octet-stream", "text/plain"])
    def test_a_part_of_another_type_is_415(self, served: Served, kind: str) -> None:
        url = create("a.bin", 100)
        assert patch(url, 0, b"x", content_type=kind).status == 415
        assert offset_of(url) == 0

    def test_a_part_without_a_length_is_411(self, served: Served) -> None:
        url = create("a.bin", 100)
        assert patch(url, 0, b"x", content_length="").status == 411

    @pytest.mark.parametrize("offset", ["", "-1", "1.0", "x", "１", "9" * 19])
    def test_an_offset_that_is_no_number_is_400(self, served: Served, offset: str) -> None:
        url = create("a.bin", 100)
        given = offset.encode().decode("latin-1")
        assert patch(url, 0, b"x", upload_offset=given).status == 400
        assert offset_of(url) == 0

    @pytest.mark.parametrize(
        "url", [NOWHERE, "/uploads/nothing", "/uploads/..", "/uploads/%00", "/uploads/{}"]
    )
    def test_an_upload_that_is_not_there_is_404_without_an_offset(self, served: Served, url: str) -> None:
        for answer in (look(url), patch(url, 0, b"x"), fetch("DELETE", url, headers=TUS)):
            assert (answer.status, "upload-offset" in answer.headers) == (404, False)

    def test_while_somebody_writes_to_it_nobody_with_another_offset_can(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        upload = url.rpartition("/")[2]
        with served.peer() as peer:
            peer.ask("PUT", name="a.bin", size=len(DATA), upload=upload, length=10)
            answer = patch(url, 1, b"x")
            assert (answer.status, "writing" in answer.text) == (423, True)
            peer.send(DATA[:10])
            peer.end()
        assert offset_of(url) == 10

    def test_a_part_that_breaks_off_keeps_what_has_come(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        break_off(url, served)
        assert offset_of(url) == 40_000
        assert patch(url, 40_000, DATA[40_000:]).status == 204
        assert (served.folder / "a.bin").read_bytes() == DATA

    def test_a_part_with_fewer_bytes_than_it_said_keeps_them(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        answer = patch(url, 0, DATA[:10], content_length="20")
        assert answer.status == 502
        wait_until(lambda: offset_of(url) == 10)


class TestTakeOver:
    def test_a_part_takes_over_from_one_whose_line_died_without_a_word(self, served: Served) -> None:
        url = create("a.bin", len(DATA))

        async def both() -> tuple[Answer, Answer, Answer]:
            async def body() -> AsyncIterator[bytes]:
                yield DATA[:40_000]
                await asyncio.Event().wait()  # a browser that is not there any more

            headers = {**PART, "upload-offset": "0", "content-length": str(len(DATA))}
            old = Exchange("PATCH", url, headers=headers, stream=body())
            live = served.server.registry.live
            await asyncio.to_thread(wait_until, lambda: live()[0].done == 40_000)
            asked = await Exchange("HEAD", url, headers=TUS).answer()
            headers = {**PART, "upload-offset": "40000"}
            new = await Exchange("PATCH", url, headers=headers, body=DATA[40_000:]).answer()
            return asked, new, await old.answer()

        asked, new, old = run(both())
        assert asked.headers["upload-offset"] == "40000"
        assert (new.status, new.headers["upload-offset"]) == (204, str(len(DATA)))
        assert (old.status, old.text) == (423, "Another client has resumed this upload.\n")
        assert (served.folder / "a.bin").read_bytes() == DATA
        row = finished(served)
        assert (row.outcome, row.done, row.length) == ("complete", len(DATA), len(DATA))
        assert len(served.events.of(TransferStarted)) == 1


class TestVersion:
    @pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0", "2.0.0"])
    @pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
    def test_another_version_is_412_and_ours_is_named(
        self, served: Served, method: str, version: str | None
    ) -> None:
        url = create("a.bin", 100)
        headers = {
            **PART,
            "upload-offset": "0",
            "upload-length": "1",
            "upload-metadata": metadata(filename="b"),
        }
        headers = {k: v for k, v in headers.items() if k != "tus-resumable"}
        if version is not None:
            headers["tus-resumable"] = version
        target = "/uploads/" if method == "POST" else url
        answer = fetch(method, target, body=b"x" if method == "PATCH" else b"", headers=headers)
        assert answer.status == 412
        assert (answer.headers["tus-version"], answer.headers["tus-resumable"]) == ("1.0.0", "1.0.0")
        assert offset_of(url) == 0
        assert not [path.name for path in served.folder.iterdir() if path.name == "b"]

    def test_every_answer_names_the_version(self, served: Served) -> None:
        url = create("a.bin", 10)
        answers = [
            *(look(url), look(NOWHERE), patch(url, 0, b"x"), patch(url, 0, b"x"), ask_to_create("b", 1)),
            *(ask_to_create("..", 1), fetch("GET", url), fetch("DELETE", url, headers=TUS)),
            ask_to_create("c", 1, origin="http://evil.example"),
        ]
        assert {answer.headers.get("tus-resumable") for answer in answers} == {"1.0.0"}

    @pytest.mark.parametrize("url", ["/uploads/", NOWHERE])
    def test_options_tells_what_there_is_whatever_the_version(
        self, served: Served, settings: Any, url: str
    ) -> None:
        answer = fetch("OPTIONS", url)
        assert (answer.status, answer.body) == (200, b"")
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-extension"].split(",") == [
            *("creation", "creation-with-upload", "termination", "expiration", "checksum"),
        ]
        assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
        assert "tus-max-size" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("access-control")]
        settings.MAX_UPLOAD_SIZE = 1000
        assert fetch("OPTIONS", url, headers={"tus-resumable": "9"}).headers["tus-max-size"] == "1000"

    @pytest.mark.parametrize(
        ("method", "url"), [("GET", "/uploads/"), ("PUT", "/uploads/"), ("PATCH", "/uploads/")]
    )
    def test_other_methods_of_the_collection_are_405(self, served: Served, method: str, url: str) -> None:
        answer = fetch(method, url, headers=TUS)
        assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, POST")

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    def test_other_methods_of_an_upload_are_405(self, served: Served, method: str) -> None:
        answer = fetch(method, create("a.bin", 10), headers=TUS)
        assert (answer.status, answer.headers["allow"]) == (405, "OPTIONS, HEAD, PATCH, DELETE")

    def test_a_method_can_be_named_in_a_header(self, served: Served) -> None:
        url = create("a.bin", 10)
        headers = {**PART, "upload-offset": "0"}
        answer = fetch("POST", url, body=DATA[:4], headers=headers | {"x-http-method-override": "PATCH"})
        assert (answer.status, offset_of(url)) == (204, 4)
        answer = fetch("POST", url, headers=TUS | {"x-http-method-override": "HEAD"})
        assert answer.headers["upload-offset"] == "4"
        assert fetch("POST", url, headers=TUS | {"x-http-method-override": "DELETE"}).status == 204
        assert look(url).status == 404
        assert fetch("POST", "/uploads/", headers=TUS | {"x-http-method-override": "TRACE"}).status == 405


# --- creation


class TestCreation:
    def test_a_new_upload_has_an_address_and_no_bytes(self, served: Served) -> None:
        answer = ask_to_create("a.bin", 100)
        assert (answer.status, answer.headers["upload-offset"]) == (201, "0")
        assert "stored-name" not in answer.headers
        assert offset_of(answer.headers["location"]) == 0
        assert not (served.folder / "a.bin").exists()

    def test_the_first_bytes_may_come_with_it(self, served: Served) -> None:
        answer = ask_to_create("a.bin", len(DATA), DATA[:30_000])
        assert (answer.status, answer.headers["upload-offset"]) == (201, "30000")
        assert patch(answer.headers["location"], 30_000, DATA[30_000:]).status == 204
        assert (served.folder / "a.bin").read_bytes() == DATA

    def test_a_whole_file_may_come_with_it(self, served: Served) -> None:
        answer = ask_to_create("a b.bin", len(DATA), DATA)
        assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(DATA)))
        assert answer.headers["stored-name"] == "a%20b.bin"
        assert (served.folder / "a b.bin").read_bytes() == DATA

    def test_a_body_of_another_type_is_415_and_makes_no_upload(self, served: Served) -> None:
        answer = ask_to_create("b.bin", 100, DATA[:10], content_type="text/plain")
        assert (answer.status, "location" in answer.headers) == (415, False)
        assert not [path for path in served.folder.rglob("*") if path.is_file()]

    def test_more_bytes_than_the_file_has_are_413(self, served: Served) -> None:
        assert ask_to_create("a.bin", 10, DATA[:11]).status == 413
        assert not (served.folder / "a.bin").exists()

    def test_an_empty_file_is_there_at_once(self, served: Served) -> None:
        answer = ask_to_create("empty", 0)
        assert (answer.status, answer.headers["stored-name"]) == (201, "empty")
        assert (served.folder / "empty").read_bytes() == b""

    @pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "9" * 19])
    def test_a_length_that_is_no_number_is_400(self, served: Served, length: str) -> None:
        answer = ask_to_create("a.bin", 1, upload_length=length)
        assert (answer.status, "Upload-Length" in answer.text) == (400, True)

    def test_a_length_above_the_limit_is_413_and_names_it(self, folder: Path, settings: Any) -> None:
        with serving(folder, Limits(max_upload_size=1000)) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            assert ask_to_create("a.bin", 1001).status == 413  # by the file server
            settings.MAX_UPLOAD_SIZE = 1000
            answer = ask_to_create("a.bin", 1001)
            assert (answer.status, "1000" in answer.text) == (413, True)
            assert ask_to_create("a.bin", 1000).status == 201

    def test_a_disk_that_is_too_small_is_507(self, served: Served) -> None:
        assert ask_to_create("a.bin", 10**17).status == 507

    @pytest.mark.parametrize(
        "header",
        [
            *("filename", "", "filename ", "name YQ==", "filename YQ=", "filename Y", "filename a.txt"),
            *("filename /w==", "filename YQ==,exists ä", "filename YQ== YQ==", "filename YQ==,exists /w=="),
            "filename 7aCA",  # half of a pair of surrogates
        ],
    )
    def test_metadata_that_cannot_be_read_or_has_no_name_is_400(self, served: Served, header: str) -> None:
        answer = ask_to_create("a.bin", 1, upload_metadata=header)
        assert (answer.status, answer.text.startswith("Upload-Metadata must")) == (400, True)

    def test_other_metadata_is_let_by(self, served: Served) -> None:
        header = f"is_confidential, filename {b64('a.bin')} , filetype {b64('text/plain')},,x "
        assert ask_to_create("-", 0, upload_metadata=header).headers["stored-name"] == "a.bin"

    @pytest.mark.parametrize(
        "name",
        [
            "../a",
            "/a",
            "a/../b",
            "a//b",
            ".env",
            "a\0b",
            "a\nb",
            "con.txt",
            "a?",
            "x" * 256,
            "x/" * 600,
        ],
    )
    def test_a_name_that_cannot_be_is_400_with_the_rule_and_leaves_nothing(
        self, served: Served, name: str
    ) -> None:
        answer = ask_to_create(name, 10)
        assert (answer.status, "location" in answer.headers) == (400, False)
        assert answer.text.endswith(".\n")
        assert not [path for path in served.folder.rglob("*") if path.is_file()]

    def test_the_address_may_lack_its_slash(self, served: Served) -> None:
        """A redirect to the one with the slash would be followed with GET, and without the body."""
        headers = {**PART, "upload-length": "3", "upload-metadata": metadata(filename="a.bin")}
        assert fetch("POST", "/uploads", body=b"abc", headers=headers).status == 201
        assert (served.folder / "a.bin").read_bytes() == b"abc"
        assert fetch("OPTIONS", "/uploads").headers["tus-version"] == "1.0.0"

    def test_a_name_that_is_longer_than_a_line_is_400(self, served: Served) -> None:
        assert ask_to_create("x" * 9000, 10).status == 400

    def test_folders_of_the_name_are_made_with_the_file(self, served: Served) -> None:
        url = create("a/b/c.txt", 1)
        assert not (served.folder / "a").exists()
        patch(url, 0, b"x")
        assert (served.folder / "a/b/c.txt").read_bytes() == b"x"

    def test_another_word_for_what_to_do_is_400(self, served: Served) -> None:
        assert ask_to_create("a.bin", 1, exists="overwrite").status == 400

    def test_a_full_file_server_is_503(self, folder: Path, settings: Any, quick_looks: None) -> None:
        with serving(folder, Limits(max_clients=1)) as served, served.client() as other:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            other.request("PING")
            assert ask_to_create("a.bin", 1).status == 503
            assert look(NOWHERE).status == 423


class TestTakenNames:
    def test_a_taken_name_is_409_with_its_reason_before_the_first_byte(self, served: Served) -> None:
        served.put("a.bin", b"old")
        answer = ask_to_create("a.bin", 10)
        assert (answer.status, answer.headers["conflict"]) == (409, "exists")
        assert (served.folder / "a.bin").read_bytes() == b"old"

    def test_it_can_be_replaced(self, served: Served) -> None:
        served.put("a.bin", b"old")
        url = create("a.bin", 3, exists="replace")
        assert (served.folder / "a.bin").read_bytes() == b"old"
        assert patch(url, 0, b"new").headers["stored-name"] == "a.bin"
        assert (served.folder / "a.bin").read_bytes() == b"new"

    def test_both_can_be_kept_and_the_new_name_is_told(self, served: Served) -> None:
        served.put("ä b.bin", b"old")
        url = create("ä b.bin", 3, exists="rename")
        assert unquote(patch(url, 0, b"new").headers["stored-name"]) == "ä b (1).bin"
        assert unquote(look(url).headers["stored-name"]) == "ä b (1).bin"
        assert (served.folder / "ä b (1).bin").read_bytes() == b"new"
        assert finished(served).name == "ä b (1).bin"

    @pytest.mark.parametrize(
        ("decision", "name", "left"),
        [("replace", "a.bin", b"new"), ("rename", "a (1).bin", b"other")],
    )
    def test_one_that_was_taken_meanwhile_keeps_the_bytes_until_somebody_decides(
        self, served: Served, decision: str, name: str, left: bytes
    ) -> None:
        url = create("a.bin", 3)
        served.put("a.bin", b"other")
        answer = patch(url, 0, b"new")
        assert (answer.status, answer.headers["conflict"]) == (409, "exists")
        answer = look(url)
        assert (answer.headers["upload-offset"], "stored-name" in answer.headers) == ("3", False)
        again = patch(url, 3, b"")
        assert (again.status, again.headers["conflict"]) == (409, "exists")
        decided = patch(url, 3, b"", upload_exists=decision)
        assert (decided.status, unquote(decided.headers["stored-name"])) == (204, name)
        assert (served.folder / name).read_bytes() == b"new"
        assert (served.folder / "a.bin").read_bytes() == left

    def test_a_decision_that_is_none_is_400(self, served: Served) -> None:
        url = create("a.bin", 3)
        assert patch(url, 0, b"new", upload_exists="perhaps").status == 400
        assert offset_of(url) == 0


# --- termination, expiration, checksum


class TestTermination:
    def test_an_upload_that_is_given_up_is_gone_with_its_bytes(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        patch(url, 0, DATA[:10])
        assert fetch("DELETE", url, headers=TUS).status == 204
        for answer in (look(url), patch(url, 10, b"x"), fetch("DELETE", url, headers=TUS)):
            assert answer.status == 404
        assert not [path for path in served.folder.rglob("*") if path.is_file()]
        assert finished(served).outcome == "cancelled"

    def test_one_that_is_moving_is_stopped(self, served: Served) -> None:
        url = create("a.bin", len(DATA))

        async def given_up() -> Answer:
            async def body() -> AsyncIterator[bytes]:
                yield DATA[:10]
                await asyncio.Event().wait()

            headers = {**PART, "upload-offset": "0", "content-length": str(len(DATA))}
            moving = Exchange("PATCH", url, headers=headers, stream=body())
            await asyncio.to_thread(wait_until, lambda: served.server.registry.live()[0].done == 10)
            assert (await Exchange("DELETE", url, headers=TUS).answer()).status == 204
            await asyncio.to_thread(served.events.wait_for_kind, TransferFinished)
            await moving.cut()
            return await Exchange("HEAD", url, headers=TUS).answer()

        assert run(given_up()).status == 404
        assert finished(served).outcome == "cancelled"

    def test_a_part_that_somebody_cancels_is_410_so_that_no_client_begins_again(self, served: Served) -> None:
        url = create("a.bin", 10**9)

        async def cancelled() -> Answer:
            more = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                yield DATA[:10]
                await more.wait()
                while True:
                    yield DATA[:10]
                    await asyncio.sleep(0)

            headers = {**PART, "upload-offset": "0", "content-length": str(10**9)}
            moving = Exchange("PATCH", url, headers=headers, stream=body())
            live = served.server.registry.live
            await asyncio.to_thread(wait_until, lambda: live()[0].done == 10)
            with served.client() as other:
                other.request("CANCEL", id=live()[0].id)
            await asyncio.to_thread(served.events.wait_for_kind, TransferFinished)
            more.set()
            return await moving.answer()

        answer = run(cancelled())
        assert (answer.status, "cancelled" in answer.text) == (410, True)

    def test_giving_up_what_is_published_leaves_the_file(self, served: Served) -> None:
        url = create("a.bin", 1, b"x")
        assert fetch("DELETE", url, headers=TUS).status == 204
        assert look(url).status == 404
        assert (served.folder / "a.bin").read_bytes() == b"x"


class TestExpiration:
    def test_every_answer_says_until_when_it_is_kept(self, served: Served) -> None:
        created = ask_to_create("a.bin", 100)
        url = created.headers["location"]
        for answer in (created, patch(url, 0, b"x"), look(url)):
            kept = parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() - time.time()
            assert 24 * 3600 - 60 < kept <= 24 * 3600 + 1

    def test_no_date_is_behind_the_last_that_http_knows(self, folder: Path, settings: Any) -> None:
        with serving(folder, Limits(keep_partial=1e15)) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            created = ask_to_create("a.bin", 100)
            for answer in (created, look(created.headers["location"])):
                assert answer.status in (201, 200)
                assert answer.headers["upload-expires"] == "Fri, 31 Dec 9999 23:59:59 GMT"

    def test_what_is_kept_no_longer_is_404(self, folder: Path, settings: Any, quick_looks: None) -> None:
        with serving(folder) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            url = create("a.bin", 100)
        with serving(folder, Limits(keep_partial=-1.0)) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            assert look(url).status == 404
            assert patch(url, 0, b"x").status == 404


class TestChecksum:
    @pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
    @pytest.mark.parametrize("size", [10, 100_000, 3 << 20])
    def test_a_right_part_is_taken(self, served: Served, algorithm: str, size: int) -> None:
        part = numbered_bytes(size)
        url = create("a.bin", size + 1)
        claim = f"{algorithm} {b64(hashlib.new(algorithm, part).digest())}"
        answer = patch(url, 0, part, upload_checksum=claim)
        assert (answer.status, answer.headers["upload-offset"]) == (204, str(size))
        patch(url, size, b"!")
        assert (served.folder / "a.bin").read_bytes() == part + b"!"

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
    @pytest.mark.parametrize("size", [0, 90, 3 << 20])
    def test_of_a_wrong_part_nothing_is_kept(self, served: Served, algorithm: str, size: int) -> None:
        url = create("a.bin", 4 << 20)
        patch(url, 0, b"0123456789")
        claim = f"{algorithm} {b64(hashlib.new(algorithm, b'other').digest())}"
        answer = patch(url, 10, numbered_bytes(size), upload_checksum=claim)
        assert (answer.status, "checksum" in answer.text) == (460, True)
        assert offset_of(url) == 10

    @pytest.mark.parametrize("claim", ["md5 AAAA", "crc32 AAAA", "", "sha1", "SHA1 AAAA", "sha1 ?", " "])
    def test_a_checksum_that_is_none_is_refused(self, served: Served, claim: str) -> None:
        url = create("a.bin", 100)
        assert patch(url, 0, b"x", upload_checksum=claim).status in (400, 460)
        assert offset_of(url) == 0

    def test_an_algorithm_that_is_not_known_is_400(self, served: Served) -> None:
        url = create("a.bin", 100)
        answer = patch(url, 0, b"x", upload_checksum="md5 AAAA")
        assert (answer.status, "sha1, sha256" in answer.text) == (400, True)

    def test_the_first_part_may_have_one(self, served: Served) -> None:
        right = f"sha1 {b64(hashlib.sha1(b'x').digest())}"
        assert ask_to_create("a.bin", 1, b"y", upload_checksum=right).status == 460
        assert not (served.folder / "a.bin").exists()
        assert ask_to_create("a.bin", 1, b"x", upload_checksum=right).status == 201


# --- who may


class TestWhoMay:
    OWN = [{}, {"origin": f"http://{HOST}"}, {"origin": f"http://{HOST}", "cookie": "a=b"}]
    FOREIGN = [
        {"origin": "http://localhost:3000"},
        {"origin": "https://localhost:8000"},
        {"origin": "null"},
        {"origin": ""},
        {"cookie": "cfs_session=x"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "cross-site"},
    ]

    @pytest.mark.parametrize("headers", OWN)
    def test_our_own_page_and_no_page_may(self, served: Served, headers: dict[str, str]) -> None:
        url = ask_to_create("a.bin", 10, **headers).headers["location"]
        assert patch(url, 0, b"x", **headers).status == 204
        assert fetch("DELETE", url, headers=TUS | headers).status == 204

    @pytest.mark.parametrize("headers", FOREIGN)
    def test_any_other_page_may_not(self, served: Served, headers: dict[str, str]) -> None:
        url = create("a.bin", 10)
        override = TUS | headers | {"x-http-method-override": "DELETE"}
        answers = [
            ask_to_create("b.bin", 10, **headers),
            patch(url, 0, b"x", **headers),
            fetch("DELETE", url, headers=TUS | headers),
            fetch("POST", url, headers=override),
            fetch("HEAD", url, headers=override),
            fetch("OPTIONS", url, headers=override),
        ]
        assert [answer.status for answer in answers] == [403] * 6
        assert offset_of(url) == 0


class TestOffline:
    @pytest.fixture
    def gone(self, served: Served) -> str:
        """An upload whose file server has ended."""
        url = create("a.bin", 10)
        served.server.shutdown(grace=0)
        return url

    def test_a_look_is_423_for_clients_take_other_refusals_for_the_end(self, gone: str) -> None:
        assert look(gone).status == 423

    def test_everything_else_is_503_with_what_to_do(self, gone: str) -> None:
        for answer in (
            ask_to_create("b.bin", 10),
            patch(gone, 0, b"x"),
            fetch("DELETE", gone, headers=TUS),
        ):
            assert answer.status == 503
            assert "manage.py runfileserver" in answer.text

    @pytest.mark.parametrize("said", [b"", b'ERR {"code": "shutting-down", "message": "It ends."}\n'])
    def test_a_file_server_that_ends_while_it_is_asked_is_423_for_a_look(
        self, settings: Any, said: bytes
    ) -> None:
        async def ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b'OK {"user": null, "can": []}\n')
            await reader.readline()
            writer.write(said)
            writer.close()
            await writer.wait_closed()

        async def visit() -> Answer:
            server = await asyncio.start_server(ends, "127.0.0.1", 0)
            async with server:
                settings.SERVER_HOST, settings.SERVER_PORT = server.sockets[0].getsockname()
                return await Exchange("HEAD", NOWHERE, headers=TUS).answer()

        assert run(visit()).status == 423


# --- one row


class TestRows:
    def test_all_parts_are_one_transfer_live_and_in_the_history(self, served: Served) -> None:
        with served.client() as watching:
            lines = watching.watch()
            next(lines)
            url = create("a.bin", 1000)
            seen = [self.row_of(lines, lambda row: row["state"] == "waiting" and not row["done"])]
            for offset in range(0, 1000, 250):
                patch(url, offset, DATA[offset : offset + 250])
                if offset < 750:
                    seen.append(self.row_of(lines, lambda row: row["done"] == offset + 250))  # noqa: B023
            ended = next(line["ended"] for line in lines if line["ended"])
        assert {row["id"] for row in [*seen, *ended]} == {seen[0]["id"]}
        assert [row["done"] for row in seen] == [0, 250, 500, 750]
        assert [(row["outcome"], row["done"]) for row in ended] == [("complete", 1000)]
        row = finished(served)
        assert (row.outcome, row.done, row.length, row.offset) == ("complete", 1000, 1000, 0)
        assert (row.via, row.direction, row.client) == ("web", "upload", "127.0.0.1:50000")
        assert len(served.events.of(TransferStarted)) == 1

    @staticmethod
    def row_of(lines: Iterator[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return next(row for line in lines for row in line["transfers"] if wanted(row))

    def test_an_upload_that_waits_is_counted_and_not_ended(self, served: Served) -> None:
        create("a.bin", 1000)
        with served.client() as client:
            line = next(client.watch())
        assert (line["status"]["waiting"], line["status"]["transfers"]) == (1, 1)
        served.settle()
        assert Transfer.objects.get().outcome == "running"

    def test_one_that_has_waited_too_long_goes_on_in_the_same_row(self, served: Served) -> None:
        url = create("a.bin", len(DATA))
        break_off(url, served)
        served.server.registry.end_waiting(0.0, "aborted", "stalled")
        row = finished(served)
        assert (row.outcome, row.error, row.done) == ("aborted", "stalled", 40_000)
        assert patch(url, 40_000, DATA[40_000:]).status == 204
        again = finished(served, 2)
        assert (again.pk, again.outcome, again.error, again.done) == (row.pk, "complete", "", len(DATA))
        assert again.started_at == row.started_at
        assert again.file == File.objects.get(name="a.bin")

    def test_a_restart_of_the_file_server_before_the_first_byte_makes_no_second_row(
        self, folder: Path, settings: Any, quick_looks: None
    ) -> None:
        with serving(folder) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            url = create("a.bin", 10)
        with serving(folder) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            assert patch(url, 0, DATA[:10]).status == 204
            row = finished(served)
        assert (row.outcome, row.done) == ("complete", 10)

    def test_a_break_in_each_run_of_the_file_server_is_one_row(
        self, folder: Path, settings: Any, quick_looks: None
    ) -> None:
        url = ""
        for step in range(4):
            with serving(folder) as served:
                settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
                url = url or create("a.bin", len(DATA))
                break_off(url, served, DATA[step * 1000 : (step + 1) * 1000], step * 1000)
            row = Transfer.objects.get()
            assert (row.outcome, row.done) == ("aborted", (step + 1) * 1000)
        with serving(folder) as served:
            settings.SERVER_HOST, settings.SERVER_PORT = served.server.address
            assert patch(url, 4000, DATA[4000:]).status == 204
            row = finished(served)
        assert (row.outcome, row.done) == ("complete", len(DATA))
        assert (folder / "a.bin").read_bytes() == DATA

    def test_a_disk_that_fills_up_ends_the_row_as_failed_and_keeps_nothing(
        self, served: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*args: Any) -> None:
            raise ErrorReply("no-space", "The disk is full.")

        url = create("a.bin", 100)
        monkeypatch.setattr("fileserver.storage.writer.UploadWriter.write", refuse)
        assert patch(url, 0, b"x").status == 507
        assert finished(served).error == "no-space"
        assert look(url).status == 404
