"""Who is asking."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import RequestFactory

from files_app.access import tickets
from files_app.access.principals import address_of, authenticate, principal_of, relay_token, visitor
from files_app.access.rules import Rules, Subject
from files_app.access.snapshot import Person, Snapshot, snapshots
from fileserver.rights import Principal, Ticket


@pytest.mark.parametrize(
    ("address", "is_private", "kind"),
    [
        ("127.0.0.1", True, "local"),
        ("::1", True, "local"),
        ("192.168.0.7", True, "guest"),
        ("127.0.0.1", False, "guest"),
        ("192.168.0.7", False, "guest"),
    ],
)
def test_without_a_token_it_is_a_guest_or_somebody_at_this_machine(
    address: str, is_private: bool, kind: Any
) -> None:
    assert authenticate(None, address, is_private) == Principal(kind, address=address)


@pytest.mark.parametrize("is_private", [True, False])
def test_the_site_is_known_by_its_token(is_private: bool) -> None:
    principal = authenticate(relay_token(), "127.0.0.1", is_private)
    assert principal == Principal("relay", address="127.0.0.1")
    assert principal.is_relay


@pytest.mark.parametrize(
    ("viewer", "user"),
    [
        (Principal("local", "root"), None),
        (Principal(), None),
        (Principal("user", "ann", key=1), "ann"),
        (Principal("user", "gone", key=2), None),
    ],
    ids=str,
)
def test_a_ticket_is_of_the_one_who_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, viewer: Principal, user: str | None
) -> None:
    people = {1: Person("ann", Subject("1"), False, frozenset())}
    monkeypatch.setattr(snapshots, "_newest", Snapshot(0, Rules([]), people))
    text = tickets.make("a.txt", replace(viewer, address="127.0.0.1"))
    holder = Principal(viewer.kind, user, "::1", Ticket("a.txt"), viewer.key)
    assert authenticate(text, "::1", False) == holder
    assert authenticate(text, "192.168.0.7", False) is None


@pytest.mark.parametrize("token", ["", "x", "\ud800", "é", "0" * 64, "🎉" * 10])
def test_no_other_token_is_known(token: str) -> None:
    assert authenticate(token, "127.0.0.1", True) is None


def test_the_token_follows_from_the_secret_key_and_does_not_show_it(settings: Any) -> None:
    settings.SECRET_KEY = "one"
    first = relay_token()
    settings.SECRET_KEY = "two"
    assert relay_token() != first
    assert "one" not in first
    assert authenticate(first, "127.0.0.1", True) is None


ANN = SimpleNamespace(pk=7, get_username=lambda: "ann")
HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8000"}


@pytest.mark.parametrize(
    ("meta", "user", "expected"),
    [
        ({}, None, Principal("local", address="127.0.0.1")),
        ({}, ANN, Principal("local", "ann", "127.0.0.1")),
        ({"REMOTE_ADDR": "192.0.2.7"}, None, Principal(address="192.0.2.7")),
        ({"REMOTE_ADDR": "192.0.2.7"}, ANN, Principal("user", "ann", "192.0.2.7", key=7)),
        ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, None, Principal(address="127.0.0.1")),
        ({"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, ANN, Principal("user", "ann", "127.0.0.1", key=7)),
    ],
)
def test_a_visitor_of_the_site_is_local_or_logged_in_or_a_guest(
    meta: dict[str, str], user: Any, expected: Principal
) -> None:
    request = RequestFactory().get("/", **HERE | meta)
    assert visitor(request, user) == expected
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower().encode(), value.encode())
        for name, value in (HERE | meta).items()
        if name.startswith("HTTP_")
    ]
    scope = {"type": "websocket", "client": [(HERE | meta)["REMOTE_ADDR"], 50_000], "headers": headers}
    assert visitor(scope, user) == expected


def test_who_has_been_found_out_is_kept_with_the_request() -> None:
    ann = Principal("user", "ann", key=1)
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    assert principal_of(request) == Principal(address="192.0.2.7")
    request.principal = ann  # type: ignore[attr-defined]
    assert principal_of(request) == principal_of({"principal": ann}) == ann


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
