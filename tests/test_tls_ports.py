"""Both servers as processes that speak TLS, seen from outside: what is offered, who waits for whom, and that
whatever worked in plain text works."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from files_app.hosting.neighbours import who_listens
from fileserver.client.blocking import Client
from tests.certificates import CertificateFiles, write_certificate
from tests.servers import numbered_bytes
from tests.stack import Stack, run_stack

SLOW_CLIENTS = 100
HANDSHAKE_SECONDS = 10.0
needs_sslscan = pytest.mark.skipif(
    shutil.which("sslscan") is None and not os.environ.get("REQUIRE_BROWSER"),
    reason="sslscan is not installed: sudo apt install sslscan",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return write_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def stack(files: CertificateFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack"), tls=files) as running:
        yield running


def ports(stack: Stack) -> dict[str, int]:
    return {"file server": stack.server_port, "site": stack.web_port}


PORTS = ["file server", "site"]
GOOD_CIPHER = re.compile(r"TLS_.*(GCM|POLY1305)_SHA\d+|ECDHE-.*(GCM-SHA\d+|POLY1305)")


# --- what is offered


@needs_sslscan
@pytest.mark.parametrize("which", PORTS)
def test_sslscan_finds_nothing_weak(stack: Stack, which: str) -> None:
    done = subprocess.run(
        ["sslscan", "--no-colour", "--xml=-", f"localhost:{ports(stack)[which]}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = done.stdout
    enabled = set(re.findall(r'<protocol type="(\w+)" version="([\d.]+)" enabled="1"', found))
    assert enabled == {("tls", "1.2"), ("tls", "1.3")}
    assert '<renegotiation supported="0"' in found
    assert '<compression supported="1"' not in found
    assert 'vulnerable="1"' not in found
    ciphers = re.findall(r'cipher="([\w-]+)"', found)
    assert ciphers
    assert all(
        re.fullmatch(r"TLS_.*(GCM|POLY1305)_SHA\d+|ECDHE-.*(GCM-SHA\d+|POLY1305)", one) for one in ciphers
    )
    strengths = re.findall(r'strength="(\w+)"', found)
    assert set(strengths) <= {"strong", "acceptable"}, strengths
    assert min(map(int, re.findall(r'<cipher [^>]*bits="(\d+)"', found))) >= 128


@pytest.mark.parametrize("which", PORTS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused(stack: Stack, which: str, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("localhost", ports(stack)[which]), 10) as sock,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(sock)


def test_the_site_agrees_on_http_1_1_alone(stack: Stack, files: CertificateFiles) -> None:
    context = files.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("localhost", stack.web_port), 10) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as tls,
    ):
        assert tls.selected_alpn_protocol() == "http/1.1"


# --- who waits for whom


def seconds_of_a_page(stack: Stack, files: CertificateFiles) -> float:
    begun = time.monotonic()
    with contextlib.closing(stack.connection(stack.web_port)) as site:
        site.request("GET", "/api/status")
        assert site.getresponse().status == 200
    return time.monotonic() - begun


def seconds_of_a_ping(stack: Stack, files: CertificateFiles) -> float:
    begun = time.monotonic()
    with Client("localhost", stack.server_port, tls=files.context()) as client:
        assert client.request("PING")["protocol"] == "CFS/1"
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("which", "measured"), [("site", seconds_of_a_page), ("file server", seconds_of_a_ping)]
)
@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"], ids=["silent", "half a hello"]
)
def test_silent_clients_delay_nobody_and_are_let_go_in_their_time(
    stack: Stack, files: CertificateFiles, which: str, measured: object, said: bytes
) -> None:
    assert callable(measured)
    with contextlib.ExitStack() as held:
        begun = time.monotonic()
        address = ("localhost", ports(stack)[which])
        slow = [held.enter_context(socket.create_connection(address, 30)) for _ in range(SLOW_CLIENTS)]
        for sock in slow:
            sock.sendall(said)
        took = sorted(measured(stack, files) for _ in range(11))
        assert took[5] < 1.0, took  # against ten seconds, if anybody waited for them
        for sock in slow:
            with contextlib.suppress(ConnectionError):
                while sock.recv(1000):
                    pass
        assert time.monotonic() - begun < HANDSHAKE_SECONDS + 10


# --- what worked in plain text works


def test_plain_http_is_led_to_https(stack: Stack) -> None:
    site = http.client.HTTPConnection("localhost", stack.web_port, timeout=10)
    with contextlib.closing(site):
        site.request("GET", "/history/?q=a%20b")
        answer = site.getresponse()
        assert answer.status == 307
        assert answer.headers["Location"] == f"https://localhost:{stack.web_port}/history/?q=a%20b"


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET //evil.example HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:8000@evil.example\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
        b"PING\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_plain_text_is_led_nowhere_else(stack: Stack, request_: bytes) -> None:
    with socket.create_connection(("localhost", stack.web_port), 10) as sock:
        sock.sendall(request_)
        answer = b"".join(iter(lambda: sock.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"This port speaks HTTPS only" in answer
    assert b"Location" not in answer


def test_both_are_known_as_neighbours_in_spite_of_tls(stack: Stack) -> None:
    assert who_listens("localhost", stack.server_port) == "a file server of this kind"
    assert who_listens("localhost", stack.web_port) == "the site of such a file server"


def test_the_site_relays_what_the_server_sends_over_tls(stack: Stack, files: CertificateFiles) -> None:
    data = numbered_bytes(3_000_000)
    with contextlib.closing(stack.connection(stack.web_port)) as site:
        site.request("PUT", "/files/relayed.bin", data)
        assert site.getresponse().read() is not None
        site.request("GET", "/files/relayed.bin")
        answer = site.getresponse()
        assert answer.read() == data
        assert "Strict-Transport-Security" in answer.headers  # somebody has issued the certificate


def test_a_whole_download_comes_directly_over_https(stack: Stack, files: CertificateFiles) -> None:
    data = numbered_bytes(5_000_000)
    (stack.files / "direct.bin").write_bytes(data)
    with contextlib.closing(stack.connection(stack.web_port)) as site:
        site.request("GET", "/files/direct.bin?direct=1")
        answer = site.getresponse()
        answer.read()
    assert answer.status == 302
    where = urlsplit(answer.headers["Location"])
    assert (where.scheme, where.hostname, where.port) == ("https", "127.0.0.1", stack.server_port)
    with contextlib.closing(stack.connection(stack.server_port)) as server:
        server.request("GET", where.path)
        assert server.getresponse().read() == data
    assert stack.ending("direct.bin")["outcome"] == "complete"


def test_a_websocket_works_over_tls_for_our_own_page_alone(stack: Stack, files: CertificateFiles) -> None:
    host = f"localhost:{stack.web_port}"
    for origin, status in ((f"https://{host}", b"101"), (f"http://{host}", b"403"), ("https://evil", b"403")):
        with (
            socket.create_connection(("localhost", stack.web_port), 10) as sock,
            files.context().wrap_socket(sock, server_hostname="localhost") as tls,
        ):
            tls.sendall(
                f"GET /ws/live/ HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            got = tls.recv(4096)
            assert got.split()[1] == status, (origin, got)
            if status == b"101":
                while b'"online": true' not in got:
                    more = tls.recv(65536)
                    assert more
                    got += more


def test_cookies_are_for_https_alone(stack: Stack, files: CertificateFiles) -> None:
    with contextlib.closing(stack.connection(stack.web_port)) as site:
        site.request("GET", "/login/")
        cookies = site.getresponse().headers.get_all("Set-Cookie") or []
    assert cookies
    assert all("; Secure" in cookie for cookie in cookies)


def test_commands_know_the_server_of_their_settings(stack: Stack) -> None:
    (stack.files / "named.txt").write_bytes(b"hello")
    done = stack.manage("files", "named")
    assert done.returncode == 0, done.stderr
    assert "named.txt" in done.stdout


def test_the_server_that_is_gone_is_not_called_one_without_tls(stack: Stack, files: CertificateFiles) -> None:
    done = stack.manage("files", "--port", "1")
    assert done.returncode == 1
    assert "No file server answers at" in done.stderr


def test_a_page_that_fails_in_the_middle_is_no_whole_one(stack: Stack, files: CertificateFiles) -> None:
    """What is cut off ends with a break, not with the end that TLS has for a whole stream."""
    with (stack.files / "cut.bin").open("wb") as file:
        file.truncate(200 << 20)
    with contextlib.closing(stack.connection(stack.web_port)) as site:
        site.request("GET", "/files/cut.bin")
        answer = site.getresponse()
        answer.read(1000)
        with (stack.files / "cut.bin").open("r+b") as file:
            file.truncate(1000)
        with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
            answer.read()


def test_the_end_of_what_we_send_is_said_in_tls_too(stack: Stack, files: CertificateFiles) -> None:
    """A refusal ends with a half-close: without that word a client of TLS would take it for cut short."""
    with (
        socket.create_connection(("localhost", stack.web_port), 10) as sock,
        files.context().wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
    ):
        tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        got = b"".join(iter(lambda: tls.recv(4096), b""))  # which raises if there is no close_notify
    assert got.startswith(b"HTTP/1.1 400 ")
