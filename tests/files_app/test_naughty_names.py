"""Names that have broken other programs: each is taken and given back whole, or refused by its rule."""

import asyncio
import base64
import json
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest

from fileserver.events import FileDeleted, TransferStarted
from fileserver.names import BadName, check_portable, composed
from tests.files_app.conftest import Served, serving
from tests.files_app.site import Answer, ask, run

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def served(folder: Path, database: None, settings: Any) -> Iterator[Served]:
    """One whose catalogue looks now and then only: it would look at thousands of files all the time."""
    with serving(folder) as running:
        settings.SERVER_HOST, settings.SERVER_PORT = running.server.address
        yield running


STRINGS: list[str] = json.loads(
    (Path(__file__).parents[1] / "data" / "naughty-strings.json").read_text("utf-8")
)
MORE = [
    *(
        "'single'.txt",
        '"double".txt',
        "`back`.txt",
        "100%.txt",
        "%2e%2e%2f",
        "%00",
        "a%20b",
        "%",
        "%%",
        "%zz",
    ),
    *(
        "a b",
        " a",
        "a ",
        "a;b",
        "a&b=c",
        "a#b",
        "a?b",
        "a+b",
        "a@b",
        "{}",
        '{"name": 1}',
        "[1]",
        "~",
        "-rf",
        "--",
    ),
    *(
        "👩‍👩‍👧‍👦.txt",
        "🏳️‍🌈",
        "\u202etxt.exe",
        "\u200fa\u200e",
        "\ufeff",
        "\u00ad",
        "\u2028",
        "\U0010ffff",
        "\ufffd",
    ),
    *("x" * 255, "x" * 256, "é" * 127, "é" * 128, "ｆ" * 85, "日本語/ファイル.txt", "a/" * 400 + "b"),
    *(
        "PUT",
        "OK {}",
        "x HTTP/1.1",
        "a\r\nb",
        "a\tb",
        "a\x7f",
        "nul",
        "COM1.txt",
        ".",
        "..",
        "...",
        ".a",
        "a.",
    ),
]
NAMES = sorted(
    {unicodedata.normalize(form, text) for text in [*STRINGS, *MORE] for form in ("NFC", "NFD")}
    | {*STRINGS, *MORE}
)

Send = Callable[[str, bytes], Awaitable[Answer]]


async def put(name: str, content: bytes) -> Answer:
    return await ask("PUT", f"/files/{quote(name, safe='/')}", body=content)


async def tus(name: str, content: bytes) -> Answer:
    headers = {
        "tus-resumable": "1.0.0",
        "content-type": "application/offset+octet-stream",
        "upload-length": str(len(content)),
        "upload-metadata": "filename " + base64.b64encode(name.encode()).decode(),
    }
    return await ask("POST", "/uploads/", body=content, headers=headers)


def stored_name(answer: Answer) -> str:
    return unquote(answer.headers["stored-name"]) if "stored-name" in answer.headers else answer.json["name"]


async def fault_of(send: Send, served: Served, name: str, content: bytes) -> str:
    """What is wrong with how the site treats this name; empty if nothing is."""
    answer = await send(name, content)
    stored = composed(name)  # found by either form
    try:
        check_portable(stored)
    except BadName as error:
        right = (answer.status, answer.text) == (400, f"{error}\n")
        return "" if right else f"{name!r}: {answer.status} {answer.text!r} in place of {error}"
    if answer.status != 201 or stored_name(answer) != stored:
        return f"{name!r}: {answer.status} {answer.text!r}"
    if (served.folder / stored).read_bytes() != content:
        return f"{name!r}: the file has another content"
    if send is tus:  # it is one file, however it came
        return ""
    back = await ask("GET", f"/files/{quote(name, safe='/')}")
    return "" if (back.status, back.body) == (200, content) else f"{name!r}: comes back as {back.status}"


@pytest.mark.parametrize("send", [put, tus])
def test_a_name_is_taken_and_given_back_or_refused_by_its_rule(served: Served, send: Send) -> None:
    async def all_of_them() -> list[str]:
        faults = []
        for number, name in enumerate(NAMES):
            # In a folder of its own, for some of them are folders of others.
            faults.append(await fault_of(send, served, f"{number}/{name}", b"content %d" % number))
        return [fault for fault in faults if fault]

    assert len(NAMES) > 500
    assert run(asyncio.wait_for(all_of_them(), 120)) == []


@pytest.mark.parametrize("name", [name for name in MORE if "/" not in name], ids=repr)
def test_a_name_alone_is_never_a_mistake_of_ours(served: Served, name: str) -> None:
    for send in (put, tus):
        assert run(send(name, b"x")).status in (201, 400, 409)


NFC, NFD = "caf\u00e9/\u00fc.txt", "cafe\u0301/u\u0308.txt"


@pytest.mark.parametrize("send", [put, tus])
@pytest.mark.parametrize("asked", [NFC, NFD])
def test_a_decomposed_name_is_kept_composed_and_found_by_either(
    served: Served, send: Send, asked: str
) -> None:
    answer = run(send(NFD, b"content"))
    assert (answer.status, stored_name(answer)) == (201, NFC)
    url = f"/files/{quote(asked)}"
    assert run(ask("GET", url)).body == b"content"
    assert run(ask("HEAD", url)).headers["content-length"] == "7"
    assert run(ask("GET", url, headers={"range": "bytes=3-"})).body == b"tent"
    direct = urlsplit(run(ask("GET", url + "?direct=1")).headers["location"])
    with served.peer() as peer:
        peer.send(f"GET {direct.path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert peer.rest().endswith(b"\r\n\r\ncontent")
    names = {event.name for event in served.events if isinstance(event, TransferStarted)}
    assert names == {NFC}  # the history, too, has one name for it
    assert run(send(NFD, b"content")).status == 409
    assert run(ask("DELETE", url)).status == 204
    assert [path for path in served.folder.rglob("*") if path.is_file() and ".cfs" not in str(path)] == []
    assert [event.name for event in served.events if isinstance(event, FileDeleted)] == [NFC]


def test_an_upload_with_a_decomposed_name_goes_on_over_tcp_under_either(served: Served) -> None:
    with served.peer() as peer:
        upload = peer.ask("PUT", name=NFD, size=2, length=1)["upload"]
        peer.send(b"1")
        peer.end()
        assert peer.ask("STAT", upload=upload)["name"] == NFC
        for name in (NFC, NFD):
            assert peer.ask("PUT", name=name, size=2, upload=upload, offset=1, length=0)["upload"] == upload
            peer.end()
        peer.ask("PUT", name=NFD, size=2, upload=upload, offset=1)
        peer.send(b"2")
        assert peer.end()["name"] == NFC
        assert peer.ask("STAT", name=NFD)["name"] == NFC
