"""Certificate and key of both servers, and whom our own connections trust.

Both servers show the same certificate (``TLS_CERT``). A connection of ours to our own file server trusts this
very certificate and no other, whoever has signed it and whatever names it has: it goes to an address of this
machine, which a certificate need not name.
"""

import datetime
import functools
import hashlib
import os
import re
import ssl
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all good


class TlsError(Exception):
    """The certificate or the key cannot be used; the text is a sentence."""


def is_on() -> bool:
    return bool(settings.TLS_CERT)


def require_usable() -> None:
    """Raise ``TlsError`` if TLS is on and could not work."""
    if is_on():
        server_context()
        cert = certificate()
        if cert.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
            raise TlsError(
                f"The certificate {cert_path()} is over since {cert.not_valid_after_utc:%Y-%m-%d}."
            )
    elif settings.TLS_KEY:
        raise TlsError("TLS_KEY is set and TLS_CERT is not: set both, or none.")


def warning() -> str:
    """A sentence about what should be mended; empty if there is nothing."""
    if is_on() and os.name == "posix" and stat.S_IMODE(key_path().stat().st_mode) & 0o077:
        return f"Others on this machine may read the key {key_path()}: chmod 600 it."
    return ""


def cert_path() -> Path:
    return Path(settings.BASE_DIR / settings.TLS_CERT)


def key_path() -> Path:
    """Of the key; without TLS_KEY, it is in the same file as the certificate."""
    return Path(settings.BASE_DIR / (settings.TLS_KEY or settings.TLS_CERT))


def server_context() -> ssl.SSLContext | None:
    """For a server; ``None`` without TLS. Raises ``TlsError``."""
    if not is_on():
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    for path in (cert_path(), key_path()):
        try:
            path.read_bytes()
        except OSError as error:
            raise TlsError(
                f"{path} cannot be read: {error.strerror}. Look at TLS_CERT and TLS_KEY."
            ) from None
    try:
        # Without this a key with a passphrase would be asked for on the terminal.
        context.load_cert_chain(cert_path(), key_path(), password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise TlsError(f"{cert_path()} and {key_path()} are no certificate and its key ({reason}).") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


def certificate() -> x509.Certificate:
    """The server's own. Raises ``TlsError``."""
    try:
        return x509.load_pem_x509_certificate(certificates()[0])
    except (ValueError, IndexError) as error:
        raise TlsError(f"{cert_path()} has no certificate in it.") from error


def certificates() -> list[bytes]:
    """All of the file, each as PEM: the server's own, then those between it and whom clients trust."""
    return _PEM.findall(cert_path().read_bytes())


def own_client_context() -> ssl.SSLContext | None:
    """For a connection to our own file server; ``None`` without TLS."""
    if not is_on():
        return None
    path = cert_path()
    try:
        return _trusting(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise TlsError(f"{path} cannot be read: {error.strerror}.") from None


@functools.lru_cache(2)
def _trusting(path: Path, changed: int) -> ssl.SSLContext:
    """``changed``: it may be made anew while we run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # The certificate itself is trusted, also if somebody else has signed it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificates()[0].decode("ascii"))
    return context


# --- pins: the hash of a public key, which stays when the certificate is made anew (RFC 7469, 2.4)


def fingerprint(cert: x509.Certificate) -> str:
    key = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


def pinning(pin: str) -> ssl.SSLContext:
    """Trusts whoever has the key of that fingerprint alone. Raises ``TlsError`` for what is none."""
    wanted = pin.replace(":", "").strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise TlsError(f"{pin} is no fingerprint: it has 64 hexadecimal digits.")

    class Pinned(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            der = self.getpeercert(binary_form=True)
            if der is None or fingerprint(x509.load_der_x509_certificate(der)) != wanted:
                raise ssl.SSLCertVerificationError(1, "the server has another key than the pinned one")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the pin is what is verified
    context.sslsocket_class = Pinned
    return context
