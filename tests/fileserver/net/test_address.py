"""Addresses as text."""

import socket
from typing import Any

import pytest

from fileserver.net.address import address_text, is_loopback, is_own_client, literal, where_reached


def test_an_address_is_written_as_people_read_it() -> None:
    assert address_text("127.0.0.1", 9999) == "127.0.0.1:9999"
    assert address_text("::1", 9999) == "[::1]:9999"
    assert (literal("::1"), literal("files.local")) == ("[::1]", "files.local")


@pytest.mark.parametrize(
    ("host", "wanted"),
    [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("", "127.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("a.b", "a.b")],
)
def test_who_listens_on_all_addresses_is_reached_on_loopback(host: str, wanted: str) -> None:
    assert where_reached(host) == wanted


def test_a_client_is_our_own_by_whichever_address_it_has_come() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        assert is_own_client(there, "127.0.0.1")
        assert is_own_client(there, "::1")
        assert not is_own_client(there, "10.0.0.1")

    class OnNetwork:
        def getsockname(self) -> tuple[str, int]:
            return ("10.0.0.1", 9999)

    elsewhere: Any = OnNetwork()
    assert is_own_client(elsewhere, "10.0.0.1")
    assert not is_own_client(elsewhere, "10.0.0.2")


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
        ("fe80::1%eth0", False),
        ("localhost", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_loopback_is_known_in_every_spelling(host: str, wanted: bool) -> None:
    assert is_loopback(host) is wanted
