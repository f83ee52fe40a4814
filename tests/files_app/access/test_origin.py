"""Whether a change comes from our own page, or from no page at all."""

import pytest

from files_app.access.origin import comes_from_us, is_own_origin


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
def test_the_own_origin_is_scheme_host_and_port(origin: str, host: str, secure: bool, own: bool) -> None:
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
    headers: dict[str, str], allowed: bool
) -> None:
    assert comes_from_us(headers, "h", False) is allowed
