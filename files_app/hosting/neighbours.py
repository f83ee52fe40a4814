"""Who has a port that one of our servers wants: often it is one of our own, started a while ago."""

import contextlib
import http.client

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


def _is_file_server(host: str, port: int) -> bool:
    try:
        with Client(host, port, timeout=SECONDS) as client:
            return bool(client.request("PING").get("protocol") == lines.NAME)
    except ErrorReply:  # too many clients, it ends, or speaks TLS: nobody else says it like that
        return True
    except (OSError, BadReply):
        return False


def _is_site(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("HEAD", "/")
            return connection.getresponse().headers.get("Server") == SITE_NAME
        except (OSError, http.client.HTTPException):
            return False
