"""Who is asking, and what may they do."""

import subprocess
import sys
from typing import Any, get_args

import pytest
from django.core.management import CommandError

from files_app.access.policy import (
    RELAY,
    authenticate,
    comes_from_us,
    is_loopback,
    is_own_origin,
    may,
    relay_token,
    require_loopback,
)
from fileserver.rights import Principal, Right
from fileserver.wire.verbs import ErrorReply
from tests.files_app.conftest import Served


class TestAuthenticate:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_a_guest_on_this_machine_may_everything_but_speak_for_others(self, host: str) -> None:
        guest = authenticate(None, host)
        assert guest == Principal("guest", address=host)
        assert all(may(guest, right, "a") for right in get_args(Right))
        assert guest.is_relay is False

    @pytest.mark.parametrize("host", ["192.168.0.7", "10.0.0.1", "8.8.8.8", "fe80::1", "0.0.0.0", "::"])
    def test_a_guest_from_elsewhere_may_nothing(self, host: str) -> None:
        guest = authenticate(None, host)
        assert guest is not None
        assert not any(may(guest, right, "a") for right in get_args(Right))

    def test_the_site_proves_itself_with_its_token(self) -> None:
        assert authenticate(relay_token(), "127.0.0.1") is RELAY

    @pytest.mark.parametrize("token", ["", "x", "\ud800", "é", "0" * 64, "🎉" * 100])
    def test_no_other_token_is_known(self, token: str) -> None:
        assert authenticate(token, "127.0.0.1") is None

    def test_the_token_follows_from_the_secret_key_and_does_not_show_it(self, settings: Any) -> None:
        settings.SECRET_KEY = "one"
        first = relay_token()
        settings.SECRET_KEY = "two"
        assert relay_token() != first
        assert "one" not in first
        assert authenticate(first, "127.0.0.1") is None

    def test_a_guest_cannot_speak_for_others(self, served: Served) -> None:
        served.put("a.txt", b"x")
        with served.client() as client:
            for field, value in (("client", "somebody"), ("user", "maria"), ("via", "web")):
                with pytest.raises(ErrorReply) as refusal:
                    client.request("GET", name="a.txt", **{field: value})
                assert refusal.value.code == "denied"

    def test_a_wrong_token_is_denied_and_the_connection_stays_usable(self, served: Served) -> None:
        with served.peer() as peer:
            assert peer.refusal(b'AUTH {"token": "\\ud800"}\n')["code"] == "denied"
            assert peer.refusal(b"AUTH wrong\n")["code"] == "denied"
            assert peer.is_usable()


class TestLoopback:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.255.0.1", "::1", "[::1]", "localhost", "::1%lo"])
    def test_this_machine_is_loopback(self, host: str) -> None:
        assert is_loopback(host)

    @pytest.mark.parametrize(
        "host",
        [
            *(
                "0.0.0.0",
                "::",
                "192.168.0.1",
                "8.8.8.8",
                "",
                "no-such-host.invalid",
                "127.0.0.1.evil.invalid",
            ),
            *("a..b", "x" * 70, "x" * 300, "127.0.0.1:80", "\x00", "é" * 64, "256.0.0.1"),
        ],
    )
    def test_everything_else_is_not(self, host: str) -> None:
        assert not is_loopback(host)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "a..b"])
    def test_listening_elsewhere_is_refused_with_the_setting_to_change(self, host: str) -> None:
        with pytest.raises(CommandError, match="Refusing to listen on") as refusal:
            require_loopback(host, "SERVER_HOST")
        assert host in str(refusal.value)
        assert "set SERVER_HOST to 127.0.0.1" in str(refusal.value)

    def test_listening_on_this_machine_is_allowed(self) -> None:
        for host in ("127.0.0.1", "::1", "localhost"):
            require_loopback(host, "SERVER_HOST")


class TestOrigin:
    @pytest.mark.parametrize(
        ("origin", "host", "secure", "own"),
        [
            ("http://localhost:8000", "localhost:8000", False, True),
            ("HTTP://LocalHost:8000", "localhost:8000", False, True),
            ("https://localhost:8000", "localhost:8000", True, True),
            ("http://[::1]:8000", "[::1]:8000", False, True),
            ("http://localhost", "localhost", False, True),
            ("http://localhost:3000", "localhost:8000", False, False),
            ("http://localhost", "localhost:8000", False, False),
            ("https://localhost:8000", "localhost:8000", False, False),
            ("http://localhost:8000", "localhost:8000", True, False),
            ("ftp://localhost:8000", "localhost:8000", False, False),
            ("http://127.0.0.1:8000", "localhost:8000", False, False),
            ("http://localhost:8000/", "localhost:8000", False, False),
            ("http://localhost:8000@evil.example", "localhost:8000", False, False),
            ("null", "localhost:8000", False, False),
            ("", "localhost:8000", False, False),
            ("", "", False, False),
        ],
    )
    def test_the_own_origin_is_scheme_host_and_port(
        self, origin: str, host: str, secure: bool, own: bool
    ) -> None:
        assert is_own_origin(origin, host, secure) is own

    @pytest.mark.parametrize(
        ("headers", "allowed"),
        [
            ({}, True),
            ({"origin": "http://h"}, True),
            ({"origin": "http://h", "cookie": "a=b"}, True),
            ({"origin": "null"}, False),
            ({"cookie": ""}, False),
            ({"sec-fetch-site": "same-origin"}, False),
        ],
    )
    def test_without_an_origin_nothing_else_of_a_browser_may_be_there(
        self, headers: dict[str, str], allowed: bool
    ) -> None:
        assert comes_from_us(headers, "h", False) is allowed


def test_two_processes_with_the_same_key_derive_the_same_token() -> None:
    code = (
        "import django; django.setup(); from files_app.access.policy import relay_token; print(relay_token())"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "cfsite.settings", "SECRET_KEY": "shared", "PATH": ""}
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(said) == 1
    assert len(said.pop().strip()) == 64
