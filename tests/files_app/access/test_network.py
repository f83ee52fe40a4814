"""Where the servers may listen."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError

from files_app.access import network
from files_app.access.addresses import Machine
from files_app.access.network import host_of_address, require_encrypted, require_private

ELSEWHERE = ["0.0.0.0", "::", "192.168.0.1", "a..b"]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("host", ELSEWHERE)
def test_listening_elsewhere_is_refused_without_an_account_and_told_how_to_have_one(host: str) -> None:
    User.objects.create_user("closed", password="x", is_active=False)
    User.objects.create_user("no password")
    with pytest.raises(CommandError, match="Refusing to listen on") as refusal:
        require_private(host, "SERVER_HOST")
    for words in (host, "start --lan", "adduser", "set SERVER_HOST to 127.0.0.1"):
        assert words in str(refusal.value)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("host", ELSEWHERE)
def test_with_an_account_it_is_allowed(host: str) -> None:
    User.objects.create_user("ann", password="x")
    require_private(host, "SERVER_HOST")


def test_listening_on_this_machine_is_allowed_and_asks_no_database() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        require_private(host, "SERVER_HOST")


@pytest.fixture
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ("127.0.0.1", "192.168.1.5", "172.17.0.1", "169.254.3.4", "fd00::5", "fe80::1")
    monkeypatch.setattr(network, "machine", lambda: Machine(own, ("192.168.1.5", "fd00::5")))


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("192.168.1.5", "192.168.1.5"),
        ("172.17.0.1", "172.17.0.1"),  # of a container's network, but asked for
        ("169.254.3.4", "169.254.3.4"),
        ("fd00::5", "fd00::5"),
        ("[FD00:0::5]", "fd00::5"),
    ],
)
def test_an_address_of_this_machine_may_be_named(text: str, host: str) -> None:
    assert host_of_address(text) == host


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("192.168.1.6", "no address of this machine. It has: 192.168.1.5, fd00::5."),
        ("files.local", "no address of this machine"),
        ("", "no address of this machine"),
        ("0.0.0.0", "no address of this machine"),
        ("::", "no address of this machine"),
        ("127.0.0.1", "reached from this machine only. Without --lan"),
        ("::1", "reached from this machine only"),
        ("fe80::1", "Browsers cannot open"),
    ],
)
def test_any_other_is_a_sentence(text: str, words: str) -> None:
    with pytest.raises(CommandError) as refusal:
        host_of_address(text)
    assert words in str(refusal.value)


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "machine", lambda: Machine(("127.0.0.1",), ()))
    with pytest.raises(CommandError, match="It is in no network now"):
        host_of_address("192.168.1.5")


def test_where_tls_is_required_the_network_is_for_tls_alone(settings: Any) -> None:
    settings.REQUIRE_TLS, settings.TLS_CERT = True, ""
    with pytest.raises(CommandError, match="without TLS, which REQUIRE_TLS asks for") as refusal:
        require_encrypted("192.168.0.1", "WEB_HOST")
    assert "set WEB_HOST to 127.0.0.1" in str(refusal.value)
    require_encrypted("127.0.0.1", "WEB_HOST")
    settings.TLS_CERT = "cert.pem"
    require_encrypted("192.168.0.1", "WEB_HOST")
    settings.REQUIRE_TLS, settings.TLS_CERT = False, ""
    require_encrypted("192.168.0.1", "WEB_HOST")
