"""When the site sends a browser directly to the file server, and when it relays."""

import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from django.utils.http import content_disposition_header

from files_app.access import tickets
from files_app.access.snapshot import snapshots
from files_app.models import AccessRule, Transfer
from fileserver.events import ClientConnected, TransferStarted
from fileserver.names import is_safe
from fileserver.pacing import SLOW_MOTION
from fileserver.rights import Principal, Ticket
from fileserver.wire.http import content_disposition
from tests.certificates import CertificateFiles
from tests.files_app.conftest import Served, serving
from tests.files_app.site import Answer, fetch
from tests.files_app.test_naughty_names import NAMES
from tests.servers import Peer, numbered_bytes

pytestmark = pytest.mark.usefixtures("database")

PAGE = {"accept": "text/html"}


@pytest.fixture
def offline(settings: Any) -> Iterator[None]:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.SERVER_HOST, settings.SERVER_PORT = taken.getsockname()
        yield


def ticket_of(url: str, host: str = "127.0.0.1") -> tuple[str, Ticket | None]:
    """The name in a direct URL, and what its ticket is good for."""
    _, word, text, name = urlsplit(url).path.split("/", 3)
    assert word == "get"
    holder = tickets.read(text, host)
    return unquote(name), holder.ticket if holder else None


def direct(served: Served, url: str) -> tuple[bytes, bytes]:
    """Head and body of what the file server answers at a direct URL."""
    parts = urlsplit(url)
    with Peer(served.server.address) as peer:
        peer.send(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = peer.rest().partition(b"\r\n\r\n")
        return head, body


class TestRedirect:
    def test_a_link_that_asks_for_it_leads_to_the_bytes_themselves(self, served: Served) -> None:
        data = numbered_bytes(1_000_000)
        served.put("week 3/ü #1?.bin", data)
        answer = fetch("GET", "/files/" + quote("week 3/ü #1?.bin") + "?direct=1")
        assert (answer.status, answer.body) == (302, b"")
        assert answer.headers["cache-control"] == "no-store"
        url = answer.headers["location"]
        assert url.startswith(f"http://localhost:{served.port}/get/")
        assert ticket_of(url) == ("week 3/ü #1?.bin", Ticket("week 3/ü #1?.bin"))
        assert served.events.of(TransferStarted) == []
        head, body = direct(served, url)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == data
        (started,) = served.events.of(TransferStarted)
        row = served.row_of(started.id)
        assert (row.outcome, row.via, row.done) == ("complete", "web", len(data))
        assert row.client == started.client
        assert row.client.startswith("127.0.0.1:")
        assert Transfer.objects.count() == 1

    @pytest.mark.parametrize("query", ["", "?direct=", "?direct=0", "?direct=yes", "?pace=slow-motion"])
    def test_who_does_not_ask_for_it_is_relayed(self, served: Served, query: str) -> None:
        served.put("a.txt", b"hello")
        answer = fetch("GET", f"/files/a.txt{query}")
        assert (answer.status, answer.body) == (200, b"hello")

    def test_slow_motion_is_in_the_ticket(self, served: Served) -> None:
        served.put("a.txt", b"x")
        answer = fetch("GET", "/files/a.txt?pace=slow-motion&direct=1")
        assert ticket_of(answer.headers["location"])[1] == Ticket("a.txt", SLOW_MOTION)
        assert direct(served, answer.headers["location"])[1] == b"x"
        (started,) = served.events.of(TransferStarted)
        assert started.pace == str(SLOW_MOTION)

    def test_the_ticket_is_for_the_browser_that_asked(self, served: Served) -> None:
        served.put("a.txt", b"x")
        url = fetch("GET", "/files/a.txt?direct=1", client=("::1", 5)).headers["location"]
        assert ticket_of(url, "127.0.0.1")[1] == Ticket("a.txt")
        assert ticket_of(url, "192.168.0.7")[1] is None

    @pytest.mark.parametrize(
        ("name", "status"), [("missing", 404), ("..%2fa", 400), (".hidden", 400), ("a%00", 400), ("%ff", 404)]
    )
    def test_what_cannot_be_had_is_said_by_the_site_itself(
        self, served: Served, name: str, status: int
    ) -> None:
        answer = fetch("GET", f"/files/{name}?direct=1", headers=PAGE)
        assert answer.status == status
        assert "<!doctype html>" in answer.text

    def test_an_unknown_pace_is_refused_first(self, served: Served) -> None:
        assert fetch("GET", "/files/a?pace=fast&direct=1").status == 400

    def test_with_the_file_server_down_the_site_says_so(self, offline: None) -> None:
        answer = fetch("GET", "/files/a.txt?direct=1", headers=PAGE)
        assert answer.status == 503
        assert "runfileserver" in answer.text

    def test_head_is_answered_by_the_site(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        answer = fetch("HEAD", "/files/a.txt?direct=1")
        assert (answer.status, answer.headers["content-length"]) == (200, "5")

    def test_it_costs_one_connection_to_the_file_server(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        fetch("GET", "/files/a.txt?direct=1")
        assert len(served.events.of(ClientConnected)) == 1

    @pytest.mark.parametrize("name", ["a" * 255, "🎉" * 60 + "/" + "🎉" * 60, "é" * 127])
    def test_long_names_come_whole(self, served: Served, name: str) -> None:
        served.put(name, b"deep")
        url = fetch("GET", f"/files/{quote(name)}?direct=1").headers["location"]
        assert direct(served, url)[1] == b"deep"


class TestRules:
    """Where a browser would go, for hosts and settings: seen at the redirect and at the page alike."""

    def base(self, served: Served, **kwargs: Any) -> str | None:
        """How the URL begins that a browser is sent to; ``None`` if its download is relayed."""
        served.put("a.txt", b"hello")
        answer = fetch("GET", "/files/a.txt?direct=1", **kwargs)
        page = fetch("GET", "/", headers=PAGE, **kwargs)
        if answer.status == 200:
            assert answer.body == b"hello"
            assert "data-probe" not in page.text
            assert "connect-src 'self';" in page.headers["content-security-policy"] + ";"
            return None
        assert answer.status == 302
        base, _, _ = answer.headers["location"].partition("/get/")
        assert probe_of(page).startswith(f"{base}/get/")
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(base))
        assert f"connect-src 'self' {origin};" in page.headers["content-security-policy"] + ";"
        return base

    def test_the_host_is_the_one_that_the_browser_sees(self, served: Served, settings: Any) -> None:
        settings.ALLOWED_HOSTS = ["*"]
        AccessRule.objects.create(folder="", whom="guest", can_list=True, can_get=True)
        snapshots.refresh()
        for host, seen in [
            ("localhost:8000", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("Files.Example:80", "files.example"),
        ]:
            assert self.base(served, host=host) == f"http://{seen}:{served.port}"

    def test_a_page_under_an_address_of_ipv6_is_relayed(self, served: Served) -> None:
        assert self.base(served, host="[::1]:8000") is None

    def test_with_tls_on_both_ports_the_way_is_https(self, tls: CertificateFiles, served: Served) -> None:
        assert self.base(served, scheme="https") == f"https://localhost:{served.port}"

    def test_https_is_relayed_for_the_port_speaks_none(self, served: Served) -> None:
        assert self.base(served, scheme="https") is None

    @pytest.mark.parametrize(
        "url", ["https://files.example.org", "https://files.example.org:444/direct/", "http://10.0.0.1:80/"]
    )
    def test_a_public_url_goes_before_the_host(self, served: Served, settings: Any, url: str) -> None:
        settings.SERVER_PUBLIC_URL = url
        assert self.base(served) == url.rstrip("/")

    def test_a_public_url_of_https_serves_pages_of_https_and_one_of_http_does_not(
        self, served: Served, settings: Any
    ) -> None:
        settings.SERVER_PUBLIC_URL = "https://files.example.org"
        assert self.base(served, scheme="https") == "https://files.example.org"
        settings.SERVER_PUBLIC_URL = "http://files.example.org"
        assert self.base(served, scheme="https") is None

    def test_it_can_be_turned_off(self, served: Served, settings: Any) -> None:
        settings.DIRECT_DOWNLOADS = False
        assert self.base(served) is None


def test_turned_off_the_port_has_no_downloads(folder: Any, settings: Any) -> None:
    url = "/get/" + tickets.make("", Principal("local", address="127.0.0.1")) + "/"
    for on in (True, False):
        settings.DIRECT_DOWNLOADS = on
        with serving(folder) as served:
            head, _ = direct(served, url)
        assert head.startswith(b"HTTP/1.1 204 " if on else b"HTTP/1.1 404 ")


def probe_of(page: Answer) -> str:
    return page.text.partition('data-probe="')[2].partition('"')[0]


class TestProbe:
    def test_the_page_has_a_url_that_shows_whether_the_port_is_reached(self, served: Served) -> None:
        url = probe_of(fetch("GET", "/", headers=PAGE))
        assert ticket_of(url) == ("", Ticket(""))
        head, body = direct(served, url)
        assert head.startswith(b"HTTP/1.1 204 ")
        assert body == b""
        assert served.events.of(TransferStarted) == []

    def test_other_pages_may_connect_to_the_site_alone(self, served: Served) -> None:
        for path in ("/history/", "/files/missing"):
            policy = fetch("GET", path, headers=PAGE).headers["content-security-policy"]
            assert "connect-src 'self'" in policy
            assert str(served.port) not in policy

    def test_the_part_that_is_swapped_has_none(self, served: Served) -> None:
        assert "/get/" not in fetch("GET", "/", headers={"hx-request": "true"}).text


def test_a_ticket_is_no_token_and_its_url_no_request_of_the_protocol(served: Served) -> None:
    served.put("a.txt", b"x")
    ticket = tickets.make("a.txt", Principal("local", address="127.0.0.1"))
    with served.peer() as peer:
        assert peer.refusal(f"AUTH {ticket}\n".encode())["code"] == "denied"
        assert peer.refusal(f"GET /get/{ticket}/a.txt\n".encode())["code"] == "bad-name"
        assert peer.is_usable()


def test_site_and_file_server_give_every_name_the_same_disposition() -> None:
    names = [name for name in NAMES if is_safe(name)]
    assert len(names) > 300
    for name in names:
        last_part = name.rpartition("/")[2]
        ours, escape = content_disposition(name), re.search("%[0-9a-fA-F]{2}", last_part)
        if last_part.isascii() and escape:  # Django leaves these to the browser's guess
            ours, _, encoded = ours.partition("; filename*=")
            assert unquote(encoded.removeprefix("utf-8''")) == last_part
        assert ours == content_disposition_header(True, last_part)


def test_relayed_or_direct_a_file_comes_with_the_same_headers(served: Served) -> None:
    served.put('say "ü".html', b"<script>")
    relayed = fetch("GET", "/files/" + quote('say "ü".html')).headers
    url = fetch("GET", "/files/" + quote('say "ü".html') + "?direct=1").headers["location"]
    lines = direct(served, url)[0].decode().split("\r\n")[1:]
    own = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    ours = (
        *("content-type", "content-disposition", "content-security-policy", "x-content-type-options"),
        *("cross-origin-resource-policy", "cache-control", "etag", "last-modified", "content-length"),
    )
    assert {name: own[name] for name in ours} == {name: relayed[name] for name in ours}
