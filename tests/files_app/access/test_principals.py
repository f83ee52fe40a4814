"""Who is asking."""

import subprocess
import sys
from typing import Any

import pytest
from django.test import RequestFactory

from files_app.access import tickets
from files_app.access.principals import address_of, authenticate, principal_of, relay_token
from fileserver.rights import Principal, Ticket


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "192.168.0.7"])
def test_without_a_token_it_is_a_guest_wherever_they_are(address: str) -> None:
    assert authenticate(None, address) == Principal("guest", address=address)


def test_the_site_is_known_by_its_token() -> None:
    principal = authenticate(relay_token(), "127.0.0.1")
    assert principal == Principal("relay", address="127.0.0.1")
    assert principal.is_relay


def test_a_ticket_is_somebody_who_may_have_one_file() -> None:
    text = tickets.make("a.txt", "127.0.0.1")
    assert authenticate(text, "::1") == Principal("ticket", address="::1", ticket=Ticket("a.txt"))
    assert authenticate(text, "192.168.0.7") is None


@pytest.mark.parametrize("token", ["", "x", "\ud800", "é", "0" * 64, "🎉" * 100])
def test_no_other_token_is_known(token: str) -> None:
    assert authenticate(token, "127.0.0.1") is None


def test_the_token_follows_from_the_secret_key_and_does_not_show_it(settings: Any) -> None:
    settings.SECRET_KEY = "one"
    first = relay_token()
    settings.SECRET_KEY = "two"
    assert relay_token() != first
    assert "one" not in first
    assert authenticate(first, "127.0.0.1") is None


def test_who_asks_the_site_is_a_guest_at_the_address_of_the_connection() -> None:
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    assert principal_of(request) == Principal("guest", address="192.0.2.7")
    assert principal_of({"type": "websocket", "client": ["::1", 50_000]}) == Principal("guest", address="::1")


@pytest.mark.parametrize("nowhere", [RequestFactory().get("/", REMOTE_ADDR=""), {}, {"client": None}])
def test_what_has_no_address_is_on_this_machine(nowhere: Any) -> None:
    assert address_of(nowhere) == "127.0.0.1"


def test_two_processes_with_the_same_key_derive_the_same_token() -> None:
    show = "from files_app.access import principals; print(principals.relay_token())"
    code = f"import django; django.setup(); {show}"
    environment = {"DJANGO_SETTINGS_MODULE": "cfsite.settings", "SECRET_KEY": "shared", "PATH": ""}
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(said) == 1
    assert len(said.pop().strip()) == 64
