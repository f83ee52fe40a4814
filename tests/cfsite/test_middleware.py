"""The middleware under ASGI: all of Django's, without a thread for each step of it."""

import asyncio
import re
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string

from cfsite.middleware import MessageMiddleware, OnTheLoop, SessionMiddleware
from tests.files_app.site import HOST, Answer, fetch

pytestmark = pytest.mark.usefixtures("database")

OWN_PAGE = {"origin": f"http://{HOST}", "content-type": "application/x-www-form-urlencoded"}


def note_trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all functions that go to a thread from here on."""
    trips: list[str] = []
    call = SyncToAsync.__call__

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        trips.append(getattr(self.func, "__qualname__", repr(self.func)))
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    return trips


@pytest.mark.parametrize("path", settings.MIDDLEWARE)
def test_none_goes_by_way_of_threads(path: str) -> None:
    used = import_string(path)
    assert issubclass(used, OnTheLoop) == issubclass(used, MiddlewareMixin)


@pytest.mark.parametrize(("path", "view"), [("/", "index"), ("/history/", "history")])
def test_the_view_of_a_page_goes_to_a_thread_and_no_step_of_the_middleware_does(
    path: str, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = note_trips(monkeypatch)
    assert fetch("GET", path).status == 200
    assert view in trips
    assert [trip for trip in trips if "process_" in trip] == []


def test_every_header_is_there_that_the_middleware_gives() -> None:
    headers = fetch("GET", "/").headers
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "same-origin"


def test_a_session_that_begins_with_a_login_is_kept() -> None:
    User.objects.create_superuser("admin", password="correct horse")
    page = fetch("GET", "/admin/login/")
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found
    form = f"csrfmiddlewaretoken={found[1]}&username=admin&password=correct+horse&next=/admin/"
    cookie = f"cfs_csrf={page.cookies['cfs_csrf']}"
    answer = fetch("POST", "/admin/login/", body=form.encode(), headers={**OWN_PAGE, "cookie": cookie})
    assert (answer.status, answer.headers["location"]) == (302, "/admin/")
    session = session_of(answer)
    assert fetch("GET", "/admin/", headers={"cookie": session}).status == 200
    assert fetch("GET", "/admin/").status == 302


def test_a_session_that_no_database_can_be_asked_for_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    load = SessionStore.aload

    async def noted(self: SessionStore) -> Any:
        asked.append(self.session_key)
        return await load(self)

    monkeypatch.setattr(SessionStore, "aload", noted)
    for cookie in ("a" * 30 + "b", '"' + "a" * 30 + '\\000b"'):  # in quotes \\000 is a NUL
        assert fetch("GET", "/admin/", headers={"cookie": f"cfs_session={cookie}"}).status == 302
    assert asked == ["a" * 30 + "b"]


def session_of(answer: Answer) -> str:
    pairs = [value for name, value in answer.all_headers if name == "set-cookie"]
    return next(pair.partition(";")[0] for pair in pairs if pair.startswith("cfs_session="))


def test_a_form_with_a_wrong_token_is_refused() -> None:
    page = fetch("GET", "/admin/login/")
    form = f"csrfmiddlewaretoken={'x' * 64}&username=admin&password=x"
    cookie = f"cfs_csrf={page.cookies['cfs_csrf']}"
    answer = fetch("POST", "/admin/login/", body=form.encode(), headers={**OWN_PAGE, "cookie": cookie})
    assert answer.status == 403


@pytest.mark.parametrize("path", ["/upload", "/history", "/transfers/7/cancel"])
def test_an_address_without_its_slash_leads_to_the_one_with_it_and_a_post_stays_one(path: str) -> None:
    answer = fetch("POST", path, headers=OWN_PAGE)
    assert (answer.status, answer.headers["location"]) == (308, f"{path}/")


def test_a_message_is_kept_and_only_a_message_costs_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    trips = note_trips(monkeypatch)

    async def quiet(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    async def telling(request: HttpRequest) -> HttpResponse:
        messages.info(request, "It is done.")
        return HttpResponse()

    for view, cookies in ((quiet, []), (telling, ["messages"])):
        answer = asyncio.run(SessionMiddleware(MessageMiddleware(view))(AsyncRequestFactory().get("/")))
        assert list(answer.cookies) == cookies
        assert ("MessageMiddleware.process_response" in trips) == bool(cookies)
