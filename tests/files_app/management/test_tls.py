"""Commands and TLS: whom they trust, what they say when they do not, and ``makecert``."""

import io
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from files_app.hosting import renewal
from files_app.hosting.authority import Files
from files_app.hosting.certificates import own_fingerprint
from files_app.management.commands import start as start_command
from files_app.terminal import send
from fileserver.net.tls import server_context
from tests.certificates import CertificateFiles, write_certificate
from tests.files_app.conftest import Served
from tests.servers import run_server

pytestmark = pytest.mark.usefixtures("database")

HEX = "0123456789abcdef" * 4


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user is."""
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def elsewhere(tls: CertificateFiles, served: Served, settings: Any) -> CertificateFiles:
    """The server that speaks TLS is not that of the settings, which have none."""
    settings.TLS_CERT = settings.TLS_KEY = ""
    return tls


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def port(served: Served) -> str:
    return str(served.port)


class TestTrust:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_the_server_of_the_settings_is_known_by_itself(
        self, tls: CertificateFiles, served: Served, home: Path, port: str, host: str
    ) -> None:
        served.put("a.txt", b"hello")
        (home / "b.txt").write_bytes(b"world")
        address = ("--host", host, "--port", port)
        assert "a.txt" in run("files", *address)
        run("download", "a.txt", *address)
        run("upload", "b.txt", *address)
        assert (home / "a.txt").read_bytes() == b"hello"
        assert (served.folder / "b.txt").read_bytes() == b"world"

    def test_another_server_is_known_by_its_authority(
        self, elsewhere: CertificateFiles, served: Served, home: Path, port: str
    ) -> None:
        served.put("a.txt", b"hello")
        (home / "b.txt").write_bytes(b"world")
        options = ("--cafile", str(elsewhere.authority), "--port", port)
        assert "a.txt" in run("files", *options)
        run("download", "a.txt", *options)
        run("upload", "b.txt", *options)
        assert (served.folder / "b.txt").read_bytes() == b"world"

    def test_another_server_is_known_by_its_fingerprint(
        self, elsewhere: CertificateFiles, served: Served, home: Path, port: str, settings: Any
    ) -> None:
        settings.TLS_CERT = str(elsewhere.certificate)
        fingerprint = own_fingerprint()
        settings.TLS_CERT = ""
        (home / "b.txt").write_bytes(b"world")
        for given in (fingerprint, fingerprint.upper()):
            run("upload", "b.txt", "--exists", "replace", "--fingerprint", given, "--port", port)

    def test_variables_say_the_same(
        self, elsewhere: CertificateFiles, served: Served, port: str, settings: Any
    ) -> None:
        settings.CFS_CAFILE = str(elsewhere.authority)
        assert run("files", "--port", port) == ""
        settings.CFS_CAFILE, settings.CFS_TLS = "", True
        with pytest.raises(CommandError, match="is not trusted"):
            run("files", "--port", port)
        settings.CFS_TLS, settings.CFS_FINGERPRINT = False, HEX
        with pytest.raises(CommandError, match="has another key"):
            run("files", "--port", port)

    def test_a_wrong_fingerprint_is_told_with_the_right_one_and_nothing_is_sent(
        self, elsewhere: CertificateFiles, served: Served, home: Path, port: str, settings: Any
    ) -> None:
        settings.TLS_CERT = str(elsewhere.certificate)
        right = own_fingerprint()
        (home / "b.txt").write_bytes(b"world")
        for command in (("files",), ("download", "x"), ("upload", "b.txt"), ("watch",)):
            with pytest.raises(CommandError, match=f"its fingerprint is {right}"):
                run(*command, "--fingerprint", HEX, "--port", port)
        assert list(served.folder.iterdir()) == []

    def test_an_unknown_certificate_is_told_with_what_to_do(
        self, elsewhere: CertificateFiles, tmp_path: Path, port: str
    ) -> None:
        (tmp_path / "other").mkdir()
        stranger = write_certificate(tmp_path / "other").authority
        for options in (("--tls",), ("--cafile", str(stranger))):
            with pytest.raises(CommandError, match=r"is not trusted: .*--cafile.*--fingerprint"):
                run("files", *options, "--port", port)

    def test_tls_that_is_forgotten_is_told(self, elsewhere: CertificateFiles, port: str) -> None:
        for command in (("files",), ("download", "x"), ("watch",)):
            with pytest.raises(CommandError, match="This port speaks TLS, and no plain text"):
                run(*command, "--port", port)

    def test_tls_that_is_not_there_is_told(self, served: Served, tls: CertificateFiles, port: str) -> None:
        for options in (("--tls",), ("--fingerprint", HEX), ("--cafile", str(tls.authority))):
            with pytest.raises(CommandError, match=r"speaks no TLS\. Nothing was sent"):
                run("files", *options, "--port", port)

    def test_where_nobody_listens_nobody_speaks_of_tls(self, tls: CertificateFiles) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            with pytest.raises(CommandError, match="No file server answers at"):
                run("files", "--tls", "--port", str(probe.getsockname()[1]))

    @pytest.mark.parametrize("content", [None, b"nonsense"])
    def test_a_file_that_cannot_be_used_is_named(self, tmp_path: Path, content: bytes | None) -> None:
        path = tmp_path / "ca.pem"
        if content:
            path.write_bytes(content)
        with pytest.raises(CommandError, match=f"The file {path} .--cafile. (cannot be|holds no)"):
            run("files", "--cafile", str(path))

    def test_what_is_no_fingerprint_is_refused_as_an_option(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(CommandError, match="is no fingerprint"):
            run("files", "--fingerprint", "abc")

    def test_an_upload_goes_on_after_a_break_over_tls(
        self, tls: CertificateFiles, served: Served, home: Path, port: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = bytes(range(256)) * 20_000
        (home / "big.bin").write_bytes(data)
        begun = threading.Event()
        body = send.Send._send_body

        def cut(self: Any, client: Any, *arguments: Any) -> Any:
            if not begun.is_set():
                begun.set()
                client._sock.shutdown(socket.SHUT_RDWR)
            return body(self, client, *arguments)

        monkeypatch.setattr(send.Send, "_send_body", cut)
        run("upload", "big.bin", "--port", port)
        assert (served.folder / "big.bin").read_bytes() == data


class TestMakeCert:
    @pytest.fixture
    def files(self, tmp_path: Path, settings: Any) -> Files:
        settings.TLS_CERT, settings.TLS_KEY = str(tmp_path / "c.pem"), str(tmp_path / "k.pem")
        return Files(tmp_path / "c.pem", tmp_path / "k.pem")

    def test_it_says_what_to_do_with_it(self, files: Files) -> None:
        out = run("makecert", "--name", "Files.Example.org", "--name", "10.1.2.3")
        assert f"TLS_CERT={files.certificate}\nTLS_KEY={files.key}\n" in out
        assert f"--fingerprint {own_fingerprint()}" in out
        assert str(files.authority) in out
        assert "files.example.org" in out
        assert "10.1.2.3" in out

    def test_a_server_with_it_is_trusted_by_file_and_by_fingerprint(
        self, files: Files, tmp_path: Path, settings: Any
    ) -> None:
        run("makecert")
        fingerprint = own_fingerprint()
        settings.TLS_CERT = settings.TLS_KEY = ""
        (tmp_path / "other").mkdir()
        with run_server(tmp_path / "other", tls=server_context(files.certificate, files.key)) as running:
            port = str(running.address[1])
            run("files", "--cafile", str(files.authority), "--port", port)
            run("files", "--fingerprint", fingerprint, "--port", port)

    def test_a_certificate_of_somebody_else_is_left_alone(self, files: Files, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other = write_certificate(tmp_path / "other").certificate.read_bytes()
        files.certificate.write_bytes(other)
        with pytest.raises(CommandError, match=r"was not made here\. Nothing was made"):
            run("makecert")
        assert files.certificate.read_bytes() == other

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path, settings: Any) -> None:
        settings.TLS_CERT, settings.TLS_KEY = (str(tmp_path / "away" / name) for name in ("c", "k"))
        with pytest.raises(CommandError, match=r"away/k\.new cannot be written: No such file"):
            run("makecert")

    @pytest.mark.parametrize(
        "option", [("--days", "826"), ("--days", "0"), ("--name", "a b"), ("--name", "*")]
    )
    def test_what_no_browser_takes_is_refused(self, files: Files, option: tuple[str, str]) -> None:
        with pytest.raises(CommandError):
            run("makecert", *option)
        assert not files.certificate.exists()


class TestStart:
    @pytest.fixture(autouse=True)
    def _free(self, folder: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.SERVER_PORT = settings.WEB_PORT = 0

        def no_child(*args: Any) -> None:
            raise AssertionError("a server was started")

        monkeypatch.setattr(start_command, "supervising", no_child)

    @pytest.mark.parametrize("command", ["start", "runfileserver", "runserver"])
    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            (lambda files: files.key.unlink(), r"\(TLS_KEY\) cannot be read"),
            (lambda files: files.certificate.write_bytes(b"x"), "holds no certificate"),
        ],
    )
    def test_a_certificate_that_cannot_be_used_stops_it_with_a_sentence(
        self, tls: CertificateFiles, command: str, spoil: Callable[[CertificateFiles], None], sentence: str
    ) -> None:
        spoil(tls)
        with pytest.raises(CommandError, match=sentence):
            call_command(command)

    def test_a_certificate_of_ours_is_made_anew_and_it_says_so(
        self, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.TLS_CERT, settings.TLS_KEY = str(tmp_path / "c.pem"), str(tmp_path / "k.pem")
        run("makecert")
        monkeypatch.setattr(renewal, "names_and_addresses", lambda: ["localhost", "192.168.77.1"])
        out = io.StringIO()
        with pytest.raises(AssertionError, match="a server was started"):
            call_command("start", stdout=out)
        assert "The certificate was made anew: this machine is now 192.168.77.1 too" in out.getvalue()
