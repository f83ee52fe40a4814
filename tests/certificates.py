"""A certificate that is good for the loopback addresses, and a client that trusts it, for tests of TLS."""

import functools
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from fileserver.net.tls import TlsTransport


@functools.cache
def _authority() -> trustme.CA:
    return trustme.CA()


@functools.cache
def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority().issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    return context


@dataclass(frozen=True)
class CertificateFiles:
    certificate: Path
    key: Path
    authority: Path

    @property
    def settings(self) -> dict[str, str]:
        return {"TLS_CERT": str(self.certificate), "TLS_KEY": str(self.key)}

    def context(self) -> ssl.SSLContext:
        """Of a client that trusts the authority."""
        return ssl.create_default_context(cafile=self.authority)


def write_certificate(folder: Path, *names: str) -> CertificateFiles:
    """As files, by an authority of its own; by default for the loopback addresses."""
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("127.0.0.1", "::1", "localhost")))
    files = CertificateFiles(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    files.key.touch(0o600)
    issued.private_key_pem.write_to_path(files.key)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(files.certificate, append=True)
    authority.cert_pem.write_to_path(files.authority)
    return files


class TlsOfItsOwn:
    """Stands for OpenSSL with a peer whose records are all for TLS itself, as new keys are (RFC 8446, 4.6.3):
    no content comes, and each record is answered."""

    def __init__(self, transport: TlsTransport) -> None:
        self.incoming, self.outgoing = transport._incoming, transport._outgoing

    def read(self, *_: object) -> bytes:
        self.outgoing.write(self.incoming.read())
        raise ssl.SSLWantReadError

    def do_handshake(self) -> None:
        self.read()


class PeerSocket(ssl.SSLSocket):
    """Closes one side as a plain socket does, without a word of TLS, and still decrypts what comes."""

    def shutdown(self, how: int) -> None:
        socket.socket.shutdown(self, how)


def encrypted(sock: socket.socket, host: str = "127.0.0.1") -> ssl.SSLSocket:
    """The client's end of a TLS connection over ``sock``, after the handshake. A stream that ends without a
    close_notify raises ``SSLEOFError``."""
    context = client_context()
    context.sslsocket_class = PeerSocket
    return context.wrap_socket(sock, server_hostname=host, suppress_ragged_eofs=False)
