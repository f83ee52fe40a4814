"""Every door of the site, with the rights that it asks for, and who gets through it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.urls import URLPattern, URLResolver, get_resolver

from files_app.access.policy import REFUSALS
from files_app.access.snapshot import SERVER_RIGHTS, snapshots
from files_app.live.consumers import MESSAGES
from files_app.live.routing import websocket_urlpatterns
from files_app.models import AccessRule
from files_app.models.rules import RIGHTS
from files_app.urls import BY_LINK
from tests.files_app.conftest import TOKEN, Served, logged_in
from tests.files_app.site import HOST, Answer, fetch
from tests.files_app.views.test_tus import PART, TUS, create, metadata

NAME = r"(?P<name>[\s\S]+)"
NOWHERE = "a" * 26
UPLOADS = f"/d/{NOWHERE}/uploads/"
FILE = r"^files/(?P<name>[\s\S]+)\Z"
UPLOAD = "uploads/<str:upload_id>"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OWN_PAGE = {"origin": f"http://{HOST}", "cookie": f"cfs_csrf={TOKEN}", "x-csrftoken": TOKEN}
FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="new.txt"\r\n\r\nhello\r\n--x--\r\n'
REPLACING = b'--x\r\nContent-Disposition: form-data; name="exists"\r\n\r\nreplace\r\n' + FORM
FORM_TYPE = {"content-type": "multipart/form-data; boundary=x"}
NEW = {**TUS, "upload-length": "5", "upload-metadata": metadata(filename="new.txt")}
NEW_OR_OTHER = {**NEW, "upload-metadata": metadata(filename="a.txt", exists="replace")}
LAST = {**PART, "upload-offset": "0"}

ELSEWHERE = ("192.0.2.7", 5000)


class Door(NamedTuple):
    """``needs``: the rights without each of which it is closed; of alternatives, one is enough."""

    route: str
    method: str
    needs: list[str]
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""
    is_for_accounts: bool = False  # it is open to everybody who has one, and to nobody else
    is_for_all: bool = False


ADD_OR_REPLACE = ["add", "replace"]
DOORS = [
    Door("", "GET", ["list add"], "/"),
    Door("", "HEAD", ["list add"], "/"),
    Door("", "GET", ["list add"], "/", {"hx-request": "true"}),
    Door(FILE, "GET", ["get"], "/files/a.txt"),
    Door(FILE, "GET", ["get"], "/files/a.txt?direct=1"),
    Door(FILE, "HEAD", ["get"], "/files/a.txt"),
    Door(FILE, "PUT", ["add"], "/files/new.txt", body=b"hello"),
    Door(FILE, "PUT", ADD_OR_REPLACE, "/files/a.txt?exists=replace", body=b"other"),
    Door(FILE, "PUT", ADD_OR_REPLACE, "/files/a.txt", {"if-match": "*"}, b"other"),
    Door(FILE, "DELETE", ["delete"], "/files/a.txt"),
    Door("uploads", "POST", ["add"], "/uploads", NEW),
    Door("uploads", "OPTIONS", [], "/uploads", is_for_all=True),
    Door("uploads/", "POST", ["add"], "/uploads/", NEW),
    Door("uploads/", "POST", ADD_OR_REPLACE, "/uploads/", NEW_OR_OTHER),
    Door("uploads/", "OPTIONS", [], "/uploads/", is_for_all=True),
    Door(UPLOAD, "HEAD", ["add"], "/uploads/{upload}", TUS),
    Door(UPLOAD, "PATCH", ["add"], "/uploads/{upload}", LAST, b"hello"),
    Door(
        UPLOAD, "PATCH", ADD_OR_REPLACE, "/uploads/{upload}", {**LAST, "upload-exists": "replace"}, b"hello"
    ),
    Door(UPLOAD, "DELETE", ["add"], "/uploads/{upload}", TUS),
    Door(UPLOAD, "OPTIONS", [], "/uploads/{upload}", is_for_all=True),
    Door("upload/", "POST", ["add"], "/upload/", FORM_TYPE, FORM),
    Door("upload/", "POST", ADD_OR_REPLACE, "/upload/", FORM_TYPE, REPLACING),
    Door("history/", "GET", [], "/history/", is_for_accounts=True),
    Door("history/", "HEAD", [], "/history/", is_for_accounts=True),
    Door("history/recent/", "GET", [], "/history/recent/", is_for_all=True),
    Door("history/recent/", "HEAD", [], "/history/recent/", is_for_all=True),
    Door("transfers/<int:transfer_id>/cancel/", "POST", ["control"], "/transfers/7/cancel/"),
    Door("api/files", "GET", ["list"], "/api/files"),
    Door("api/history", "GET", [], "/api/history", is_for_accounts=True),
    Door("api/status", "GET", ["watch"], "/api/status"),
    Door("access/", "GET", ["manage"], "/access/"),
    Door("links/", "GET", [], "/links/", is_for_accounts=True),
    Door("links/new/", "GET", [], "/links/new/", is_for_accounts=True),
    Door("links/new/", "POST", [], "/links/new/", is_for_accounts=True),
    Door("links/<int:pk>/", "GET", [], "/links/7/", is_for_accounts=True),
    Door("links/<int:pk>/", "POST", [], "/links/7/", is_for_accounts=True),
    Door("links/<int:pk>/revoke/", "POST", [], "/links/7/revoke/", is_for_accounts=True),
    Door("links/<int:pk>/rebind/", "POST", [], "/links/7/rebind/", is_for_accounts=True),
    # Whoever has an address gets in, as far as test_shares.py and test_drops.py say; this one leads nowhere.
    Door(f"^s/{BY_LINK}/\\Z", "GET", [], f"/s/{NOWHERE}/", is_for_all=True),
    Door(f"^s/{BY_LINK}/\\Z", "POST", [], f"/s/{NOWHERE}/", is_for_all=True),
    Door(rf"^s/{BY_LINK}/files/{NAME}\Z", "GET", [], f"/s/{NOWHERE}/files/a.txt", is_for_all=True),
    Door(f"^d/{BY_LINK}/\\Z", "GET", [], f"/d/{NOWHERE}/", is_for_all=True),
    Door(f"^d/{BY_LINK}/\\Z", "POST", [], f"/d/{NOWHERE}/", is_for_all=True),
    Door(f"^d/{BY_LINK}/receipts/\\Z", "GET", [], f"/d/{NOWHERE}/receipts/", is_for_all=True),
    Door(f"^d/{BY_LINK}/upload/\\Z", "POST", [], f"/d/{NOWHERE}/upload/", FORM_TYPE, FORM, is_for_all=True),
    *(
        Door(
            f"^d/{BY_LINK}/uploads/{rest}\\Z", method, [], f"/d/{NOWHERE}/uploads/{end}", TUS, is_for_all=True
        )
        for method in METHODS
        for rest, end in (("", ""), ("(?P<upload_id>[^/]+)", "7"))
    ),
    Door(rf"^d/{BY_LINK}/files/{NAME}\Z", "PUT", [], f"/d/{NOWHERE}/files/a.txt", body=b"x", is_for_all=True),
    Door("address/", "GET", [], "/address/", is_for_all=True),
    Door("address/", "HEAD", [], "/address/", is_for_all=True),
    Door("login/", "GET", [], "/login/", is_for_all=True),
    Door("login/", "POST", [], "/login/", is_for_all=True),
    Door("login/", "OPTIONS", [], "/login/", is_for_all=True),
    Door("login/", "PUT", [], "/login/", is_for_all=True),
    Door("account/tokens/", "GET", [], "/account/tokens/", is_for_accounts=True),
    Door("account/tokens/", "POST", [], "/account/tokens/", is_for_accounts=True),
    Door("account/tokens/<int:pk>/revoke/", "POST", [], "/account/tokens/7/revoke/", is_for_accounts=True),
    Door("logout/", "POST", [], "/logout/", is_for_all=True),
    Door("logout/", "OPTIONS", [], "/logout/", is_for_all=True),
    Door("account/sessions/end/", "POST", [], "/account/sessions/end/", is_for_accounts=True),
]
# Nobody is logged in there, and the form of the login is empty.
NOT_LOCALLY = {
    *("account/sessions/end/", "login/"),
    *(door.route for door in DOORS if "links/" in door.route or "tokens/" in door.route),
}
# Django's own views: one leads all who are not logged in to the login, and one is that of the admin.
OWN = {"account/", "admin/login/"}
SOCKETS = ["ws/live/", ""]  # the last one refuses everything
SAID = ["refresh"]
ALL = (*RIGHTS, *SERVER_RIGHTS)


def go_through(door: Door, headers: dict[str, str] | None = None, **more: Any) -> Answer:
    url = door.url
    if "{upload}" in url:
        url = create("new.txt", 5)
    given = {**OWN_PAGE, **door.headers, **(headers or {})}
    return fetch(door.method, url, body=door.body, headers=given, **more)


def routes(patterns: list[Any], above: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = above + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route
        elif isinstance(pattern, URLResolver) and route != "admin/":  # Django's own, with its own rights
            yield from routes(pattern.url_patterns, route)


def test_every_url_is_in_the_list() -> None:
    assert set(routes(get_resolver().url_patterns)) == {*OWN, *(door.route for door in DOORS)}


@pytest.mark.parametrize("route", dict.fromkeys(door.route for door in DOORS))
def test_a_method_that_is_not_in_the_list_is_not_possible(served: Served, route: str) -> None:
    doors = {door.method: door for door in DOORS if door.route == route}
    some = next(iter(doors.values()))
    for method in METHODS:
        if method not in doors and (method, "GET") != ("HEAD", next(iter(doors))):
            answer = go_through(Door(route, method, [], some.url, TUS))
            assert answer.status == 405, method


def is_open(answer: Answer) -> bool:
    """There is no transfer to cancel, no link, and no name in a form; after some changes one is led to the
    page."""
    location = answer.headers.get("location", "")
    return (answer.status < 400 and not location.startswith("/login/")) or answer.status in (400, 404)


def left(served: Served) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in served.folder.glob("*.txt")}


by_url = {"argvalues": DOORS, "ids": [f"{door.method} {door.url}" for door in DOORS]}


@pytest.mark.parametrize("door", **by_url)
def test_a_door_is_open_to_whoever_has_the_rights_that_it_needs(served: Served, door: Door) -> None:
    served.put("a.txt", b"hello")
    needed = [right for rights in door.needs for right in rights.split()[:1]]
    answer = go_through(door, logged_in(needed), client=ELSEWHERE)
    assert is_open(answer), answer.text


@pytest.mark.parametrize(
    ("door", "lacking"),
    [(door, rights) for door in DOORS for rights in door.needs],
    ids=lambda value: f"{value.method} {value.url}" if isinstance(value, Door) else str(value),
)
def test_a_door_is_closed_to_whoever_lacks_one_of_them(served: Served, door: Door, lacking: str) -> None:
    served.put("a.txt", b"hello")
    url = create("new.txt", 5) if "{upload}" in door.url else door.url
    rest = set(ALL) - set(lacking.split())
    answer = go_through(door._replace(url=url), logged_in(rest), client=ELSEWHERE)
    assert answer.status == 403
    if door.method != "HEAD" and "cancel" not in url:  # which the file server refuses, in its words
        right: Any = lacking.split()[0]
        assert answer.text == REFUSALS[right] + "\n"
    assert left(served) == {"a.txt": b"hello"}
    if "{upload}" in door.url:
        assert fetch("HEAD", url, headers=TUS).headers["upload-offset"] == "0"


PROXY = {"x-forwarded-for": "192.0.2.7"}
OTHER_PAGE = {"origin": "http://evil.example"}


@pytest.mark.parametrize("door", **by_url)
def test_who_gets_through(served: Served, door: Door) -> None:
    served.put("a.txt", b"hello")
    url = create("new.txt", 5) if "{upload}" in door.url else door.url
    door = door._replace(url=url)
    for who, headers, client in (
        ("a guest from elsewhere", {}, ELSEWHERE),
        ("one behind a proxy on this machine", PROXY, ("127.0.0.1", 5000)),
    ):
        answer = go_through(door, headers, client=client)
        assert is_open(answer) is door.is_for_all, who
        if not door.is_for_all:
            assert answer.status == 401, who
            assert answer.headers["www-authenticate"] == 'Bearer realm="files"'
        if door.method in ("GET", "HEAD") and "hx-request" not in door.headers and not door.is_for_all:
            page = go_through(door, {**headers, "accept": "text/html"}, client=client)
            assert (page.status, page.headers["location"].partition("=")[0]) == (302, "/login/?next"), who
    headers = logged_in(())
    assert is_open(go_through(door, headers, client=ELSEWHERE)) is (door.is_for_all or door.is_for_accounts)
    ann = User.objects.get()
    ann.is_active = False
    ann.save()
    snapshots.refresh()
    assert is_open(go_through(door, headers, client=ELSEWHERE)) is door.is_for_all
    if door.method not in ("GET", "HEAD", "OPTIONS"):
        assert go_through(door, OTHER_PAGE).status in ((404, 403, 405) if NOWHERE in door.url else (403, 405))
    assert left(served) == {"a.txt": b"hello"}
    if door.route not in NOT_LOCALLY:
        assert is_open(go_through(door))


def test_a_list_has_what_may_be_listed_and_offers_what_may_be_done(served: Served) -> None:
    for name in ("a.txt", "pub/b.txt", "pub/priv/c.txt", "mine/d.txt"):
        served.put(name, b"hello")
    headers = logged_in(())
    ann = User.objects.get()
    AccessRule.objects.create(folder="pub", whom="guest", can_list=True, can_get=True)
    AccessRule.objects.create(folder="pub/priv", whom="guest")
    AccessRule.objects.create(folder="mine", whom="user", user=ann, can_list=True, can_delete=True)
    snapshots.refresh()
    guest = fetch("GET", "/api/files", client=ELSEWHERE).json
    assert [file["name"] for file in guest["files"]] == ["pub/b.txt"]
    assert guest["count"] == 1
    assert guest["total_size"] == 5
    own = fetch("GET", "/api/files", headers=headers, client=ELSEWHERE).json
    assert [file["name"] for file in own["files"]] == ["mine/d.txt", "pub/b.txt"]
    page = fetch("GET", "/", headers=headers, client=ELSEWHERE).text
    rows = {part.partition('"')[0]: part for part in page.split('<tr role="row" data-name="')[1:]}
    acts = {
        name: [act for act in ("download", "delete") if f'data-act="{act}"' in row]
        for name, row in rows.items()
    }
    assert acts == {"mine/d.txt": ["delete"], "pub/b.txt": ["download"]}
    assert 'id="dropzone"' not in page
    assert "2 files, 10" in page


def test_everybody_sees_their_own_transfers_and_those_who_may_watch_all(served: Served) -> None:
    served.put("a.txt", b"hello")
    ann, bob = logged_in({"get", "list"}), logged_in({"get", "list", "watch"}, "bob")
    for number, headers in enumerate(({}, ann, bob)):
        client = ("127.0.0.1", 5000) if not headers else ELSEWHERE
        assert fetch("GET", "/files/a.txt", headers=headers, client=client, delivered=True).body == b"hello"
        served.row_of(number + 1)

    def users(headers: dict[str, str]) -> list[str]:
        found = fetch("GET", "/api/history", headers=headers, client=ELSEWHERE).json["transfers"]
        return [row["user"] for row in found]

    assert users(ann) == ["ann"]
    assert sorted(users(bob)) == ["", "ann", "bob"]
    for url in ("/", "/history/recent/", "/history/"):
        assert fetch("GET", url, headers=ann, client=ELSEWHERE).text.count("data-outcome=") == 1
        assert fetch("GET", url, headers=bob, client=ELSEWHERE).text.count("data-outcome=") == 3
    assert "data-outcome=" not in fetch("GET", "/history/recent/", client=ELSEWHERE).text


# --- websockets


def test_every_websocket_and_every_message_is_in_the_list() -> None:
    assert [str(pattern.pattern) for pattern in URLRouter(websocket_urlpatterns).routes] == SOCKETS
    assert list(MESSAGES) == SAID
