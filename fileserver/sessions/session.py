"""One client's conversation: a line in, the method of that verb, a line out.

A session belongs to the thread that calls ``run``; other threads may only ask it to ``wind_down``. A verb
that cannot be done raises ``ErrorReply`` from anywhere below; here it becomes one ``ERR`` line.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from fileserver.context import ServerContext
from fileserver.net.connection import Connection
from fileserver.net.stall import PeerGone, Stalled
from fileserver.sessions.control import ControlVerbs
from fileserver.sessions.downloads import DownloadVerbs
from fileserver.sessions.files import FileVerbs
from fileserver.sessions.http import HttpConversation
from fileserver.sessions.peer import Goodbye, Peer
from fileserver.sessions.required_rights import ASKS
from fileserver.sessions.uploads import UploadVerbs
from fileserver.transfers.copying import FileChanged
from fileserver.transfers.transfer import Stopped
from fileserver.wire import lines, verbs
from fileserver.wire.http import is_http
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Put, RelayRequest
from fileserver.wire.verbs import VERBS

log = logging.getLogger(__name__)

MAX_EMPTY_LINES = 8  # in a row; a person who leans on the key is answered, a stream of them is cut off


class Session:
    def __init__(self, connection: Connection, context: ServerContext, thread: str, host: str) -> None:
        self.connection = connection
        self.context = context
        self.peer = Peer(connection, context, thread, host)
        self.downloads = DownloadVerbs(self.peer)
        uploads, files, control = UploadVerbs(self.peer), FileVerbs(self.peer), ControlVerbs(self.peer)
        self._methods: dict[str, Callable[[Any], None]] = {
            "PING": control.ping,
            "HELP": control.help,
            "AUTH": control.auth,
            "LIST": files.list_files,
            "STAT": files.stat,
            "GET": self.downloads.get,
            "RECEIPT": self.downloads.receipt,
            "PUT": uploads.put,
            "DELETE": files.delete,
            "MKDIR": files.make_folder,
            "WATCH": control.watch,
            "CANCEL": control.cancel,
            "QUIT": control.quit,
        }
        self._is_first = True  # the line that comes next

    def wind_down(self) -> None:
        """From any thread: take no further request; a transfer that runs may come to its end."""
        self.peer.wind_down()

    def run(self) -> None:
        """Talk until either side is done. Raises nothing that a peer can cause."""
        try:
            self.connection.handshake(self.context.limits.line)
            self._converse()
        except (PeerGone, Stalled, Goodbye):
            pass
        finally:
            self.downloads.abandon()
            self.connection.close()

    # --- the loop

    def _converse(self) -> None:
        silence = self.context.limits.first_silence
        while True:
            try:
                line = self._next_request(silence)
                if line is None:
                    return
                self.connection.begin_request()
                self._answer(line)
            except ErrorReply as error:
                self.connection.send(error.line())
                if error.closes:
                    return
            except lines.ForeignProtocol as error:
                # Never behind another line: a web page could hide a request in what it makes a browser send.
                if self._is_first and is_http(error.line):
                    HttpConversation(self.peer).run(error.line)
                else:
                    self.connection.send(ErrorReply("bad-request", str(error)).line())
                return
            silence = self.context.limits.silence

    def _answer(self, line: bytes) -> None:
        bytes_follow = _word(line) == "PUT"
        try:
            request = verbs.parse_request(line)
            if isinstance(request.fields, Put):
                bytes_follow = request.fields.bytes_that_follow > 0
            self._dispatch(request)
        except ErrorReply as error:
            # They may be on their way, from a client that did not wait for OK, and would be read as requests.
            if bytes_follow:
                error.closes = True
            raise
        except (Stopped, FileChanged) as error:
            raise Goodbye from error  # no END, no success: the closing says it
        except (PeerGone, Stalled, Goodbye):
            raise
        except Exception as error:
            self.connection.expect_to_block()
            log.exception("%s failed", _word(line))
            refusal = ErrorReply("internal", "The server made a mistake; its log says more.")
            refusal.closes = True
            raise refusal from error

    def _dispatch(self, request: verbs.Request) -> None:
        verb, fields = request
        if verb != "RECEIPT":
            self.downloads.abandon()
        if VERBS[verb].may_block:
            self.connection.expect_to_block()
        behalf = fields if isinstance(fields, RelayRequest) else None
        for right, name in ASKS[verb](fields, self.peer):
            self.peer.require(verb, right, name, behalf)
        self._methods[verb](fields)

    # --- reading

    def _next_request(self, silence: float) -> bytes | None:
        """The next line that is not empty. Empty ones ask for nothing, so they neither buy time nor last."""
        since = time.monotonic()
        for _ in range(MAX_EMPTY_LINES + 1):
            line = self._next_line(silence, since)
            self._is_first = False
            if line != b"":
                return line
        error = ErrorReply("bad-request", f"More than {MAX_EMPTY_LINES} empty lines came in a row.")
        error.closes = True
        raise error

    def _next_line(self, silence: float, since: float) -> bytes | None:
        peer, line = self.peer, None
        try:
            if not peer.is_stopping or self.downloads.awaits_receipt:
                line = self.connection.read_line(silence, self.context.limits.line, since=since)
        except ErrorReply:
            if not peer.is_stopping:  # else it broke off because we stopped reading
                raise
        # A transfer that waits for its receipt still runs: its request may come.
        if line is None or not self.downloads.awaits_receipt:
            peer.check_stopping()
        return line


def _word(line: bytes) -> str:
    return line.partition(b" ")[0].decode("ascii", "replace").upper()
