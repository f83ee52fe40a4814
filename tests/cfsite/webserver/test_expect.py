"""Uploads that ask before they send (``Expect: 100-continue``): one that is refused costs no byte.

With curl, and with the sockets of a program that waits for nothing; against both servers as processes.
"""

import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack, run_stack
from tests.test_download_managers import clean, need

SIZE = 48 << 20
LIMIT = 64 << 20
PART = ("Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream")
UNKNOWN = "/uploads/" + "0" * 32
NEW = (*PART, f"Upload-Length: {SIZE}", "Upload-Metadata: filename dGFrZW4=")  # "taken"

REFUSED = [
    (409, "PUT", "/files/taken", ()),
    (412, "PUT", "/files/taken", ("If-None-Match: *",)),
    (412, "PUT", "/files/new", ("If-Match: *",)),
    (400, "PUT", "/files/taken?exists=replace", ("Content-Range: bytes 3-5/6",)),
    (400, "PUT", "/files/con", ()),
    (403, "PUT", "/files/new", ("Origin: http://evil.example",)),
    (415, "PUT", "/files/new", ("Content-Encoding: gzip",)),
    (404, "PATCH", UNKNOWN, (*PART, "Upload-Offset: 0")),
    (415, "PATCH", UNKNOWN, (*PART[:1], "Upload-Offset: 0")),
    (404, "PATCH", UNKNOWN, (*PART, "Upload-Offset: 0", "Upload-Checksum: sha1 YQ==")),
    (412, "PATCH", UNKNOWN, PART[1:]),
    (409, "POST", "/uploads", NEW),
    (400, "POST", "/uploads", (*NEW, "Upload-Concat: partial")),
    (413, "POST", "/uploads", (*NEW, f"Upload-Length: {LIMIT + 1}")),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with run_stack(tmp_path_factory.mktemp("stack"), MAX_UPLOAD_SIZE=str(LIMIT)) as running:
        (running.files / "taken").write_bytes(b"old")
        yield running


def given(headers: tuple[str, ...]) -> list[str]:
    """The last of a name counts."""
    return list({line.partition(":")[0]: line for line in headers}.values())


@pytest.mark.parametrize(("status", "method", "path", "headers"), REFUSED)
def test_curl_gets_a_refusal_without_sending_a_byte(
    stack: Stack, tmp_path: Path, status: int, method: str, path: str, headers: tuple[str, ...]
) -> None:
    need("curl")
    source = tmp_path / "big"
    with source.open("wb") as file:
        file.truncate(SIZE)
    arguments = [
        "curl",
        "-q",
        "-sv",
        "--noproxy",
        "*",
        "-T",
        "big",
        "-X",
        method,
        "--expect100-timeout",
        "30",
    ]
    for line in ("Expect: 100-continue", *given(headers)):
        arguments += ["-H", line]
    arguments += [
        "-w",
        "%{http_code} %{size_upload}",
        "-o",
        "answer",
        f"http://127.0.0.1:{stack.web_port}{path}",
    ]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=clean(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{status} 0", done.stderr
    assert not re.search(r"^< HTTP/1.1 100", done.stderr, re.MULTILINE)
    assert (tmp_path / "answer").read_text().endswith(".\n")
    assert [(path.name, path.read_bytes()) for path in stack.files.iterdir() if path.is_file()] == [
        ("taken", b"old")
    ]


@pytest.mark.parametrize(("status", "length"), [(409, SIZE), (413, LIMIT + 1)])
def test_a_program_that_sends_everything_before_it_reads_gets_the_answer_too(
    stack: Stack, status: int, length: int
) -> None:
    with socket.create_connection(("127.0.0.1", stack.web_port), 30) as client:
        lines = ["PUT /files/taken HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
        client.sendall("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        client.sendall(bytes(length))
        with client.makefile("rb") as answers:
            assert answers.readline().split()[1] == b"%d" % status
            assert answers.read().endswith(b".\n")  # and the end, in place of a reset


def test_curl_sends_what_is_wanted(stack: Stack, tmp_path: Path) -> None:
    need("curl")
    (tmp_path / "big").write_bytes(bytes(SIZE))
    arguments = ["curl", "-q", "-sv", "--noproxy", "*", "-T", "big", "-H", "Expect: 100-continue"]
    arguments += ["--expect100-timeout", "30", f"http://127.0.0.1:{stack.web_port}/files/wanted"]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=clean(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert re.findall(r"^< HTTP/1.1 (\d+)", done.stderr, re.MULTILINE) == ["100", "201"]
    (stack.files / "wanted").unlink()
