"""How the site speaks to the file server, and what its answers mean over HTTP."""

from typing import Any

import pytest
from django.test import RequestFactory

from files_app.views import relay
from files_app.views.relay import (
    HTTP_STATUS,
    TITLES,
    Offline,
    connect,
    error_response,
    on_behalf_of,
    server_address,
)
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served
from tests.files_app.site import run

REFUSALS_OF_A_REQUEST = {
    *("bad-request", "bad-name", "bad-range", "not-found", "not-a-file", "exists", "changed", "busy"),
    *("denied", "auth-required", "too-large", "no-space", "checksum", "not-running", "timeout"),
    "shutting-down",
}


def test_each_refusal_has_a_status_of_its_own() -> None:
    assert set(HTTP_STATUS) >= REFUSALS_OF_A_REQUEST
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


def test_a_mistake_of_the_file_server_is_that_of_a_gateway() -> None:
    assert {HTTP_STATUS["internal"], HTTP_STATUS["unknown-verb"]} == {502}


@pytest.mark.parametrize(
    ("host", "port", "address"), [("127.0.0.1", 9999, "127.0.0.1:9999"), ("::1", 9999, "[::1]:9999")]
)
def test_the_address_is_that_of_the_settings(settings: Any, host: str, port: int, address: str) -> None:
    settings.SERVER_HOST, settings.SERVER_PORT = host, port
    assert server_address() == address


def test_the_connection_may_speak_for_others(served: Served) -> None:
    served.put("a.txt", b"x")

    async def ask() -> None:
        async with await connect() as client:
            download = await client.get("a.txt", client="[::1]:5", user="maria", principal="local", via="web")
            async for _ in download:
                pass
            await client.request("RECEIPT", id=download.id)

    run(ask())
    row = served.row_of(1)
    assert (row.client, row.user, row.via, row.outcome) == ("[::1]:5", "maria", "web", "complete")


@pytest.mark.parametrize("port", [1, 70_000, -1])
def test_where_nobody_listens_the_site_is_offline(settings: Any, port: int) -> None:
    settings.SERVER_PORT = port
    with pytest.raises(Offline, match=r"is not running. Start it with: python manage.py runfileserver"):
        run(connect())


def test_a_site_with_another_key_is_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "relay_token", lambda: "wrong")
    with pytest.raises(Offline, match="does not know this site"):
        run(connect())


@pytest.mark.parametrize(
    ("address", "port", "client"),
    [("127.0.0.1", 5000, "127.0.0.1:5000"), ("::1", 5000, "[::1]:5000"), ("127.0.0.1", None, "127.0.0.1")],
)
def test_a_browser_is_named_by_its_address(address: str, port: int | None, client: str) -> None:
    request = RequestFactory().get("/", REMOTE_ADDR=address)
    if port is not None:
        request.META["REMOTE_PORT"] = port
    request.META["HTTP_HOST"] = "localhost"
    expected = {"client": client, "user": None, "principal": "local", "via": "web"}
    assert on_behalf_of(request) == expected


@pytest.mark.parametrize("status", [*TITLES, 502])
def test_a_sentence_is_a_page_for_who_navigates_and_text_for_everybody_else(status: int) -> None:
    factory = RequestFactory()
    page = error_response(factory.get("/", HTTP_ACCEPT="text/html"), status, "A <b>sentence</b>.")
    text = error_response(factory.get("/", HTTP_ACCEPT="*/*"), status, "A <b>sentence</b>.")
    form = error_response(factory.post("/", HTTP_ACCEPT="text/html"), status, "A <b>sentence</b>.")
    assert (page.status_code, text.status_code, form.status_code) == (status, status, status)
    assert "A &lt;b&gt;sentence&lt;/b&gt;." in form.content.decode()
    assert "A &lt;b&gt;sentence&lt;/b&gt;." in page.content.decode()
    assert text.content == b"A <b>sentence</b>.\n"
    assert text["Content-Type"] == "text/plain; charset=utf-8"


def test_a_refused_request_is_an_error_with_its_code(served: Served) -> None:
    async def ask() -> None:
        async with await connect() as client:
            await client.request("STAT", name="nothing")

    with pytest.raises(ErrorReply) as refusal:
        run(ask())
    assert refusal.value.code == "not-found"


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML", True),
        ("text/html;q=0.5, text/plain;q=0.1", True),
        ("*/*", False),
        ("", False),
        ("text/plain", False),
        ("application/json", False),
        ("text/html;q=0", False),
        ("not text/html at all", False),
        ("text/html-but-longer", False),
    ],
)
def test_a_refusal_is_a_page_for_whoever_would_rather_have_one(accept: str, is_page: bool) -> None:
    answer = error_response(RequestFactory().get("/", headers={"accept": accept}), 404, "It is not there.")
    assert answer.headers["content-type"].startswith("text/html") == is_page
