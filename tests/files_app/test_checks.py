"""What must never lie inside the served folder, and what a setting must look like."""

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import Tags, run_checks

from files_app.checks import secrets_inside


@pytest.fixture
def apart(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Database, key and program each in a folder of its own."""
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", tmp_path / "data" / "db.sqlite3")
    settings.SECRET_KEY_FILE = tmp_path / "keys" / ".secret_key"
    settings.TLS_CERT, settings.TLS_KEY = (str(tmp_path / name) for name in ("certs/a.pem", "private/a.pem"))
    settings.BASE_DIR = tmp_path / "program"
    settings.FILES_DIRECTORY = tmp_path / "files"
    return tmp_path


def test_a_folder_of_its_own_holds_no_secret(apart: Path) -> None:
    assert secrets_inside(apart / "files") == []
    assert secrets_inside(apart / "program" / "files") == []


@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("data", "database"),
        ("keys", "secret key"),
        ("certs", "certificate"),
        ("private", "key of the certificate"),
        ("program", "program itself"),
    ],
)
def test_each_secret_is_named(apart: Path, folder: str, what: str) -> None:
    (message,) = secrets_inside(apart / folder)
    assert message.startswith(f"The {what} lies inside the served folder {apart / folder}")


def test_a_folder_above_all_of_them_holds_all_of_them(apart: Path) -> None:
    assert len(secrets_inside(apart)) == 5
    assert len(secrets_inside("/")) == 5


def test_a_link_hides_nothing(apart: Path) -> None:
    (apart / "data").mkdir()
    (apart / "innocent").symlink_to(apart / "data")
    assert len(secrets_inside(apart / "innocent")) == 1
    assert len(secrets_inside(apart / "files" / ".." / "data")) == 1


def test_a_database_of_a_server_is_no_file_whatever_its_name(
    apart: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", "files")
    monkeypatch.chdir(apart)
    assert secrets_inside(apart / "files") == []


def test_the_system_check_is_critical_and_says_what_to_set(apart: Path, settings: Any) -> None:
    settings.FILES_DIRECTORY = apart / "keys"
    found = [message for message in run_checks(tags=[Tags.security]) if message.id == "files_app.E001"]
    assert len(found) == 1
    assert found[0].is_serious()
    assert "Set FILES_DIRECTORY" in found[0].hint
    settings.FILES_DIRECTORY = apart / "files"
    assert not [message for message in run_checks(tags=[Tags.security]) if message.id == "files_app.E001"]


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        ("", True),
        ("https://files.example.org", True),
        ("http://10.0.0.1:8080/direct/", True),
        ("files.example.org", False),
        ("ftp://files.example.org", False),
        ("https://", False),
        ("https://[::1]:9999", False),
        ("https://files.example.org/?a=b", False),
        ("https://files.example.org/a b", False),
        ("https://files.example.org; script-src *", False),
        ("https://files.example.org\n", False),
        ("https://user@files.example.org", False),
    ],
)
def test_a_public_url_that_browsers_cannot_be_sent_to_is_told(settings: Any, url: str, usable: bool) -> None:
    settings.SERVER_PUBLIC_URL = url
    found = [message for message in run_checks(tags=[Tags.urls]) if message.id == "files_app.E002"]
    assert bool(found) is not usable
    assert all(message.is_serious() and "SERVER_PUBLIC_URL" in message.msg for message in found)
