"""Who asks through a proxy: as one that is trusted says, and as nobody else does."""

from typing import Any

import pytest
from django.contrib.auth.models import User

from files_app.access.proxies import BehindProxies, address_in, client_of, hops, inner_path
from files_app.access.snapshot import snapshots
from tests.files_app.access.test_tokens import make
from tests.files_app.conftest import TOKEN, Served
from tests.files_app.links import maker
from tests.files_app.site import HOST, fetch, run

pytestmark = pytest.mark.usefixtures("database")

PROXY = "192.0.2.1"


@pytest.fixture
def trusted(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [PROXY, "198.51.100.0/24", "2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("hop", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        (" 203.0.113.5:1234 ", "203.0.113.5"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:1234", "2001:db8::1"),
        ("[2001:db8::1%eth0]", "2001:db8::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("unknown", ""),
        ("_hidden", ""),
        ("", ""),
        ("203.0.113.5:1:2", ""),
        ("[", ""),
        ("1" * 10_000, ""),
        ("203.0.113.999", ""),
        ("<script>", ""),
    ],
)
def test_a_hop_is_an_address_or_nobody(hop: str, address: str) -> None:
    assert address_in(hop) == address


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["10.9.9.9, 203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, 198.51.100.7, 192.0.2.1"], "203.0.113.5"),
        (["127.0.0.1, 203.0.113.5", "198.51.100.7"], "203.0.113.5"),
        (["203.0.113.5", "unknown"], ""),
        (["198.51.100.7, 192.0.2.1"], "198.51.100.7"),
        ([","], ""),
        ([""], ""),
        (["203.0.113.5," * 10_000 + "203.0.113.6"], "203.0.113.6"),
        (["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_the_nearest_that_is_no_proxy_of_ours_is_the_client(values: list[str], client: str) -> None:
    assert client_of(hops("x-forwarded", values)) == client


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["for=203.0.113.5;proto=https;by=10.0.0.1"], "203.0.113.5"),
        (['FOR="203.0.113.5:99"'], "203.0.113.5"),
        (['for="[2001:db8::7]:99";host=a'], "2001:db8::7"),
        (["for=10.9.9.9, for=203.0.113.5"], "203.0.113.5"),
        (["for=_x"], ""),
        (["for=unknown"], ""),
        (["by=1.2.3.4"], ""),
        (['for="203.0.113.5'], ""),
        (['for="203\\.0.113.5"'], "203.0.113.5"),
    ],
)
def test_forwarded_says_it_as_the_rfc_has_it(values: list[str], client: str) -> None:
    assert client_of(hops("forwarded", values)) == client


def seen(scope: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        found.update(scope)

    given = {"type": "http", "scheme": "http", "path": "/", "headers": [], **scope}
    run(BehindProxies(application)(given, None, None))
    return found


def header(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]


class TestScope:
    def test_of_a_stranger_nothing_is_believed(self, trusted: None, settings: Any) -> None:
        settings.REMOTE_USER_HEADER = "Remote-User"
        headers = header(
            x_forwarded_for="127.0.0.1",
            x_forwarded_proto="https",
            remote_user="boss",
            forwarded="for=127.0.0.1",
        )
        scope = seen({"client": ("203.0.113.9", 5), "headers": headers})
        assert (scope["client"], scope["scheme"]) == (("203.0.113.9", 5), "http")
        assert not any(name.startswith("cfs.") for name in scope)

    @pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
    def test_a_proxy_of_ours_is_believed(self, trusted: None, kind: str, scheme: str) -> None:
        headers = header(x_forwarded_for="10.9.9.9, 203.0.113.5", x_forwarded_proto="http, https")
        scope = seen({"type": kind, "client": (PROXY, 5), "headers": headers})
        assert (scope["client"], scope["scheme"]) == (["203.0.113.5", 0], scheme)

    def test_only_the_header_that_the_proxy_sets_is_read(self, trusted: None, settings: Any) -> None:
        headers = header(x_forwarded_for="203.0.113.5", forwarded="for=10.6.6.6;proto=https")
        assert seen({"client": (PROXY, 5), "headers": headers})["client"] == ["203.0.113.5", 0]
        settings.PROXY_HEADER = "forwarded"
        scope = seen({"client": (PROXY, 5), "headers": headers})
        assert (scope["client"], scope["scheme"]) == (["10.6.6.6", 0], "https")

    def test_a_proxy_that_says_nothing_brings_nobody(self, trusted: None) -> None:
        assert seen({"client": (PROXY, 5)})["client"] == ["unknown", 0]

    @pytest.mark.parametrize(("client", "scheme"), [("127.0.0.1", "https"), ("203.0.113.9", "http")])
    def test_with_https_one_on_this_machine_says_how_it_was_asked(
        self, settings: Any, client: str, scheme: str
    ) -> None:
        settings.HTTPS = True
        assert seen({"client": (client, 5), "headers": header(x_forwarded_proto="https")})["scheme"] == scheme

    @pytest.mark.parametrize(
        ("path", "inside"),
        [("/share/a", "/a"), ("/a", "/a"), ("/share", ""), ("/share/", "/"), ("/sharing/a", "/sharing/a")],
    )
    def test_a_sub_path_may_have_been_taken_off_or_not(self, settings: Any, path: str, inside: str) -> None:
        settings.FORCE_SCRIPT_NAME = "/share"
        scope = seen({"client": ("203.0.113.9", 5), "path": path})
        assert scope["path"] == (
            "/share" + inside if path.startswith("/share/") or path == "/share" else "/share" + path
        )
        assert inner_path(path) == inside


class TestSite:
    def test_who_comes_by_a_proxy_on_this_machine_is_never_local(self, served: Served, settings: Any) -> None:
        served.put("a.txt", b"hello")
        assert fetch("GET", "/files/a.txt").body == b"hello"
        for headers in (
            {"x-forwarded-for": "127.0.0.1"},
            {"forwarded": "for=127.0.0.1"},
            {"via": "1.1 proxy"},
        ):
            assert fetch("GET", "/files/a.txt", headers=headers).status == 401
        settings.TRUSTED_PROXIES = ["127.0.0.1"]
        assert fetch("GET", "/files/a.txt").status == 401  # though it passes on no header

    def test_a_bare_proxy_makes_no_change_for_another_sites_page(self, served: Served) -> None:
        evil = {"origin": "http://evil.example"}
        assert fetch("PUT", "/files/a.txt", body=b"x", headers=evil).status == 403
        assert fetch("DELETE", "/files/a.txt", headers=evil).status == 403

    def test_the_history_has_the_real_address(self, served: Served, trusted: None) -> None:
        served.put("a.txt", b"hello")
        text = make(maker())[1]
        headers = {"authorization": f"Bearer {text}", "x-forwarded-for": "10.6.6.6, 203.0.113.5"}
        answer = fetch("GET", "/files/a.txt", headers=headers, client=(PROXY, 5), delivered=True)
        assert answer.body == b"hello"
        assert served.row_of(1).client == "203.0.113.5"

    def test_who_is_logged_in_is_taken_from_a_proxy_of_ours_alone(
        self, served: Served, trusted: None, settings: Any
    ) -> None:
        settings.REMOTE_USER_HEADER = "Remote-User"
        User.objects.create_superuser("boss")
        User.objects.create_user("closed", is_active=False)
        snapshots.refresh()
        named = {"x-forwarded-for": "203.0.113.5"}
        for user, client, status in (
            ("boss", PROXY, 200),
            ("nobody", PROXY, 401),
            ("closed", PROXY, 401),
            ("boss", "203.0.113.9", 401),
        ):
            headers = {**named, "remote-user": user}
            assert fetch("GET", "/api/files", headers=headers, client=(client, 5)).status == status, user
        settings.REMOTE_USER_HEADER = ""
        assert (
            fetch("GET", "/api/files", headers={**named, "remote-user": "boss"}, client=(PROXY, 5)).status
            == 401
        )

    def test_below_a_sub_path_all_addresses_have_it(self, served: Served, settings: Any) -> None:
        served.put("a.txt", b"hello")
        settings.FORCE_SCRIPT_NAME = "/share"
        page = fetch("GET", "/share/").text
        for address in (
            'href="/share/files/a.txt"',
            'data-live-url="/share/ws/live/"',
            'href="/share/history/"',
        ):
            assert address in page
        assert 'href="/history/' not in page
        assert fetch("GET", "/files/a.txt").body == b"hello"  # taken off by the proxy
        headers = {"origin": f"http://{HOST}", "cookie": f"cfs_csrf={TOKEN}", "x-csrftoken": TOKEN}
        made = fetch("PUT", "/share/files/b.txt", body=b"x", headers=headers)
        assert made.headers["location"] == "/share/files/b.txt"
