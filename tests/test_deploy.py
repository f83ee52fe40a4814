"""The examples of docs/deploy.md, with the real programs: what stands there works as it stands there.

Only ports, paths and the certificate are other ones, and in the sub-path the line of the location.
"""

import base64
import contextlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.servers import numbered_bytes, wait_until
from tests.stack import PROJECT, Stack

DEPLOY = PROJECT / "docs" / "deploy.md"
DATA = numbered_bytes(5_000_000)
PASSWORD = "correct horse battery"
REAL = "127.0.0.9"  # where the client is, as the proxy sees it


def example(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DEPLOY.read_text("utf-8"), re.DOTALL)
    assert found
    return found[1]


class Proxy(NamedTuple):
    program: str
    text: Callable[["Site"], str]
    command: Callable[[Path], list[str]]


class Site(NamedTuple):
    stack: Stack
    port: int  # of the proxy
    home: Path
    prefix: str = ""

    @property
    def host(self) -> str:
        return f"files.example.org:{self.port}"


def _moved(text: str, site: Site) -> str:
    for before, after in (
        ("127.0.0.1:8000", f"127.0.0.1:{site.stack.web_port}"),
        ("/etc/ssl/files-and-key.pem", str(site.home / "both.pem")),
        ("/etc/ssl/files.pem", str(site.home / "cert.pem")),
        ("/etc/ssl/files.key", str(site.home / "key.pem")),
    ):
        text = text.replace(before, after)
    return text


def _nginx(site: Site) -> str:
    server = _moved(example("nginx"), site).replace("listen 443 ssl", f"listen {site.port} ssl")
    if site.prefix:
        server = server.replace("location / {", f"location {site.prefix}/ {{")
    home = site.home
    temporary = "".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off; pid {home}/nginx.pid; error_log {home}/error.log; worker_processes 1;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{server}\n}}\n"
    )


def _caddy(site: Site) -> str:
    text = _moved(example("caddy"), site).replace("files.example.org {", f"files.example.org:{site.port} {{")
    return "{\n    admin off\n    auto_https off\n}\n" + text


def _haproxy(site: Site) -> str:
    text = _moved(example("haproxy"), site).replace("bind :443", f"bind :{site.port}")
    parts, _, defaults = text.partition("defaults\n")
    return f"defaults\n{defaults}\n{parts}"


PROXIES = {
    "nginx": Proxy("nginx", _nginx, lambda path: ["nginx", "-c", str(path)]),
    "nginx, sub-path": Proxy("nginx", _nginx, lambda path: ["nginx", "-c", str(path)]),
    "caddy": Proxy(
        "caddy", _caddy, lambda path: ["caddy", "run", "--adapter", "caddyfile", "--config", str(path)]
    ),
    "haproxy": Proxy("haproxy", _haproxy, lambda path: ["haproxy", "-f", str(path)]),
}


def _quiet_port() -> int:
    """None of those that the system gives out by itself: another test may have one by then."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _require(program: str) -> None:
    if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(f"{program} is missing, and REQUIRE_BROWSER is set")
        pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module", params=list(PROXIES))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    proxy = PROXIES[request.param]
    _require(proxy.program)
    stack = Stack(tmp_path_factory.mktemp("stack"))
    prefix = "/share" if "sub-path" in request.param else ""
    site = Site(stack, _quiet_port(), tmp_path_factory.mktemp("proxy"), prefix)
    cert, key = site.home / "cert.pem", site.home / "key.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=files.example.org -addext"
    names = ["subjectAltName=DNS:files.example.org", "-keyout", str(key), "-out", str(cert)]
    made = subprocess.run([*words.split(), *names], capture_output=True)
    assert made.returncode == 0, made.stderr
    (site.home / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    for line in example("ini").splitlines():
        name, _, value = line.partition("=")
        stack.environment[name] = value.replace("files.example.org", site.host) + (
            prefix if name == "PUBLIC_URL" else ""
        )
    stack.environment |= {
        "FORCE_SCRIPT_NAME": prefix,
        "HOME": str(site.home),
        "XDG_DATA_HOME": str(site.home),
    }
    assert stack.manage("migrate", "--verbosity", "0").returncode == 0
    code = (
        "from django.contrib.auth.models import User; "
        f"User.objects.create_superuser('boss', password={PASSWORD!r})"
    )
    assert stack.manage("shell", "-c", code).returncode == 0
    (stack.files / "a.bin").write_bytes(DATA)
    config = site.home / "config"
    config.write_text(proxy.text(site))
    with contextlib.ExitStack() as running:
        running.callback(stack.stop)
        stack.start_server()
        stack.start_site()
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        log = running.enter_context((site.home / "log").open("wb"))
        process = subprocess.Popen(
            proxy.command(config), env={**stack.environment, "PATH": path}, stdout=log, stderr=log
        )
        running.callback(process.wait, 20)
        running.callback(process.terminate)
        wait_until(lambda: _answers(site) or process.poll() is not None, 20)
        assert process.poll() is None, (site.home / "log").read_text()
        yield site


def _answers(site: Site) -> bool:
    try:
        return Browser(site).get("/login/")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


class Connection(http.client.HTTPSConnection):
    """To the proxy, whatever the name leads to, from an address of its own."""

    def __init__(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=str(site.home / "cert.pem"))
        super().__init__("files.example.org", site.port, timeout=30, context=context)
        self._tls = context

    def connect(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port), 30, source_address=(REAL, 0))
        self.sock = self._tls.wrap_socket(sock, server_hostname="files.example.org")


class Browser:
    def __init__(self, site: Site) -> None:
        self._site = site
        self.cookies: dict[str, str] = {}
        self.flags: dict[str, str] = {}

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return self.send("GET", path, **headers)

    def send(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given["Host"] = self._site.host
        if self.cookies:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if method != "GET":
            given |= {"Origin": f"https://{self._site.host}", "X-CSRFToken": self.cookies.get("cfs_csrf", "")}
        with contextlib.closing(Connection(self._site)) as connection:
            connection.request(method, self._site.prefix + path, body, given)
            response = connection.getresponse()
            for value in response.headers.get_all("Set-Cookie", []):
                name, _, rest = value.partition("=")
                self.cookies[name], _, self.flags[name] = rest.partition(";")
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def log_in(self) -> None:
        page = self.get("/login/")[2].decode()
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        assert token
        form = f"csrfmiddlewaretoken={token[1]}&username=boss&password={PASSWORD.replace(' ', '+')}&next="
        kind = {"Content_Type": "application/x-www-form-urlencoded"}
        status, headers, _ = self.send("POST", "/login/", form, **kind)
        assert (status, headers["location"]) == (302, f"{self._site.prefix}/")


@pytest.fixture
def browser(site: Site) -> Browser:
    browser = Browser(site)
    browser.log_in()
    return browser


def test_a_stranger_gets_no_further_than_the_login(site: Site) -> None:
    stranger = Browser(site)
    for headers in (
        {},
        {"X_Forwarded_For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Remote_User": "boss"},
    ):
        status, _, body = stranger.get("/files/a.bin", **headers)
        assert status == 401
        assert DATA[:100] not in body
        page = stranger.get("/", Accept="text/html", **headers)
        assert (page[0], page[1]["location"]) == (302, f"{site.prefix}/login/?next={site.prefix}/")


def test_the_page_and_all_that_it_loads_are_there(site: Site, browser: Browser) -> None:
    status, _, body = browser.get("/")
    assert status == 200
    assert "secure" in browser.flags["cfs_session"].lower()
    page = body.decode()
    assert "a.bin" in page
    loaded = re.findall(r'(?:src|href)="([^"]+\.(?:js|css|svg))"', page)
    assert len(loaded) > 3
    for url in loaded:
        assert url.startswith(f"{site.prefix}/static/")
        assert browser.get(url.removeprefix(site.prefix))[0] == 200, url


def test_files_come_whole_in_part_and_go_up_whatever_their_size(site: Site, browser: Browser) -> None:
    assert browser.get("/files/a.bin")[::2] == (200, DATA)
    assert browser.get("/files/a.bin", Range="bytes=10-19")[::2] == (206, DATA[10:20])
    status, headers, _ = browser.send("PUT", "/files/up.bin", DATA)
    assert (status, headers["location"]) == (201, f"{site.prefix}/files/up.bin")
    assert (site.stack.files / "up.bin").read_bytes() == DATA
    assert browser.send("DELETE", "/files/up.bin")[0] == 204


def test_an_upload_is_resumed_by_tus(site: Site, browser: Browser) -> None:
    name = base64.b64encode(b"tus.bin").decode()
    tus = {"Tus_Resumable": "1.0.0"}
    new = {**tus, "Upload_Length": str(len(DATA)), "Upload_Metadata": f"filename {name}"}
    status, headers, _ = browser.send("POST", "/uploads/", **new)
    assert status == 201
    place = headers["location"].removeprefix(site.prefix)
    part = {**tus, "Content_Type": "application/offset+octet-stream"}
    assert browser.send("PATCH", place, DATA[:9], Upload_Offset="0", **part)[0] == 204
    assert browser.send("PATCH", place, DATA[9:], Upload_Offset="9", **part)[0] == 204
    assert (site.stack.files / "tus.bin").read_bytes() == DATA


def test_the_history_has_the_address_of_the_client_and_not_what_it_claims(
    site: Site, browser: Browser
) -> None:
    claims = {"X_Forwarded_For": "10.6.6.6", "Forwarded": "for=10.7.7.7"}
    assert browser.get("/files/a.bin?x=claims", Range="bytes=0-6", **claims)[0] == 206

    def row() -> Any:
        rows = json.loads(browser.get("/api/history?q=a.bin")[2])["transfers"]
        return next((row for row in rows if row["length"] == 7 and row["finished_at"]), None)

    assert wait_until(row, 15)["client"] == REAL


def test_the_live_news_come_by_a_websocket(site: Site, browser: Browser) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    lines = [
        *(f"GET {site.prefix}/ws/live/ HTTP/1.1", f"Host: {site.host}", f"Origin: https://{site.host}"),
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Cookie: {cookies}"),
        *(f"Sec-WebSocket-Key: {base64.b64encode(b'sixteen bytes ok').decode()}", "", ""),
    ]
    with contextlib.closing(Connection(site)) as connection:
        connection.connect()
        connection.sock.sendall("\r\n".join(lines).encode())
        with connection.sock.makefile("rb") as live:
            assert live.readline().startswith(b"HTTP/1.1 101 ")
            while live.readline() != b"\r\n":
                pass
            assert live.read(2)[0] == 0x81
            assert json.loads(live.read(int.from_bytes(live.read(2), "big")))["online"] is True


def test_links_are_handed_on_under_the_public_address(site: Site, browser: Browser) -> None:
    form = "kind=share&target=a.bin&naming=optional"
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    status, headers, body = browser.send("POST", "/links/new/", form, **kind)
    assert status == 302, body
    page = browser.get(headers["location"].removeprefix(site.prefix))[2].decode()
    found = re.search(rf"https://{re.escape(site.host)}{site.prefix}/s/[a-z2-7]{{26}}/", page)
    assert found
    path = found[0].partition(site.host)[2].removeprefix(site.prefix)
    shared = Browser(site).get(path, Accept="text/html")
    assert shared[0] == 200
    link = re.search(r'href="([^"]+/files/a\.bin)"', shared[2].decode())
    assert link
    assert Browser(site).get(link[1].removeprefix(site.prefix))[::2] == (200, DATA)


def test_a_page_of_another_site_changes_nothing(site: Site, browser: Browser) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    with contextlib.closing(Connection(site)) as connection:
        headers = {"Host": site.host, "Origin": "https://evil.example", "Cookie": cookies}
        connection.request("DELETE", f"{site.prefix}/files/a.bin", headers=headers)
        assert connection.getresponse().status == 403
    assert (site.stack.files / "a.bin").exists()
