"""What the file server is put together from; ``tests/files_app/management/test_commands.py`` runs it."""

from typing import Any

import pytest

from files_app.hosting.assembly import page_url_here


@pytest.mark.parametrize(
    ("changed", "url"),
    [
        ({}, "http://127.0.0.1:8000/"),
        ({"WEB_PORT": 8080}, "http://127.0.0.1:8080/"),
        ({"WEB_HOST": "::1"}, "http://[::1]:8000/"),
        ({"WEB_HOST": "localhost", "ALLOWED_HOSTS": ["localhost"]}, "http://localhost:8000/"),
        ({"ALLOWED_HOSTS": ["files.example.org"]}, None),  # it would answer 400
        ({"PUBLIC_URL": "https://files.example.org"}, "https://files.example.org/"),
        ({"HTTPS": True}, None),  # it would redirect to a port that speaks no https
    ],
)
def test_where_the_page_is_is_told_only_if_it_is_there(
    settings: Any, changed: dict[str, Any], url: str | None
) -> None:
    settings.WEB_HOST, settings.WEB_PORT = "127.0.0.1", 8000
    settings.ALLOWED_HOSTS, settings.HTTPS = ["localhost", "127.0.0.1", "[::1]"], False
    settings.PUBLIC_URL = settings.TLS_CERT = ""
    for name, value in changed.items():
        setattr(settings, name, value)
    assert page_url_here() == url
