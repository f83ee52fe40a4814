"""Both servers with TLS, as processes: what they speak, whom commands trust, and that nobody waits."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import numbered_bytes
from tests.stack import Stack

DATA = numbered_bytes(3_000_000)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    home = stack.home
    stack.environment |= {"TLS_CERT": str(home / "cert.pem"), "TLS_KEY": str(home / "key.pem")}
    made = stack.manage("makecert")
    assert made.returncode == 0, made.stderr
    (home / "fingerprint").write_text(made.stdout.split()[-1])
    (stack.files / "a.bin").write_bytes(DATA)
    assert stack.manage("migrate", "--verbosity", "0").returncode == 0
    try:
        stack.start_server()
        stack.start_site()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def trusting(stack: Stack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=stack.environment["TLS_CERT"])


def ports(stack: Stack) -> dict[str, int]:
    return {"file server": stack.server_port, "site": stack.web_port}


def request(
    port: int, path: str, context: ssl.SSLContext, host: str = "localhost", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPSConnection(host, port, timeout=20, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()


@pytest.mark.parametrize("which", ["file server", "site"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_certificate_is_good_for_the_names_of_this_machine(
    stack: Stack, trusting: ssl.SSLContext, which: str, host: str
) -> None:
    with (
        socket.create_connection(("127.0.0.1", ports(stack)[which]), 20) as sock,
        trusting.wrap_socket(sock, server_hostname=host) as encrypted,
    ):
        assert encrypted.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("which", ["file server", "site"])
def test_older_versions_are_refused(stack: Stack, which: str) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    refused = pytest.raises((ssl.SSLError, ConnectionError))
    with socket.create_connection(("127.0.0.1", ports(stack)[which]), 20) as sock, refused:
        old.wrap_socket(sock)


def test_pages_files_and_cookies_come_encrypted(stack: Stack, trusting: ssl.SSLContext) -> None:
    status, headers, body = request(stack.web_port, "/", trusting)
    assert status == 200
    assert b"a.bin" in body
    assert "secure" in headers["set-cookie"].lower()
    assert "strict-transport-security" not in headers
    assert f"https://localhost:{stack.server_port}" in headers["content-security-policy"]
    status, headers, body = request(stack.web_port, "/files/a.bin", trusting)
    assert (status, body) == (200, DATA)


def test_the_direct_way_is_encrypted_too(stack: Stack, trusting: ssl.SSLContext) -> None:
    status, headers, _ = request(stack.web_port, "/files/a.bin?direct=1", trusting)
    base = f"https://localhost:{stack.server_port}"
    assert (status, headers["location"][: len(base)]) == (302, base)
    assert request(stack.server_port, headers["location"][len(base) :], trusting)[::2] == (200, DATA)
    part = request(stack.server_port, headers["location"][len(base) :], trusting, Range="bytes=5-9")
    assert part[::2] == (206, DATA[5:10])


def test_news_come_encrypted(stack: Stack, trusting: ssl.SSLContext) -> None:
    key = base64.b64encode(b"sixteen bytes ok").decode()
    lines = [
        *("GET /ws/live/ HTTP/1.1", f"Host: localhost:{stack.web_port}", f"Origin: {stack.url}"),
        *("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
        *(f"Sec-WebSocket-Key: {key}", "", ""),
    ]
    with (
        socket.create_connection(("127.0.0.1", stack.web_port), 20) as sock,
        trusting.wrap_socket(sock, server_hostname="localhost") as encrypted,
        encrypted.makefile("rb") as live,
    ):
        encrypted.sendall("\r\n".join(lines).encode())
        assert live.readline().startswith(b"HTTP/1.1 101 ")
        while live.readline() != b"\r\n":
            pass
        kind, length = live.read(2)
        assert (kind, length) == (0x81, 126)  # a text of up to 64 KiB
        news = live.read(int.from_bytes(live.read(2), "big"))
        assert json.loads(news)["online"] is True


def test_an_upload_goes_through_and_is_in_the_history(stack: Stack, trusting: ssl.SSLContext) -> None:
    connection = http.client.HTTPSConnection("localhost", stack.web_port, timeout=20, context=trusting)
    with contextlib.closing(connection):
        connection.request("PUT", "/files/new.bin", DATA)
        assert connection.getresponse().status == 201
    assert (stack.files / "new.bin").read_bytes() == DATA


# --- commands


def test_commands_trust_the_own_server_by_its_certificate(stack: Stack, tmp_path: Path) -> None:
    done = stack.manage("download", "a.bin", "--to", str(tmp_path / "a.bin"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert "a.bin" in stack.manage("files").stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--cafile", "{cert}"], ""),
        (["--fingerprint", "{pin}"], ""),
        (["--tls"], "is not trusted: self-signed certificate"),
        (["--fingerprint", "0" * 64], "is not trusted: the server has another key"),
        (["--fingerprint", "none"], "is no fingerprint"),
        (["--cafile", "/nowhere"], "cannot be read"),
        ([], "try --tls"),
    ],
)
def test_a_command_elsewhere_trusts_whom_it_is_told_to(stack: Stack, options: list[str], told: str) -> None:
    cert = stack.environment["TLS_CERT"]
    pin = (stack.home / "fingerprint").read_text()
    words = [word.format(cert=cert, pin=pin) for word in options]
    environment = {name: value for name, value in stack.environment.items() if not name.startswith("TLS_")}
    done = subprocess.run(
        [sys.executable, "manage.py", "files", "--port", str(stack.server_port), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert told in done.stderr
    assert (done.returncode == 0, "a.bin" in done.stdout) == (not told, not told)


def test_a_plain_server_asked_with_tls_is_a_sentence(stack: Stack, tmp_path: Path) -> None:
    plain = Stack(tmp_path / "plain") if (tmp_path / "plain").mkdir() is None else None
    assert plain is not None
    assert plain.manage("migrate", "--verbosity", "0").returncode == 0
    try:
        plain.start_server()
        done = plain.manage("files", "--fingerprint", "0" * 64)
        assert done.returncode == 1
        assert "does not speak TLS" in done.stderr
    finally:
        plain.stop()


# --- nobody waits for others


@pytest.mark.parametrize("which", ["file server", "site"])
def test_clients_that_never_finish_their_handshake_delay_nobody(
    stack: Stack, trusting: ssl.SSLContext, which: str
) -> None:
    with contextlib.ExitStack() as silent:
        for number in range(100):
            sock = silent.enter_context(socket.create_connection(("127.0.0.1", ports(stack)[which]), 20))
            if number % 2:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a handshake
        begun = time.monotonic()
        path = "/" if which == "site" else "/get/none/a.bin"
        assert request(ports(stack)[which], path, trusting)[0] in (200, 403)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("which", ["file server", "site"])
def test_plain_text_on_the_port_ends_at_once(stack: Stack, which: str) -> None:
    with socket.create_connection(("127.0.0.1", ports(stack)[which]), 20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sock.settimeout(20)
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass


@pytest.mark.parametrize("which", ["file server", "site"])
def test_a_scanner_finds_nothing_weak(stack: Stack, which: str) -> None:
    if shutil.which("sslscan") is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("sslscan is missing, and REQUIRE_BROWSER is set")
        pytest.skip("sslscan is not installed")
    scan = ["sslscan", "--no-colour", f"127.0.0.1:{ports(stack)[which]}"]
    said = subprocess.run(scan, capture_output=True, text=True, timeout=100).stdout
    lines = [" ".join(line.split()) for line in said.splitlines()]
    for version in ("SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"):
        assert f"{version} disabled" in lines
    assert "TLSv1.3 enabled" in lines
    accepted = [line for line in lines if line.startswith(("Accepted", "Preferred"))]
    assert accepted
    for line in accepted:
        assert " 256 bits " in line or " 128 bits " in line
        assert "GCM" in line or "CHACHA20" in line or "CCM" in line
    assert any("renegotiation" in line and ("Secure" in line or "not supported" in line) for line in lines)
    assert not any("vulnerable to heartbleed" in line and "not" not in line for line in lines)
    assert not any("Insecure" in line for line in lines)
