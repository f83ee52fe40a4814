"""One client's conversation: a line in, the method of that verb, a line out.

A session belongs to one thread. Others may only ask it to ``wind_down``. Refusals are ``ErrorReply``
exceptions from anywhere below; they become one ``ERR`` line here.
"""

import contextlib
import itertools
import logging
import time
from collections import OrderedDict

from fileserver.context import ServerContext
from fileserver.events import FileDeleted, FileHashed, TransferVerified
from fileserver.names import shown
from fileserver.net.connection import Connection, PeerGone, Stalled
from fileserver.sessions.http import DirectDownloads
from fileserver.sessions.uploads import UploadVerbs
from fileserver.storage.base import Content, Entry
from fileserver.transfers.copying import FileChanged, send
from fileserver.transfers.registry import Stopped, Transfer
from fileserver.wire import verbs as protocol
from fileserver.wire.http import is_http
from fileserver.wire.verbs import ErrorReply, Fields

log = logging.getLogger(__name__)

MAX_RECEIPTS = 1000  # deliveries that a session remembers, to check a receipt against
MAX_EMPTY_LINES = 8  # in a row; a person who leans on the key is answered, a stream of them is cut off
WATCH_LOOK = 1.0  # seconds between two looks whether a watcher is still there


class _Goodbye(Exception):
    """The conversation is over and everything is said."""


class Session(UploadVerbs, DirectDownloads):
    def __init__(self, connection: Connection, context: ServerContext, thread: str, host: str) -> None:
        super().__init__(connection, context, thread, host)
        self._unreceipted: tuple[Transfer, Entry | Content] | None = None
        self._delivered: OrderedDict[int, Entry | Content] = OrderedDict()
        self._is_first = True  # the line that comes next

    def run(self) -> None:
        """Talk until either side is done. Raises nothing that a peer can cause."""
        try:
            self._converse()
        except (PeerGone, Stalled, _Goodbye):
            pass
        finally:
            self._abandon_unreceipted()
            self.connection.close()

    # --- the conversation

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
            except protocol.ForeignProtocol as error:
                # Never behind another line: a web page could hide a request in what it makes a browser send.
                if self._is_first and is_http(error.line):
                    self.converse_http(error.line)
                else:
                    self.connection.send(ErrorReply("bad-request", str(error)).line())
                return
            silence = self.context.limits.silence

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
        line = None
        try:
            if not self._stopping or self._unreceipted:
                line = self.connection.read_line(silence, self.context.limits.line, since=since)
        except ErrorReply:
            if not self._stopping:  # else it broke off because we stopped reading
                raise
        # A transfer that waits for its receipt still runs: its request may come.
        if self._stopping and (line is None or not self._unreceipted):
            raise ErrorReply("shutting-down", "The server is shutting down.")
        return line

    def _answer(self, line: bytes) -> None:
        try:
            self._obey(protocol.parse_request(line))
        except ErrorReply as error:
            # Bytes that were sent behind a PUT without waiting for OK would be read as requests.
            if _word(line) == "PUT" and self.connection.has_input():
                error.closes = True
            raise
        except (Stopped, FileChanged) as error:
            raise _Goodbye from error  # no END, no success: the closing says it
        except (PeerGone, Stalled, _Goodbye):
            raise
        except Exception as error:
            self.connection.expect_to_block()
            log.exception("%s failed", _word(line))
            refusal = ErrorReply("internal", "The server made a mistake; its log says more.")
            refusal.closes = True
            raise refusal from error

    def _obey(self, request: protocol.Request) -> None:
        if request.verb != "RECEIPT":
            self._abandon_unreceipted()
        verb = protocol.VERBS[request.verb]
        if verb.may_block:
            self.connection.expect_to_block()
        right = protocol.WRITE if request.fields.get("upload") else verb.right
        if right and right not in self.grant.rights:
            code = "denied" if self.grant.user else "auth-required"
            raise ErrorReply(code, f"{request.verb} needs the right '{right}'.")
        speaks_for_others = set(map(request.fields.get, protocol.RELAY_FIELDS)) != {None}
        if speaks_for_others and not self.grant.relay:
            raise ErrorReply("denied", "Only the site may speak for somebody else (client, user, via).")
        getattr(self, "do_" + request.verb.lower())(request.fields)

    # --- verbs

    def do_ping(self, ask: Fields) -> None:
        self._reply(protocol=protocol.NAME, **self.context.registry.ping())

    def do_help(self, ask: Fields) -> None:
        self._reply(verbs={name: verb.help for name, verb in protocol.VERBS.items()})

    def do_auth(self, ask: Fields) -> None:
        grant = self.context.authorize(ask["token"], self.host)
        if grant is None or grant.ticket:
            raise ErrorReply("denied", "This token is not known here.")
        self._grant = grant
        self._reply(user=grant.user, can=[right for right in protocol.RIGHTS if right in grant.rights])

    def do_list(self, ask: Fields) -> None:
        unread: set[str] = set()
        listing = self.context.storage.entries(ask["prefix"], ask["after"], unread.add)
        with contextlib.closing(listing) as found:
            entries = list(itertools.islice(found, ask["limit"] + 1))
        more = len(entries) > ask["limit"]
        missing = {"unread": len(unread)} if unread else {}
        lines = [protocol.ok(count=min(len(entries), ask["limit"]), more=more, **missing)]
        for entry in entries[: ask["limit"]]:
            lines.append(protocol.bare({"name": entry.name, "size": entry.size, "mtime": entry.mtime}))
        self.connection.send(b"".join(lines))

    def do_stat(self, ask: Fields) -> None:
        if ask["upload"] is not None:
            state = self.context.uploads.state(ask["upload"])
            self._reply(
                upload=state.id,
                name=state.name,
                size=state.size,
                offset=state.offset,
                published=state.published,
                expires=state.expires,
                metadata=state.metadata,
            )
            return
        entry = self.context.storage.stat(ask["name"])
        self._reply(**_state_of(entry), sha256=self.context.storage.sha256_of(entry))

    def do_get(self, ask: Fields) -> None:
        pace = self._allowed_pace(ask["pace"])
        with self.context.opener.open(ask["name"]) as file:
            if ask["etag"] is not None and ask["etag"] != file.etag:
                raise ErrorReply("changed", f"{shown(file.name)} is not the same as before; start again.")
            if ask["offset"] > file.size:
                raise ErrorReply("bad-range", f"{shown(file.name)} has only {file.size} bytes.")
            rest = file.size - ask["offset"]
            length = rest if ask["length"] is None else min(rest, ask["length"])
            transfer = self._start(
                "download",
                {**ask, "name": file.name},
                size=file.size,
                offset=ask["offset"],
                length=length,
                pace=pace,
            )
            try:
                sha256 = self.context.storage.sha256_of(file)
                header = protocol.content_ok(
                    transfer.id, file.name, file.size, file.mtime, file.etag, transfer.offset, length, sha256
                )
                send(self.connection, file, transfer, header, protocol.content_end(transfer.id, length))
            except (ErrorReply, PeerGone, Stalled, Stopped, FileChanged) as error:
                self._end(transfer, error)
                raise
            except BaseException as error:
                self._end(transfer, error)
                log.exception("%s could not be sent", shown(file.name))
                # Bytes are promised: an ERR line here would be taken for some of them.
                raise _Goodbye from error
        if transfer.via == "web":
            self._unreceipted = (transfer, file)
        else:
            self._remember_delivery(transfer, file)
            self._end(transfer)

    def do_receipt(self, ask: Fields) -> None:
        if self._unreceipted and self._unreceipted[0].id == ask["id"]:
            transfer, file = self._unreceipted
            verified = self._verify(file, ask["sha256"])
            self._unreceipted = None
            self._end(transfer, ErrorReply("checksum", "") if verified is False else None, verified)
        else:
            self._abandon_unreceipted()
            if ask["id"] not in self._delivered:
                raise ErrorReply("not-running", f"This connection has received no transfer {ask['id']}.")
            file = self._delivered[ask["id"]]
            verified = self._verify(file, ask["sha256"])
            if verified is not None:
                self.context.observer(TransferVerified(ask["id"], file.name, verified))
        self._reply(verified=verified)

    def do_delete(self, ask: Fields) -> None:
        if ask["upload"] is not None:
            if ask["etag"] is not None:
                raise ErrorReply("bad-request", "An upload has no etag.")
            self._reply(name=self._delete_upload(ask["upload"]))
            return
        name = self.context.storage.delete(ask["name"], ask["etag"])
        client = ask["client"] or self.connection.peer
        self.context.observer(FileDeleted(name, client, ask["user"] or self.grant.user))
        self.context.registry.files_changed()
        self._reply(name=name)

    def do_watch(self, ask: Fields) -> None:
        self._reply()
        with self.context.registry.watching() as watcher:
            while not self._stopping and not self.connection.has_closed():
                line = watcher.next_line(WATCH_LOOK)
                if line is not None:
                    self.connection.send(protocol.bare(line))
        if not self._stopping:
            raise _Goodbye

    def do_cancel(self, ask: Fields) -> None:
        upload = self.context.registry.cancel(ask["id"])
        if upload:
            with contextlib.suppress(ErrorReply):  # its writer was quicker
                self.context.uploads.delete(upload)
        self._reply(id=ask["id"], state="cancelled")

    def do_quit(self, ask: Fields) -> None:
        self._reply()
        raise _Goodbye

    # --- transfers

    def _abandon_unreceipted(self) -> None:
        """A relayed download without its receipt: the browser did not get all of it."""
        if self._unreceipted:
            transfer, _ = self._unreceipted
            self._unreceipted = None
            self._end(transfer, PeerGone("The relay gave no receipt."))

    def _remember_delivery(self, transfer: Transfer, file: Entry | Content) -> None:
        self._delivered[transfer.id] = file
        if len(self._delivered) > MAX_RECEIPTS:
            self._delivered.popitem(last=False)

    def _verify(self, delivered: Entry | Content, sha256: str | None) -> bool | None:
        """Compare with what was sent; ``None`` if no hash was given or that state of the file is gone."""
        if sha256 is None:
            return None
        storage = self.context.storage
        known = storage.sha256_of(delivered)
        if known is None:
            try:
                with storage.open(delivered.name) as file:
                    if file.etag != delivered.etag:
                        return None
                    known = file.sha256(self._check_stopping)
                    if file.has_changed():
                        return None
            except (ErrorReply, OSError):
                return None
            storage.remember_hash(delivered.name, delivered.etag, known)
            self.context.observer(FileHashed(delivered.name, delivered.etag, known))
        return known == sha256


def _word(line: bytes) -> str:
    return line.partition(b" ")[0].decode("ascii", "replace").upper()


def _state_of(file: Entry | Content) -> Fields:
    return {"name": file.name, "size": file.size, "mtime": file.mtime, "etag": file.etag}
