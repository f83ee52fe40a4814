"""Under which names the site answers."""

import socket
from typing import Any

import pytest
from django.http.request import validate_host

from files_app.access import hosts
from files_app.access.addresses import Machine
from files_app.access.hosts import AllowedHosts, FullName, own_hosts
from tests.files_app.site import fetch
from tests.servers import wait_until

OWN = Machine(("127.0.0.1", "::1", "192.168.1.5", "fd00::5", "fe80::1"), ("192.168.1.5",))
LOOPBACK = ["localhost", "127.0.0.1", "[::1]"]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "machine", lambda: OWN)
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: "Teacher")
    monkeypatch.setattr(hosts.socket, "getfqdn", lambda name: f"{name}.school.example")
    monkeypatch.setattr(hosts, "_full_name", FullName())
    hosts._full_name.of("teacher")
    wait_until(lambda: hosts._full_name.of("teacher"))


def test_on_the_network_each_address_and_name_of_this_machine_is_allowed_and_what_is_set(
    settings: Any,
) -> None:
    settings.WEB_HOST = "0.0.0.0"
    assert list(AllowedHosts(["files.example.org"])) == [
        *("files.example.org", "localhost", "127.0.0.1", "[::1]", "192.168.1.5", "[fd00::5]", "[fe80::1]"),
        *("teacher", "teacher.local", "teacher.school.example"),
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_it_is_what_is_set(settings: Any, host: str) -> None:
    settings.WEB_HOST = host
    assert list(AllowedHosts(LOOPBACK)) == LOOPBACK


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            (host, 200)
            for host in ("192.168.1.5", "192.168.1.5:8000", "[fd00::5]:8000", "TEACHER.local:8000")
        ),
        *((host, 200) for host in ("localhost:8000", "127.0.0.1", "teacher.school.example", "[::1]")),
        *((host, 400) for host in ("evil.example", "192.168.1.6", "teacher.evil.example", "x.teacher.local")),
        *((host, 400) for host in ("[fd00::6]:8000", "192.168.1.5.evil.example", "*", "")),
    ],
)
def test_another_name_that_leads_here_gets_a_400(settings: Any, host: str, status: int) -> None:
    settings.WEB_HOST, settings.ALLOWED_HOSTS = "0.0.0.0", AllowedHosts(LOOPBACK)
    assert fetch("GET", "/login/", host=host, client=("192.168.1.9", 5000)).status == status


def test_what_changes_is_known_at_the_next_look(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.WEB_HOST = "0.0.0.0"
    allowed = AllowedHosts(LOOPBACK)
    assert not validate_host("10.0.0.7", allowed)
    monkeypatch.setattr(hosts, "machine", lambda: Machine(("10.0.0.7",), ()))
    assert validate_host("10.0.0.7", allowed)
    assert not validate_host("192.168.1.5", allowed)


@pytest.mark.parametrize("name", ["*", ".example.org", "", "a b", "naïve"])
def test_a_name_that_would_be_a_pattern_or_can_be_no_name_is_left_out(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(hosts.socket, "gethostname", lambda: name)
    monkeypatch.setattr(hosts.socket, "getfqdn", lambda name: name)
    found = set(own_hosts())
    assert not found & {"*", name, f"{name}.local"}
    assert "192.168.1.5" in found


def test_a_name_server_cannot_give_this_machine_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts.socket, "getfqdn", lambda name: "evil.example")
    full = FullName()
    monkeypatch.setattr(hosts, "_full_name", full)
    wait_until(lambda: full.of("teacher"))
    assert not {"evil.example", "evil.local"} & set(own_hosts())


def test_nobody_waits_for_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asks = socket.socketpair()
    with answers, asks:
        monkeypatch.setattr(hosts.socket, "getfqdn", lambda name: asks.recv(100).decode())
        full = FullName()
        assert full.of("teacher") == ""
        answers.sendall(b"teacher.example")
        wait_until(lambda: full.of("teacher") == "teacher.example")
