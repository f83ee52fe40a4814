"""What somebody with the address of a drop can do: hand in files, and learn nothing but their own names."""

import asyncio
import base64
import unicodedata
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.utils import timezone

from files_app.access.links import token_of
from files_app.access.senders import MAX_NAME, BadSender, key_of, safe_folder, sender_of
from files_app.access.snapshot import snapshots
from files_app.models import AccessRule, Link, LinkUpload
from fileserver.names import check_portable
from tests.files_app.conftest import Served
from tests.files_app.links import make_link, url_of
from tests.files_app.site import HOST, Answer, ask, fetch, run
from tests.files_app.views.test_tus import PART, TUS
from tests.servers import sha256

pytestmark = pytest.mark.usefixtures("database")

STRANGER = ("192.0.2.7", 5000)
PAGE = {"accept": "text/html"}
ORIGIN = {"origin": f"http://{HOST}"}


@pytest.fixture
def homework(served: Served) -> Link:
    served.put("class 7/homework/old.pdf", b"of last week")
    return make_link(served, "drop", "class 7/homework/", title="Homework", naming="optional")


def put(link: Link, name: str, data: bytes = b"hello", sender: str = "", **more: Any) -> Answer:
    query = f"?sender={quote(sender)}" if sender else ""
    url = f"{url_of(link)}files/{quote(name)}{query}"
    return fetch("PUT", url, body=data, **{"client": STRANGER, **more})


def handed_in(served: Served) -> dict[str, bytes]:
    folder = served.folder / "class 7" / "homework"
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files} | {}


def announced(link: Link, name: str, size: int, sender: str = "", **headers: str) -> Answer:
    pairs = {"filename": name, "sender": sender, "exists": "replace"}
    metadata = ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())
    given = {**TUS, **ORIGIN, "upload-length": str(size), "upload-metadata": metadata, **headers}
    return fetch("POST", f"{url_of(link)}uploads/", headers=given, client=STRANGER)


class TestHandingIn:
    def test_three_at_once_with_one_name_are_three_files(self, homework: Link, served: Served) -> None:
        async def all_at_once() -> list[Answer]:
            students = ["Ann", "Ben", "Zoë"]
            urls = (f"{url_of(homework)}files/essay.pdf?sender={quote(name)}" for name in students)
            puts = (
                ask("PUT", url, body=f"by {url[-3:]}".encode(), client=(f"192.0.2.{number}", 1))
                for number, url in enumerate(urls)
            )
            return await asyncio.gather(*puts)

        assert [answer.status for answer in run(all_at_once())] == [201] * 3
        found = handed_in(served)
        assert set(found) == {"old.pdf", "Ann/essay.pdf", "Ben/essay.pdf", "Zoë/essay.pdf"}
        rows = LinkUpload.objects.order_by("sender")
        assert [(row.sender, row.state, row.sha256) for row in rows] == [
            (name, "complete", sha256(found[f"{name}/essay.pdf"])) for name in ("Ann", "Ben", "Zoë")
        ]

    def test_the_answer_is_a_receipt_and_nothing_more(self, homework: Link, served: Served) -> None:
        answer = put(homework, "essay.pdf", b"hello", "Ann")
        assert answer.json == {
            "name": "essay.pdf",
            "size": 5,
            "sha256": sha256(b"hello"),
            "time": answer.json["time"],
        }
        assert "location" not in answer.headers
        again = put(homework, "essay.pdf", b"other", "Ann")
        assert again.json["name"] == "essay (1).pdf"  # nothing is replaced
        assert handed_in(served)["Ann/essay.pdf"] == b"hello"

    def test_the_history_has_link_sender_and_address(self, homework: Link, served: Served) -> None:
        put(homework, "essay.pdf", sender="Ann")
        row = served.row_of(1)
        assert row.principal == f"link:{homework.pk}"
        assert row.user == f"Ann by link {homework.pk}: Homework"
        assert row.client.startswith("192.0.2.7")

    def test_by_tus_it_goes_on_after_a_break(self, homework: Link, served: Served) -> None:
        created = announced(homework, "essay.pdf", 10, "Ann")
        assert created.status == 201
        url = created.headers["location"]
        assert url.startswith(url_of(homework))
        part = {**PART, **ORIGIN}
        first = fetch("PATCH", url, headers={**part, "upload-offset": "0"}, body=b"hello", client=STRANGER)
        assert (first.status, first.headers["upload-offset"]) == (204, "5")
        looked = fetch("HEAD", url, headers=TUS, client=STRANGER)
        assert looked.headers["upload-offset"] == "5"
        last = fetch("PATCH", url, headers={**part, "upload-offset": "5"}, body=b"world", client=STRANGER)
        assert last.headers["stored-name"] == "essay.pdf"
        assert handed_in(served)["Ann/essay.pdf"] == b"helloworld"
        row = LinkUpload.objects.get()
        assert (row.state, row.sha256) == ("complete", sha256(b"helloworld"))
        assert "homework" not in "".join(f"{name}: {value}" for name, value in last.all_headers)

    def test_by_the_form_without_scripts(self, homework: Link, served: Served) -> None:
        body = (
            b'--x\r\nContent-Disposition: form-data; name="sender"\r\n\r\nAnn\r\n'
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
        )
        headers = {**ORIGIN, "content-type": "multipart/form-data; boundary=x"}
        answer = fetch("POST", f"{url_of(homework)}upload/", body=body, headers=headers, client=STRANGER)
        assert (answer.status, answer.headers["location"]) == (302, url_of(homework))
        assert handed_in(served)["Ann/a.txt"] == b"hello"
        cookie = {"cookie": answer.headers["set-cookie"].partition(";")[0]}
        assert fetch("GET", url_of(homework), headers={**PAGE, **cookie}, client=STRANGER).status == 200

    def test_a_visitor_sees_their_own_receipts(self, homework: Link) -> None:
        put(homework, "essay.pdf", sender="Ann")
        url = f"{url_of(homework)}receipts/"
        own = fetch("GET", url, client=STRANGER).text
        assert "essay.pdf" in own
        assert sha256(b"hello") in own
        assert "essay.pdf" not in fetch("GET", url, client=("192.0.2.8", 1)).text

    def test_the_page_says_what_is_taken_and_nothing_of_what_is_there(self, served: Served) -> None:
        served.put("class 7/homework/old.pdf", b"of last week")
        link = make_link(
            *(served, "drop", "class 7/homework/"),
            title="Essay",
            endings="pdf ODT",
            max_file_size=1 << 20,
            max_files=2,
        )
        page = fetch("GET", url_of(link), headers=PAGE, client=STRANGER).text
        for told in ("Essay", ".pdf, .odt", "1.0\N{NO-BREAK SPACE}MiB", "At most 2 files"):
            assert told in page
        for private in ("old.pdf", "class 7", "/history/", "/api/"):
            assert private not in page


class TestDoorsThatStayShut:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PATCH", "OPTIONS"])
    @pytest.mark.parametrize("name", ["old.pdf", "Ann/essay.pdf", ""])
    def test_nothing_can_be_read_or_deleted(self, homework: Link, method: str, name: str) -> None:
        put(homework, "essay.pdf", sender="Ann")
        answer = fetch(method, f"{url_of(homework)}files/{name}", client=STRANGER, headers=ORIGIN)
        assert answer.status in (404, 405)

    @pytest.mark.parametrize(
        "name",
        [
            *("../old.pdf", "../../x", "..%2fold.pdf", "/etc/passwd", "a/../../x", ".hidden", "x" * 300),
            *("CON", "a\nb.txt", "NUL.txt", "a\\b", "x:y", "trailing.", "", "a//b"),
        ],
    )
    def test_no_name_leads_out_of_the_senders_folder(self, homework: Link, served: Served, name: str) -> None:
        answers = [put(homework, name), announced(homework, name, 0)]
        for answer in answers:
            assert answer.status in (400, 404), answer.text
            assert "homework" not in answer.text
        assert handed_in(served) == {"old.pdf": b"of last week"}
        assert not LinkUpload.objects.exists()

    def test_nothing_is_replaced_whatever_is_asked_for(self, homework: Link, served: Served) -> None:
        url = f"{url_of(homework)}files/essay.pdf?sender=Ann"
        for headers in ({"if-match": "*"}, {"upload-exists": "replace"}, {}):
            fetch("PUT", f"{url}&exists=replace", body=b"x", headers={**headers, **ORIGIN}, client=STRANGER)
        assert set(handed_in(served)) == {
            *("old.pdf", "Ann/essay.pdf", "Ann/essay (1).pdf", "Ann/essay (2).pdf"),
        }
        created = announced(homework, "essay.pdf", 5, "Ann")
        part = {**PART, **ORIGIN, "upload-offset": "0", "upload-exists": "replace"}
        refused = fetch("PATCH", created.headers["location"], headers=part, body=b"other", client=STRANGER)
        assert refused.status == 403

    def test_an_upload_of_another_door_cannot_be_touched(self, homework: Link, served: Served) -> None:
        other = make_link(served, "drop", "class 7/homework/")
        theirs = announced(other, "essay.pdf", 5, "Ben").headers["location"].rpartition("/")[2]
        url = f"{url_of(homework)}uploads/{theirs}"
        part = {**PART, **ORIGIN, "upload-offset": "0"}
        for method, headers in (("HEAD", TUS), ("PATCH", part), ("DELETE", {**TUS, **ORIGIN})):
            answer = fetch(
                method, url, headers=headers, body=b"hello"[: 5 * (method == "PATCH")], client=STRANGER
            )
            assert answer.status == 404, method

    def test_a_change_must_come_from_our_own_page(self, homework: Link, served: Served) -> None:
        evil = {"origin": "http://evil.example"}
        assert put(homework, "a.txt", headers=evil).status == 403
        assert announced(homework, "a.txt", 0, **evil).status == 403
        body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--x--\r\n'
        headers = {**evil, "content-type": "multipart/form-data; boundary=x"}
        assert (
            fetch("POST", f"{url_of(homework)}upload/", body=body, headers=headers, client=STRANGER).status
            == 403
        )
        assert handed_in(served) == {"old.pdf": b"of last week"}

    def test_at_every_other_door_its_address_is_worth_nothing(self, homework: Link, served: Served) -> None:
        token = str(token_of(homework))
        assert fetch("GET", f"/s/{token}/", client=STRANGER).status == 404
        assert fetch("PUT", "/files/class%207/homework/a.txt?sender=x", client=STRANGER).status == 401
        with served.peer() as peer:
            assert peer.refusal(f"AUTH {token}\n".encode())["code"] == "denied"

    @pytest.mark.parametrize("lost", ["can_share", "can_add"])
    def test_a_maker_who_lost_a_right_takes_nothing_any_more(
        self, homework: Link, served: Served, lost: str
    ) -> None:
        rule = AccessRule.objects.get()
        setattr(rule, lost, False)
        rule.save()
        snapshots.refresh()
        assert put(homework, "a.txt").status == 410
        assert announced(homework, "a.txt", 0).status == 410

    def test_a_folder_in_the_place_of_the_one_it_was_made_for_takes_nothing(
        self, homework: Link, served: Served
    ) -> None:
        (served.folder / "class 7" / "homework").rename(served.folder / "class 7" / "old")
        (served.folder / "class 7" / "homework").mkdir()
        assert fetch("GET", url_of(homework), headers=PAGE, client=STRANGER).status == 410
        assert put(homework, "a.txt").status == 410
        assert announced(homework, "a.txt", 5).status == 410
        assert not LinkUpload.objects.exists()
        assert list((served.folder / "class 7" / "homework").iterdir()) == []


class TestItsEnd:
    def test_what_has_begun_in_time_may_come_to_its_end_and_nothing_else_begins(
        self, homework: Link, served: Served
    ) -> None:
        url = announced(homework, "essay.pdf", 5, "Ann").headers["location"]
        homework.expires_at = timezone.now() - timedelta(seconds=1)
        homework.save()
        snapshots.refresh()
        assert put(homework, "a.txt").status == 410
        assert announced(homework, "a.txt", 0).status == 410
        part = {**PART, **ORIGIN, "upload-offset": "0"}
        assert fetch("PATCH", url, headers=part, body=b"hello", client=STRANGER).status == 204
        assert handed_in(served)["Ann/essay.pdf"] == b"hello"

    def test_what_is_revoked_ends_in_the_middle_of_an_upload(self, homework: Link, served: Served) -> None:
        url = announced(homework, "essay.pdf", 10, "Ann").headers["location"]

        async def slowly() -> Answer:
            gate = asyncio.Event()

            async def body() -> Any:
                yield b"hello"
                await asyncio.to_thread(revoke)
                await gate.wait()

            headers = {**PART, **ORIGIN, "upload-offset": "0", "content-length": "10"}
            return await ask("PATCH", url, headers=headers, client=STRANGER, stream=body())

        def revoke() -> None:
            homework.revoked_at = timezone.now()
            homework.save()

        assert run(slowly()).status >= 400
        row = served.row_of(1)
        assert (row.outcome, row.error) == ("aborted", "revoked")
        assert fetch("HEAD", url, headers=TUS, client=STRANGER).status == 410


class TestLimits:
    def test_size_endings_number_and_total(self, homework: Link, served: Served) -> None:
        Link.objects.update(max_file_size=10, endings="txt, PDF", max_files=2, max_total_size=25)
        assert put(homework, "a.txt", b"x" * 11).status == 413
        assert put(homework, "a.exe", b"x").status == 413
        assert put(homework, "a.txt.exe", b"x").status == 413
        assert put(homework, "A.TXT", b"x" * 10, "Ann").status == 201
        assert put(homework, "b.pdf", b"x" * 5, "Ann").status == 201
        third = put(homework, "c.pdf", b"x", "ANN")
        assert (third.status, third.text) == (413, "Each sender may hand in 2 files here, and you have.\n")
        full = put(homework, "c.pdf", b"x" * 11, "Ben")
        assert full.status == 413
        assert put(homework, "c.pdf", b"x" * 10, "Ben").status == 201
        assert "0\N{NO-BREAK SPACE}bytes more" in put(homework, "d.pdf", b"x", "Ben").text

    def test_uploads_at_once_cannot_pass_the_total_together(self, homework: Link) -> None:
        Link.objects.update(max_total_size=10)

        async def all_at_once() -> list[Answer]:
            puts = (
                ask("PUT", f"{url_of(homework)}files/{number}.txt", body=b"hello", client=STRANGER)
                for number in range(10)
            )
            return await asyncio.gather(*puts)

        assert sorted(answer.status for answer in run(all_at_once())) == [201] * 2 + [413] * 8

    def test_what_failed_or_was_given_up_counts_no_more(self, homework: Link) -> None:
        Link.objects.update(max_files=1)
        url = announced(homework, "a.txt", 5, "Ann").headers["location"]
        assert announced(homework, "b.txt", 5, "Ann").status == 413
        assert fetch("DELETE", url, headers={**TUS, **ORIGIN}, client=STRANGER).status == 204
        assert announced(homework, "b.txt", 5, "Ann").status == 201

    def test_an_upload_that_nobody_resumed_counts_for_a_while_only(
        self, homework: Link, settings: Any
    ) -> None:
        Link.objects.update(max_files=1)
        announced(homework, "a.txt", 5, "Ann")
        LinkUpload.objects.update(begun_at=timezone.now() - timedelta(hours=25))
        assert announced(homework, "b.txt", 5, "Ann").status == 201


class TestSenders:
    def link(self, **fields: Any) -> Link:
        return Link(**fields)

    @pytest.mark.parametrize(
        ("typed", "folder"),
        [
            ("Ann", "Ann"),
            ("  Ann   Lee ", "Ann Lee"),
            ("../../x", "_.._x"),
            ("..", "_"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("a/b\\c:d", "a_b_c_d"),
            ("\u202egpj.exe", "gpj.exe"),
            ("line\nbreak", "line break"),
            ("=HYPERLINK(1)", "=HYPERLINK(1)"),
            ("<img onerror=x>", "_img onerror=x_"),
            ("dot.", "dot"),
            (".hidden", "hidden"),
            ("\u200b", "_"),
            ("n" * 300, "n" * MAX_NAME),
            (unicodedata.normalize("NFD", "Zoë"), "Zoë"),
        ],
    )
    def test_a_name_becomes_a_folder_that_every_system_can_keep(self, typed: str, folder: str) -> None:
        assert safe_folder(typed) == folder
        check_portable(folder)

    def test_names_are_compared_without_case_and_in_one_form(self) -> None:
        assert key_of("ZOË ") == key_of(unicodedata.normalize("NFD", "zoë"))

    @pytest.mark.parametrize(
        ("naming", "typed", "name"),
        [
            ("off", "Ann", ""),
            ("optional", "", ""),
            ("optional", "Ann", "Ann"),
            ("required", "Ann", "Ann"),
            ("required", " \u200b", None),
            ("list", "ann", "Ann"),
            ("list", "Bob", None),
            ("list", "", None),
            ("optional", "n" * 61, None),
        ],
    )
    def test_who_is_asked_for_a_name(self, naming: str, typed: str, name: str | None) -> None:
        link = self.link(naming=naming, names="Ann\n Zoë \n\n")
        if name is None:
            with pytest.raises(BadSender):
                sender_of(link, typed, "v")
        else:
            assert sender_of(link, typed, "v").name == name

    def test_hostile_names_are_text_everywhere(self, homework: Link, served: Served) -> None:
        evil = '<img src=x onerror="alert(1)">'
        assert put(homework, "a.txt", sender=evil).status == 201
        page = fetch("GET", f"{url_of(homework)}receipts/", client=STRANGER).text
        assert evil not in page
        assert "&lt;img" in page

    def test_two_strangers_without_a_name_have_two_folders(self, homework: Link, served: Served) -> None:
        put(homework, "a.txt")
        put(homework, "a.txt", client=("192.0.2.8", 1))
        folders = {name.partition("/")[0] for name in handed_in(served)} - {"old.pdf"}
        assert len(folders) == 2
        assert all(folder.startswith("Sender ") for folder in folders)

    def test_two_names_that_make_one_folder_get_two(self, homework: Link, served: Served) -> None:
        put(homework, "a.txt", sender="a/b")
        put(homework, "a.txt", sender="a:b")
        assert {"a_b/a.txt", "a_b (2)/a.txt"} <= set(handed_in(served))
