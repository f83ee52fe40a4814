"""TLS on the web port: Twisted's, with our limits around it.

A handshake has the time that a head has. Who asks in plain HTTP is led to https, as by a browser that was
given an address without a scheme. What Twisted leaves to a socket, the half-close, is said in TLS first.
"""

# mypy: disable-error-code="no-untyped-call"

import re
from pathlib import Path
from typing import Any

from django.conf import settings
from django.http.request import split_domain_port, validate_host
from OpenSSL import crypto
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer  # type: ignore[import-untyped]

from cfsite.webserver.channel import FlowChannel
from cfsite.webserver.guard import error_response
from files_app.hosting.certificates import chain
from files_app.hosting.neighbours import SITE_NAME
from fileserver.net.tls import CIPHERS, PLAIN_TEXT

LATE_HANDSHAKES = "connections whose TLS handshake did not come to its end in time"
_SENTENCE = "This port speaks HTTPS only: begin the address with https://"
# What a browser asks for, as far as it is needed, in what comes first.
_ASKS = re.compile(
    rb"(?:GET|HEAD) (/[!-~]*) HTTP/1\.[01]\r\n(?:.*\r\n)??host:[ \t]*([^\s]+)[ \t]*\r\n", re.I | re.S
)


def tls_options() -> CertificateOptions | None:
    """For the certificate of the settings; ``None`` for plain HTTP. Raises ``BadCertificate``."""
    found = [crypto.X509.from_cryptography(each) for each in chain()]
    if not found:
        return None
    return CertificateOptions(
        privateKey=crypto.load_privatekey(crypto.FILETYPE_PEM, Path(settings.TLS_KEY).read_bytes()),
        certificate=found[0],
        extraCertChain=found[1:],
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(CIPHERS),
        acceptableProtocols=[b"http/1.1"],
    )


@implementer(IHandshakeListener)
class EncryptedChannel(FlowChannel):
    """A connection whose first time limit is that of the handshake."""

    in_handshake = True

    def connectionMade(self) -> None:
        super().connectionMade()
        self._timeout_between = self.setTimeout(self.server.head_timeout)

    def handshakeCompleted(self) -> None:
        self.in_handshake = False
        self.setTimeout(self._timeout_between)

    def timeoutConnection(self) -> None:
        if self.in_handshake:
            self.server.tally.add(LATE_HANDSHAKES)
            self.transport.abortConnection()
        else:
            super().timeoutConnection()


class EncryptedTransport(TLSMemoryBIOProtocol):
    """What our protocols take for their transport."""

    transport: Any
    is_new = True  # nothing has come yet
    is_plain = False  # it was no TLS: the rest of it is of no interest

    def dataReceived(self, data: bytes) -> None:
        if self.is_new and data[0] in PLAIN_TEXT:
            self.is_plain = True
            self.transport.write(_plain_answer(data))
            self.transport.loseConnection()
        self.is_new = False
        if not self.is_plain:
            super().dataReceived(data)

    def loseWriteConnection(self) -> None:
        """The peer's TLS must hear of the end, too, or it takes what it has for cut short."""
        self._shutdownTLS()
        self.transport.loseWriteConnection()


class EncryptedFactory(TLSMemoryBIOFactory):
    protocol = EncryptedTransport


def socket_of(transport: Any) -> Any:
    """The transport below TLS, or the one that there is."""
    return transport.transport if isinstance(transport, EncryptedTransport) else transport


def _plain_answer(data: bytes) -> bytes:
    """In plain HTTP: the way to the same page over TLS, under no host but one of ours."""
    found = _ASKS.match(data)
    if found:
        target, host = (part.decode("ascii", "replace") for part in found.groups())
        domain, _ = split_domain_port(host)
        if domain and validate_host(domain, settings.ALLOWED_HOSTS):
            more = {"Location": f"https://{host}{target}", "Server": SITE_NAME}
            return error_response(307, _SENTENCE, with_body=not data.startswith(b"HEAD"), **more)
    return error_response(400, _SENTENCE, with_body=not data.startswith(b"HEAD"), Server=SITE_NAME)
