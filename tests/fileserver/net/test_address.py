"""Addresses as text."""

import pytest

from fileserver.net.address import address_text, is_loopback


def test_an_address_is_written_as_people_read_it() -> None:
    assert address_text("127.0.0.1", 9999) == "127.0.0.1:9999"
    assert address_text("::1", 9999) == "[::1]:9999"


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
