"""What matters to who may do what is a row and a line, with who did it, and without a secret."""

import logging
import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, Permission, User

from files_app.access.audit import Action, record
from files_app.models import AuditEvent
from tests.files_app.conftest import TOKEN, logged_in
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
    return [record.getMessage() for record in caplog.records if record.name == "files_app.access.audit"]


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
    assert lines(caplog) == [f"login failed: {told}, by a local from 127.0.0.1"]
    row = AuditEvent.objects.get(action="login-failed")
    assert (row.about, row.by, row.principal, row.address) == (name.strip(), "", "local", "127.0.0.1")
    assert "battery staple" not in caplog.text


def test_a_flood_of_logins_is_no_flood_of_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("files_app.access.throttle.time", SimpleNamespace(time=lambda: 1_800_000_000.0))
    with caplog.at_level(logging.INFO):
        for number in range(20):
            log_in("admin", f"guess {number}")
    who = "by a local from 127.0.0.1"
    failed = f"login failed: 'admin', {who}"
    assert lines(caplog) == [failed, failed, f"too many tries: 'account admin', {who}"]
    assert AuditEvent.objects.filter(action="login-failed").count() == 2


def test_a_login_that_succeeds_is_recorded_with_the_name(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert log_in("admin", PASSWORD).status == 302
    assert lines(caplog) == ["logged in: 'admin', by 'admin' from 127.0.0.1"]
    assert PASSWORD not in caplog.text


def test_a_login_by_no_request_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert authenticate(username="admin", password="battery staple") is None
    assert lines(caplog) == ["login failed: 'admin', by a program on this machine"]


def test_changes_of_people_groups_and_rules_are_recorded_with_who_made_them() -> None:
    manager = logged_in({"manage"}, "boss")
    boss = User.objects.get(username="boss")
    boss.is_staff = boss.is_superuser = True
    boss.save()
    AuditEvent.objects.all().delete()
    headers = {
        "origin": f"http://{HOST}",
        "content-type": "application/x-www-form-urlencoded",
        "x-csrftoken": TOKEN,
        **manager,
    }
    for url, form in (
        ("/admin/auth/group/add/", {"name": "class 7"}),
        ("/admin/files_app/accessrule/add/", {"folder": "pub", "whom": "guest", "can_get": "on"}),
    ):
        answer = fetch(
            "POST", url, headers=headers, body=urlencode(form).encode(), client=("192.0.2.7", 5000)
        )
        assert answer.status == 302, answer.text
    Group.objects.get().delete()
    rows = AuditEvent.objects.order_by("pk").values_list("action", "about", "by", "address")
    assert list(rows) == [
        ("group", "class 7", "boss", "192.0.2.7"),
        ("rule", "/pub: everybody may get", "boss", "192.0.2.7"),
        ("group-deleted", "class 7", "", ""),
    ]


def test_members_and_permissions_are_changes_of_whom_they_are_given() -> None:
    ann, group = User.objects.create(username="ann"), Group.objects.create(name="class 7")
    AuditEvent.objects.all().delete()
    ann.groups.add(group)
    group.user_set.remove(ann)
    ann.user_permissions.set(Permission.objects.filter(codename="watch"))
    ann.user_permissions.clear()
    found = AuditEvent.objects.order_by("pk").values_list("action", "about")
    assert list(found) == [("person", "ann"), ("group", "class 7"), ("person", "ann"), ("person", "ann")]


def test_a_login_alone_is_no_change_of_the_account() -> None:
    assert log_in("admin", PASSWORD).status == 302
    assert not AuditEvent.objects.filter(action="person", by="admin").exists()


def test_what_postgresql_cannot_keep_is_replaced() -> None:
    record(Action.LINK_REFUSED, "a\0b" + "x" * 2000)
    assert AuditEvent.objects.get(action="link-refused").about == "a\N{REPLACEMENT CHARACTER}b" + "x" * 1021
