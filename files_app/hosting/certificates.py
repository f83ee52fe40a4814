"""The certificate of both servers, from the settings: whether it can be used, and how we know our own again.

What is wrong with it is said in a sentence before anything listens.
"""

import functools
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from django.conf import settings

from fileserver.client.trust import fingerprint_of, pinning
from fileserver.net.tls import server_context

AUTHORITY = "Concurrent File Server, own authority"  # the issuer of what ``authority`` makes
SOON = timedelta(days=14)  # before its end, which is then told, or the certificate made anew


class BadCertificate(Exception):
    """It cannot be used; the text is a sentence."""


# --- to serve with


def chain() -> list[x509.Certificate]:
    """The certificate of the settings and those of its issuers; empty if there is none.

    Raises ``BadCertificate`` unless it can be served with, together with its key.
    """
    if not (settings.TLS_CERT or settings.TLS_KEY):
        return []
    if not (settings.TLS_CERT and settings.TLS_KEY):
        named, other = ("TLS_CERT", "TLS_KEY") if settings.TLS_CERT else ("TLS_KEY", "TLS_CERT")
        raise BadCertificate(f"{named} is set and {other} is not: a certificate and its key belong together.")
    found = read_chain(settings.TLS_CERT)
    if _public_key(settings.TLS_KEY) != _bytes_of(found[0].public_key()):
        raise BadCertificate(
            f"The key {settings.TLS_KEY} (TLS_KEY) is not that of the certificate "
            f"{settings.TLS_CERT} (TLS_CERT)."
        )
    _require_in_time(found[0])
    return found


def context_to_serve() -> ssl.SSLContext | None:
    """For the file server; ``None`` if it is to speak plain text. Raises ``BadCertificate``."""
    if not chain():
        return None
    try:
        return server_context(settings.TLS_CERT, settings.TLS_KEY)
    except (OSError, ValueError) as error:  # of which ``ssl.SSLError`` is one: a key too short, say
        raise BadCertificate(
            f"The certificate {settings.TLS_CERT} (TLS_CERT) cannot be used: {error}."
        ) from None


def warnings() -> list[str]:
    """Sentences about what is not well, but works."""
    found = chain()
    if not found:
        return []
    told = []
    if Path(settings.TLS_KEY).stat().st_mode & stat.S_IROTH:
        told.append(
            f"The key {settings.TLS_KEY} can be read by every user of this machine. Try: chmod 600 on it."
        )
    if found[0].not_valid_after_utc - datetime.now(UTC) < SOON:
        told.append(f"The certificate {settings.TLS_CERT} ends on {_day(found[0].not_valid_after_utc)}.")
    return told


def read_chain(path: str) -> list[x509.Certificate]:
    """At least one certificate. Raises ``BadCertificate``."""
    try:
        return x509.load_pem_x509_certificates(_read(path, "certificate", "TLS_CERT"))
    except ValueError:
        raise BadCertificate(f"The file {path} (TLS_CERT) holds no certificate in the form of PEM.") from None


def _public_key(path: str) -> bytes:
    """Of the private key in that file."""
    try:
        return _bytes_of(load_pem_private_key(_read(path, "key", "TLS_KEY"), None).public_key())
    except TypeError:  # it wants a password
        raise BadCertificate(
            f"The key {path} (TLS_KEY) is locked by a password, which nobody could type at each start: "
            "save it without one."
        ) from None
    except ValueError:
        raise BadCertificate(f"The file {path} (TLS_KEY) holds no key in the form of PEM.") from None


def _read(path: str, what: str, setting: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise BadCertificate(f"The {what} {path} ({setting}) cannot be read: {error.strerror}.") from None


def _require_in_time(certificate: x509.Certificate) -> None:
    now, named = datetime.now(UTC), f"The certificate {settings.TLS_CERT} (TLS_CERT)"
    if certificate.not_valid_after_utc < now:
        raise BadCertificate(
            f"{named} has ended on {_day(certificate.not_valid_after_utc)}. Put a new one in its place."
        )
    if certificate.not_valid_before_utc > now:
        begin = _day(certificate.not_valid_before_utc)
        raise BadCertificate(f"{named} begins on {begin} only. Is the clock of this machine right?")


def _bytes_of(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


# --- to be known by


def is_our_making(certificate: x509.Certificate) -> bool:
    """Whether ``makecert`` has made it."""
    names = certificate.issuer.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return [name.value for name in names] == [AUTHORITY]


def is_self_made(path: str) -> bool:
    """Whether a certificate is one that no browser knows by itself: ours, or one that nobody else has signed.

    What cannot be read counts as such; a start says what is wrong with it.
    """
    try:
        first = read_chain(path)[0]
    except BadCertificate:
        return True
    return is_our_making(first) or first.issuer == first.subject


def own_fingerprint() -> str:
    """That of the key of the settings' certificate, which a renewal keeps. Raises ``BadCertificate``."""
    return fingerprint_of(read_chain(settings.TLS_CERT)[0].public_bytes(Encoding.DER))


def context_for_own_server() -> ssl.SSLContext | None:
    """For who connects to the file server of these settings: it is the one that has our key.

    Its certificate need not name the address: a server that others know as files.example.org is reached here
    as 127.0.0.1. ``None`` if it speaks plain text. Raises ``BadCertificate``.
    """
    if not settings.TLS_CERT:
        return None
    try:
        changed = Path(settings.TLS_CERT).stat().st_mtime_ns
    except OSError:
        changed = 0  # the reading says what is wrong
    return _context_of(settings.TLS_CERT, changed)


@functools.lru_cache(2)  # the site asks at each request
def _context_of(path: str, changed: int) -> ssl.SSLContext:
    return pinning(own_fingerprint())
