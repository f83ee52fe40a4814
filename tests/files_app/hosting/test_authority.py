"""Certificates of our own making: good for each name in them, limited, and made anew with the same key."""

import contextlib
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from files_app.hosting import authority, renewal
from files_app.hosting.authority import Files, hosts_in, make
from files_app.hosting.certificates import BadCertificate, is_our_making, is_self_made, read_chain
from files_app.hosting.renewal import hosts_for, own_files, renew_if_due
from fileserver.net.tls import server_context
from tests.certificates import write_certificate

HOSTS = ["desk", "desk.local", "localhost", "127.0.0.1", "::1", "192.168.7.9", "fd12::9"]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "tls-cert.pem", tmp_path / "tls-key.pem")


def verifies(files: Files, host: str, cafile: Path) -> bool:
    """Whether a client that trusts ``cafile`` and asks for ``host`` takes this server, by all the rules."""
    context = ssl.create_default_context(cafile=cafile)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with contextlib.ExitStack() as held:
        ours, theirs = (held.enter_context(sock) for sock in socket.socketpair())
        server = threading.Thread(target=_serve, args=(files, ours), name="TLS server")
        server.start()
        try:
            with context.wrap_socket(theirs, server_hostname=host):
                return True
        except ssl.SSLCertVerificationError:
            return False
        finally:
            theirs.close()
            server.join()


def _serve(files: Files, sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        server_context(files.certificate, files.key).wrap_socket(sock, server_side=True).close()


def test_a_client_that_has_the_authority_takes_it_for_each_name_and_no_other(files: Files) -> None:
    make(files, HOSTS)
    assert [host for host in HOSTS if not verifies(files, host, files.authority)] == []
    for other in ("example.org", "desk.example.org", "192.168.7.10"):
        assert not verifies(files, other, files.authority)


def test_keys_are_for_their_owner_alone(files: Files) -> None:
    make(files, HOSTS)
    for path in (files.key, files.authority_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for path in (files.certificate, files.authority):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert len(list(files.key.parent.iterdir())) == 4


def test_whoever_steals_the_authority_cannot_play_a_bank(files: Files, tmp_path: Path) -> None:
    make(files, HOSTS)
    issuer = x509.load_pem_x509_certificate(files.authority.read_bytes())
    stolen: Any = load_pem_private_key(files.authority_key.read_bytes(), None)
    forged = Files(tmp_path / "forged.pem", tmp_path / "forged-key.pem")
    key = authority._kept_or_new_key(forged.key)
    certificate = authority._signed(key, ["bank.example.org", "192.0.2.1"], 10, issuer, stolen)
    forged.certificate.write_bytes(authority._pem(certificate) + files.authority.read_bytes())
    for host in ("bank.example.org", "192.0.2.1"):
        assert not verifies(forged, host, files.authority)


def test_made_again_it_has_the_same_key_and_the_same_authority(files: Files) -> None:
    first = make(files, HOSTS)
    keys, issuer = files.key.read_bytes(), files.authority.read_bytes()
    second = make(files, [*HOSTS, "10.1.2.3", "other.local"])
    assert files.key.read_bytes() == keys
    assert files.authority.read_bytes() == issuer
    assert not first.replaces_authority
    assert not second.replaces_authority
    assert second.certificate.serial_number != first.certificate.serial_number
    assert verifies(files, "10.1.2.3", files.authority)


def test_a_name_beyond_the_limits_needs_another_authority(files: Files) -> None:
    make(files, HOSTS)
    before = files.authority.read_bytes()
    assert make(files, [*HOSTS, "files.example.org", "198.51.100.7"]).replaces_authority
    assert files.authority.read_bytes() != before
    for host in ("files.example.org", "198.51.100.7"):
        assert verifies(files, host, files.authority)


def test_an_authority_that_would_not_last_is_made_anew(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(authority, "AUTHORITY_DAYS", 800)
        make(files, HOSTS)
    assert make(files, HOSTS).replaces_authority


def test_one_of_our_making_is_known_again(files: Files) -> None:
    assert is_our_making(make(files, HOSTS).certificate)
    assert is_self_made(str(files.certificate))


def test_a_key_of_somebody_else_is_not_overwritten(files: Files) -> None:
    other = rsa.generate_private_key(65537, 2048)
    for content in (
        b"nonsense",
        other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ):
        files.key.write_bytes(content)
        with pytest.raises(BadCertificate, match="is in the way"):
            make(files, HOSTS)
        assert files.key.read_bytes() == content


# --- when it is made anew


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this machine is called, which a test may change."""
    found = list(HOSTS)
    monkeypatch.setattr(renewal, "names_and_addresses", lambda: list(found))
    return found


@pytest.fixture
def used(files: Files, machine: list[str], settings: Any) -> Files:
    make(files, HOSTS)
    settings.TLS_CERT, settings.TLS_KEY = str(files.certificate), str(files.key)
    return files


def test_a_certificate_that_is_still_right_is_kept(used: Files) -> None:
    before = used.certificate.read_bytes()
    assert renew_if_due() == []
    assert used.certificate.read_bytes() == before


def test_a_new_address_makes_it_anew_and_what_was_named_by_hand_stays(
    used: Files, machine: list[str]
) -> None:
    make(used, ["files.example.org", *HOSTS])
    key = used.key.read_bytes()
    machine.remove("192.168.7.9")
    machine.append("192.168.8.1")
    (told,) = renew_if_due()
    assert "192.168.8.1" in told
    assert "fingerprint" in told
    now = hosts_in(read_chain(str(used.certificate))[0])
    assert {"192.168.8.1", "192.168.7.9", "files.example.org"} <= set(now)
    assert used.key.read_bytes() == key
    assert renew_if_due() == []


def test_an_address_beyond_the_limits_is_told_with_the_new_authority(used: Files, machine: list[str]) -> None:
    machine.append("198.51.100.7")
    told = renew_if_due()
    assert str(used.authority) in told[1]


def test_an_end_within_two_weeks_makes_it_anew_and_so_does_a_past_one(used: Files) -> None:
    for days in (14, 0):
        make(used, HOSTS, days)
        (told,) = renew_if_due()
        assert "it would have ended on" in told
        end = read_chain(str(used.certificate))[0].not_valid_after_utc
        assert end - datetime.now(UTC) > timedelta(days=300)
    make(used, HOSTS, 20)
    assert renew_if_due() == []


def test_one_of_somebody_else_is_never_touched(used: Files, machine: list[str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_certificate(tmp_path / "other").certificate.read_bytes()
    used.certificate.write_bytes(other)
    machine.append("192.168.8.1")
    assert renew_if_due() == []
    assert used.certificate.read_bytes() == other


def test_without_the_key_of_its_authority_it_is_used_as_it_is(used: Files, machine: list[str]) -> None:
    used.authority_key.unlink()
    machine.append("192.168.8.1")
    assert renew_if_due() == []


def test_the_past_does_not_grow_for_ever(machine: list[str], files: Files) -> None:
    made = make(files, [*HOSTS, *(f"10.0.0.{n}" for n in range(100))]).certificate
    hosts = hosts_for(made, ["new.local"])
    assert len(hosts) == authority.MOST_NAMES
    assert {"new.local", *HOSTS} <= set(hosts)


def test_it_lies_beside_the_database_unless_the_settings_name_it(settings: Any, tmp_path: Path) -> None:
    settings.TLS_CERT = settings.TLS_KEY = ""
    assert own_files().certificate.name == "tls-cert.pem"
    settings.TLS_CERT, settings.TLS_KEY = str(tmp_path / "a.pem"), str(tmp_path / "b.pem")
    assert own_files() == Files(tmp_path / "a.pem", tmp_path / "b.pem")
