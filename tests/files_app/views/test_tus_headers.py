"""tus 1.0 header by header: each line of the tables is a rule of it, with the answer that it asks for."""

import base64
import hashlib
from dataclasses import dataclass, field

import pytest

from files_app.views.tus_headers import KNOWN
from fileserver.wire.fields import MAX_METADATA
from tests.files_app.conftest import Served
from tests.files_app.site import Answer, fetch

pytestmark = pytest.mark.usefixtures("database")

TUS = {"tus-resumable": "1.0.0"}
PART = {**TUS, "content-type": "application/offset+octet-stream"}
NAME = "filename YS5iaW4="  # a.bin
DATA = b"0123456789"
SHA1 = "sha1 " + base64.b64encode(hashlib.sha1(DATA[4:]).digest()).decode()


@dataclass(frozen=True)
class Case:
    """What is asked of an upload of 10 bytes of which 4 are there, or of the address where they are made."""

    rule: str
    method: str
    headers: dict[str, str]
    status: int
    told: dict[str, str] = field(default_factory=dict)  # headers of the answer
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"


CREATE = {**TUS, "upload-length": "10", "upload-metadata": NAME}
APPEND = {**PART, "upload-offset": "4"}
REST = {"body": DATA[4:]}

CREATIONS = [
    Case("is 201 and tells where and how far", "POST", CREATE, 201, {"upload-offset": "0"}),
    Case("needs a length", "POST", {**TUS, "upload-metadata": NAME}, 400),
    Case("has no negative length", "POST", CREATE | {"upload-length": "-1"}, 400),
    Case("has bytes of the file", "POST", CREATE | PART, 201, {"upload-offset": "4"}, DATA[:4]),
    Case("is 415 with other bytes", "POST", CREATE | {"content-type": "text/plain"}, 415, {}, DATA[:4]),
    Case("is 415 with bytes of no type", "POST", CREATE, 415, {}, DATA[:4]),
    Case("may name a type for no bytes", "POST", CREATE | {"content-type": "text/plain"}, 201),
    Case("has no more bytes than its length", "POST", CREATE | PART, 413, {}, DATA * 2),
    Case("is 415 with packed bytes", "POST", CREATE | PART | {"content-encoding": "gzip"}, 415, {}, DATA),
    Case("may have a key without a value", "POST", CREATE | {"upload-metadata": f"{NAME},secret"}, 201),
    Case("may have any bytes as a value", "POST", CREATE | {"upload-metadata": f"{NAME},x /w=="}, 201),
    Case("has Base64 as a value", "POST", CREATE | {"upload-metadata": f"{NAME},x y"}, 400),
    Case("has a key once", "POST", CREATE | {"upload-metadata": f"{NAME},x eQ==,x eg=="}, 400),
    Case("has one name", "POST", CREATE | {"upload-metadata": f"{NAME},{NAME}"}, 400),
    Case("has keys of ASCII", "POST", CREATE | {"upload-metadata": f"{NAME},\xe4 eQ=="}, 400),
    Case("has metadata of some size", "POST", CREATE | {"upload-metadata": NAME + "," * 4080}, 400),
    Case("defers no length", "POST", {**TUS, "upload-metadata": NAME, "upload-defer-length": "1"}, 400),
    Case("has no length and a deferred one", "POST", CREATE | {"upload-defer-length": "1"}, 400),
    Case("is no part of another", "POST", CREATE | {"upload-concat": "partial"}, 400),
    Case("joins no others", "POST", {**TUS, "upload-concat": "final;/uploads/a /uploads/b"}, 400),
    Case("has nothing else of an extension", "POST", CREATE | {"Upload-Tag": "x"}, 400),
]
OTHERS = [
    Case("needs no version", "OPTIONS", {}, 200, {"tus-version": "1.0.0"}),
    Case("looks at no version", "OPTIONS", {"tus-resumable": "0.2.2"}, 200, {"tus-version": "1.0.0"}),
    Case("tells the algorithms", "OPTIONS", {}, 200, {"tus-checksum-algorithm": "sha1,sha256"}),
    Case("is 200", "HEAD", TUS, 200, {"upload-offset": "4", "upload-length": "10"}),
    Case("gives the metadata back", "HEAD", TUS, 200, {"upload-metadata": f"{NAME} , x /w==,,y"}),
    Case("is 412 without a version", "HEAD", {}, 412, {"tus-version": "1.0.0"}),
    Case("is 412 in another version", "PATCH", APPEND | {"tus-resumable": "1.1"}, 412, {}, DATA[4:]),
    Case("is 204", "PATCH", APPEND, 204, {"upload-offset": "10"}, **REST),
    Case("is 204 for less than the rest", "PATCH", APPEND, 204, {"upload-offset": "6"}, DATA[4:6]),
    Case("is 204 for nothing", "PATCH", APPEND, 204, {"upload-offset": "4"}),
    Case("needs an offset", "PATCH", PART, 400, {}, **REST),
    Case("has no negative offset", "PATCH", APPEND | {"upload-offset": "-4"}, 400, {}, **REST),
    Case("is 409 before", "PATCH", APPEND | {"upload-offset": "3"}, 409, {"upload-offset": "4"}, b"3"),
    Case("is 409 behind", "PATCH", APPEND | {"upload-offset": "5"}, 409, {"upload-offset": "4"}, b"5"),
    Case("needs its type", "PATCH", APPEND | {"content-type": "application/octet-stream"}, 415, {}, **REST),
    Case("needs a type", "PATCH", {**TUS, "upload-offset": "4"}, 415, {}, **REST),
    Case("has a type in capitals", "PATCH", APPEND | {"content-type": PART["content-type"].upper()}, 204),
    Case("has a type with more", "PATCH", APPEND | {"content-type": PART["content-type"] + " ; a=b"}, 204),
    Case("is not packed", "PATCH", APPEND | {"content-encoding": "br"}, 415, {}, **REST),
    Case("has no more than is missing", "PATCH", APPEND, 413, {}, DATA),
    Case("may repeat the length", "PATCH", APPEND | {"upload-length": "10"}, 204, {}, **REST),
    Case("changes no length", "PATCH", APPEND | {"upload-length": "11"}, 400, {}, **REST),
    Case("is checked", "PATCH", APPEND | {"upload-checksum": SHA1}, 204, {}, **REST),
    Case("is 460 with another checksum", "PATCH", APPEND | {"upload-checksum": SHA1}, 460, {}, DATA[4:9]),
    Case("is 400 with another algorithm", "PATCH", APPEND | {"upload-checksum": "md5 YQ=="}, 400, {}, **REST),
    Case("is 400 with no Base64", "PATCH", APPEND | {"upload-checksum": "sha1 ?"}, 400, {}, **REST),
    Case("has no trailer", "PATCH", APPEND | {"trailer": "Date, Upload-Checksum"}, 400, {}, **REST),
    Case("is no part of another", "PATCH", APPEND | {"upload-concat": "partial"}, 400, {}, **REST),
    Case("is 204", "DELETE", TUS, 204),
    Case(
        "is another method by a header", "POST", APPEND | {"x-http-method-override": "PATCH"}, 204, {}, b"4"
    ),
    Case("whatever it is itself", "PATCH", TUS | {"x-http-method-override": "HEAD"}, 200),
    Case("is not for an upload", "POST", CREATE, 405),
    Case("is not for an upload", "GET", TUS, 405),
]


def ask(case: Case, url: str) -> Answer:
    headers = {"content-length": str(len(case.body))} | case.headers
    return fetch(case.method, url, body=case.body, headers=headers)


def make(metadata: str = f"{NAME} , x /w==,,y") -> str:
    headers = CREATE | PART | {"upload-metadata": metadata}
    return fetch("POST", "/uploads/", body=DATA[:4], headers=headers).headers["location"]


def require_told(answer: Answer, case: Case) -> None:
    assert answer.status == case.status, answer.body
    assert {name: answer.headers.get(name) for name in case.told} == case.told
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["cache-control"] == "no-store"
    if case.status >= 400 and case.method != "HEAD":
        assert answer.text.endswith(".\n")


@pytest.mark.parametrize("case", CREATIONS, ids=str)
def test_a_creation(served: Served, case: Case) -> None:
    answer = ask(case, "/uploads/")
    require_told(answer, case)
    assert ("location" in answer.headers) == (case.status == 201)
    left = [path for path in served.folder.rglob("*") if path.is_file()]
    assert bool(left) == (case.status == 201)
    if case.status == 201:
        assert (
            fetch("HEAD", answer.headers["location"], headers=TUS).headers["upload-metadata"]
            == (case.headers["upload-metadata"])
        )


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_what_is_asked_of_an_upload(served: Served, case: Case) -> None:
    url = make()
    require_told(ask(case, url), case)
    after = fetch("HEAD", url, headers=TUS)
    if case.method == "DELETE":
        assert (after.status, "upload-offset" in after.headers) == (404, False)
    else:
        appended = len(case.body) if case.status == 204 else 0
        assert after.headers["upload-offset"] == str(4 + appended)


@pytest.mark.parametrize("case", [case for case in OTHERS if case.status == 204], ids=str)
def test_what_is_asked_of_an_upload_that_is_not_there_is_404(served: Served, case: Case) -> None:
    answer = ask(case, "/uploads/" + "0" * 32)
    assert (answer.status, "upload-offset" in answer.headers) == (404, False)


def test_the_end_tells_409_with_all_bytes_where_the_name_was_taken(served: Served) -> None:
    url = make()
    served.put("a.bin", b"other")
    answer = fetch("PATCH", url, body=DATA[4:], headers=APPEND)
    assert (answer.status, answer.headers["conflict"], answer.headers["upload-offset"]) == (
        *(409, "exists", "10"),
    )


def test_the_metadata_of_one_that_began_in_a_terminal_is_its_name(served: Served) -> None:
    with served.client() as client:
        upload = client.request("PUT", name="w/ä b", size=3, length=0)["upload"]
    told = fetch("HEAD", f"/uploads/{upload}", headers=TUS).headers["upload-metadata"]
    assert base64.b64decode(told.removeprefix("filename ")).decode() == "w/ä b"


def test_metadata_is_kept_up_to_its_limit_and_given_back_after_the_end(served: Served) -> None:
    longest = NAME + ",x " + "eHh4" * ((MAX_METADATA - len(NAME) - 3) // 4)
    url = make(longest)
    assert fetch("PATCH", url, body=DATA[4:], headers=APPEND).status == 204
    assert fetch("HEAD", url, headers=TUS).headers["upload-metadata"] == longest
    answer = fetch("POST", "/uploads/", headers=CREATE | {"upload-metadata": longest + "," * 9})
    assert (answer.status, str(MAX_METADATA) in answer.text) == (400, True)


@pytest.mark.parametrize("header", sorted(KNOWN))
def test_no_header_that_is_known_is_refused_for_being_there(served: Served, header: str) -> None:
    values = {"upload-length": "10", "upload-offset": "4", "upload-exists": "fail"}
    headers = {**TUS, header: values.get(header, "x")}
    assert fetch("HEAD", make(), headers=headers).status == 200
