"""Every door of the site, with the rights that it asks for before it opens."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from channels.routing import URLRouter
from django.urls import URLPattern, URLResolver, get_resolver

from files_app.access import policy
from files_app.live import feed as feed_module
from files_app.live.consumers import MESSAGES
from files_app.live.routing import websocket_urlpatterns
from tests.files_app.conftest import Served
from tests.files_app.live.test_consumers import Page
from tests.files_app.site import HOST, Answer, fetch, run
from tests.files_app.views.test_tus import PART, TUS, create, metadata

FILE = r"^files/(?P<name>[\s\S]+)\Z"
UPLOAD = "uploads/<str:upload_id>"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TOKEN = "a" * 32
OWN_PAGE = {"origin": f"http://{HOST}", "cookie": f"cfs_csrf={TOKEN}", "x-csrftoken": TOKEN}
FORM = b'--x\r\nContent-Disposition: form-data; name="file"; filename="new.txt"\r\n\r\nhello\r\n--x--\r\n'
REPLACING = b'--x\r\nContent-Disposition: form-data; name="exists"\r\n\r\nreplace\r\n' + FORM
FORM_TYPE = {"content-type": "multipart/form-data; boundary=x"}
NEW = {**TUS, "upload-length": "5", "upload-metadata": metadata(filename="new.txt")}
NEW_OR_OTHER = {**NEW, "upload-metadata": metadata(filename="a.txt", exists="replace")}
LAST = {**PART, "upload-offset": "0"}

Asked = tuple[str, str]  # a right, and a name


class Door(NamedTuple):
    route: str
    method: str
    asks: list[Asked]
    url: str
    headers: dict[str, str] = {}
    body: bytes = b""
    offers: list[Asked] = []  # what more is shown to those who have these too


SEE: list[Asked] = [("list", "")]
WATCH: list[Asked] = [("watch", "")]
READ: list[Asked] = [("get", "a.txt")]
ADD: list[Asked] = [("add", "new.txt")]
DOORS = [
    Door("", "GET", SEE, "/", offers=WATCH),
    Door("", "HEAD", SEE, "/", offers=WATCH),
    Door("", "GET", SEE, "/", {"hx-request": "true"}),
    Door(FILE, "GET", READ, "/files/a.txt"),
    Door(FILE, "GET", READ, "/files/a.txt?direct=1"),
    Door(FILE, "HEAD", READ, "/files/a.txt"),
    Door(FILE, "PUT", ADD, "/files/new.txt", body=b"hello"),
    Door(FILE, "PUT", [("add", "a.txt"), ("replace", "a.txt")], "/files/a.txt?exists=replace", body=b"other"),
    Door(FILE, "PUT", [("add", "a.txt"), ("replace", "a.txt")], "/files/a.txt", {"if-match": "*"}, b"other"),
    Door(FILE, "DELETE", [("delete", "a.txt")], "/files/a.txt"),
    Door("uploads", "POST", ADD, "/uploads", NEW),
    Door("uploads", "OPTIONS", [], "/uploads"),
    Door("uploads/", "POST", ADD, "/uploads/", NEW),
    Door("uploads/", "POST", [("add", "a.txt"), ("replace", "a.txt")], "/uploads/", NEW_OR_OTHER),
    Door("uploads/", "OPTIONS", [], "/uploads/"),
    Door(UPLOAD, "HEAD", ADD, "/uploads/{upload}", TUS),
    Door(UPLOAD, "PATCH", ADD, "/uploads/{upload}", LAST, b"hello"),
    Door(
        UPLOAD,
        "PATCH",
        [*ADD, ("replace", "new.txt")],
        "/uploads/{upload}",
        {**LAST, "upload-exists": "replace"},
        b"hello",
    ),
    Door(UPLOAD, "DELETE", ADD, "/uploads/{upload}", TUS),
    Door(UPLOAD, "OPTIONS", [], "/uploads/{upload}"),
    Door("upload/", "POST", ADD, "/upload/", FORM_TYPE, FORM),
    Door("upload/", "POST", [*ADD, ("replace", "new.txt")], "/upload/", FORM_TYPE, REPLACING),
    Door("history/", "GET", WATCH, "/history/"),
    Door("history/", "HEAD", WATCH, "/history/"),
    Door("history/recent/", "GET", WATCH, "/history/recent/"),
    Door("history/recent/", "HEAD", WATCH, "/history/recent/"),
    Door("transfers/<int:transfer_id>/cancel/", "POST", [("control", "")], "/transfers/7/cancel/"),
    Door("api/files", "GET", SEE, "/api/files"),
    Door("api/history", "GET", WATCH, "/api/history"),
    Door("api/status", "GET", WATCH, "/api/status"),
]
SOCKETS = {"ws/live/": "watch", "": None}  # the last one refuses everything
SAID = {"refresh": "watch"}


def go_through(door: Door) -> Answer:
    url = door.url
    if "{upload}" in url:
        url = create("new.txt", 5)
    return fetch(door.method, url, body=door.body, headers={**OWN_PAGE, **door.headers})


class Policy:
    """Notes what is asked, and denies the rights in ``denied``."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.denied: set[str] = set()

    def __call__(self, principal: object, right: str, name: str) -> bool:
        self.asked.append((right, name))
        return right not in self.denied


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Policy:
    own = Policy()
    monkeypatch.setattr(policy, "may", own)
    monkeypatch.setattr(feed_module, "RECONNECT", 0.01)
    return own


def routes(patterns: list[Any], above: str = "") -> Iterator[str]:
    for pattern in patterns:
        route = above + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route
        elif isinstance(pattern, URLResolver) and route != "admin/":  # Django's own, with its own rights
            yield from routes(pattern.url_patterns, route)


def test_every_url_is_in_the_list() -> None:
    assert set(routes(get_resolver().url_patterns)) == {door.route for door in DOORS}


@pytest.mark.parametrize("route", dict.fromkeys(door.route for door in DOORS))
def test_a_method_that_is_not_in_the_list_is_not_possible(served: Served, asked: Policy, route: str) -> None:
    doors = {door.method: door for door in DOORS if door.route == route}
    some = next(iter(doors.values()))
    for method in METHODS:
        if method not in doors:
            answer = go_through(Door(route, method, [], some.url, TUS))
            assert answer.status == 405, method
    assert [one for one in asked.asked if one != ("add", "new.txt")] == []  # which made the uploads


@pytest.mark.parametrize("door", DOORS, ids=lambda door: f"{door.method} {door.url}")
def test_a_door_asks_for_these_rights_and_no_others(served: Served, asked: Policy, door: Door) -> None:
    served.put("a.txt", b"hello")
    before = len(asked.asked)
    answer = go_through(door)
    assert answer.status < 400 or answer.status == 404, answer.text  # there is no transfer to cancel
    if "{upload}" in door.url:
        before += 1
    assert asked.asked[before:] == [*door.asks, *door.offers]


@pytest.mark.parametrize(
    ("door", "right"),
    [(door, right) for door in DOORS for right, _ in door.asks],
    ids=lambda value: f"{value.method} {value.url}" if isinstance(value, Door) else str(value),
)
def test_a_door_is_closed_to_whoever_lacks_one_of_them(
    served: Served, asked: Policy, door: Door, right: Any
) -> None:
    served.put("a.txt", b"hello")
    url = create("new.txt", 5) if "{upload}" in door.url else door.url
    asked.denied = {right}
    answer = go_through(door._replace(url=url))
    assert answer.status == 403
    if door.method != "HEAD":
        assert answer.text == policy.REFUSALS[right] + "\n"
    assert {path.name: path.read_bytes() for path in served.folder.glob("*.txt")} == {"a.txt": b"hello"}
    asked.denied = set()
    if "{upload}" in door.url:
        assert fetch("HEAD", url, headers=TUS).headers["upload-offset"] == "0"


def test_a_page_for_whoever_may_not_watch_has_no_transfers(served: Served, asked: Policy) -> None:
    served.put("a.txt", b"hello")
    assert fetch("GET", "/files/a.txt").body == b"hello"
    served.row_of(1)
    assert 'data-outcome="' in fetch("GET", "/").text
    asked.denied = {"watch"}
    page = fetch("GET", "/")
    assert page.status == 200
    assert 'data-outcome="' not in page.text


# --- websockets


def test_every_websocket_and_every_message_is_in_the_list() -> None:
    assert [str(pattern.pattern) for pattern in URLRouter(websocket_urlpatterns).routes] == list(SOCKETS)
    assert {kind: message.right for kind, message in MESSAGES.items()} == SAID


def test_a_websocket_is_closed_to_whoever_may_not_watch(served: Served, asked: Policy) -> None:
    async def visit() -> None:
        page = Page()
        assert not await page.connect()
        await page.leave()

    asked.denied = {"watch"}
    run(visit())
    assert asked.asked == [("watch", "")]


@pytest.mark.parametrize("kind", SAID)
def test_a_message_is_refused_when_its_sender_has_lost_the_right(
    served: Served, asked: Policy, kind: str
) -> None:
    async def visit() -> dict[str, Any]:
        page = Page()
        assert await page.connect()
        await page.news()
        asked.denied = {SAID[kind]}
        await page.socket.send_json_to({"type": kind})
        while (said := await page.socket.receive_output(5.0))["type"] != "websocket.close":
            pass
        await page.leave()
        return dict(said)

    assert run(visit())["code"] == 4403
    assert asked.asked == [("watch", ""), (SAID[kind], "")]
