"""The settings: from the environment, with the defaults that ``.env.example`` shows."""

import os
import re
import runpy
import string
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live
from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.utils.module_loading import import_string

from files_app.hosting.authority import Files, make
from tests.certificates import write_certificate
from tests.stack import Stack

FILE = Path(live.BASE_DIR) / "cfsite" / "settings.py"
EXAMPLE = Path(live.BASE_DIR) / ".env.example"
NAMES = sorted(set(re.findall(r'env(?:\.\w+)?\("([A-Z_]+)"', FILE.read_text())))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the settings with nothing but the given variables in the environment."""
    monkeypatch.setattr("environ.Env.read_env", lambda *args, **kwargs: None)

    def run(**variables: str) -> dict[str, Any]:
        for name in [*NAMES, "STRAIGHT_DOWNLOADS"]:
            monkeypatch.delenv(name, raising=False)
        for name, value in {"SECRET_KEY": "for this test", **variables}.items():
            monkeypatch.setenv(name, value)
        try:
            return runpy.run_path(str(FILE))
        finally:
            os.environ.pop("DIRECT_DOWNLOADS", None)  # set by the settings themselves, for an older name

    return run


def test_each_variable_is_in_the_example(load: Any) -> None:
    shown = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert shown == set(NAMES)


def test_the_example_shows_the_defaults(load: Any) -> None:
    shown = dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    del shown["SECRET_KEY"]  # made at the first start
    assert comparable(load(**shown)) == comparable(load())


def comparable(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name.isupper()}


def test_the_defaults_are_those_of_a_machine_of_ones_own(load: Any) -> None:
    settings = load()
    assert (settings["SERVER_HOST"], settings["SERVER_PORT"]) == ("127.0.0.1", 9999)
    assert (settings["WEB_HOST"], settings["WEB_PORT"]) == ("127.0.0.1", 8000)
    assert settings["FILES_DIRECTORY"] == settings["BASE_DIR"] / "server_files"
    assert (settings["SLEEP_TIME"], settings["BUFFER_SIZE"]) == (0.0, 1000)
    assert (settings["MAX_CLIENTS"], settings["MAX_CLIENTS_PER_ADDRESS"]) == (1000, 0)
    assert settings["MAX_UPLOAD_SIZE"] == 0
    assert (settings["DIRECT_DOWNLOADS"], settings["SERVER_PUBLIC_URL"]) == (True, "")
    assert settings["DEBUG"] is False
    assert settings["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]"]
    assert settings["CSRF_TRUSTED_ORIGINS"] == []
    assert settings["DATABASES"]["default"]["NAME"] == settings["BASE_DIR"] / "db.sqlite3"
    assert settings["CHANNEL_LAYERS"]["default"]["BACKEND"] == "channels.layers.InMemoryChannelLayer"


def test_a_folder_elsewhere_stays_where_it_is(load: Any, tmp_path: Path) -> None:
    assert load(FILES_DIRECTORY=str(tmp_path))["FILES_DIRECTORY"] == tmp_path
    assert load(FILES_DIRECTORY="shared")["FILES_DIRECTORY"] == Path(live.BASE_DIR) / "shared"


def test_sqlite_is_opened_for_many_readers_and_one_writer(load: Any) -> None:
    options = load()["DATABASES"]["default"]["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert options["timeout"] == 20
    assert "journal_mode=WAL" in options["init_command"]
    assert "synchronous=NORMAL" in options["init_command"]
    assert "wal_autocheckpoint=" in options["init_command"]


def test_another_database_has_no_options_of_sqlite(load: Any) -> None:
    database = load(DATABASE_URL="postgres://user:password@db.example/files")["DATABASES"]["default"]
    assert database["ENGINE"] == "django.db.backends.postgresql"
    assert (database["NAME"], database["HOST"]) == ("files", "db.example")
    assert "init_command" not in database.get("OPTIONS", {})


def test_a_setting_is_heard_by_the_name_that_it_had_before(load: Any) -> None:
    assert load(STRAIGHT_DOWNLOADS="False")["DIRECT_DOWNLOADS"] is False
    assert load(STRAIGHT_DOWNLOADS="False", DIRECT_DOWNLOADS="True")["DIRECT_DOWNLOADS"] is True


def test_with_a_redis_its_pubsub_is_the_channel_layer(load: Any) -> None:
    layer = load(REDIS_URL="redis://localhost:6379/0")["CHANNEL_LAYERS"]["default"]
    assert layer["BACKEND"] == "channels_redis.pubsub.RedisPubSubChannelLayer"
    assert layer["CONFIG"] == {"hosts": ["redis://localhost:6379/0"]}


def test_https_is_believed_from_the_proxy_only_when_it_is_said(load: Any) -> None:
    assert "SECURE_PROXY_SSL_HEADER" not in load()
    settings = load(HTTPS="True")
    assert "SECURE_PROXY_SSL_HEADER" not in settings  # which would believe anybody
    assert settings["SESSION_COOKIE_SECURE"] is settings["CSRF_COOKIE_SECURE"] is True
    assert settings["SECURE_SSL_REDIRECT"] is True


def test_who_refuses_comes_before_who_answers() -> None:
    order = {name.rpartition(".")[2]: place for place, name in enumerate(live.MIDDLEWARE)}
    assert order["CommonMiddleware"] < order["ServeStaticMiddleware"]
    assert order["AuthenticationMiddleware"] < order["AccessMiddleware"]
    assert live.INSTALLED_APPS.index("files_app") < live.INSTALLED_APPS.index("daphne")
    assert "django.middleware.gzip.GZipMiddleware" not in live.MIDDLEWARE
    assert not live.DATABASES["default"].get("ATOMIC_REQUESTS")


def test_a_certificate_may_be_named_as_seen_from_the_folder_of_the_program(load: Any) -> None:
    settings = load(TLS_CERT="tls-cert.pem", TLS_KEY="/etc/ssl/key.pem")
    assert settings["TLS_CERT"] == str(Path(live.BASE_DIR) / "tls-cert.pem")
    assert settings["TLS_KEY"] == "/etc/ssl/key.pem"
    assert load()["TLS_CERT"] == load()["TLS_KEY"] == ""


def test_with_tls_cookies_are_for_https_alone(load: Any) -> None:
    settings = load(TLS_CERT="tls-cert.pem")
    assert settings["SESSION_COOKIE_SECURE"] is settings["CSRF_COOKIE_SECURE"] is True
    assert "SECURE_PROXY_SSL_HEADER" not in settings
    settings = load()
    assert settings["SESSION_COOKIE_SECURE"] is settings["CSRF_COOKIE_SECURE"] is False


def test_browsers_are_told_to_stay_with_https_only_if_somebody_has_issued_the_certificate(
    load: Any, tmp_path: Path
) -> None:
    issued = write_certificate(tmp_path)
    assert load(**issued.settings)["SECURE_HSTS_SECONDS"] == 31_536_000
    assert "SECURE_HSTS_INCLUDE_SUBDOMAINS" not in load(**issued.settings)
    own = Files(tmp_path / "own.pem", tmp_path / "own-key.pem")
    make(own, ["localhost"])
    assert "SECURE_HSTS_SECONDS" not in load(TLS_CERT=str(own.certificate), TLS_KEY=str(own.key))


@pytest.mark.parametrize("kind", ["issued", "own"])
def test_a_deployment_with_tls_of_its_own_has_nothing_to_complain_about(
    load: Any, tmp_path: Path, kind: str
) -> None:
    files = write_certificate(tmp_path).settings
    if kind == "own":
        own = Files(tmp_path / "own.pem", tmp_path / "own-key.pem")
        make(own, ["localhost"])
        files = {"TLS_CERT": str(own.certificate), "TLS_KEY": str(own.key)}
    assert _complaints(load(**files, SECRET_KEY=string.ascii_letters)) == set()


def _complaints(loaded: dict[str, Any]) -> set[str]:
    about = ("SECURE_", "SESSION_", "CSRF_", "X_FRAME_", "DEBUG", "SECRET_KEY", "ALLOWED_HOSTS", "SILENCED_")
    with override_settings(**{name: value for name, value in loaded.items() if name.startswith(about)}):
        found = run_checks(tags=[Tags.security], include_deployment_checks=True)
    return {message.id or "" for message in found if not message.is_silenced()}


@pytest.mark.parametrize("https", ["True", "False"])
def test_all_checks_of_a_deployment_that_look_for_djangos_names_are_content(load: Any, https: str) -> None:
    about = ("SECURE_", "SESSION_", "CSRF_", "X_FRAME_", "DEBUG", "SECRET_KEY", "ALLOWED_HOSTS")
    loaded = load(HTTPS=https, SECRET_KEY=string.ascii_letters)
    values = {name: value for name, value in comparable(loaded).items() if name.startswith(about)}
    ours = [import_string(path) for path in live.MIDDLEWARE]
    classes = [kind for each in ours for kind in each.__mro__]
    values["MIDDLEWARE"] = [f"{kind.__module__}.{kind.__qualname__}" for kind in classes]
    values["SILENCED_SYSTEM_CHECKS"] = []
    with override_settings(**values):
        found = run_checks(tags=[Tags.security], include_deployment_checks=True)
    # Without HTTPS the site is for this machine alone, and the warnings are about HTTPS.
    about_https = {f"security.{number}" for number in ("W004", "W008", "W012", "W016")}
    assert {message.id for message in found} == (set() if https == "True" else about_https)


NUMBERS = re.findall(r'env\.number\("([A-Z_]+)"', FILE.read_text())


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "soon", "", "1e400", "9" * 30])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be_is_refused_by_name(load: Any, name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"^{name}: '{value}' is not a (whole )?number from \d"):
        load(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DEBUG", "maybe", "'maybe' is neither yes nor no."),
        ("HTTPS", "htps", "'htps' is neither yes nor no."),
        ("DIRECT_DOWNLOADS", "2", "'2' is neither yes nor no."),
        ("TIME_ZONE", "Mars", "'Mars' is no time zone, as Europe/Berlin is."),
        ("TIME_ZONE", "../etc", "'../etc' is no time zone, as Europe/Berlin is."),
        ("DATABASE_URL", "db.sqlite3", "'db.sqlite3' is no beginning; sqlite:/// and postgres:// are."),
        (
            "DATABASE_URL",
            "postgress://u:key@h/d",
            "'postgress' is no beginning; sqlite:/// and postgres:// are.",
        ),
        ("DATABASE_URL", "postgres://u:key@h:port/d", "the host or the port in it cannot be read."),
        ("DATABASE_URL", "postgres://u:key@h:99999/d", "the host or the port in it cannot be read."),
        ("PARTIAL_UPLOAD_HOURS", "0", "'0' is not a number from 0.01 to 876000."),
        ("PARTIAL_UPLOAD_HOURS", "876001", "'876001' is not a number from 0.01 to 876000."),
    ],
)
def test_what_else_cannot_be_is_refused_by_name(load: Any, name: str, value: str, words: str) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        load(**{name: value})
    assert str(refusal.value) == f"{name}: {words}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PARTIAL_UPLOAD_HOURS", "1e8"), ("MAX_CLIENTS", ""), ("DATABASE_URL", "postgres://u@h:x/d")],
)
def test_a_command_ends_with_the_sentence_about_it(tmp_path: Path, name: str, value: str) -> None:
    stack = Stack(tmp_path)
    stack.environment[name] = value
    done = stack.manage("check")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"The settings are not right: {name}: [^\n]+\.\n", done.stderr)


@pytest.mark.parametrize(("text", "value"), [("Yes", True), ("1", True), ("off", False), ("", False)])
def test_a_flag_has_the_usual_words(load: Any, text: str, value: bool) -> None:
    assert load(HTTPS=text)["HTTPS"] == value


def test_rows_of_vanished_files_are_kept_for_a_month_or_as_set(load: Any) -> None:
    assert load()["GONE_FILE_DAYS"] == 30
    assert load(GONE_FILE_DAYS="0.5")["GONE_FILE_DAYS"] == 0.5


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy", "'proxy' is no address and no network"),
        ("PROXY_HEADER", "x-real-ip", "is none of x-forwarded, forwarded"),
        ("PUBLIC_URL", "files.example.org", "is no address of a page"),
        ("PUBLIC_URL", "https://files.example.org/?q=1", "is no address of a page"),
        ("PUBLIC_URL", "javascript:alert(1)", "is no address of a page"),
        ("FORCE_SCRIPT_NAME", "share", "is no path"),
        ("FORCE_SCRIPT_NAME", "/a b", "is no path"),
    ],
)
def test_what_cannot_be_said_of_a_proxy_is_told_by_name(load: Any, name: str, value: str, told: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{name}: .*{re.escape(told)}"):
        load(**{name: value})


def test_the_public_address_is_answered_and_may_make_changes(load: Any) -> None:
    settings = load(PUBLIC_URL="https://Files.example.org:8443/share/", FORCE_SCRIPT_NAME="/share/")
    assert "files.example.org" in list(settings["ALLOWED_HOSTS"])
    assert settings["CSRF_TRUSTED_ORIGINS"] == ["https://Files.example.org:8443"]
    assert settings["PUBLIC_URL"] == "https://Files.example.org:8443/share"
    assert settings["STATIC_URL"] == "/share/static/"
    assert settings["SESSION_COOKIE_PATH"] == "/share"
