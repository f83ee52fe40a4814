"""Tokens: they do what their owner may do now, and no more than they say; revoked, they end."""

import asyncio
import base64
import logging
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from files_app.access import tokens
from files_app.access.audit import write_token_uses
from files_app.access.policy import may, may_list_folder, may_somewhere
from files_app.access.principals import is_known, token_principal
from files_app.access.snapshot import snapshots
from files_app.access.tokens import TEXT, new_token, revoke
from files_app.models import AccessRule, AuditEvent, Token
from files_app.models.rules import RIGHTS
from files_app.models.tokens import TOKEN_RIGHTS
from files_app.terminal.tokens import token_of
from fileserver.rights import ADD, CONTROL, DELETE, GET, LIST, MANAGE, WATCH
from tests.files_app.access.test_doors import ALL, DOORS, ELSEWHERE, Door, is_open
from tests.files_app.conftest import TOKEN, Served, logged_in
from tests.files_app.links import maker
from tests.files_app.site import HOST, Answer, Exchange, fetch, run
from tests.files_app.views.test_tus import PART, TUS, create
from tests.servers import wait_until

pytestmark = pytest.mark.usefixtures("database")

DAY = timedelta(days=1)


def make(owner: User, rights: Any = TOKEN_RIGHTS, folder: str = "", ends: Any = None) -> tuple[Token, str]:
    found = new_token(owner, "script", rights, folder, ends)
    snapshots.refresh()
    return found


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


class TestText:
    def test_it_has_a_form_that_scanners_find_and_too_much_to_guess(self) -> None:
        texts = {make(maker())[1] for _ in range(20)}
        assert len(texts) == 20
        for text in texts:
            assert TEXT.fullmatch(text)
            assert len(text.rpartition("_")[2]) * 5 >= 128

    def test_the_database_has_no_text(self) -> None:
        token, text = make(maker())
        row = Token.objects.values().get()
        assert text not in str(row)
        assert text.rpartition("_")[2] not in str(row)
        assert token.lookup in text

    def test_a_key_that_was_changed_still_finds_it_while_it_is_a_fallback(self, settings: Any) -> None:
        _, text = make(maker())
        settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "other " * 10
        assert token_principal(text, "192.0.2.7")
        settings.SECRET_KEY_FALLBACKS = []
        assert token_principal(text, "192.0.2.7") is None

    @pytest.mark.parametrize(
        "change", [lambda text: text[:-1] + "a", str.upper, lambda text: text + " ", lambda text: text[4:]]
    )
    def test_only_the_whole_text_is_one(self, change: Any) -> None:
        text = make(maker())[1]
        text = text[:-1] + ("b" if text.endswith("a") else text[-1])  # the first change makes another one
        assert token_principal(change(text), "192.0.2.7") is None
        assert token_principal("\ud800", "192.0.2.7") is None


class TestRights:
    def test_they_are_those_of_the_token_and_of_its_owner_together(self) -> None:
        logged_in({LIST, GET, ADD, WATCH})
        ann = User.objects.get()
        _, text = make(ann, [GET, DELETE, WATCH])
        who = token_principal(text, "192.0.2.7")
        assert who is not None
        assert (who.kind, who.user) == ("token", "ann")
        allowed = {
            right for right in (LIST, GET, ADD, DELETE, WATCH, CONTROL, MANAGE) if may(who, right, "a.txt")
        }
        assert allowed == {GET, WATCH}

    def test_of_a_superuser_it_may_no_more_than_it_says(self) -> None:
        boss = User.objects.create_superuser("boss")
        who = token_principal(make(boss, [LIST])[1], "192.0.2.7")
        assert who is not None
        assert may(who, LIST, "a/b")
        assert not may(who, GET, "a/b")
        assert not may(who, MANAGE, "")

    def test_of_one_folder_it_is_for_that_alone(self) -> None:
        who = token_principal(make(maker(), folder="/a/b/")[1], "192.0.2.7")
        assert who is not None
        for name, is_in in (
            ("a/b/c", True),
            ("a/b/c/d", True),
            ("a/bc", False),
            ("a/b", False),
            ("x", False),
        ):
            assert may(who, GET, name) is is_in, name
        assert not may(who, WATCH, "")
        for prefix, is_in in (("", True), ("a/", True), ("a/b/", True), ("a/b/c/", True), ("x", False)):
            assert may_somewhere(who, LIST, prefix) is is_in, prefix
        listed = may_list_folder(who)
        assert listed is not None
        assert [listed(folder) for folder in ("a/b/", "a/b/c/", "a/", "")] == [True, True, False, False]

    def test_what_its_owner_loses_it_loses(self) -> None:
        ann = maker()
        who = token_principal(make(ann)[1], "192.0.2.7")
        assert who is not None
        rule = AccessRule.objects.get()
        rule.can_get = False
        rule.save()
        snapshots.refresh()
        assert not may(who, GET, "a")
        assert may(who, LIST, "a")
        ann.is_active = False
        ann.save()
        snapshots.refresh()
        assert not may(who, LIST, "a")
        assert not is_known(who)

    def test_after_its_end_it_is_nothing_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, text = make(maker(), ends=timezone.now() + DAY)
        who = token_principal(text, "192.0.2.7")
        assert who is not None
        later = timezone.now().timestamp() + 86_401
        monkeypatch.setattr("files_app.access.tokens.time.time", lambda: later)
        assert not may(who, GET, "a")
        assert not is_known(who)
        assert token_principal(text, "192.0.2.7") is None


def go(door: Door, text: str) -> Answer:
    url = create("new.txt", 5) if "{upload}" in door.url else door.url
    headers = {**door.headers, **bearer(text)}
    return fetch(door.method, url, body=door.body, headers=headers, client=ELSEWHERE)


FILES = [door for door in DOORS if door.needs]


class TestDoors:
    @pytest.mark.parametrize("door", FILES, ids=[f"{door.method} {door.url}" for door in FILES])
    def test_each_is_open_to_one_that_has_its_rights_and_to_no_other(
        self, served: Served, door: Door
    ) -> None:
        served.put("a.txt", b"hello")
        logged_in(ALL)
        ann = User.objects.get()
        needed = [right for rights in door.needs for right in rights.split()[:1]]
        good, text = make(ann, needed)
        lacking = set(TOKEN_RIGHTS) - set(door.needs[0].split())
        refused = go(door, make(ann, lacking)[1])
        assert refused.status == 403, refused.text
        over = make(ann, ends=timezone.now() - DAY)[1]
        revoked, revoked_text = make(ann)
        revoke(revoked)
        snapshots.refresh()
        for wrong in (over, revoked_text, "cfs_aaaaaaaa_" + "a" * 26, "nonsense", ""):
            answer = go(door, wrong)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="files", error="invalid_token"'
        assert is_open(go(door, text)), needed
        AccessRule.objects.get().delete()
        ann.user_permissions.clear()
        snapshots.refresh()
        if "{upload}" not in door.url:  # of which none is left that could be tried again
            assert go(door, text).status in (403, 404)
        assert good.pk

    def test_a_wrong_one_on_this_machine_is_not_taken_for_a_person(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        assert fetch("GET", "/files/a.txt", headers=bearer("nonsense")).status == 401

    @pytest.mark.parametrize(
        ("method", "url"),
        [
            *(("GET", "/account/"), ("GET", "/account/tokens/"), ("POST", "/account/tokens/")),
            *(
                ("GET", "/links/"),
                ("POST", "/links/new/"),
                ("POST", "/account/sessions/end/"),
                ("GET", "/admin/"),
            ),
        ],
    )
    def test_it_is_no_login(self, served: Served, method: str, url: str) -> None:
        boss = User.objects.create_superuser("boss")
        cookie = logged_in(ALL)  # which does not count beside a token
        answer = fetch(method, url, headers={**bearer(make(boss)[1]), **cookie}, client=ELSEWHERE)
        assert answer.status in (302, 401, 403)
        assert "/login/" in answer.headers.get("location", "/login/")
        assert Token.objects.count() == 1

    def test_programs_that_know_names_and_passwords_give_it_as_the_password(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        text = make(maker())[1]
        basic = base64.b64encode(f"anything:{text}".encode()).decode()
        headers = {"authorization": f"Basic {basic}"}
        assert fetch("GET", "/files/a.txt", headers=headers, client=ELSEWHERE).body == b"hello"
        other_page = {**headers, "origin": "http://evil.example"}
        assert fetch("DELETE", "/files/a.txt", headers=other_page, client=ELSEWHERE).status == 403

    def test_at_the_file_server_it_says_who_one_is(self, served: Served) -> None:
        served.put("a.txt", b"hello")
        token, text = make(maker(), [GET])
        with served.peer() as peer:
            assert peer.ask("AUTH", token=text) == {"user": "ann", "can": ["read"]}
            peer.ask("GET", name="a.txt")
            assert peer.read(5) == b"hello"
            peer.end()
            assert peer.refusal(b"DELETE a.txt\n")["code"] == "denied"
        row = served.row_of(1)
        assert (row.user, row.principal) == ("ann", f"token:{token.pk}")

    @pytest.mark.parametrize("text", ["cfs_aaaaaaaa_" + "a" * 26, "nonsense"])
    def test_there_a_wrong_one_is_denied(self, served: Served, text: str) -> None:
        with served.peer() as peer:
            assert peer.refusal(f"AUTH {text}\n".encode())["code"] == "denied"


class TestTheEnd:
    def test_what_runs_with_a_revoked_one_ends(self, served: Served) -> None:
        served.put("big.bin", bytes(64 << 20))
        token, text = make(maker())
        with served.peer(receive_buffer=4096) as down, served.peer() as up, served.peer() as idle:
            for peer in (down, up, idle):
                peer.ask("AUTH", token=text)
            ids = [down.ask("GET", name="big.bin")["id"], up.ask("PUT", name="new.bin", size=100)["id"]]
            revoke(token)
            for id in ids:
                assert served.events.ending(id).error == "revoked"
            wait_until(lambda: not idle.is_usable(), 10)

    def test_an_upload_by_tus_ends_too_and_nothing_is_complete(self, served: Served) -> None:
        token, text = make(maker())
        url = create("new.bin", 10)

        async def slowly() -> Answer:
            async def body() -> Any:
                yield b"hello"
                await asyncio.to_thread(revoke, token)
                await asyncio.Event().wait()

            headers = {**PART, **bearer(text), "upload-offset": "0", "content-length": "10"}
            return await Exchange("PATCH", url, headers=headers, client=ELSEWHERE, stream=body()).answer()

        assert run(slowly()).status >= 400
        assert fetch("HEAD", url, headers={**TUS, **bearer(text)}, client=ELSEWHERE).status == 401
        row = served.row_of(1)
        assert (row.outcome, row.error) == ("aborted", "revoked")


class TestUses:
    def test_the_last_one_is_written_now_and_then_and_from_elsewhere_it_is_a_row(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tokens, "_uses", {})
        token, text = make(maker())
        stamp = snapshots.newest.stamp
        for address in ("192.0.2.7", "192.0.2.7", "192.0.2.8"):
            token_principal(text, address)
            write_token_uses()
        token.refresh_from_db()
        assert token.used_at is not None
        assert token.used_from == "192.0.2.8"
        rows = AuditEvent.objects.filter(action="token-used").order_by("pk")
        assert [(row.address, row.by) for row in rows] == [("192.0.2.7", "ann"), ("192.0.2.8", "ann")]
        snapshots.refresh()
        assert snapshots.newest.stamp == stamp  # nobody has to read all rights again


class TestPages:
    def test_one_is_made_shown_once_and_revoked(
        self, served: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        headers = {**logged_in(set(RIGHTS)), "accept": "text/html"}
        post = {
            **headers,
            "origin": f"http://{HOST}",
            "x-csrftoken": TOKEN,
            "content-type": "application/x-www-form-urlencoded",
        }
        form = urlencode({"name": "backup", "rights": ["list", "get"], "folder": "a", "days": 5}, doseq=True)
        with caplog.at_level(logging.INFO):
            made = fetch("POST", "/account/tokens/", headers=post, body=form.encode(), client=ELSEWHERE)
        found = re.search(r"cfs_[a-z2-7]{8}_[a-z2-7]{26}", made.text)
        assert found
        assert found[0] not in caplog.text
        assert made.headers["cache-control"] == "no-store"
        token = Token.objects.get()
        assert (token.rights, token.folder, token.name) == ("list get", "a", "backup")
        again = fetch("GET", "/account/tokens/", headers=headers, client=ELSEWHERE).text
        assert found[0] not in again
        assert token.lookup in again
        other = {**post, **logged_in(set(RIGHTS), "bob")}
        url = f"/account/tokens/{token.pk}/revoke/"
        assert fetch("POST", url, headers=other, client=ELSEWHERE).status == 404
        assert fetch("POST", url, headers=post, client=ELSEWHERE).status == 302
        actions = AuditEvent.objects.filter(action__startswith="token-").order_by("pk")
        assert [(row.action, row.by) for row in actions] == [("token-made", "ann"), ("token-revoked", "ann")]
        assert all(found[0] not in str(row.about) for row in actions)

    @pytest.mark.parametrize(
        "form", [{"name": "x", "days": 5}, {"rights": "all", "name": "x", "days": 5}, {}]
    )
    def test_a_form_that_is_wrong_makes_none(self, served: Served, form: dict[str, Any]) -> None:
        headers = {**logged_in(set(RIGHTS)), "origin": f"http://{HOST}", "x-csrftoken": TOKEN}
        headers["content-type"] = "application/x-www-form-urlencoded"
        body = urlencode(form).encode() or b"a=b"
        answer = fetch("POST", "/account/tokens/", headers=headers, body=body, client=ELSEWHERE)
        assert answer.status == 400
        assert not Token.objects.exists()


class TestCommands:
    def test_make_list_revoke(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        maker()
        file = tmp_path / "token"
        call_command(
            "token", "make", "--user", "ann", "--name", "nightly", "--rights", "list, get", "--to", str(file)
        )
        assert file.stat().st_mode & 0o777 == 0o600
        snapshots.refresh()
        text = token_of(str(file))
        assert text is not None
        assert token_principal(text, "192.0.2.7")
        assert text not in capsys.readouterr().out
        call_command("token", "list")
        listed = capsys.readouterr().out
        assert "nightly" in listed
        assert text not in listed
        call_command("token", "revoke", Token.objects.get().lookup)
        snapshots.refresh()
        assert token_principal(text, "192.0.2.7") is None

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["make"], "say whose it is"),
            (["make", "--user", "nobody"], "no open account"),
            (["make", "--user", "ann", "--rights", "all"], "all is none of"),
            (["make", "--user", "ann"], "Give --to FILE"),
            (["make", "--user", "ann", "--to", "/nowhere/token"], "cannot be made"),
            (["revoke"], "There is no such token"),
            (["revoke", "aaaaaaaa"], "There is no such token"),
        ],
    )
    def test_what_is_wrong_is_said_and_makes_none(self, words: list[str], told: str) -> None:
        maker()
        with pytest.raises(CommandError, match=told):
            call_command("token", *words)
        assert not Token.objects.exists()

    def test_one_is_taken_from_the_environment_or_a_file_for_its_owner_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("CFS_TOKEN", "CFS_TOKEN_FILE"):
            monkeypatch.delenv(name, raising=False)
        assert token_of(None) is None
        file = tmp_path / "token"
        file.write_text("cfs_x\n")
        file.chmod(0o644)
        with pytest.raises(CommandError, match="chmod 600"):
            token_of(str(file))
        file.chmod(0o600)
        assert token_of(str(file)) == "cfs_x"
        monkeypatch.setenv("CFS_TOKEN_FILE", str(file))
        assert token_of(None) == "cfs_x"
        monkeypatch.setenv("CFS_TOKEN", "cfs_y")
        assert token_of(str(file)) == "cfs_y"
        monkeypatch.delenv("CFS_TOKEN")
        file.write_text("")
        with pytest.raises(CommandError, match="There is no token"):
            token_of(None)
        with pytest.raises(CommandError, match="cannot be read"):
            token_of(str(tmp_path / "none"))
        if os.geteuid():
            file.chmod(0)
            with pytest.raises(CommandError, match="cannot be read"):
                token_of(None)

    def test_a_command_shows_it(
        self, served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        served.put("a.txt", b"hello")
        _, text = make(maker(), [LIST])
        monkeypatch.setenv("CFS_TOKEN", text)
        options = {"host": "127.0.0.1", "port": served.port}
        call_command("files", **options)
        assert "a.txt" in capsys.readouterr().out
        with pytest.raises(CommandError, match="needs the right 'read'"):
            call_command("download", "a.txt", **options)
        monkeypatch.setenv("CFS_TOKEN", "cfs_wrong")
        with pytest.raises(CommandError, match="not known here"):
            call_command("files", **options)
