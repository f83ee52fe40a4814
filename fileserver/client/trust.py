"""Whom a client takes for the server, over TLS: by its certificate, or by the fingerprint of its key.

The fingerprint is that of the public key (SHA-256 of its SubjectPublicKeyInfo, as in RFC 7469 and in
``curl --pinnedpubkey``), not of the certificate: one that is made anew for the same key has the same.
"""

import base64
import binascii
import hashlib
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

_HEX = re.compile(r"[0-9a-f]{64}")
_CURL = "sha256//"
_BEFORE_KEY = 5  # serial number, signature, issuer, validity and subject (RFC 5280, 4.1)
_VERSION_TAG = 0xA0  # that of the version, which may be missing


class WrongKey(ssl.SSLCertVerificationError):
    """The server has another key than the one that it is known by."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(1, f"the server has the key {fingerprint}, which is not the one that it is known by")
        self.fingerprint = fingerprint


# --- fingerprints


def fingerprint_of(certificate: bytes) -> str:
    """Of the key in a certificate (DER), in lower case."""
    return hashlib.sha256(_public_key(certificate)).hexdigest()


def read_fingerprint(text: str) -> str:
    """As ``fingerprint_of`` gives it. Raises ``ValueError`` for what is none.

    Colons and blanks between the digits are left out, and the form that curl takes is read too.
    """
    if text.startswith(_CURL):
        try:
            found = base64.b64decode(text.removeprefix(_CURL), validate=True).hex()
        except binascii.Error:
            found = ""
    else:
        found = re.sub(r"[:\s]", "", text).lower()
    if not _HEX.fullmatch(found):
        raise ValueError(f"{text} is no fingerprint: it has 64 hexadecimal digits, or is as curl takes it")
    return found


def _public_key(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo in it: five elements of DER further on, for which no library is needed."""
    start, _ = _content(certificate, 0)  # of the whole, which begins with what is signed
    parts = list(_elements(certificate, *_content(certificate, start)))
    if certificate[parts[0][0]] == _VERSION_TAG:
        del parts[0]
    begin, end = parts[_BEFORE_KEY]
    return certificate[begin:end]


def _elements(der: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each element, with its tag and its length."""
    while at < end:
        _, after = _content(der, at)
        yield at, after
        at = after


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Begin and end of the content of the element at ``at``."""
    length, start = der[at + 1], at + 2
    if length & 0x80:  # it is so many bytes long
        count = length & 0x7F
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    return start, start + length


# --- contexts


def trusting(cafile: str | Path | None = None) -> ssl.SSLContext:
    """Verifies chain and name, by the certificates in ``cafile`` (PEM) or else by those of the system.

    Raises ``OSError``: of the file, or ``ssl.SSLError`` if it holds no certificate.
    """
    context = ssl.create_default_context(cafile=cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cafile:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what is named is trusted, issued by whomever
    return context


def pinning(fingerprint: str, cafile: str | Path | None = None) -> ssl.SSLContext:
    """Takes only the server with that key, whatever else is in its certificate; with ``cafile`` that is
    verified too. The key is looked at before a byte is sent to whoever has it."""
    if cafile:
        context = trusting(cafile)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    def check(certificate: bytes | None) -> None:
        found = fingerprint_of(certificate or b"")
        if found != fingerprint:
            raise WrongKey(found)

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            check(self.getpeercert(True))

    class PinnedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            check(self.getpeercert(True))

    context.sslsocket_class, context.sslobject_class = PinnedSocket, PinnedObject
    return context
