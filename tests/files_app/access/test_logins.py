"""Failed logins in the admin are seen by whoever looks at the log."""

import logging
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User

from tests.files_app.site import HOST, Answer, fetch

pytestmark = pytest.mark.usefixtures("database")

PASSWORD = "correct horse"


@pytest.fixture(autouse=True)
def _user(database: None, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # quick ones will do here
    User.objects.create_superuser("admin", password=PASSWORD)


def log_in(name: str, password: str) -> Answer:
    page = fetch("GET", "/admin/login/")
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found
    form = {"csrfmiddlewaretoken": found[1], "username": name, "password": password, "next": "/admin/"}
    headers = {
        "origin": f"http://{HOST}",
        "content-type": "application/x-www-form-urlencoded",
        "cookie": f"cfs_csrf={page.cookies['cfs_csrf']}",
    }
    return fetch("POST", "/admin/login/", body=urlencode(form).encode(), headers=headers)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "files_app.access.logins"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("admin", "'admin'"),
        ("nobody", "'nobody'"),
        ("a\r\n12:00:00 all is well\x1b[2J\u202e", r"'a\r\n12:00:00 all is well\x1b[2J\u202e'"),
        ("x" * 150, f"'{'x' * 79}…'"),
    ],
)
def test_a_failed_login_is_one_line_with_the_name_and_the_address(
    caplog: pytest.LogCaptureFixture, name: str, told: str
) -> None:
    with caplog.at_level(logging.INFO):
        assert log_in(name, "battery staple").status == 200  # the form once more
    assert lines(caplog) == [f"a login as {told} failed, from 127.0.0.1"]
    assert "battery staple" not in caplog.text


def test_twenty_failed_logins_are_twenty_lines(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for number in range(20):
            log_in("admin", f"guess {number}")
    assert lines(caplog) == ["a login as 'admin' failed, from 127.0.0.1"] * 20


def test_a_login_that_succeeds_is_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert log_in("admin", PASSWORD).status == 302
    assert lines(caplog) == []


def test_a_login_by_no_request_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert authenticate(username="admin", password="battery staple") is None
    assert lines(caplog) == ["a login as 'admin' failed, from a program on this machine"]
