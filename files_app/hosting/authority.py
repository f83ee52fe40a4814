"""A certificate for the network at hand, where no public authority gives one: by an authority of our own.

Why not one that signs itself: phones and Firefox let nobody import that. What they import are authorities,
once, and from then on take each certificate that it signs: also the next one, when an address has changed.
An import makes the authority's key worth stealing, so it is limited (RFC 5280, 4.2.1.10) to private
addresses, to ``.local`` and to the names of this machine: with it nobody can play a bank to somebody.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from files_app.hosting.certificates import AUTHORITY, BadCertificate
from fileserver.net.address import read_address

DAYS = 365
MOST_DAYS = 825  # Apple's systems take no certificate that is good for longer
AUTHORITY_DAYS = 3650
EARLIER = timedelta(days=1)  # clocks differ
MOST_NAMES = 60  # in one certificate; those of the past go first
_PRIVATE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10"),
    *("fc00::/7", "fe80::/10", "::1/128"),
)


@dataclass(frozen=True)
class Files:
    """Where things lie: the certificate with its issuer behind it, its key, and those of the authority."""

    certificate: Path
    key: Path

    @property
    def authority(self) -> Path:
        return self.certificate.with_name(f"{self.certificate.stem}-authority.pem")

    @property
    def authority_key(self) -> Path:
        return self.certificate.with_name(f"{self.certificate.stem}-authority-key.pem")


@dataclass(frozen=True)
class Made:
    certificate: x509.Certificate
    replaces_authority: bool  # what was imported of the one before is of no use any more


def make(files: Files, hosts: Sequence[str], days: int = DAYS) -> Made:
    """Write a certificate for ``hosts``, names and addresses. Raises ``OSError`` and ``BadCertificate``.

    Keys that are there are kept, and the authority too as long as it may speak for all of them.
    """
    key = _kept_or_new_key(files.key)
    authority_key = _kept_or_new_key(files.authority_key)
    authority = _kept_authority(files, authority_key, hosts)
    replaces = authority is None and files.authority.exists()
    if authority is None:
        authority = _signed_authority(authority_key, hosts)
        _write(files.authority, _pem(authority))
    certificate = _signed(key, hosts, days, authority, authority_key)
    _write(files.certificate, _pem(certificate) + _pem(authority))
    return Made(certificate, replaces)


def hosts_in(certificate: x509.Certificate) -> list[str]:
    """What it is good for, names first."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    return [*names.get_values_for_type(x509.DNSName), *addresses]


# --- the authority


def _kept_authority(
    files: Files, key: ec.EllipticCurvePrivateKey, hosts: Iterable[str]
) -> x509.Certificate | None:
    """The one that is there, if it is of that key, will last, and may speak for ``hosts``."""
    try:
        found = x509.load_pem_x509_certificate(files.authority.read_bytes())
    except (OSError, ValueError):
        return None
    lasts = found.not_valid_after_utc - datetime.now(UTC) > timedelta(days=MOST_DAYS)
    if found.public_key() == key.public_key() and lasts and all(_permits(found, host) for host in hosts):
        return found
    return None


def _permits(authority: x509.Certificate, host: str) -> bool:
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    address = read_address(host)
    for limit in limits.permitted_subtrees or ():
        if isinstance(limit, x509.IPAddress) and isinstance(limit.value, IPv4Network | IPv6Network):
            if address is not None and address in limit.value:
                return True
        elif address is None and (host == limit.value or host.endswith(f".{limit.value}")):
            return True
    return False


def _limits(hosts: Iterable[str]) -> x509.NameConstraints:
    networks, names = list(map(ip_network, _PRIVATE)), ["local", "localhost"]
    for host in hosts:
        address = read_address(host)
        if address is None:
            names.append(host)
        elif not any(address in network for network in networks):
            networks.append(ip_network(str(address)))
    permitted = [*map(x509.DNSName, dict.fromkeys(names)), *map(x509.IPAddress, networks)]
    return x509.NameConstraints(permitted, None)


def _signed_authority(key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]) -> x509.Certificate:
    # With the moment in it: browsers take two authorities of one name for each other.
    name = _name(f"{_title(hosts)[:40]}, {datetime.now(UTC):%Y-%m-%d %H:%M:%S}", AUTHORITY)
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(name, name, key, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_limits(hosts), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


# --- the certificate


def _signed(
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    days: int,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(_name(_title(hosts), "Concurrent File Server"), authority.subject, key, days)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, hosts))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - EARLIER
    return (
        x509.CertificateBuilder(issuer, subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def _name(title: str, organization: str) -> x509.Name:
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, title[:64])  # no more fits (RFC 5280, appendix A)
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization), common_name])


def _title(hosts: Sequence[str]) -> str:
    """For people: a name of this machine."""
    return next((host for host in hosts if host != "localhost" and read_address(host) is None), hosts[0])


def _general_name(host: str) -> x509.GeneralName:
    address = read_address(host)
    return x509.DNSName(host) if address is None else x509.IPAddress(address)


# --- files


def _kept_or_new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if path.exists():
        try:
            found = load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError):  # no key, or a locked one
            found = None
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise BadCertificate(f"The file {path} is in the way: it holds no key that was made here.")
        return found
    key = ec.generate_private_key(ec.SECP256R1())  # the curve that every browser and phone knows
    _write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Whole or not at all; the rights are those of the file from its first moment."""
    draft = path.with_name(f"{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    draft.replace(path)
