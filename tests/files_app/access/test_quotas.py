"""Quotas: refused before the first byte, and not passed by uploads at the same time."""

import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import OperationalError, connections

from files_app.access.quotas import Ledger, own_quotas
from files_app.access.snapshot import snapshots
from files_app.models import Quota
from fileserver.rights import Principal
from fileserver.wire.replies import ErrorReply
from tests.files_app.conftest import Served, logged_in
from tests.files_app.rows import make_file
from tests.files_app.site import fetch

pytestmark = pytest.mark.usefixtures("database")

MIB = 1 << 20
ELSEWHERE = ("192.0.2.7", 5000)


@pytest.fixture
def ann(database: None) -> Principal:
    user = User.objects.create(username="ann")
    return Principal("user", "ann", "192.0.2.7", key=user.pk)


def quota(mib: int, **whose: Any) -> Quota:
    made = Quota.objects.create(max_mib=mib, **whose)
    snapshots.refresh()
    return made


def fits(ledger: Ledger, who: Principal, name: str, size: int) -> bool:
    try:
        ledger.reserve(who, name, size)(None)
    except ErrorReply as error:
        return error.code != "quota"
    return True


class TestWhatCounts:
    def test_files_of_a_person_that_are_there(self, ann: Principal) -> None:
        quota(10, user=User.objects.get())
        make_file("a.txt", size=6 * MIB, added_by="ann")
        make_file("b.txt", size=6 * MIB, added_by="bob")
        ledger = Ledger()
        assert fits(ledger, ann, "new", 4 * MIB)
        assert not fits(ledger, ann, "new", 4 * MIB + 1)
        assert fits(ledger, ann, "a.txt", 10 * MIB)  # in the place of the one that is there
        assert fits(ledger, Principal(), "new", 100 * MIB)
        assert own_quotas(ann) == [(6 * MIB, 10 * MIB)]

    def test_all_files_in_a_folder_whoever_brought_them(self, ann: Principal) -> None:
        quota(10, folder="a/b")
        for name, size in (("a/b/x", 5), ("a/b/c/y", 4), ("a/bc", 50), ("a/b0", 50), ("a/a", 50)):
            make_file(name, size=size * MIB)
        ledger = Ledger()
        for who in (ann, Principal(), Principal("link", "x", key=1)):
            assert fits(ledger, who, "a/b/new", MIB)
            assert not fits(ledger, who, "a/b/new", MIB + 1)
            assert fits(ledger, who, "a/new", 100 * MIB)

    def test_each_member_of_a_group_has_its_own(self, ann: Principal) -> None:
        group = Group.objects.create(name="class")
        quota(10, group=group)
        make_file("b.txt", size=9 * MIB, added_by="bob")
        ledger = Ledger()
        assert fits(ledger, ann, "new", 100 * MIB)
        User.objects.get().groups.add(group)
        snapshots.refresh()
        assert fits(ledger, ann, "new", 10 * MIB)
        assert not fits(ledger, ann, "new", 10 * MIB + 1)

    def test_several_hold_all(self, ann: Principal) -> None:
        quota(10, user=User.objects.get())
        quota(1, folder="a")
        ledger = Ledger()
        assert fits(ledger, ann, "b", 2 * MIB)
        assert not fits(ledger, ann, "a/b", 2 * MIB)


class TestAtTheSameTime:
    def test_what_is_on_its_way_counts_until_it_is_over(self, ann: Principal) -> None:
        quota(10, user=User.objects.get())
        ledger = Ledger()
        over = ledger.reserve(ann, "one", 6 * MIB)
        assert not fits(ledger, ann, "two", 5 * MIB)
        over(None)
        assert fits(ledger, ann, "two", 5 * MIB)

    def test_a_new_file_counts_once_whether_the_catalogue_has_it_or_not(self, ann: Principal) -> None:
        quota(10, user=User.objects.get())
        ledger = Ledger()
        ledger.reserve(ann, "one", 6 * MIB)("one (1)")
        assert not fits(ledger, ann, "two", 5 * MIB)
        assert fits(ledger, ann, "two", 4 * MIB)
        make_file("one (1)", size=6 * MIB, added_by="ann")
        assert not fits(ledger, ann, "two", 5 * MIB)
        assert fits(ledger, ann, "two", 4 * MIB)

    def test_many_threads_pass_it_not_even_together(self, ann: Principal) -> None:
        quota(10, user=User.objects.get())
        ledger, taken, barrier = Ledger(), [], threading.Barrier(8)

        def take(number: int) -> None:
            try:
                barrier.wait(10)
                ledger.reserve(ann, f"file {number}", 3 * MIB)
                taken.append(number)
            except ErrorReply:
                pass
            finally:
                connections.close_all()

        threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 3

    def test_a_database_that_is_away_stops_no_upload(
        self, ann: Principal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quota(1, user=User.objects.get())
        monkeypatch.setattr("files_app.access.quotas.used", _away)
        assert fits(Ledger(), ann, "a", 5 * MIB)


def _away(*args: Any) -> int:
    raise OperationalError("away")


@pytest.mark.parametrize("fields", [{}, {"folder": "../x"}])
def test_a_quota_that_is_for_nobody_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Quota(max_mib=1, **fields).full_clean()


def test_at_the_doors_it_is_507_and_a_sentence(served: Served) -> None:
    headers = logged_in({"add", "list", "get"})
    quota(1, user=User.objects.get())
    headers |= {"origin": "http://localhost:8000", "x-csrftoken": "a" * 32}
    small, large = bytes(700_000), bytes(800_000)
    first = fetch("PUT", "/files/a.bin", body=small, headers=headers, client=ELSEWHERE)
    assert first.status == 201
    second = fetch("PUT", "/files/b.bin", body=large, headers=headers, client=ELSEWHERE)
    assert (second.status, "Your files here may have 1.0" in second.text) == (507, True)
    served.catalogued("a.bin")
    page = fetch("GET", "/", headers=headers, client=ELSEWHERE).text
    assert "that you have here" in page
    assert not (served.folder / "b.bin").exists()
