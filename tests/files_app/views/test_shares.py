"""What somebody with the address of a share gets: what was shared, as often as it may be, and no more."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.hashers import make_password
from django.utils import timezone

from files_app.access.links import new_address, path_of, token_of
from files_app.access.snapshot import snapshots
from files_app.models import AccessRule, AuditEvent, Link, LinkDownload, Transfer
from tests.files_app.conftest import Served
from tests.files_app.links import make_link, maker, url_of
from tests.files_app.site import HOST, Answer, Exchange, ask, fetch, run
from tests.servers import numbered_bytes, wait_until

pytestmark = pytest.mark.usefixtures("database")

STRANGER = ("192.0.2.7", 5000)
PAGE = {"accept": "text/html"}
DATA = numbered_bytes(100_000)


def get(url: str, **more: Any) -> Answer:
    return fetch("GET", url, **{"client": STRANGER, "delivered": True, **more})


@pytest.fixture
def handout(served: Served) -> Link:
    served.put("a/pub/handout.pdf", DATA)
    return make_link(served, "share", "a/pub/handout.pdf", title="Week 3")


@pytest.fixture
def folder_link(served: Served) -> Link:
    for name in ("a/pub/one.txt", "a/pub/in/two.txt", "a/pub/priv/secret.txt", "a/other.txt"):
        served.put(name, name.encode())
    return make_link(served, "share", "a/pub/")


class TestFiles:
    def test_its_page_has_the_file_and_nothing_else_of_ours(self, handout: Link) -> None:
        page = get(url_of(handout), headers=PAGE)
        assert page.status == 200
        assert "handout.pdf" in page.text
        assert "Week 3" in page.text
        for private in ("a/pub", "/history/", "/api/", "other.txt", "9999"):
            assert private not in page.text

    def test_the_file_comes_whole_or_in_part_as_an_attachment(self, handout: Link) -> None:
        url = f"{url_of(handout)}files/handout.pdf"
        answer = get(url)
        assert answer.body == DATA
        assert answer.headers["content-disposition"] == 'attachment; filename="handout.pdf"'
        part = get(url, headers={"range": "bytes=10-19"})
        assert (part.status, part.body) == (206, DATA[10:20])
        head = fetch("HEAD", url, client=STRANGER)
        assert (head.status, head.headers["content-length"]) == (200, "100000")

    def test_a_program_is_led_to_the_file(self, handout: Link) -> None:
        answer = get(url_of(handout))
        assert (answer.status, answer.headers["location"]) == (302, f"{url_of(handout)}files/handout.pdf")

    def test_the_history_names_the_link(self, handout: Link, served: Served) -> None:
        get(f"{url_of(handout)}files/handout.pdf")
        row = served.row_of(1)
        assert (row.principal, row.user) == (f"link:{handout.pk}", f"link {handout.pk}: Week 3")
        assert row.client.startswith("192.0.2.7")

    @pytest.mark.parametrize("words", ["", "any-words-", "week-3-"])
    def test_the_words_in_its_address_do_not_matter(self, handout: Link, words: str) -> None:
        assert path_of(handout) == f"/s/week-3-{token_of(handout)}/"
        assert get(f"/s/{words}{token_of(handout)}/", headers=PAGE).status == 200

    def test_in_the_folder_it_is_in_the_link_leads_to_that_file_alone(
        self, handout: Link, served: Served
    ) -> None:
        served.put("a/pub/other.txt", b"secret")
        for name in ("other.txt", "handout.pdf/", "handout.pdf/x", "../pub/handout.pdf", "a/pub/handout.pdf"):
            answer = get(f"{url_of(handout)}files/{quote(name)}")
            assert answer.status in (400, 404), name
            assert b"secret" not in answer.body


class TestFolders:
    def test_it_lists_and_gives_what_is_in_the_folder(self, folder_link: Link) -> None:
        listed = get(url_of(folder_link)).json
        assert [file["name"] for file in listed["files"]] == ["in/two.txt", "one.txt", "priv/secret.txt"]
        for file in listed["files"]:
            assert get(file["url"]).text == f"a/pub/{file['name']}"

    def test_what_its_maker_may_not_see_is_not_in_it(self, folder_link: Link) -> None:
        AccessRule.objects.create(folder="a/pub/priv", whom="user", user=folder_link.maker)
        snapshots.refresh()
        listed = get(url_of(folder_link)).json
        assert [file["name"] for file in listed["files"]] == ["in/two.txt", "one.txt"]
        assert "secret" not in get(url_of(folder_link), headers=PAGE).text
        hidden = get(f"{url_of(folder_link)}files/priv/secret.txt")
        absent = get(f"{url_of(folder_link)}files/priv/nothing.txt")
        assert (hidden.status, hidden.text) == (absent.status, absent.text)
        assert hidden.status == 404

    @pytest.mark.parametrize(
        "name",
        [
            *(
                "../other.txt",
                "..%2fother.txt",
                "%2e%2e/other.txt",
                "/a/other.txt",
                "//a/other.txt",
                "./one.txt",
            ),
            *(
                "in/../one.txt",
                "..\\other.txt",
                "in/..%5c..%5cother.txt",
                "a/pub/one.txt",
                "%00",
                "one.txt%00",
            ),
            *(
                ".",
                "..",
                "%252e%252e/other.txt",
                "one.txt/",
                "priv",
                "in/",
                "\u202eone.txt",
                "\uff0e\uff0e/other.txt",
            ),
            *("~/other.txt", "file:///etc/passwd", "C:/other.txt", ".upload", "x" * 2000),
        ],
    )
    def test_no_name_leads_out_of_it(self, folder_link: Link, name: str) -> None:
        for path in (f"files/{quote(name, safe='/%')}", f"?after={quote(name, safe='%')}"):
            answer = get(url_of(folder_link) + path)
            assert b"a/other.txt" not in answer.body
            assert answer.status in ((200, 400) if path[0] == "?" else (400, 404)), path

    def test_many_files_are_on_several_pages(
        self, folder_link: Link, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("files_app.views.shares.PAGE", 1)
        AccessRule.objects.create(folder="a/pub/in", whom="user", user=folder_link.maker)
        snapshots.refresh()
        first = get(url_of(folder_link), headers=PAGE).text
        assert "one.txt" in first
        assert "two.txt" not in first  # the page that would have been empty is left out
        assert "?after=one.txt" in first
        second = get(f"{url_of(folder_link)}?after=one.txt", headers=PAGE).text
        assert "priv/secret.txt" in second
        assert "after=" not in second


def test_a_link_is_good_as_soon_as_it_is_made(served: Served) -> None:
    served.put("a.txt", b"hello")
    first = make_link(served, "share", "a.txt")
    link = Link.objects.get(pk=first.pk)
    link.pk = None
    new_address(link)
    link.save()  # no process has read of it yet
    assert get(url_of(link), headers=PAGE).status == 200
    assert get(f"{url_of(link)}files/a.txt").body == b"hello"


class TestTheEnd:
    def gone(self, link: Link) -> bool:
        """Whether it is over at all its doors, and says nothing of what it was for."""
        answers = [
            get(url_of(link)),
            get(url_of(link), headers=PAGE),
            get(f"{url_of(link)}files/handout.pdf"),
        ]
        for answer in answers:
            assert "handout" not in answer.text.replace("handout.pdf", "", 0) or answer.status == 302
        return {answer.status for answer in answers} == {410}

    def test_a_link_that_never_was_is_not_there(self, served: Served) -> None:
        assert get(f"/s/{'a' * 26}/").status == 404
        assert get(f"/s/{'a' * 25}/").status == 404
        assert get(f"/s/{'A' * 26}/").status == 404

    def test_after_its_end_it_is_over(self, handout: Link) -> None:
        Link.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert self.gone(handout)

    def test_without_an_end_it_goes_on(self, handout: Link) -> None:
        handout.expires_at = None
        handout.save()
        snapshots.refresh()
        assert get(f"{url_of(handout)}files/handout.pdf").body == DATA

    def test_revoked_it_is_over(self, handout: Link) -> None:
        Link.objects.update(revoked_at=timezone.now())
        assert self.gone(handout)

    def test_a_file_that_was_moved_or_replaced_is_not_shared(self, handout: Link, served: Served) -> None:
        path = served.folder / handout.target
        path.rename(served.folder / "a" / "kept.pdf")
        assert self.gone(handout)
        path.write_bytes(b"another file")
        assert self.gone(handout)
        path.unlink()
        (served.folder / "a" / "kept.pdf").rename(path)
        assert get(f"{url_of(handout)}files/handout.pdf").body == DATA

    def test_a_folder_in_the_place_of_the_shared_one_is_not_shared(
        self, folder_link: Link, served: Served
    ) -> None:
        (served.folder / "a" / "pub").rename(served.folder / "a" / "old")
        (served.folder / "a" / "pub").mkdir()
        (served.folder / "a" / "pub" / "one.txt").write_bytes(b"of somebody else")
        for url in (url_of(folder_link), f"{url_of(folder_link)}files/one.txt"):
            answer = get(url)
            assert answer.status == 410
            assert "one.txt" not in answer.text
            assert fetch("HEAD", url, client=STRANGER).status == 410

    @pytest.mark.parametrize("lost", ["can_share", "can_get"])
    def test_a_maker_who_lost_a_right_shares_nothing_any_more(self, handout: Link, lost: str) -> None:
        rule = AccessRule.objects.get()
        setattr(rule, lost, False)
        rule.save()
        snapshots.refresh()
        assert self.gone(handout)

    def test_nor_does_one_whose_account_is_closed(self, handout: Link) -> None:
        handout.maker.is_active = False
        handout.maker.save()
        snapshots.refresh()
        assert self.gone(handout)

    def test_a_new_address_is_the_only_one(self, handout: Link) -> None:
        old = url_of(handout)
        new_address(handout)
        handout.save()
        assert get(old).status == 404
        assert get(url_of(handout), headers=PAGE).status == 200

    def test_what_is_revoked_ends_in_the_middle_of_a_download(self, served: Served) -> None:
        served.put("big.bin", bytes(64 << 20))
        link = make_link(served, "share", "big.bin")

        async def download() -> None:
            exchange = Exchange("GET", f"{url_of(link)}files/big.bin", client=STRANGER, can_abort=True)
            assert (await exchange.next())["status"] == 200
            await exchange.next()
            await asyncio.to_thread(revoke)
            await asyncio.to_thread(served.events.ending, 1)
            while not exchange.was_reset:
                await exchange.next()
            await exchange.cut()

        def revoke() -> None:
            link.revoked_at = timezone.now()
            link.save()

        run(download())
        row = served.row_of(1)
        assert (row.outcome, row.error) == ("aborted", "revoked")
        assert row.done < row.size


class TestPasswords:
    @pytest.fixture(autouse=True)
    def _quick(self, settings: Any) -> None:
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

    def unlock(self, link: Link, password: str) -> Answer:
        token = "a" * 32
        headers = {
            "origin": f"http://{HOST}",
            "cookie": f"cfs_csrf={token}",
            "x-csrftoken": token,
            "content-type": "application/x-www-form-urlencoded",
            **PAGE,
        }
        body = f"password={quote(password)}".encode()
        return fetch("POST", url_of(link), headers=headers, body=body, client=STRANGER)

    def session(self, answer: Answer) -> dict[str, str]:
        cookies = [value.partition(";")[0] for name, value in answer.all_headers if name == "set-cookie"]
        return {"cookie": "; ".join(cookies)}

    def test_before_it_nothing_is_told(self, served: Served) -> None:
        served.put("exam.pdf", b"questions")
        fields = {"title": "Exam", "password": make_password("pear"), "maker": maker("zelda")}
        link = make_link(served, "share", "exam.pdf", **fields)
        plain = make_link(served, "share", "exam.pdf", password=make_password("other"))
        pages = {get(f"/s/{token_of(one)}/", headers=PAGE).status for one in (link, plain)}
        assert pages == {403}
        for url in (url_of(link), f"{url_of(link)}files/exam.pdf", f"{url_of(link)}files/nothing.pdf"):
            for headers in (PAGE, {}):
                answer = get(url, headers=headers)
                assert answer.status == 403
                text = answer.text.replace(str(path_of(link)), "")
                for told in ("exam", "Exam", "zelda", "questions"):
                    assert told not in text
        assert fetch("HEAD", f"{url_of(link)}files/exam.pdf", client=STRANGER).status == 403

    def test_after_it_this_browser_is_let_in_until_the_password_changes(self, served: Served) -> None:
        served.put("exam.pdf", b"questions")
        link = make_link(served, "share", "exam.pdf", password=make_password("pear"))
        wrong = self.unlock(link, "apple")
        assert wrong.status == 403
        assert "That is not the password." in wrong.text
        assert AuditEvent.objects.filter(action="link-refused").count() == 1
        right = self.unlock(link, "pear")
        assert (right.status, right.headers["location"]) == (302, url_of(link))
        session = self.session(right)
        assert get(f"{url_of(link)}files/exam.pdf", headers=session).body == b"questions"
        assert get(f"{url_of(link)}files/exam.pdf").status == 403
        other = make_link(served, "share", "exam.pdf", password=make_password("pear"))
        assert get(f"{url_of(other)}files/exam.pdf", headers=session).status == 403
        link.password = make_password("plum")
        link.save()
        assert get(f"{url_of(link)}files/exam.pdf", headers=session).status == 403

    def test_the_form_must_come_from_our_own_page(self, served: Served) -> None:
        served.put("exam.pdf", b"questions")
        link = make_link(served, "share", "exam.pdf", password=make_password("pear"))
        headers = {"content-type": "application/x-www-form-urlencoded", "origin": "http://evil.example"}
        answer = fetch("POST", url_of(link), headers=headers, body=b"password=pear", client=STRANGER)
        assert answer.status == 403
        assert "set-cookie" not in answer.headers or "session" not in answer.headers["set-cookie"]


class TestLimits:
    def left(self) -> int:
        return LinkDownload.objects.count()

    def test_fifty_at_once_get_one_file_of_a_link_for_one(self, served: Served) -> None:
        served.put("a.bin", DATA)
        link = make_link(served, "share", "a.bin", max_downloads=1)
        url = f"{url_of(link)}files/a.bin"

        async def all_at_once() -> list[Answer]:
            asked = (ask("GET", url, client=STRANGER, delivered=True) for _ in range(50))
            return await asyncio.gather(*asked)

        answers = run(all_at_once())
        assert sorted(answer.status for answer in answers) == [200] + [410] * 49
        assert [answer.body for answer in answers if answer.status == 200] == [DATA]
        assert self.left() == 1

    def test_twelve_people_with_segments_breaks_and_previews_get_twelve_files(self, served: Served) -> None:
        served.put("a.bin", DATA)
        link = make_link(served, "share", "a.bin", max_downloads=12)
        url, quarter = f"{url_of(link)}files/a.bin", len(DATA) // 4

        def client(person: int) -> tuple[str, int]:
            return (f"192.0.2.{person}", 5000)

        async def person(number: int) -> bytes:
            async def part(start: int) -> Answer:
                headers = {"range": f"bytes={start}-{start + quarter - 1}"}
                return await ask("GET", url, headers=headers, client=client(number), delivered=True)

            parts = await asyncio.gather(*(part(start) for start in range(0, len(DATA), quarter)))
            assert {answer.status for answer in parts} == {206}
            return b"".join(answer.body for answer in parts)

        async def eleven() -> list[bytes]:
            return await asyncio.gather(*(person(number) for number in range(1, 12)))

        async def cut() -> None:
            exchange = Exchange("GET", url, client=client(12), can_abort=True)
            assert (await exchange.next())["status"] == 200
            await exchange.next()
            await exchange.cut()

        for number in range(1, 20):
            assert fetch("HEAD", url, client=client(number)).status == 200
        bot = {"user-agent": "WhatsApp/2.23.20.0"}
        assert get(url, headers=bot).status == 403
        assert get(url_of(link), headers={**bot, **PAGE}).status == 200
        assert self.left() == 0
        assert run(eleven()) == [DATA] * 11
        run(cut())
        wait_until(lambda: not LinkDownload.objects.filter(granted__gt=0).exists())
        assert self.left() == 12
        rest = get(url, headers={"range": "bytes=50000-"}, client=client(12))
        assert (rest.status, rest.body) == (206, DATA[50_000:])
        assert get(url, client=client(13)).status == 410
        assert get(url, client=client(1)).status == 410  # who has it has it
        assert self.left() == 12

    def test_what_never_left_is_given_back(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        served.put("a.bin", DATA)
        link = make_link(served, "share", "a.bin", max_downloads=1)
        url = f"{url_of(link)}files/a.bin"

        async def leave_before_the_first_byte() -> None:
            # The head of the answer is not taken, so no byte of the file can follow it.
            exchange = Exchange("GET", url, client=STRANGER, can_abort=True)
            await asyncio.to_thread(wait_until, lambda: self.left() == 1)
            await exchange.cut()

        run(leave_before_the_first_byte())
        wait_until(lambda: self.left() == 0)
        assert get(url).body == DATA

    def test_bytes_that_got_lost_may_be_asked_for_again_but_not_for_ever(self, served: Served) -> None:
        served.put("a.bin", DATA)
        link = make_link(served, "share", "a.bin", max_downloads=1)
        url = f"{url_of(link)}files/a.bin"
        part = {"range": "bytes=1-"}
        assert get(url, headers=part).status == 206
        wait_until(lambda: not LinkDownload.objects.filter(granted__gt=0).exists())
        assert get(url, headers=part).status == 206
        wait_until(lambda: not LinkDownload.objects.filter(granted__gt=0).exists())
        assert get(url, headers=part).status == 410

    def test_no_direct_way_passes_the_limit_by(self, served: Served) -> None:
        served.put("a.bin", DATA)
        link = make_link(served, "share", "a.bin", max_downloads=1)
        answer = get(f"{url_of(link)}files/a.bin?direct=1")
        assert answer.status == 200
        free = make_link(served, "share", "a.bin")
        direct = get(f"{url_of(free)}files/a.bin?direct=1")
        assert direct.status == 302


def test_at_every_other_door_the_address_of_a_link_is_worth_nothing(served: Served) -> None:
    served.put("a.txt", b"hello")
    link = make_link(served, "share", "a.txt")
    token = str(token_of(link))
    for url in ("/files/a.txt", "/api/files", "/history/", "/api/history", f"/d/{token}/", "/links/"):
        for headers in (
            {},
            {"authorization": f"Bearer {token}"},
            {"cookie": f"cfs_session={token}; cfs_visitor={token}"},
        ):
            answer = get(url, headers=headers)
            assert answer.status in (401, 404), url
    with served.peer() as peer:
        assert peer.refusal(f"AUTH {token}\n".encode())["code"] == "denied"
    assert Transfer.objects.count() == 0
    assert json.loads(get("/api/files", client=("127.0.0.1", 5000)).body)["count"] == 1
