"""Who has a port that one of our servers wants: often it is one of our own, started a while ago."""

import contextlib
import http.client
import ssl

from fileserver.client.blocking import Client
from fileserver.wire import lines
from fileserver.wire.replies import BadReply, ErrorReply

SITE_NAME = "ConcurrentFileServer"  # what the site says of itself in each response (RFC 9110, 10.2.4)
SECONDS = 1.0  # for an answer


def who_listens(host: str, port: int) -> str | None:
    """The words for our own server on that port; ``None`` if it is another program, or does not answer."""
    if _is_file_server(host, port):
        return "a file server of this kind"
    if _is_site(host, port):
        return "the site of such a file server"
    return None


# To be told apart from other programs it need not be trusted.
ANYBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANYBODY.check_hostname, ANYBODY.verify_mode = False, ssl.CERT_NONE


def _is_file_server(host: str, port: int) -> bool:
    return any(_speaks(host, port, tls) for tls in (None, ANYBODY))


def _speaks(host: str, port: int, tls: ssl.SSLContext | None) -> bool:
    try:
        with Client(host, port, timeout=SECONDS, tls=tls) as client:
            return bool(client.request("PING").get("protocol") == lines.NAME)
    except ErrorReply:  # too many clients, or it ends: nobody else says it like that
        return True
    except (OSError, BadReply):
        return False


def _is_site(host: str, port: int) -> bool:
    plain = http.client.HTTPConnection(host, port, timeout=SECONDS)
    encrypted = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=ANYBODY)
    return any(map(_names_itself, (plain, encrypted)))


def _names_itself(connection: http.client.HTTPConnection) -> bool:
    with contextlib.closing(connection):
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().headers.get("Server") == SITE_NAME
        except (OSError, http.client.HTTPException):
            return False
