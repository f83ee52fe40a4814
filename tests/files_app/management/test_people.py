"""``adduser``, ``resetadmin`` and the people of ``start --lan``."""

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live_settings
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.core.management.base import OutputWrapper
from django.db import connection

from files_app.access.guests import what_guests_may
from files_app.management.commands.start import Command as Start
from files_app.terminal import passwords
from files_app.terminal.passwords import password_file
from tests.files_app.conftest import logged_in

pytestmark = pytest.mark.usefixtures("database")
PASSWORD = re.compile(r"\b[a-z2-9]{5}(?:-[a-z2-9]{5}){3}\b")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_file_stays() -> Iterator[None]:
    yield
    for path in Path(connection.settings_dict["NAME"]).parent.glob("*.password-*"):
        path.unlink()


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What a person types when asked for a password; an end of input after that."""

    def typed(*words: str) -> None:
        left = iter(words)

        def ask(prompt: str) -> str:
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr(passwords.getpass, "getpass", ask)
        monkeypatch.setattr(passwords.sys, "stdin", Terminal())

    return typed


GOOD = "a long walk 7"


class TestAddUser:
    def test_it_asks_twice_and_makes_the_account(self, types: Callable[..., None]) -> None:
        pupils = Group.objects.create(name="pupils")
        types(GOOD, GOOD)
        out = io.StringIO()
        call_command("adduser", "ann", "--group", "pupils", stdout=out)
        ann = User.objects.get()
        assert (ann.username, ann.check_password(GOOD), list(ann.groups.all())) == ("ann", True, [pupils])
        assert (ann.is_superuser, ann.is_staff, ann.is_active) == (False, False, True)
        assert ann.password.startswith("argon2")
        assert "ann has an account now, and may do what the rules" in out.getvalue()

    def test_an_administrator_may_do_all(self, types: Callable[..., None]) -> None:
        types(GOOD, GOOD)
        out = io.StringIO()
        call_command("adduser", "ann", "--admin", stdout=out)
        assert (User.objects.get().is_superuser, User.objects.get().is_staff) == (True, True)
        assert "may do all" in out.getvalue()

    def test_another_try_after_a_slip_or_a_bad_password(self, types: Callable[..., None]) -> None:
        types(GOOD, "other", "12345", "12345", GOOD, GOOD)
        said = io.StringIO()
        call_command("adduser", "ann", stdout=io.StringIO(), stderr=said)
        assert User.objects.get().check_password(GOOD)
        assert "not the same" in said.getvalue()
        assert "too short" in said.getvalue()

    @pytest.mark.parametrize("typed", [(), (GOOD,), ("a", "b") * 3])
    def test_whoever_gives_up_has_changed_nothing(self, types: Callable[..., None], typed: Any) -> None:
        types(*typed)
        with pytest.raises(CommandError, match="Nothing was changed"):
            call_command("adduser", "ann", stderr=io.StringIO())
        assert not User.objects.exists()

    def test_without_a_terminal_it_names_the_option(self) -> None:
        with pytest.raises(CommandError, match=r"no terminal .* Give --generate"):
            call_command("adduser", "ann")
        assert not User.objects.exists()

    @pytest.mark.parametrize(
        ("words", "sentence"),
        [
            (["a b"], "'a b' is no name for an account"),
            (["Ann"], "There is an account ann already."),
            (["bob", "--group", "staff"], "There is no group 'staff'."),
        ],
    )
    def test_what_cannot_be_is_a_sentence(self, words: list[str], sentence: str) -> None:
        User.objects.create(username="ann")
        with pytest.raises(CommandError, match=re.escape(sentence)):
            call_command("adduser", *words, "--generate", stdout=io.StringIO())
        assert User.objects.count() == 1

    def test_a_made_password_is_shown_once_on_a_terminal(self) -> None:
        out = Terminal()
        call_command("adduser", "ann", "--generate", stdout=out)
        (shown,) = PASSWORD.findall(out.getvalue())
        assert User.objects.get().check_password(shown)
        assert not password_file("ann").exists()

    def test_elsewhere_it_is_in_a_file_for_its_owner_alone(self) -> None:
        victim = password_file("other")
        victim.write_text("untouched")
        if os.name == "posix":
            password_file("ann").symlink_to(victim)
        out = io.StringIO()
        call_command("adduser", "ann", "--generate", stdout=out)
        path = password_file("ann")
        assert str(path) in out.getvalue()
        assert not PASSWORD.search(out.getvalue())
        assert User.objects.get().check_password(path.read_text().strip())
        assert victim.read_text() == "untouched"
        if os.name == "posix":
            assert stat.S_IMODE(path.lstat().st_mode) == 0o600
            assert stat.S_ISREG(path.lstat().st_mode)

    def test_a_file_that_cannot_be_written_leaves_no_account(self) -> None:
        password_file("ann").mkdir()
        try:
            with pytest.raises(
                CommandError, match=r"password-ann cannot be written: .* No password was changed"
            ):
                call_command("adduser", "ann", "--generate", stdout=io.StringIO())
        finally:
            password_file("ann").rmdir()
        assert not User.objects.exists()


class TestResetAdmin:
    def test_it_opens_the_account_again_and_ends_its_sessions(self) -> None:
        logged_in((), "admin")
        logged_in((), "ann")
        User.objects.filter(username="admin").update(is_active=False)
        out = Terminal()
        call_command("resetadmin", stdout=out)
        admin = User.objects.get(username="admin")
        (shown,) = PASSWORD.findall(out.getvalue())
        assert admin.check_password(shown)
        assert (admin.is_active, admin.is_superuser, admin.is_staff) == (True, True, True)
        (left,) = Session.objects.all()
        store = import_module(live_settings.SESSION_ENGINE).SessionStore(left.session_key)
        assert store["_auth_user_id"] == str(User.objects.get(username="ann").pk)

    def test_it_may_be_another_one(self) -> None:
        User.objects.create_user("boss")
        call_command("resetadmin", "--name", "boss", stdout=io.StringIO())
        assert User.objects.get().check_password(password_file("boss").read_text().strip())

    @pytest.mark.parametrize("name", ["admin", "\udcff", "x" * 300])
    def test_one_that_there_is_not_is_a_sentence(self, name: str) -> None:
        with pytest.raises(CommandError, match=r"There is no account .* adduser NAME --admin"):
            call_command("resetadmin", "--name", name)


def prepared(guests: str | None = None) -> str:
    out = Terminal()
    command = Start()
    command.stdout = OutputWrapper(out)
    command.prepare_people(guests)
    return out.getvalue()


class TestStartOnNetwork:
    def test_the_first_start_makes_the_administrator_and_later_ones_leave_him_alone(self) -> None:
        (shown,) = PASSWORD.findall(prepared())
        assert User.objects.get(username="admin").check_password(shown)
        assert "Guests may list and download" in what_guests_may()
        assert prepared() == ""
        assert User.objects.get().check_password(shown)

    def test_guests_are_as_they_were_unless_something_else_is_said(self) -> None:
        for guests, words in (("drop", "upload"), (None, "upload"), ("none", "nothing"), (None, "nothing")):
            prepared(guests)
            assert words in what_guests_may()

    def test_a_closed_account_of_that_name_stays_closed(self) -> None:
        User.objects.create_superuser("admin", password="x", is_active=False)
        with pytest.raises(CommandError, match="resetadmin"):
            prepared()
        assert not User.objects.get().is_active

    @pytest.mark.parametrize("option", ["--guests=read", "--address=192.0.2.1"])
    def test_an_option_of_the_network_needs_it(self, option: str) -> None:
        name = option.partition("=")[0]
        with pytest.raises(CommandError, match=f"{name} is about the network: give --lan too"):
            call_command("start", option)

    @pytest.mark.parametrize(
        ("address", "words"),
        [("127.0.0.1", "this machine only"), ("203.0.113.9", "no address of this machine")],
    )
    def test_an_address_that_will_not_do_is_a_sentence(self, address: str, words: str, settings: Any) -> None:
        before = settings.WEB_HOST
        with pytest.raises(CommandError, match=words):
            call_command("start", "--lan", "--address", address)
        assert (settings.WEB_HOST, User.objects.exists()) == (before, False)
