"""The certificate of the settings: what is wrong with it is a sentence, and before anything listens."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from files_app.hosting import certificates
from files_app.hosting.certificates import (
    BadCertificate,
    chain,
    context_for_own_server,
    context_to_serve,
    is_self_made,
    own_fingerprint,
    warnings,
)
from fileserver.client.blocking import Client
from tests.certificates import CertificateFiles, write_certificate
from tests.servers import run_server


@pytest.fixture
def files(tmp_path: Path, settings: Any) -> CertificateFiles:
    """A good certificate, which the settings name."""
    found = write_certificate(tmp_path)
    use(settings, found)
    return found


def use(settings: Any, files: CertificateFiles) -> None:
    settings.TLS_CERT, settings.TLS_KEY = str(files.certificate), str(files.key)


def issue(settings: Any, folder: Path, **when: datetime) -> None:
    issued = trustme.CA().issue_cert("localhost", **when)
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    use(settings, CertificateFiles(folder / "cert.pem", folder / "key.pem", folder / "none"))


def test_without_a_certificate_there_is_no_tls(settings: Any) -> None:
    settings.TLS_CERT = settings.TLS_KEY = ""
    assert (chain(), context_to_serve(), context_for_own_server(), warnings()) == ([], None, None, [])


def test_a_good_one_is_served_and_known_again(files: CertificateFiles, tmp_path: Path) -> None:
    assert warnings() == []
    (tmp_path / "served").mkdir()
    with run_server(tmp_path / "served", tls=context_to_serve()) as running:
        # By a name and an address that it is not for, and by what it is for.
        for context in (context_for_own_server(), files.context()):
            with Client(*running.address, tls=context) as client:
                assert client.request("PING")["protocol"] == "CFS/1"


def test_one_without_the_other_is_refused(files: CertificateFiles, settings: Any) -> None:
    settings.TLS_KEY = ""
    with pytest.raises(BadCertificate, match=r"^TLS_CERT is set and TLS_KEY is not"):
        chain()
    settings.TLS_KEY, settings.TLS_CERT = str(files.key), ""
    with pytest.raises(BadCertificate, match=r"^TLS_KEY is set and TLS_CERT is not"):
        chain()


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_a_file_that_is_missing_is_named(files: CertificateFiles, which: str) -> None:
    path: Path = getattr(files, which)
    path.unlink()
    with pytest.raises(BadCertificate, match=rf"^The {which} {path} \(TLS_.*\) cannot be read: No such file"):
        chain()
    path.mkdir()
    with pytest.raises(BadCertificate, match="cannot be read: Is a directory"):
        chain()


@pytest.mark.parametrize("which", ["certificate", "key"])
@pytest.mark.parametrize("content", [b"", b"nonsense", bytes(range(256))])
def test_a_file_that_holds_none_is_named(files: CertificateFiles, which: str, content: bytes) -> None:
    path: Path = getattr(files, which)
    path.write_bytes(content)
    with pytest.raises(BadCertificate, match=f"^The file {path} .* holds no {which} in the form of PEM"):
        chain()


def test_a_key_of_another_certificate_is_refused(files: CertificateFiles, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    files.key.write_bytes(write_certificate(tmp_path / "other").key.read_bytes())
    with pytest.raises(BadCertificate, match=r"is not that of the certificate"):
        chain()


def test_a_locked_key_is_refused_and_nobody_is_asked(files: CertificateFiles) -> None:
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files.key.write_bytes(locked)
    with pytest.raises(BadCertificate, match="is locked by a password"):
        chain()


def test_what_has_ended_or_not_begun_is_refused(settings: Any, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    issue(settings, tmp_path, not_after=now - timedelta(days=1))
    with pytest.raises(BadCertificate, match=r"has ended on 20\d\d-\d\d-\d\d"):
        chain()
    issue(settings, tmp_path, not_before=now + timedelta(days=2))
    with pytest.raises(BadCertificate, match="Is the clock of this machine right"):
        chain()


def test_what_ends_soon_is_told(settings: Any, tmp_path: Path) -> None:
    issue(settings, tmp_path, not_after=datetime.now(UTC) + timedelta(days=13))
    (tmp_path / "key.pem").chmod(0o600)
    (told,) = warnings()
    assert " ends on " in told


def test_a_key_that_everybody_here_can_read_is_told(files: CertificateFiles) -> None:
    files.key.chmod(0o640)  # as for a group that is there for such keys
    assert warnings() == []
    files.key.chmod(0o644)
    (told,) = warnings()
    assert "can be read by every user" in told


def test_what_openssl_does_not_take_is_a_sentence_too(
    files: CertificateFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise ssl.SSLError(1, "EE_KEY_TOO_SMALL")

    monkeypatch.setattr(certificates, "server_context", refuse)
    with pytest.raises(BadCertificate, match="cannot be used"):
        context_to_serve()


def test_one_that_somebody_has_issued_is_not_self_made(files: CertificateFiles, tmp_path: Path) -> None:
    assert not is_self_made(str(files.certificate))
    assert is_self_made(str(files.authority))  # it has signed itself
    assert is_self_made(str(tmp_path / "absent"))


def test_a_new_key_is_known_at_once(files: CertificateFiles, settings: Any, tmp_path: Path) -> None:
    first = own_fingerprint(), context_for_own_server()
    assert context_for_own_server() is first[1]  # not made for each request
    (tmp_path / "other").mkdir()
    use(settings, write_certificate(tmp_path / "other"))
    assert own_fingerprint() != first[0]
    assert context_for_own_server() is not first[1]
