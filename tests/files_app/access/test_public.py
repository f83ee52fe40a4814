"""The addresses to hand on."""

from typing import Any

import pytest
from django.urls import set_script_prefix

from files_app.access import addresses
from files_app.access.addresses import Machine
from files_app.access.public import has_network, is_on_network, page_url, page_urls, server_address


@pytest.fixture
def others() -> tuple[str, ...]:
    return ("192.168.1.5", "10.0.0.7", "fd00::5")


@pytest.fixture(autouse=True)
def _settings(settings: Any, monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]) -> None:
    settings.WEB_HOST, settings.WEB_PORT, settings.SERVER_PORT = "0.0.0.0", 8000, 9999
    settings.PUBLIC_URL = settings.TLS_CERT = ""
    monkeypatch.setattr(addresses, "machine", lambda: Machine((), others))


@pytest.mark.parametrize(
    ("changed", "url"),
    [
        ({}, "http://192.168.1.5:8000/s/abc"),
        ({"WEB_HOST": "127.0.0.1"}, "http://127.0.0.1:8000/s/abc"),
        ({"WEB_HOST": "::1"}, "http://[::1]:8000/s/abc"),
        ({"WEB_HOST": "fd00::5", "WEB_PORT": 80}, "http://[fd00::5]:80/s/abc"),
        ({"WEB_HOST": "::"}, "http://[fd00::5]:8000/s/abc"),
        ({"TLS_CERT": "cert.pem"}, "https://192.168.1.5:8000/s/abc"),
        ({"PUBLIC_URL": "https://files.example.org"}, "https://files.example.org/s/abc"),
        ({"PUBLIC_URL": "https://files.example.org/"}, "https://files.example.org/s/abc"),
    ],
)
def test_a_page_is_at_the_public_address_or_the_best_one(
    settings: Any, changed: dict[str, Any], url: str
) -> None:
    for name, value in changed.items():
        setattr(settings, name, value)
    assert page_url("/s/abc") == url


def test_a_public_address_may_be_of_a_folder_on_a_site(settings: Any) -> None:
    settings.PUBLIC_URL = "https://example.org/files"
    set_script_prefix("/files/")
    try:
        assert page_url("/files/s/abc") == "https://example.org/files/s/abc"
        assert page_url() == "https://example.org/files/"
    finally:
        set_script_prefix("/")


def test_all_are_told_the_best_first() -> None:
    assert page_urls() == ["http://192.168.1.5:8000/", "http://10.0.0.7:8000/"]


@pytest.mark.parametrize("others", [()])
def test_without_a_network_there_is_loopback(settings: Any) -> None:
    assert page_urls() == ["http://127.0.0.1:8000/"]
    assert (is_on_network(), has_network()) == (True, False)
    settings.PUBLIC_URL = "https://files.example.org"
    assert has_network()


@pytest.mark.parametrize(
    ("host", "address"),
    [("0.0.0.0", "192.168.1.5:9999"), ("127.0.0.1", "127.0.0.1:9999"), ("fd00::5", "[fd00::5]:9999")],
)
def test_the_file_server_is_told_where_it_is_reached(settings: Any, host: str, address: str) -> None:
    settings.SERVER_HOST = host
    assert server_address() == address
