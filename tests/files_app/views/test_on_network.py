"""The pages of a site that listens on the network: nobody is local, and the address can be handed on."""

import re
from typing import Any

import pytest

from files_app.access import addresses, hosts
from files_app.access.addresses import Machine
from files_app.access.guests import let_guests
from files_app.access.hosts import AllowedHosts
from files_app.access.snapshot import snapshots
from files_app.live.feed import encode
from tests.files_app.conftest import Served, logged_in
from tests.files_app.site import fetch

pytestmark = pytest.mark.usefixtures("database")

HOST = "192.168.1.5:8000"
ELSEWHERE = ("192.168.1.9", 5000)
HERE = ("127.0.0.1", 5000)
BROWSER = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture(autouse=True)
def _network(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.WEB_HOST, settings.WEB_PORT = "0.0.0.0", 8000
    settings.ALLOWED_HOSTS = AllowedHosts(["localhost", "127.0.0.1"])
    settings.PUBLIC_URL = settings.TLS_CERT = ""
    own = Machine(("127.0.0.1", "192.168.1.5"), ("192.168.1.5",))
    for module in (addresses, hosts):
        monkeypatch.setattr(module, "machine", lambda: own)


def let(guests: str) -> None:
    let_guests(guests)
    snapshots.refresh()


def test_at_this_machine_one_is_a_guest_too_and_is_told_so(served: Served) -> None:
    served.put("a.txt", b"hello")
    let("read")
    page = fetch("GET", "/", host="127.0.0.1:8000", client=HERE).text
    assert "You are a guest here" in page
    assert "so that goes for this machine too" in page
    assert fetch("DELETE", "/files/a.txt", host="127.0.0.1:8000", client=HERE).status == 401
    away = fetch("GET", "/", host=HOST, client=ELSEWHERE).text
    assert "You are a guest here" in away
    assert "this machine too" not in away


def test_the_login_page_tells_whoever_sits_at_it_where_the_password_is(settings: Any) -> None:
    let("none")
    first = fetch("GET", "/", host="localhost:8000", client=HERE, headers=BROWSER)
    assert (first.status, first.headers["location"]) == (302, "/login/?next=/")
    assert "manage.py resetadmin" in fetch("GET", "/login/", host="localhost:8000", client=HERE).text
    for headers, client in (({}, ELSEWHERE), ({"x-forwarded-for": "192.0.2.1"}, HERE)):
        host = HOST if client == ELSEWHERE else "localhost:8000"
        assert "resetadmin" not in fetch("GET", "/login/", host=host, client=client, headers=headers).text
    settings.WEB_HOST = "127.0.0.1"
    assert "resetadmin" not in fetch("GET", "/login/", host="localhost:8000", client=HERE).text


def test_the_page_has_the_address_for_others_and_its_code(served: Served) -> None:
    let("read")
    page = fetch("GET", "/", host=HOST, client=ELSEWHERE).text
    part = fetch("GET", "/address/", host=HOST, client=ELSEWHERE).text
    for text in (page, part):
        assert 'value="http://192.168.1.5:8000/"' in text
        assert '<svg viewBox="' in text
    assert re.search(r'<details id="reach"[^>]* hx-get="/address/"', page)
    assert " style=" not in page


def test_on_loopback_the_page_is_without_it(served: Served, settings: Any) -> None:
    settings.WEB_HOST = "127.0.0.1"
    page = fetch("GET", "/", host="localhost:8000", client=HERE).text
    assert 'id="reach"' not in page
    assert 'id="guest"' not in page
    assert fetch("GET", "/address/", host="localhost:8000", client=HERE).status == 404
    assert '"page"' not in encode({})


def test_an_open_page_is_told_the_address_of_this_moment() -> None:
    assert '"page": "http://192.168.1.5:8000/"' in encode({})


def test_who_may_only_upload_is_told_that_others_do_not_see_it(served: Served) -> None:
    let("drop")
    page = fetch("GET", "/", host=HOST, client=ELSEWHERE).text
    assert "Other guests do not see them." in page
    assert 'id="files-section"' not in page


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://192.168.1.5:8000", 201),
        ("http://evil.example", 403),
        ("http://192.168.1.5:9000", 403),
        ("http://localhost:8000", 403),
    ],
)
def test_a_change_must_come_from_the_page_at_that_address(served: Served, origin: str, status: int) -> None:
    headers = {**logged_in({"add"}), "origin": origin}
    answer = fetch("PUT", "/files/new.txt", body=b"x", host=HOST, client=ELSEWHERE, headers=headers)
    assert answer.status == status
