"""The admin: the history as it was written, searched, filtered and exported, never changed."""

import csv
import inspect
import io
import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from files_app import admin as admin_module
from files_app.access.links import token_of
from files_app.admin import CSV_FIELDS, csv_lines
from files_app.models import AccessRule, AuditEvent, Transfer
from tests.files_app.conftest import Served
from tests.files_app.links import make_link
from tests.files_app.rows import NOW, make_file, make_transfer
from tests.files_app.site import HOST, Answer, fetch, run

pytestmark = pytest.mark.usefixtures("database")

TRANSFERS = "/admin/files_app/transfer/"
FILES = "/admin/files_app/file/"


class Visitor:
    """A browser in which a superuser has logged in."""

    def __init__(self) -> None:
        login = Client()
        login.force_login(User.objects.create_superuser("admin"))
        session, token = login.cookies["cfs_session"].value, "t" * 32
        self._headers = {
            "cookie": f"cfs_session={session}; cfs_csrf={token}",
            "x-csrftoken": token,
            "origin": f"http://{HOST}",
            "content-type": "application/x-www-form-urlencoded",
        }

    def get(self, url: str) -> Answer:
        return fetch("GET", url, headers=self._headers)

    def post(self, url: str, data: dict[str, Any]) -> Answer:
        return fetch("POST", url, headers=self._headers, body=urlencode(data, doseq=True).encode())


@pytest.fixture
def visitor(database: None) -> Visitor:
    return Visitor()


def listed(visitor: Visitor, url: str) -> list[str]:
    page = visitor.get(url)
    assert page.status == 200
    return re.findall(r'<t[hd] class="field-name[^"]*">(?:<a [^>]*>)?([^<]*)<', page.text)


class TestReadOnly:
    def test_without_an_account_there_is_a_login_and_nothing_else(self) -> None:
        answer = fetch("GET", TRANSFERS)
        assert answer.status == 302
        assert answer.headers["location"].startswith("/admin/login/")

    def test_a_row_can_be_looked_at_but_not_changed(self, visitor: Visitor) -> None:
        transfer, file = make_transfer(), make_file()
        for row in (transfer, file):
            url = reverse(f"admin:files_app_{row._meta.model_name}_change", args=[row.pk])
            page = visitor.get(url)
            assert page.status == 200
            assert "a.txt" in page.text
            assert 'name="_save"' not in page.text
            assert visitor.post(url, {"name": "changed"}).status == 403
            row.refresh_from_db()
            assert row.name == "a.txt"

    @pytest.mark.parametrize("url", [TRANSFERS, FILES])
    def test_nothing_can_be_added_or_deleted(self, visitor: Visitor, url: str) -> None:
        row = make_transfer() if url == TRANSFERS else make_file()
        assert visitor.get(f"{url}add/").status == 403
        assert visitor.post(f"{url}{row.pk}/delete/", {"post": "yes"}).status == 403
        action = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        visitor.post(url, action)
        row.refresh_from_db()

    def test_names_are_text(self, visitor: Visitor) -> None:
        evil = '<img src=x onerror="alert(1)">'
        make_transfer(name=evil, client=evil, user=evil)
        make_file(evil)
        for url in (TRANSFERS, FILES):
            assert evil not in visitor.get(url).text


class TestLists:
    def test_transfers_are_searched_by_name_client_user_and_error(self, visitor: Visitor) -> None:
        make_transfer(name="alpha", error="checksum")
        make_transfer(name="beta", client="192.168.0.7:1", user="maria")
        for query, found in (
            ("alpha", "alpha"),
            ("checksum", "alpha"),
            ("192.168", "beta"),
            ("maria", "beta"),
        ):
            assert listed(visitor, f"{TRANSFERS}?q={query}") == [found]

    @pytest.mark.parametrize("query", ["outcome=failed", "direction=upload", "via=web"])
    def test_transfers_are_filtered(self, visitor: Visitor, query: str) -> None:
        field, value = query.split("=")
        make_transfer(name="other", outcome="complete")
        make_transfer(name="wanted", **{"outcome": "complete", field: value})
        assert listed(visitor, f"{TRANSFERS}?{field}__exact={value}") == ["wanted"]

    def test_transfers_are_filtered_by_day(self, visitor: Visitor) -> None:
        make_transfer(name="old", started_at=NOW - timedelta(days=400))
        make_transfer(name="new")
        assert listed(visitor, f"{TRANSFERS}?started_at__year=2026") == ["new"]
        assert listed(visitor, TRANSFERS) == ["new", "old"]

    def test_a_transfer_is_shown_with_size_outcome_and_seconds(self, visitor: Visitor) -> None:
        make_transfer(done=2048, outcome="complete", finished_at=NOW + timedelta(hours=-1), seconds=2.5)
        make_transfer(name="running.txt")
        text = visitor.get(TRANSFERS).text
        for shown in ("2.0\N{NO-BREAK SPACE}KiB", "Complete", "2.5", "Not ended", "ClientThread-1"):
            assert shown in text

    def test_files_are_shown_with_their_downloads(self, visitor: Visitor) -> None:
        file = make_file(size=2048)
        make_file("b.txt")
        for outcome in ("complete", "complete", "aborted"):
            make_transfer(file=file, outcome=outcome)
        assert '<td class="field-downloads">2</td>' in visitor.get(FILES).text
        assert listed(visitor, f"{FILES}?o=-4") == ["a.txt", "b.txt"]
        assert listed(visitor, f"{FILES}?o=4") == ["b.txt", "a.txt"]
        assert listed(visitor, f"{FILES}?q=b.") == ["b.txt"]

    def test_the_index_names_the_site(self, visitor: Visitor) -> None:
        assert "Concurrent File Server" in visitor.get("/admin/").text


class TestCsv:
    def export(self) -> list[list[str]]:
        async def collect() -> str:
            return "".join([line async for line in csv_lines(Transfer.objects.all())])

        return list(csv.reader(io.StringIO(run(collect()))))

    def test_the_export_has_a_line_for_each_row_with_all_fields(self) -> None:
        row = make_transfer(outcome="complete", done=100, verified=True, finished_at=NOW)
        header, line = self.export()
        assert header == list(CSV_FIELDS)
        found = dict(zip(header, line, strict=True))
        assert found["id"] == str(row.pk)
        assert (found["name"], found["outcome"], found["verified"]) == ("a.txt", "complete", "True")
        assert found["started_at"] == "2026-05-01 12:00:00+00:00"

    @pytest.mark.parametrize(
        "name",
        ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://evil.example")', "-2+3+cmd|' /C calc'!A0"],
    )
    def test_what_a_spreadsheet_takes_for_a_formula_is_defused(self, name: str) -> None:
        make_transfer(name=name, client=name, user=name)
        header, line = self.export()
        found = dict(zip(header, line, strict=True))
        assert found["name"] == found["client"] == found["user"] == "'" + name

    @pytest.mark.parametrize("name", ['say "hi", now', "two\nlines", "Übung 🎉", "a;b", "1=1"])
    def test_any_other_name_stays_as_it_is(self, name: str) -> None:
        make_transfer(name=name)
        header, line = self.export()
        assert dict(zip(header, line, strict=True))["name"] == name

    def test_a_long_history_is_exported_whole_and_in_pieces(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(admin_module, "CSV_ROWS", 10)
        wanted = [make_transfer(name=str(number)).name for number in range(25)]
        assert [line[4] for line in self.export()[1:]] == wanted

    def test_the_export_is_an_asynchronous_stream_of_the_chosen_rows(self, visitor: Visitor) -> None:
        chosen, other = make_transfer(name="chosen"), make_transfer(name="other")
        action = {"action": "export_as_csv", "_selected_action": [chosen.pk]}
        answer = visitor.post(TRANSFERS, action)
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["content-disposition"] == 'attachment; filename="transfers.csv"'
        assert "chosen" in answer.text
        assert other.name not in answer.text
        assert inspect.isasyncgenfunction(csv_lines)

    def test_an_export_of_nothing_is_the_header(self) -> None:
        assert self.export() == [list(CSV_FIELDS)]


class TestRules:
    URL = "/admin/files_app/accessrule/"

    def test_a_rule_is_made_shown_and_taken_back(self, visitor: Visitor) -> None:
        group = Group.objects.create(name="staff")
        given = {"folder": "/Week 1/", "whom": "group", "group": group.pk, "can_get": "on", "can_list": "on"}
        assert visitor.post(f"{self.URL}add/", given).status == 302
        rule = AccessRule.objects.get()
        assert (rule.folder, rule.group, rule.rights) == ("Week 1", group, ["list", "get"])
        assert "/Week 1" in visitor.get(self.URL).text
        assert visitor.post(f"{self.URL}{rule.pk}/delete/", {"post": "yes"}).status == 302
        assert not AccessRule.objects.exists()

    @pytest.mark.parametrize(
        ("given", "sentence"),
        [
            ({"folder": "../x", "whom": "guest"}, "cannot be used"),
            ({"folder": "", "whom": "group"}, "Name a group or a person exactly if the rule is about one."),
            (
                {"folder": "WEEK", "whom": "guest"},
                "There is a rule for this folder and these people already.",
            ),
        ],
    )
    def test_what_cannot_be_is_told_in_a_sentence(
        self, visitor: Visitor, given: dict[str, str], sentence: str
    ) -> None:
        AccessRule.objects.create(folder="week", whom="guest")
        page = visitor.post(f"{self.URL}add/", given)
        assert page.status == 200
        assert sentence in page.text
        assert AccessRule.objects.count() == 1


def test_a_user_of_the_admin_without_permissions_is_told_so_in_a_sentence() -> None:
    login = Client()
    login.force_login(User.objects.create_user("maria", is_staff=True))
    answer = fetch("GET", TRANSFERS, headers={"cookie": f"cfs_session={login.cookies['cfs_session'].value}"})
    assert (answer.status, answer.text) == (403, "You may not do this.\n")


def test_a_link_is_shown_without_what_opens_it_and_can_be_taken_back(
    visitor: Visitor, served: Served
) -> None:
    served.put("a.txt", b"hello")
    link = make_link(served, "share", "a.txt", password="md5$salt$hash")
    page = visitor.get(f"/admin/files_app/link/{link.pk}/change/").text
    for secret in (link.nonce, link.digest, "md5$salt$hash", str(token_of(link))):
        assert secret not in page
    visitor.post("/admin/files_app/link/", {"action": "take_back", "_selected_action": [link.pk]})
    link.refresh_from_db()
    assert link.revoked_at is not None
    assert AuditEvent.objects.get(action="link-revoked").by == "admin"
