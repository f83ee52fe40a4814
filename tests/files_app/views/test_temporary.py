"""What Django and the views put into temporary files, when there is no room: a device that is always full."""

import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import pytest
from django.core.files import uploadedfile
from django.test import override_settings

from files_app.views import tus_bodies
from files_app.views import tus_headers as tus
from tests.files_app.conftest import Served
from tests.files_app.site import Answer, ask, fetch, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is of Linux")

MIB = 1 << 20
SENTENCE = b"The server cannot keep this request in its temporary folder: "
FORM_TYPE = "multipart/form-data; boundary=x"
FORM = (
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + bytes(4 * MIB) + b"\r\n--x--\r\n"
)


def post(body: bytes, accept: str = "*/*") -> Answer:
    return fetch("POST", "/upload/", body=body, headers={"content-type": FORM_TYPE, "accept": accept})


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_full(*args: object, **kwargs: object) -> BinaryIO:
        return Path("/dev/full").open("w+b")

    monkeypatch.setattr(tempfile, "TemporaryFile", open_full)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("fault", "why"), [("full", b"No space left on device"), ("absent", b"No such file")]
)
def test_a_body_that_django_cannot_keep(
    database: None, request: pytest.FixtureRequest, fault: str, why: bytes
) -> None:
    request.getfixturevalue(fault)
    answer = post(FORM)
    assert answer.status == 507
    assert answer.body.startswith(SENTENCE + why)
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_a_file_of_a_form_that_django_cannot_make(database: None, tmp_path: Path) -> None:
    with override_settings(FILE_UPLOAD_TEMP_DIR=str(tmp_path / "nowhere")):
        answer = post(FORM)
    assert (answer.status, answer.body) == (507, SENTENCE + b"No such file or directory.\n")


@pytest.mark.parametrize("step", ["write", "seek"])
def test_a_file_of_a_form_that_django_cannot_write_is_removed(
    database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    def fail(file: object, *args: object) -> None:
        assert len(list(tmp_path.iterdir())) == 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(uploadedfile.TemporaryUploadedFile, step, fail, raising=False)
    with override_settings(FILE_UPLOAD_TEMP_DIR=str(tmp_path)):
        answer = post(FORM, "text/html")
    assert answer.status == 507
    assert SENTENCE.decode() in answer.text
    assert "<h1>There is no room for it</h1>" in answer.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [tus_bodies.IN_MEMORY + 1, 4 * tus_bodies.IN_MEMORY])
def test_a_part_with_a_checksum_that_cannot_be_kept(served: Served, full: None, size: int) -> None:
    version = {"tus-resumable": "1.0.0"}
    name = {"upload-metadata": "filename YS5iaW4=", "upload-length": str(size)}
    begun = fetch("POST", "/uploads/", headers=version | name)
    assert begun.status == 201
    where = begun.headers["location"]
    part = {
        "content-type": tus.PART_TYPE,
        "content-length": str(size),
        "upload-offset": "0",
        "upload-checksum": "sha1 " + "A" * 27 + "=",
    }

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 65_536):
            yield bytes(min(65_536, size - start))

    async def patch() -> Answer:
        return await ask("PATCH", where, headers=version | part, stream=pieces())

    answer = run(patch())
    assert (answer.status, answer.body) == (507, SENTENCE + b"No space left on device.\n")
    assert fetch("HEAD", where, headers=version).headers["upload-offset"] == "0"
