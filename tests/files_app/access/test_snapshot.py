"""What people may do, as each process has it in memory."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from files_app.access import snapshot as snapshot_module
from files_app.access.policy import may
from files_app.access.principals import relay_token
from files_app.access.rules import Subject
from files_app.access.snapshot import Snapshot, Snapshots, load
from files_app.models import AccessChange, AccessRule
from fileserver.rights import ADD, GET, LIST, WATCH, Principal
from tests.files_app.conftest import Served
from tests.files_app.rows import make_file
from tests.servers import wait_until

GUEST = Subject()
pytestmark = pytest.mark.usefixtures("database")


def rule(folder: str, rights: str = "", **whom: Any) -> AccessRule:
    kind = next(iter(whom), "guest")
    named = whom if kind in ("group", "user") else {}
    given = {f"can_{right}": True for right in rights.split()}
    return AccessRule.objects.create(folder=folder, whom=kind, **named, **given)


class TestRules:
    def test_a_rule_says_what_it_gives(self) -> None:
        group = Group.objects.create(name="staff")
        texts = {
            str(rule("", "list get")),
            str(rule("Week 1", group=group)),
            str(rule("in", "add", account=1)),
        }
        assert texts == {
            "/: everybody may list, get",
            "/Week 1: staff may do nothing",
            "/in: everybody with an account may add",
        }

    @pytest.mark.parametrize("folder", ["../x", ".hidden", "a//b", "a\\b", "a\nb", "x" * 1025, "a/.."])
    def test_a_folder_that_cannot_be_is_refused_with_a_sentence(self, folder: str) -> None:
        with pytest.raises(ValidationError) as refusal:
            AccessRule(folder=folder, whom="guest").full_clean()
        assert "folder" in refusal.value.message_dict

    def test_a_rule_about_a_file_is_refused_for_it_would_do_nothing(self) -> None:
        make_file("week 1/a.txt")
        with pytest.raises(ValidationError, match="This is a file"):
            AccessRule(folder="week 1/a.txt", whom="guest").full_clean()
        AccessRule(folder="week 1", whom="guest").full_clean()

    def test_a_folder_is_kept_composed_and_without_slashes_around(self) -> None:
        cleaned = AccessRule(folder="/Cafe\u0301/x/", whom="guest")
        cleaned.full_clean()
        assert (cleaned.folder, cleaned.key) == ("Caf\u00e9/x", "caf\u00e9/x")

    def test_there_is_one_rule_for_a_folder_and_somebody(self) -> None:
        ann, staff = User.objects.create(username="ann"), Group.objects.create(name="staff")
        for whom in ({}, {"account": 1}, {"user": ann}, {"group": staff}):
            rule("Week", **whom)
            with pytest.raises(IntegrityError), transaction.atomic():
                rule("week", **whom)

    @pytest.mark.parametrize("whom", ["guest", "account", "group", "user"])
    def test_it_names_a_group_or_a_person_exactly_if_it_is_about_one(self, whom: str) -> None:
        ann, staff = User.objects.create(username="ann"), Group.objects.create(name="staff")
        for user in (None, ann):
            for group in (None, staff):
                is_right = (user is not None, group is not None) == (whom == "user", whom == "group")
                one = AccessRule(folder="", whom=whom, user=user, group=group)
                if is_right:
                    one.full_clean()
                else:
                    with pytest.raises(ValidationError):
                        one.full_clean()


class TestLoad:
    def test_it_has_the_rules_and_the_people_who_are_active(self) -> None:
        ann = User.objects.create(username="ann")
        User.objects.create(username="gone", is_active=False)
        root = User.objects.create(username="root", is_superuser=True)
        staff, tutors = Group.objects.create(name="staff"), Group.objects.create(name="tutors")
        ann.groups.set([staff, tutors])
        ann.user_permissions.add(Permission.objects.get(codename="control"))
        tutors.permissions.add(Permission.objects.get(codename="watch"))
        ann.user_permissions.add(Permission.objects.get(codename="add_user"))  # a right of another kind
        rule("", "list", group=staff)
        rule("x", "get", group=tutors)
        rule("x", "add", user=root)
        found = load()
        assert {person.name for person in found.people.values()} == {"ann", "root"}
        person = found.people[ann.pk]
        assert person.server_rights == {"watch", "control"}
        assert not person.is_superuser
        assert found.people[root.pk].is_superuser
        assert found.rules.verdict(person.subject, "a").rights == {"list"}
        assert found.rules.verdict(person.subject, "x/a").rights == {"get"}
        assert found.rules.verdict(found.people[root.pk].subject, "x/").rights == {"add"}

    def test_it_takes_as_many_queries_for_many_as_for_none(self) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as seen:
                load()
            return len(seen)

        before = queries()
        for number in range(5):
            user = User.objects.create(username=str(number))
            user.groups.add(Group.objects.create(name=str(number)))
            rule(str(number), "get", user=user)
        assert queries() == before


def changes() -> dict[str, Callable[[], object]]:
    """Each way in which rights change, on people and rules that are there."""
    ann, staff = User.objects.create(username="ann"), Group.objects.create(name="staff")
    watch, own = Permission.objects.get(codename="watch"), rule("x")
    own.can_get = True
    return {
        "a new rule": lambda: rule("y"),
        "a changed rule": own.save,
        "a removed rule": own.delete,
        "some removed rules": AccessRule.objects.all().delete,
        "a new user": lambda: User.objects.create(username="bob"),
        "a password": lambda: (ann.set_password("x"), ann.save()),
        "an account that is closed": lambda: (setattr(ann, "is_active", False), ann.save()),
        "a user who joins a group": lambda: ann.groups.add(staff),
        "a user who leaves a group": lambda: ann.groups.clear(),
        "a permission": lambda: ann.user_permissions.add(watch),
        "a permission of a group": lambda: staff.permissions.add(watch),
        "a removed group": staff.delete,
        "a removed user": ann.delete,
    }


def test_each_change_has_a_new_stamp_and_a_login_has_none() -> None:
    stamps = [AccessChange.newest()]
    for name, change in changes().items():
        change()
        stamps.append(AccessChange.newest())
        assert stamps[-1] != stamps[-2], name
    bob = User.objects.get(username="bob")
    bob.save(update_fields=["last_login"])
    assert AccessChange.newest() == stamps[-1]


def test_a_change_that_is_rolled_back_has_none() -> None:
    before = AccessChange.newest()
    with transaction.atomic():
        rule("x")
        assert AccessChange.newest() != before
        transaction.set_rollback(True)
    assert AccessChange.newest() == before


class TestSnapshots:
    def test_nothing_is_read_again_until_something_has_changed(self) -> None:
        own = Snapshots()
        assert own.is_due
        assert own.newest == Snapshot()
        assert own.refresh()
        before = own.newest
        assert not own.is_due
        assert not own.refresh()
        assert own.newest is before
        rule("", "get")
        assert own.refresh()
        assert own.newest.rules.verdict(GUEST, "a").rights == {"get"}

    def test_what_told_of_no_change_is_read_all_the_same_after_a_while(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own, now = Snapshots(), [1000.0]
        monkeypatch.setattr(snapshot_module.time, "monotonic", lambda: now[0])
        rule("", "get")
        own.refresh()
        AccessRule.objects.update(can_get=False)
        now[0] += 59
        assert own.is_due
        assert not own.refresh()
        now[0] += 2
        assert own.refresh()
        assert own.newest.rules.verdict(GUEST, "a").rights == set()


def test_a_running_server_hears_of_a_change_and_ends_what_is_revoked(served: Served) -> None:
    served.put("a.bin", bytes(50_000_000))
    ann = User.objects.create(username="ann")
    own = rule("", "list get add", user=ann)
    who = Principal("user", "ann", "192.0.2.7", key=ann.pk)
    wait_until(lambda: may(who, GET, "a.bin"))
    assert may(who, LIST, "a.bin")
    assert not may(who, WATCH, "")
    named = {"client": "192.0.2.7:1", "user": "ann", "principal": f"user:{ann.pk}", "via": "web"}
    with served.peer(receive_buffer=4096) as peer, served.peer() as uploading:
        for one in (peer, uploading):
            one.ask("AUTH", token=relay_token())
        down = peer.ask("GET", name="a.bin", **named)["id"]
        up = uploading.ask("PUT", name="b.bin", size=100, **named)["id"]
        own.can_get = False
        own.save()
        assert served.events.ending(down).error == "revoked"
        ann.is_active = False
        ann.save()
        assert served.events.ending(up).error == "revoked"
    row = served.row_of(down)
    assert (row.outcome, row.error, row.principal, row.user) == (
        "aborted",
        "revoked",
        f"user:{ann.pk}",
        "ann",
    )
    assert not may(who, ADD, "b.bin")
