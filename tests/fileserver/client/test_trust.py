"""Whom a client takes for the server: fingerprints of keys, and contexts that pin one."""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fileserver.client.aio import AsyncClient
from fileserver.client.blocking import Client
from fileserver.client.trust import WrongKey, fingerprint_of, pinning, read_fingerprint, trusting
from fileserver.events import ClientDisconnected, TransferStarted
from fileserver.net.tls import server_context
from tests.certificates import CertificateFiles, write_certificate
from tests.servers import Running, run_server

HEX = "0123456789abcdef" * 4


def certificate(key: CertificateIssuerPrivateKeyTypes, common_name: str = "x") -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())  # type: ignore[arg-type]
    return (
        built.not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)],
    ids=["a short key", "a long key"],
)
@pytest.mark.parametrize("name", ["x", "y" * 64])
def test_a_fingerprint_is_that_of_the_public_key(key: CertificateIssuerPrivateKeyTypes, name: str) -> None:
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint_of(certificate(key, name)) == hashlib.sha256(public).hexdigest()


def test_another_certificate_for_the_same_key_has_the_same() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert certificate(key) != certificate(key)
    assert fingerprint_of(certificate(key)) == fingerprint_of(certificate(key))


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        HEX.upper(),
        ":".join(HEX[i : i + 2] for i in range(0, 64, 2)),
        f" {HEX[:32]} {HEX[32:]} ",
        f"sha256//{base64.b64encode(bytes.fromhex(HEX)).decode()}",
    ],
)
def test_a_fingerprint_is_read_as_people_and_curl_write_it(text: str) -> None:
    assert read_fingerprint(text) == HEX


@pytest.mark.parametrize(
    "text", ["", "abc", HEX[:-1], HEX + "0", "g" + HEX[1:], "sha256//abc", "sha256//AAAA"]
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no fingerprint"):
        read_fingerprint(text)


# --- contexts


@pytest.fixture
def files(tmp_path: Path) -> CertificateFiles:
    return write_certificate(tmp_path)


@pytest.fixture
def running(files: CertificateFiles, tmp_path: Path) -> Iterator[Running]:
    folder = tmp_path / "served"
    folder.mkdir()
    with run_server(folder, tls=server_context(files.certificate, files.key)) as running:
        yield running


def own(files: CertificateFiles) -> str:
    found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    return fingerprint_of(found.public_bytes(Encoding.DER))


def test_the_right_pin_lets_a_client_in_whatever_the_name(running: Running, files: CertificateFiles) -> None:
    with Client("localhost", running.address[1], tls=pinning(own(files))) as client:
        assert client.request("PING")["protocol"] == "CFS/1"


def test_the_right_pin_lets_an_asynchronous_client_in(running: Running, files: CertificateFiles) -> None:
    async def ping() -> object:
        async with await AsyncClient.connect(*running.address, tls=pinning(own(files))) as client:
            return (await client.request("PING"))["protocol"]

    assert asyncio.run(ping()) == "CFS/1"


def test_a_wrong_pin_sends_nothing_not_even_a_token(running: Running, files: CertificateFiles) -> None:
    with pytest.raises(WrongKey) as caught:
        Client(*running.address, token="secret", tls=pinning(HEX))
    assert caught.value.fingerprint == own(files)
    with pytest.raises(WrongKey):
        asyncio.run(AsyncClient.connect(*running.address, token="secret", tls=pinning(HEX)))
    running.events.wait_for(lambda event: len(running.events.of(ClientDisconnected)) == 2)
    assert not running.events.of(TransferStarted)


def test_a_pin_and_a_file_must_both_be_right(
    running: Running, files: CertificateFiles, tmp_path: Path
) -> None:
    Client(*running.address, tls=pinning(own(files), files.authority)).close()
    (tmp_path / "other").mkdir()
    stranger = write_certificate(tmp_path / "other").authority
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(*running.address, tls=pinning(own(files), stranger))


def test_a_file_is_trusted_whether_it_is_of_the_issuer_or_of_the_server(
    running: Running, files: CertificateFiles
) -> None:
    for cafile in (files.authority, files.certificate):
        Client(*running.address, tls=trusting(cafile)).close()


def test_the_name_must_be_right_too(files: CertificateFiles, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_certificate(tmp_path / "other", "files.example.org")
    (tmp_path / "served").mkdir()
    with (
        run_server(tmp_path / "served", tls=server_context(other.certificate, other.key)) as running,
        pytest.raises(ssl.SSLCertVerificationError, match="not valid for"),
    ):
        Client(*running.address, tls=trusting(other.authority))
