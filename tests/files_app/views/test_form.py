"""Uploads from a plain form, for browsers without scripts."""

import asyncio
from typing import Any

import pytest

from tests.files_app.conftest import Served
from tests.files_app.site import HOST, Answer, Exchange, fetch, run
from tests.files_app.views.test_tus import TestWhoMay as WhoMay
from tests.files_app.views.test_tus import finished
from tests.servers import numbered_bytes

pytestmark = pytest.mark.usefixtures("database")

BOUNDARY = "--boundary of a form"


def form(filename: str | None, content: bytes = b"", **fields: str) -> tuple[bytes, dict[str, str]]:
    """A form as browsers send it, and its headers."""
    parts = [f'Content-Disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in fields.items()]
    if filename is not None:
        quoted = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
        head = f'Content-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content)
    mark = BOUNDARY.encode()
    body = b"".join(b"--%s\r\n%s\r\n" % (mark, part) for part in parts) + b"--%s--\r\n" % mark
    return body, {"content-type": f'multipart/form-data; boundary="{BOUNDARY}"', "origin": f"http://{HOST}"}


def send_form(filename: str | None, content: bytes = b"", **fields: str) -> Answer:
    body, headers = form(filename, content, **fields)
    return fetch("POST", "/upload/", body=body, headers=headers)


class TestForm:
    @pytest.mark.parametrize("size", [0, 10, 4 << 20])
    def test_a_file_is_there_and_the_page_is_shown(self, served: Served, size: int) -> None:
        data = numbered_bytes(size)
        answer = send_form("ä b.bin", data)
        assert (answer.status, answer.headers["location"]) == (302, "/")
        assert (served.folder / "ä b.bin").read_bytes() == data
        row = finished(served)
        assert (row.outcome, row.via, row.client) == ("complete", "web", "127.0.0.1:50000")

    @pytest.mark.parametrize("filename", [None, ""])
    def test_without_a_file_it_is_400(self, served: Served, filename: str | None) -> None:
        answer = send_form(filename, exists="fail")
        assert (answer.status, answer.text) == (400, "No file was chosen.\n")

    def test_a_taken_name_is_409_replaced_or_numbered(self, served: Served) -> None:
        served.put("a.txt", b"old")
        assert send_form("a.txt", b"new").status == 409
        assert send_form("a.txt", b"new", exists="").status == 409
        assert send_form("a.txt", b"new", exists="rename").status == 302
        assert (served.folder / "a (1).txt").read_bytes() == b"new"
        assert (served.folder / "a.txt").read_bytes() == b"old"
        assert send_form("a.txt", b"new", exists="replace").status == 302
        assert (served.folder / "a.txt").read_bytes() == b"new"
        assert send_form("a.txt", b"new", exists="?").status == 400

    @pytest.mark.parametrize("headers", WhoMay.FOREIGN)
    def test_another_sites_form_is_403(self, served: Served, headers: dict[str, str]) -> None:
        body, own = form("a.txt", b"x")
        del own["origin"]
        answer = fetch("POST", "/upload/", body=body, headers=own | headers)
        assert answer.status == 403
        assert not (served.folder / "a.txt").exists()

    def test_its_refusals_are_sentences_or_pages(self, served: Served) -> None:
        body, headers = form("a.txt", b"x")
        headers["origin"] = "http://evil.example"
        text = fetch("POST", "/upload/", body=body, headers=headers)
        assert text.text == "This change was asked for by another site's page, so it was not made.\n"
        page = fetch("POST", "/upload/", body=body, headers=headers | {"accept": "text/html"})
        assert "<h1>Not allowed</h1>" in page.text

    @pytest.mark.parametrize(
        ("filename", "stored"),
        [
            ("../../a.txt", "a.txt"),
            ("/etc/a.txt", "a.txt"),
            ("C:\\Users\\me\\a.txt", "a.txt"),
            ("con.txt", None),
            (".env", None),
            ("a?.txt", None),
            ("a\nb.txt", "a%0Ab.txt"),
            ("\0.txt", None),
            ("x" * 250 + ".txt", "x" * 250 + ".txt"),
            ("é.txt", "é.txt"),
            ("e\u0301.txt", "é.txt"),
            ("<b>.txt", None),
            ("..", None),
        ],
    )
    def test_a_hostile_name_is_made_harmless_or_refused(
        self, served: Served, filename: str, stored: str | None
    ) -> None:
        answer = send_form(filename, b"x")
        found = [path.relative_to(served.folder).as_posix() for path in served.folder.rglob("*")]
        found = [name for name in found if not name.startswith(".")]
        assert found == ([stored] if stored else [])
        assert answer.status == (302 if stored else 400)
        if stored is None:
            assert answer.text.endswith(".\n")

    def test_it_is_no_link(self, served: Served) -> None:
        assert fetch("GET", "/upload/").status == 405

    def test_without_a_file_server_it_is_503(self, served: Served) -> None:
        served.server.shutdown(grace=0)
        answer = send_form("a.txt", b"x")
        assert (answer.status, "cannot be reached" in answer.text) == (503, True)

    @pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"OK\n"])
    def test_a_stranger_on_the_port_is_503(self, settings: Any, said: bytes) -> None:
        async def stranger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(said)
            writer.close()
            await writer.wait_closed()

        async def visit() -> Answer:
            server = await asyncio.start_server(stranger, "127.0.0.1", 0)
            async with server:
                settings.SERVER_HOST, settings.SERVER_PORT = server.sockets[0].getsockname()
                body, headers = form("a.txt", b"x")
                return await Exchange("POST", "/upload/", body=body, headers=headers).answer()

        assert run(visit()).status == 503

    @pytest.mark.parametrize("body", [b"", b"--", b"--boundary of a form\r\n\r\nx"])
    def test_what_is_no_form_is_400(self, served: Served, body: bytes) -> None:
        _, headers = form("a.txt")
        assert fetch("POST", "/upload/", body=body, headers=headers).status == 400
