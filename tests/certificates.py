"""A certificate that is good for the loopback addresses, and a client that trusts it, for tests of TLS."""

import functools
import socket
import ssl

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
