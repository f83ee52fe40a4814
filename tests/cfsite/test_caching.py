"""What caches may keep: of every URL, of every kind of answer, there is a line in a table here."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient
from django.urls import resolve

from files_app import urls
from files_app.views import pages as views
from tests.files_app.conftest import Served
from tests.files_app.site import HOST, fetch, run

pytestmark = pytest.mark.usefixtures("database")

OWN_PAGE = {"origin": f"http://{HOST}"}
NAVIGATION = {"accept": "text/html"}
TUS = {**OWN_PAGE, "tus-resumable": "1.0.0"}
NEW_UPLOAD = {**TUS, "upload-length": "3", "upload-metadata": "filename Yy50eHQ="}
FORM = b"--x\r\nContent-Disposition: form-data; name=file; filename=d.txt\r\n\r\nd\r\n--x--\r\n"
FORM_TYPE = {**OWN_PAGE, "content-type": "multipart/form-data; boundary=x"}

NOWHERE = "a" * 26  # the secret part of a link that there is not
NOT_KEPT = [
    # method, URL, status, and what the request needs besides
    ("GET", "/", 200, {}),
    ("HEAD", "/", 200, {}),
    ("POST", "/", 403, {"headers": OWN_PAGE}),
    ("GET", "/", 200, {"headers": {"hx-request": "true"}}),
    ("GET", "/?q=a&page=9", 200, {}),
    ("GET", "/history/", 200, {}),
    ("GET", "/history/", 200, {"headers": {"hx-request": "true"}}),
    ("GET", "/history", 308, {}),
    ("GET", "/history/recent/", 200, {}),
    ("GET", "/api/files", 200, {}),
    ("GET", "/api/history", 200, {}),
    ("GET", "/api/status", 200, {}),
    ("PUT", "/api/status", 403, {"headers": OWN_PAGE}),
    ("GET", "/files/a.txt", 200, {}),
    ("HEAD", "/files/a.txt", 200, {}),
    ("GET", "/files/a.txt", 206, {"headers": {"range": "bytes=0-1"}}),
    ("GET", "/files/a.txt", 416, {"headers": {"range": "bytes=99-"}}),
    ("GET", "/files/a.txt", 304, {"headers": {"if-none-match": "*"}}),
    ("GET", "/files/a.txt", 412, {"headers": {"if-match": '"x"'}}),
    ("GET", "/files/a.txt?direct=1", 302, {}),  # with a ticket
    ("GET", "/files/nothing", 404, {}),
    ("GET", "/files/nothing", 404, {"headers": NAVIGATION}),
    ("PUT", "/files/new.txt", 201, {"headers": OWN_PAGE, "body": b"x"}),
    ("PUT", "/files/a.txt", 409, {"headers": OWN_PAGE, "body": b"x"}),
    ("PUT", "/files/a.txt", 403, {"headers": {"origin": "http://other.example"}, "body": b"x"}),
    ("DELETE", "/files/b.txt", 204, {"headers": OWN_PAGE}),
    ("POST", "/files/a.txt", 405, {"headers": OWN_PAGE}),
    ("POST", "/uploads/", 201, {"headers": NEW_UPLOAD}),
    ("POST", "/uploads", 201, {"headers": NEW_UPLOAD}),
    ("POST", "/uploads/", 412, {"headers": OWN_PAGE}),
    ("HEAD", "/uploads/0123456789abcdef0123456789abcdef", 404, {"headers": TUS}),
    ("DELETE", "/uploads/0123456789abcdef0123456789abcdef", 404, {"headers": TUS}),
    ("POST", "/upload/", 302, {"headers": FORM_TYPE, "body": FORM}),
    ("POST", "/upload/", 400, {"headers": OWN_PAGE}),
    ("POST", "/transfers/1/cancel/", 403, {"headers": OWN_PAGE}),
    ("GET", "/transfers/1/cancel/", 405, {}),
    ("GET", "/admin/", 302, {}),
    ("GET", "/admin/login/", 200, {}),
    ("GET", "/nothing", 404, {}),
    ("GET", "/static/nothing.css", 404, {}),
    ("GET", "/", 401, {"client": ("192.168.0.7", 5000)}),
    ("GET", "/", 302, {"client": ("192.168.0.7", 5000), "headers": NAVIGATION}),
    ("GET", "/login/", 200, {}),
    ("POST", "/login/", 403, {"headers": OWN_PAGE}),
    ("GET", "/account/", 302, {}),
    ("GET", "/address/", 404, {}),
    ("GET", "/account/tokens/", 401, {}),
    ("POST", "/account/tokens/7/revoke/", 403, {"headers": OWN_PAGE}),
    ("GET", "/access/", 200, {}),
    ("GET", "/links/", 401, {}),
    ("GET", "/links/new/", 401, {}),
    ("GET", "/links/7/", 401, {}),
    ("POST", "/links/7/revoke/", 403, {"headers": OWN_PAGE}),
    ("POST", "/links/7/rebind/", 403, {"headers": OWN_PAGE}),
    ("GET", f"/s/{NOWHERE}/", 404, {}),
    ("GET", f"/s/{NOWHERE}/files/a.txt", 404, {}),
    ("GET", f"/d/{NOWHERE}/", 404, {}),
    ("GET", f"/d/{NOWHERE}/receipts/", 404, {}),
    ("POST", f"/d/{NOWHERE}/upload/", 404, {"headers": OWN_PAGE}),
    ("POST", f"/d/{NOWHERE}/uploads/", 404, {"headers": NEW_UPLOAD}),
    ("HEAD", f"/d/{NOWHERE}/uploads/7", 404, {"headers": TUS}),
    ("PUT", f"/d/{NOWHERE}/files/a.txt", 404, {"headers": OWN_PAGE, "body": b"x"}),
    ("POST", "/logout/", 403, {"headers": OWN_PAGE}),
    ("POST", "/account/sessions/end/", 403, {"headers": OWN_PAGE}),
]
KEPT = ["/static/css/site.css", "/static/js/app.js", "/static/favicon.svg", "/static/admin/css/base.css"]


@pytest.fixture
def _files(served: Served) -> None:
    for name in ("a.txt", "b.txt"):
        served.put(name, b"hello")


@pytest.mark.usefixtures("_files")
@pytest.mark.parametrize(("method", "url", "status", "request_"), NOT_KEPT)
def test_no_cache_keeps_it(method: str, url: str, status: int, request_: dict[str, Any]) -> None:
    answer = fetch(method, url, **request_)
    assert answer.status == status
    assert [value for name, value in answer.all_headers if name == "cache-control"] == ["no-store"]
    assert status != 304 or "content-type" not in answer.headers


def test_every_url_of_the_site_is_in_the_table() -> None:
    asked = {resolve(url.partition("?")[0]).route for _, url, *_ in NOT_KEPT if _is_ours(url)}
    assert asked >= {str(pattern.pattern) for pattern in urls.urlpatterns}


def _is_ours(url: str) -> bool:
    return not url.startswith(("/static/", "/admin/", "/nothing")) and url != "/history"


def test_the_state_of_an_upload_is_not_kept_as_tus_wants_it(served: Served) -> None:
    place = fetch("POST", "/uploads/", headers=NEW_UPLOAD).headers["location"]
    answer = fetch("HEAD", place, headers=TUS)
    assert (answer.status, answer.headers["cache-control"]) == (200, "no-store")


def test_a_mistake_of_ours_and_a_foreign_host_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", "django")
    monkeypatch.setattr(views, "files_context", lambda request: 1 // 0)
    for answer, status in ((fetch("GET", "/"), 500), (fetch("GET", "/", host="evil.example"), 400)):
        assert (answer.status, answer.headers["cache-control"]) == (status, "no-store")


def test_pages_of_somebody_who_is_logged_in_are_not_kept() -> None:
    user = User.objects.create_superuser("admin", password="correct horse")

    async def look(path: str) -> Any:
        client = AsyncClient(headers={"host": HOST})
        await client.aforce_login(user)
        return await client.get(path)

    for path in ("/admin/", "/admin/files_app/transfer/"):
        answer = run(look(path))
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize("url", KEPT)
def test_static_files_may_be_kept_and_asked_for_anew(url: str) -> None:
    answer = fetch("GET", url)
    assert answer.headers["cache-control"] == "max-age=60, public"
    again = fetch("GET", url, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", answer.headers["etag"])
    assert "content-type" not in again.headers
