"""A temporary folder that is full, or not there: a status and a sentence, and nothing left behind.

Full is what Linux makes of it: a limit for the size of files that holds in the running process.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cfsite.webserver.test_flow import MIB, Site, ending, respond, serving, until
from tests.stack import Stack, run_stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prlimit is of Linux")

SENTENCE = b"The server cannot keep this request in its temporary folder: "
FORM_TYPE = "multipart/form-data; boundary=x"


@contextlib.contextmanager
def files_up_to(size: int, process: int) -> Iterator[None]:
    """While this lasts, no file that the process writes becomes larger."""
    import resource

    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


def form(content: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n'
    return head + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n--x--\r\n"


def chunked(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 100_000):
        yield content[start : start + 100_000]


# The web server


@pytest.mark.parametrize("size", [150_000, 20 * MIB])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_that_does_not_fit_is_answered_and_leaves_nothing(
    tmp_path: Path, is_chunked: bool, size: int
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with serving(tmp_path, "--temporary", str(folder)) as site:
        with files_up_to(120_000, site.process.pid):
            body = chunked(bytes(size)) if is_chunked else bytes(size)
            status, text = site.request("POST", "/hash", body, encode_chunked=is_chunked)
            assert (status, text) == (507, SENTENCE + b"File too large.\n")
            assert site.request("POST", "/hash", bytes(1000))[0] == 200  # this one waits in memory
        assert site.request("POST", "/hash", bytes(size))[0] == 200
        assert list(folder.iterdir()) == []
        assert site.logged("cannot keep this request") == 1
        assert "Traceback" not in site.log.read_text()
        until(lambda: not spools_of(site))


def spools_of(site: Site) -> list[str]:
    """Temporary files that the process has open."""
    found = []
    for link in Path(f"/proc/{site.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return [path for path in found if "temporary" in path]


def test_no_temporary_folder_at_all(tmp_path: Path) -> None:
    with serving(tmp_path, "--temporary", str(tmp_path / "nowhere")) as site:
        with site.connect() as client:
            client.sendall(b"POST /hash HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n")
            client.sendall(bytes(200_000))
            assert respond(client) == (507, SENTENCE + b"No such file or directory.\n")
            assert ending(client) == "closed"
        # What is streamed needs none.
        assert site.request("PUT", "/stream/hash", bytes(200_000))[0] == 200
        assert "Traceback" not in site.log.read_text()


# The site


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("full")
    (home / "temporary").mkdir()
    with run_stack(home, TMPDIR=str(home / "temporary")) as stack:
        yield stack


def test_a_form_and_a_chunked_upload_are_told_that_there_is_no_room(stack: Stack) -> None:
    assert stack.site is not None
    body = form(bytes(8 * MIB))
    with files_up_to(3 * MIB, stack.site.pid):
        for method, path, headers in (
            ("POST", "/upload/", {"Content-Type": FORM_TYPE}),
            ("POST", "/admin/login/", {"Content-Type": FORM_TYPE}),
            ("PUT", "/files/big.bin", {"Transfer-Encoding": "chunked"}),
        ):
            data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if method == "PUT" else body
            status, text = stack.request(method, path, data, **headers)
            assert (status, text) == (507, SENTENCE + b"File too large.\n")
        assert stack.request("GET", "/")[0] == 200
    assert list((stack.home / "temporary").iterdir()) == []
    assert not (stack.files / "big.bin").exists()
    assert stack.request("POST", "/upload/", body, **{"Content-Type": FORM_TYPE})[0] == 302
    assert (stack.files / "big.bin").stat().st_size == 8 * MIB
    assert "Traceback" not in stack.log.read_text()
    until(lambda: not list((stack.home / "temporary").iterdir()))
