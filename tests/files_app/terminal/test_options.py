"""Options of the commands, and the checks before a start."""

import argparse
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from files_app.terminal import options
from files_app.terminal.options import (
    add_server_address,
    non_negative,
    port_number,
    positive,
    require_free_port,
    require_migrated,
    require_nothing_secret,
)


@pytest.mark.parametrize(("text", "port"), [("0", 0), ("1", 1), ("9999", 9999), ("65535", 65535)])
def test_a_port_is_a_number(text: str, port: int) -> None:
    assert port_number(text) == port


@pytest.mark.parametrize("text", ["", "-1", "65536", "99999999999", "http", "80.0", "²", "٣", " 80", "0x50"])
def test_anything_else_is_no_port_and_a_sentence_says_so(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no port: it must be a number from 0 to 65535"):
        port_number(text)


@pytest.mark.parametrize("text", ["0", "-1", "", "many", "1.5", "²"])
def test_a_count_is_at_least_one(text: str) -> None:
    assert positive("1000") == 1000
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        positive(text)


@pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "3601", "soon", ""])
def test_seconds_are_from_nothing_to_an_hour(text: str) -> None:
    assert (non_negative("0"), non_negative("0.2"), non_negative("3600")) == (0.0, 0.2, 3600.0)
    with pytest.raises(argparse.ArgumentTypeError, match="from 0 to 3600"):
        non_negative(text)


def test_a_port_of_the_settings_is_checked_like_one_that_is_typed(
    settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.SERVER_PORT = 70_000
    parser = argparse.ArgumentParser()
    add_server_address(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "70000 is no port" in capsys.readouterr().err


def test_the_address_of_the_settings_is_the_default(settings: Any) -> None:
    settings.SERVER_HOST, settings.SERVER_PORT = "::1", 1234
    parser = argparse.ArgumentParser()
    add_server_address(parser)
    given = vars(parser.parse_args([]))
    assert (given["host"], given["port"]) == ("::1", 1234)
    assert not any(given[name] for name in ("token_file", "tls", "cafile", "fingerprint"))


class TestMigrations:
    @pytest.mark.django_db
    def test_a_database_that_is_up_to_date_is_fine(self) -> None:
        require_migrated()

    @pytest.mark.django_db
    def test_missing_migrations_are_counted_and_the_command_is_named(self) -> None:
        count, _ = MigrationRecorder.Migration.objects.filter(app="files_app").delete()
        assert count > 1
        with pytest.raises(CommandError, match=rf"lacks {count} migrations. Run: python manage.py migrate"):
            require_migrated()

    @pytest.mark.django_db
    def test_a_database_that_cannot_be_opened_is_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any) -> Any:
            from django.db import OperationalError

            raise OperationalError("unable to open database file")

        monkeypatch.setattr(options, "MigrationExecutor", broken)
        with pytest.raises(CommandError, match="cannot be used: unable to open database file"):
            require_migrated()


class TestPorts:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
    def test_a_free_port_is_fine_and_stays_free(self, host: str) -> None:
        for _ in range(2):
            require_free_port(host, _free_port(host), "SERVER_PORT")

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    def test_a_taken_port_is_named_with_the_setting_that_changes_it(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as taken:
            taken.bind((host, 0))
            taken.listen()
            port = taken.getsockname()[1]
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            with pytest.raises(CommandError) as refusal:
                require_free_port(host, port, "WEB_PORT")
        assert str(refusal.value).startswith(f"Cannot listen on {shown}: Address already in use.")
        assert "set WEB_PORT to another one" in str(refusal.value)

    @pytest.mark.parametrize("port", [70_000, -1])
    def test_a_port_that_cannot_be_is_a_sentence(self, port: int) -> None:
        with pytest.raises(CommandError, match=f"SERVER_PORT is {port}, which is no port"):
            require_free_port("127.0.0.1", port, "SERVER_PORT")


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def test_a_secret_in_the_folder_is_refused(tmp_path: Path, settings: Any) -> None:
    settings.SECRET_KEY_FILE = tmp_path / ".secret_key"
    with pytest.raises(CommandError, match=r"The secret key lies inside .* Set FILES_DIRECTORY"):
        require_nothing_secret(tmp_path)


@pytest.mark.django_db
def test_the_database_of_the_tests_is_a_file_with_the_options_of_the_settings() -> None:
    assert Path(connection.settings_dict["NAME"]).is_file()
    with connection.cursor() as cursor:
        journal = cursor.execute("PRAGMA journal_mode").fetchone()
        synchronous = cursor.execute("PRAGMA synchronous").fetchone()
    assert (journal, synchronous) == (("wal",), (1,))
    assert connection.settings_dict["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert sqlite3.threadsafety
