"""A certificate of this machine's own, for a network on which nobody else gives it one.

It is signed by its own key. Browsers warn of it once; commands trust it by its fingerprint, which is that of
the key and stays when the certificate is made anew, for other names or for another year.
"""

import contextlib
import datetime
import ipaddress
import os
import socket
from collections.abc import Collection
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

from files_app.access.addresses import machine
from fileserver.net.address import read_address

DAYS = 397  # browsers take none that is good for longer
RENEW_DAYS = 14  # before its end
MADE_BY = "Concurrent File Server, for itself"


def own_names() -> list[str]:
    """All names and addresses by which this machine may be asked for."""
    name = socket.gethostname().lower()
    found = ["localhost", name, f"{name.partition('.')[0]}.local", "127.0.0.1", "::1", *machine().own]
    return list(dict.fromkeys(one for one in found if _can_be_named(one)))


def _can_be_named(name: str) -> bool:
    address = read_address(name)
    return name.isascii() and (address is None or not address.is_link_local)


def make(cert: Path, key: Path, names: Collection[str], days: int = DAYS) -> x509.Certificate:
    """Write both files, the key for its owner alone. One that is there is used again; raises ``OSError``."""
    private = _key_in(key) or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, MADE_BY),
            x509.NameAttribute(NameOID.COMMON_NAME, socket.gethostname()[:64]),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(key, pem, 0o600)
    _write(cert, made.public_bytes(Encoding.PEM), 0o644)
    return made


def renewed(cert: Path, key: Path) -> str:
    """Make it anew if it is one of ours and must be; the reason as a sentence, empty if nothing was to do."""
    with contextlib.suppress(OSError, ValueError):
        made = x509.load_pem_x509_certificate(cert.read_bytes())
        if not _is_ours(made):
            return ""
        missing = [name for name in own_names() if name not in names_of(made)]
        left = made.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        if missing or left < datetime.timedelta(days=RENEW_DAYS):
            make(cert, key, list(dict.fromkeys([*names_of(made), *missing])))
            reason = f"it lacked {', '.join(missing)}" if missing else "it was about to end"
            return f"The certificate was made anew, with the same key: {reason}."
    return ""


def names_of(cert: x509.Certificate) -> list[str]:
    names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def _is_ours(cert: x509.Certificate) -> bool:
    return any(one.value == MADE_BY for one in cert.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        key = load_pem_private_key(path.read_bytes(), None)
        return key if isinstance(key, ec.EllipticCurvePrivateKey) else None
    return None


def _write(path: Path, data: bytes, mode: int) -> None:
    """In one step, and never readable by others in between."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    new.replace(path)
