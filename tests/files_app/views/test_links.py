"""The pages on which somebody with an account makes links, changes them and takes them back."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.utils import timezone

from files_app.access.links import path_of
from files_app.access.public import page_url
from files_app.access.snapshot import snapshots
from files_app.models import AccessRule, AuditEvent, Link
from files_app.models.rules import RIGHTS
from tests.files_app.conftest import TOKEN, Served, logged_in
from tests.files_app.links import make_link, url_of
from tests.files_app.site import HOST, Answer, fetch

pytestmark = pytest.mark.usefixtures("database")

AT = ("192.0.2.7", 5000)
SHARE = {"kind": "share", "target": "a/x.txt", "naming": "optional"}


@pytest.fixture
def ann(served: Served) -> dict[str, str]:
    served.put("a/x.txt", b"hello")
    return logged_in(set(RIGHTS))


def post(url: str, headers: dict[str, str], **form: Any) -> Answer:
    given = {
        "origin": f"http://{HOST}",
        "x-csrftoken": TOKEN,
        "content-type": "application/x-www-form-urlencoded",
        "accept": "text/html",
        **headers,
    }
    return fetch("POST", url, headers=given, body=urlencode(form).encode(), client=AT)


def page(url: str, headers: dict[str, str]) -> Answer:
    return fetch("GET", url, headers={"accept": "text/html", **headers}, client=AT)


def test_a_link_is_made_and_shown_with_its_address_and_a_code(ann: dict[str, str]) -> None:
    made = post("/links/new/", ann, **SHARE, title="Week 3", new_password="pear")
    link = Link.objects.get()
    assert (made.status, made.headers["location"]) == (302, f"/links/{link.pk}/")
    assert (link.maker.username, link.target, link.title) == ("ann", "a/x.txt", "Week 3")
    assert check_password("pear", link.password)
    shown = page(f"/links/{link.pk}/", ann).text
    assert page_url(url_of(link)) in shown
    assert shown.count('class="qr"') == 1
    assert "Week 3" in page("/links/", ann).text
    assert AuditEvent.objects.get(action="link-made").by == "ann"


def test_by_itself_it_is_good_for_seven_days(ann: dict[str, str]) -> None:
    form = page("/links/new/?target=a%2Fx.txt", ann).text
    assert 'value="a/x.txt"' in form
    found = re.search(r'data-utc="([^"]+)"', form)
    assert found
    ends = datetime.fromisoformat(found[1])
    assert timedelta(days=6, hours=23) < ends - timezone.now() < timedelta(days=7, minutes=1)


@pytest.mark.parametrize(
    ("offset", "utc"), [("120", "2030-06-01T10:00"), ("", "2030-06-01T12:00"), ("-330", "2030-06-01T17:30")]
)
def test_its_end_is_a_time_of_the_browsers_clock(ann: dict[str, str], offset: str, utc: str) -> None:
    post("/links/new/", ann, **SHARE, ends="2030-06-01T12:00", offset=offset)
    assert Link.objects.get().expires_at == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_a_folder_may_be_given_without_its_slash_and_a_drop_makes_its_folder(
    ann: dict[str, str], served: Served
) -> None:
    post("/links/new/", ann, **{**SHARE, "target": "a"})
    made = post("/links/new/", ann, kind="drop", target="class 7/week 1", naming="required")
    assert made.status == 302, made.text
    assert [link.target for link in Link.objects.order_by("pk")] == ["a/", "class 7/week 1/"]
    assert (served.folder / "class 7" / "week 1").is_dir()


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"target": "a/none.txt"}, "There is no file &#x27;a/none.txt&#x27;."),
        ({"target": "../x"}, "cannot be used"),
        ({"ends": "2020-01-01T00:00"}, "That time is over."),
        ({"ends": "soon"}, "Enter a valid date/time."),
        ({"kind": "drop", "target": "b/", "naming": "list"}, "Say which names can be picked"),
        ({"max_downloads": "-1"}, ""),
        ({"kind": "else"}, ""),
        ({"target": "x\0y"}, ""),
    ],
)
def test_what_is_wrong_with_it_is_said_beside_the_field(
    ann: dict[str, str], form: dict[str, str], told: str
) -> None:
    answer = post("/links/new/", ann, **{**SHARE, **form})
    assert answer.status == 400
    assert told in answer.text
    assert not Link.objects.exists()


@pytest.mark.parametrize(("kind", "lacking"), [("share", "share"), ("share", "get"), ("drop", "add")])
def test_only_what_its_maker_may_do_can_be_given(served: Served, kind: str, lacking: str) -> None:
    served.put("a/x.txt", b"hello")
    headers = logged_in(set(RIGHTS) - {lacking})
    answer = post("/links/new/", headers, kind=kind, target="a/", naming="optional")
    assert answer.status == 400
    assert "You may not" in answer.text
    assert not Link.objects.exists()


def test_a_link_is_its_makers_alone_and_of_those_who_manage(ann: dict[str, str], served: Served) -> None:
    link = make_link(served, "share", "a/x.txt", maker=User.objects.get(username="ann"))
    bob, boss = logged_in(set(RIGHTS), "bob"), logged_in({"manage"}, "boss")
    for url in (f"/links/{link.pk}/", f"/links/{link.pk}/revoke/", f"/links/{link.pk}/rebind/"):
        assert post(url, bob, title="mine").status == 404
    assert page(f"/links/{link.pk}/", bob).status == 404
    assert link.shown_title not in page("/links/", bob).text
    assert link.shown_title in page("/links/", boss).text
    assert post(f"/links/{link.pk}/revoke/", boss).status == 302
    assert page(url_of(link), {}).status == 410


def test_it_can_be_changed_extended_and_taken_back(ann: dict[str, str], served: Served) -> None:
    link = make_link(served, "share", "a/x.txt", maker=User.objects.get(username="ann"), password="md5$x$y")
    url = f"/links/{link.pk}/"
    changed = {"title": "New", "naming": "optional", "ends": "2030-06-01T12:00", "offset": "0", "target": "b"}
    assert post(url, ann, **changed, max_downloads="3").status == 302
    link.refresh_from_db()
    assert (link.title, link.max_downloads, link.target, link.password) == ("New", 3, "a/x.txt", "md5$x$y")
    assert link.expires_at == datetime(2030, 6, 1, 12, tzinfo=UTC)
    assert post(url, ann, **changed, drop_password="on").status == 302
    link.refresh_from_db()
    assert (link.password, link.max_downloads) == ("", None)
    assert post(f"{url}revoke/", ann).status == 302
    assert page(url_of(link), {}).status == 410
    actions = AuditEvent.objects.filter(action__startswith="link-").order_by("pk")
    assert [event.action for event in actions] == ["link-changed", "link-changed", "link-revoked"]


def test_what_took_the_place_of_the_file_is_shared_after_its_maker_says_so(
    ann: dict[str, str], served: Served
) -> None:
    link = make_link(served, "share", "a/x.txt", maker=User.objects.get(username="ann"))
    path = served.folder / "a" / "x.txt"
    path.rename(served.folder / "a" / "old.txt")
    path.write_bytes(b"corrected")
    file = f"{url_of(link)}files/x.txt"
    assert page(file, {}).status == 410
    assert post(f"/links/{link.pk}/rebind/", ann).status == 302
    snapshots.refresh()
    assert fetch("GET", file, client=AT).body == b"corrected"


def test_few_links_can_be_made_in_an_hour(ann: dict[str, str], settings: Any) -> None:
    settings.MAX_LINKS_PER_HOUR = 2
    assert [post("/links/new/", ann, **SHARE).status for _ in range(3)] == [302, 302, 400]
    Link.objects.update(made_at=timezone.now() - timedelta(hours=2))
    assert post("/links/new/", ann, **SHARE).status == 302


def test_a_key_that_changed_shows_no_wrong_address(
    ann: dict[str, str], settings: Any, served: Served
) -> None:
    link = make_link(served, "share", "a/x.txt", maker=User.objects.get(username="ann"))
    old = url_of(link)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another " * 8
    assert url_of(link) == old
    settings.SECRET_KEY_FALLBACKS = []
    assert path_of(link) is None
    assert page(old, {}).status == 200  # who has it, has it


def test_a_teacher_sees_who_has_handed_in_what_as_text(ann: dict[str, str], served: Served) -> None:
    link = make_link(served, "drop", "a/", maker=User.objects.get(username="ann"))
    evil = "<img src=x onerror=alert(1)>"
    for name in ("Ben", evil, '=HYPERLINK("x")'):
        url = f"{url_of(link)}files/essay.html?sender={quote(name)}"
        assert fetch("PUT", url, body=b"<script>alert(1)</script>", client=AT).status == 201
    shown = page(f"/links/{link.pk}/", ann).text
    assert "Ben" in shown
    assert evil not in shown
    assert "/files/a/Ben/essay.html" in shown
    for query in ("", "?inline=1", "?direct=0", "?pace=", "?download=0", "?type=text/html"):
        answer = fetch("GET", f"/files/a/Ben/essay.html{query}", headers=ann, client=AT, delivered=True)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_files_that_may_be_shared_have_a_button_for_it(ann: dict[str, str], served: Served) -> None:
    assert "/links/new/?target=a%2Fx.txt" in page("/", ann).text
    rule = AccessRule.objects.get()
    rule.can_share = False
    rule.save()
    snapshots.refresh()
    assert "/links/new/" not in page("/", ann).text
    assert "/links/new/" not in fetch("GET", "/", headers={"accept": "text/html"}).text  # nobody is logged in
