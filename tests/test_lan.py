"""``manage.py start --lan`` as it is used: servers on one host; browser, curl and commands on another one."""

import contextlib
import json
import os
import re
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browsing import (
    PATIENCE,
    chromium_by,
    drop,
    expect,
    file_row,
    is_in,
    is_online,
    new_page,
    shows,
    upload_row,
)
from tests.files_app.test_qr import read_lines
from tests.namespaces import NEW_SERVER, OTHER_CLIENT, OTHER_SERVER, SERVER, SERVER6, Host, two_hosts
from tests.servers import wait_until
from tests.stack import PROJECT, Stack, end_supervisor

fcntl = pytest.importorskip("fcntl", reason="terminals and network namespaces are of Linux")
termios = pytest.importorskip("termios")

PASSWORD = re.compile(r"\b[a-z2-9]{5}(?:-[a-z2-9]{5}){3}\b")
COLUMNS, ROWS = 100, 40


class Lan:
    """The servers on their host, what they say there, and what another host sees of them."""

    def __init__(self, stack: Stack, server: Host, client: Host, *options: str, terminal: bool) -> None:
        self.stack, self.server, self.client = stack, server, client
        self._said = ""
        ours, theirs = os.openpty() if terminal else os.pipe()
        if terminal:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {name: value for name, value in stack.environment.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            server.command(sys.executable, "manage.py", "start", "--lan", *options),
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)) if terminal else None,
        )
        os.close(theirs)
        self._fd = ours
        self._reader = threading.Thread(target=self._read, name="Reader")
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # a terminal without anybody who writes
            while data := os.read(self._fd, 65_536):
                self._said += data.decode(errors="replace").replace("\r\n", "\n")

    @property
    def said(self) -> str:
        return self._said

    def wait_said(self, words: str) -> None:
        wait_until(lambda: words in self.said or self.process.poll() is not None, 40)
        assert words in self.said, self.said

    def press_ctrl_c(self) -> None:
        """On its terminal."""
        os.write(self._fd, b"\x03")

    def end(self) -> None:
        end_supervisor(self.process)
        self._reader.join()
        os.close(self._fd)

    def url(self, path: str = "/", host: str = SERVER) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.stack.web_port}{path}"

    def curl(self, path: str, *options: str, host: str = SERVER, at: Host | None = None) -> tuple[int, str]:
        """Status and body, as the other host gets them; 0 if nobody answers."""
        words = ("curl", "-sS", "-g", "-m", "20", "-w", "\n%{http_code}", *options, self.url(path, host))
        body, _, status = (at or self.client).run(*words).stdout.rpartition("\n")
        return int(status), body

    def manage(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command on the other host."""
        address = ("--host", SERVER, "--port", str(self.stack.server_port))
        return self.client.run(
            sys.executable,
            "manage.py",
            *words,
            *address,
            env=self.stack.environment,
            stdin=subprocess.DEVNULL,
        )

    def talk(self, lines: str) -> str:
        """What the file server says to these lines, typed on the other host."""
        code = f"""
import socket, sys
with socket.create_connection(("{SERVER}", {self.stack.server_port}), 10) as sock, sock.makefile() as answers:
    sock.sendall(sys.stdin.buffer.read())
    print(answers.read())
"""
        return self.client.run(sys.executable, "-c", code, input=lines).stdout


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    with two_hosts() as both:
        yield both


Begin = Callable[..., Lan]


@pytest.fixture
def begin(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Begin]:
    stack = Stack(tmp_path)
    (stack.files / "sample.txt").write_text("hello")
    running: list[Lan] = []

    def start(*options: str, terminal: bool = False, **environment: str) -> Lan:
        stack.environment |= environment
        running.append(Lan(stack, *hosts, *options, terminal=terminal))
        running[-1].wait_said("Without TLS")
        return running[-1]

    yield start
    for each in running:
        each.end()


@pytest.fixture
def browser(hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[Any]:
    """Chromium on the other host."""
    with chromium_by(lambda path: hosts[1].browser(tmp_path, path)) as chromium:
        yield chromium


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    with new_page(browser) as page:
        yield page


def log_in(page: Any, lan: Lan, password: str) -> None:
    page.goto(lan.url("/login/"))
    page.fill("#id_username", "admin")
    page.fill("#id_password", password)
    page.click('main button[type="submit"]')
    shows(page.locator("#dropzone"))


def code_on_screen(lan: Lan) -> str:
    """What a camera before that terminal reads."""
    lines = [line[2:] for line in lan.said.splitlines() if re.fullmatch("  [ ▀▄█]{20,}", line)]
    (text,) = read_lines("\n".join(lines))
    return text


def test_a_class_scans_the_code_and_reads_and_the_teacher_logs_in(
    begin: Begin, page: Any, tmp_path: Path
) -> None:
    lan = begin(terminal=True)
    url = code_on_screen(lan)
    assert url == lan.url()
    assert "Guests may list and download" in lan.said
    wait_until(lambda: json.loads(lan.curl("/api/files")[1])["count"], 15)
    page.goto(url)
    is_online(page)
    shows(page.locator("#guest"))
    row = file_row(page, "sample.txt")
    shows(row)
    link = row.locator('[data-act="download"]')
    expect(link).to_have_attribute("href", re.compile("direct=1"), timeout=PATIENCE)
    with page.expect_download() as download:
        link.click()
    download.value.save_as(tmp_path / "saved")
    assert f"{SERVER}:{lan.stack.server_port}/get/" in download.value.url
    assert (tmp_path / "saved").read_text() == "hello"
    assert page.locator("#dropzone").count() == row.locator('[data-act="delete"]').count() == 0
    page.locator("#reach summary").click()
    assert page.input_value("#reach-url") == url
    shows(page.locator("#reach svg.qr"))
    page.click('#reach [data-act="copy"]')
    expect(page.locator('#reach [data-act="copy"]')).to_have_text("Copied", timeout=PATIENCE)

    (password,) = set(PASSWORD.findall(lan.said))
    log_in(page, lan, password)
    drop(page, {"handout.txt": b"for all"})
    is_in(upload_row(page, "handout.txt"), "done")
    assert (lan.stack.files / "handout.txt").read_text() == "for all"
    assert lan.curl("/files/handout.txt") == (200, "for all")

    page.goto("about:blank")
    lan.press_ctrl_c()
    assert lan.process.wait(30) == 0
    assert lan.curl("/")[0] == 0
    assert subprocess.run(["ip", "netns", "pids", lan.server.name], capture_output=True).stdout == b""


def test_guests_who_may_read_may_do_nothing_else_at_either_port(begin: Begin, tmp_path: Path) -> None:
    lan = begin("--guests", "read")
    wait_until(lambda: json.loads(lan.curl("/api/files")[1])["count"], 15)
    assert lan.curl("/files/sample.txt") == (200, "hello")
    upload = ("-T", str(PROJECT / "README.md"))
    assert lan.curl("/files/new.txt", *upload)[0] == 401
    assert lan.curl("/files/sample.txt?exists=replace", *upload)[0] == 401
    assert lan.curl("/files/sample.txt", "-X", "DELETE")[0] == 401
    assert (
        lan.curl("/uploads/", "-X", "POST", "-H", "Tus-Resumable: 1.0.0", "-H", "Upload-Length: 1")[0] != 201
    )
    assert lan.curl("/history/")[0] == 401
    assert lan.curl("/api/status")[0] == 401
    assert lan.manage("files").stdout.endswith("\tsample.txt\n")
    assert lan.manage("download", "sample.txt", "--to", f"{tmp_path}/got/").returncode == 0
    assert (tmp_path / "got" / "sample.txt").read_text() == "hello"
    refused = lan.manage("upload", str(PROJECT / "LICENSE"))
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    said = lan.talk("DELETE sample.txt\nGET sample.txt\nQUIT\n")
    assert "ERR" in said.splitlines()[0]
    assert '"auth-required"' in said.splitlines()[0]
    assert "hello" in said
    # At this host itself nobody is more than a guest either.
    assert lan.curl("/files/sample.txt", "-X", "DELETE", host="127.0.0.1", at=lan.server)[0] == 401
    # And a name of somebody else that leads here gets nothing.
    assert lan.curl("/files/sample.txt", "-H", "Host: evil.example")[0] == 400
    assert os.listdir(lan.stack.files) == ["sample.txt"]


def test_without_rights_a_guest_sees_the_login_page_and_the_password_is_in_a_file(
    begin: Begin, page: Any
) -> None:
    lan = begin("--guests", "none")
    assert not PASSWORD.search(lan.said)
    (path,) = lan.stack.home.glob("db.sqlite3.password-admin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page.goto(lan.url())
    shows(page.locator("#id_password"))
    assert page.url == lan.url("/login/?next=/")
    assert "sample.txt" not in page.content()
    for address in ("/api/files", "/files/sample.txt", "/history/"):
        status, body = lan.curl(address)
        assert (status, "hello" in body) == (401, False)
    assert lan.manage("files").returncode == 1
    log_in(page, lan, path.read_text().strip())
    shows(file_row(page, "sample.txt"))
    assert not PASSWORD.search(lan.said)


def test_who_may_drop_uploads_and_sees_nothing_of_others(begin: Begin, page: Any) -> None:
    lan = begin("--guests", "drop")
    page.goto(lan.url())
    is_online(page)
    drop(page, {"homework.txt": b"mine"})
    is_in(upload_row(page, "homework.txt"), "done")
    assert (lan.stack.files / "homework.txt").read_text() == "mine"
    assert page.locator("#files-section").count() == 0
    page.reload()
    is_online(page)
    assert "sample.txt" not in page.content()
    for address in ("/api/files", "/files/sample.txt", "/files/homework.txt", "/api/history"):
        assert lan.curl(address)[0] == 401, address
    assert lan.curl("/files/homework.txt?exists=replace", "-T", str(PROJECT / "LICENSE"))[0] == 401
    assert lan.manage("files").returncode == 1
    assert lan.manage("download", "sample.txt").returncode == 1
    sent = lan.manage("upload", str(PROJECT / "LICENSE"))
    assert sent.returncode == 0, sent.stderr


@pytest.fixture
def second_network(hosts: tuple[Host, Host]) -> Iterator[None]:
    """The server is in two networks. The test may take it out of the first one, and give it a new address."""
    server, client = hosts
    server.ip("addr", "add", f"{OTHER_SERVER}/24", "dev", "lan0")
    client.ip("addr", "add", f"{OTHER_CLIENT}/24", "dev", "lan0")
    yield
    client.ip("addr", "del", f"{OTHER_CLIENT}/24", "dev", "lan0")
    server.ip("-4", "addr", "flush", "dev", "lan0")
    server.ip("addr", "add", f"{SERVER}/24", "dev", "lan0")


@pytest.mark.usefixtures("second_network")
def test_another_address_is_told_and_answered_and_an_open_page_shows_it(begin: Begin, page: Any) -> None:
    lan = begin(terminal=True)
    other = lan.url(host=OTHER_SERVER)
    assert f"The page is at {lan.url()}" in lan.said
    assert f"Also at {other}" in lan.said
    page.goto(other)
    is_online(page)
    reach = page.locator("#reach-url")
    expect(reach).to_have_value(lan.url(), timeout=PATIENCE)
    lan.server.ip("addr", "del", f"{SERVER}/24", "dev", "lan0")
    lan.wait_said(f"The page is at {other}")
    assert "The address of this machine has changed." in lan.said
    expect(reach).to_have_value(other, timeout=PATIENCE)
    assert lan.curl("/", host=NEW_SERVER)[0] == 0
    lan.server.ip("addr", "add", f"{NEW_SERVER}/24", "dev", "lan0")
    wait_until(lambda: lan.curl("/", host=NEW_SERVER)[0] == 200, 15)


def test_one_address_alone_of_ipv6_too(begin: Begin, tmp_path: Path) -> None:
    lan = begin("--address", SERVER6, MAX_CLIENTS_PER_ADDRESS="1")
    assert f"The page is at {lan.url(host=SERVER6)}" in lan.said
    wait_until(lambda: json.loads(lan.curl("/api/files", host=SERVER6)[1])["count"], 15)
    # The site is one of the file server's clients, at that very address, which has no limit.
    for _ in range(3):
        assert lan.curl("/files/sample.txt", host=SERVER6) == (200, "hello")
    assert lan.curl("/")[0] == 0
    assert lan.curl("/", host="127.0.0.1", at=lan.server)[0] == 0
    files = lan.client.run(
        *(sys.executable, "manage.py", "files", "--host", SERVER6, "--port", str(lan.stack.server_port)),
        env=lan.stack.environment,
    )
    assert files.stdout.endswith("\tsample.txt\n"), files.stderr
