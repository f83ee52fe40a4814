"""The client at the other end, as all parts of its session see it: its connection, who it is, its transfer.

A peer belongs to the thread of its session. Other threads may only call ``wind_down``.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from fileserver.context import ServerContext
from fileserver.events import Direction, TransferFacts
from fileserver.names import composed
from fileserver.net.address import host_of
from fileserver.net.connection import Connection
from fileserver.net.stall import PeerGone
from fileserver.pacing import Pace, is_slower
from fileserver.rights import ADD, GET, REPLACE, WATCH, Principal, Right
from fileserver.transfers.copying import ending_of
from fileserver.transfers.transfer import Control, Owner, Stopped, Transfer
from fileserver.wire import replies, verbs
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Get, Put, RelayRequest

Span = tuple[int, int, int]  # size of the file, offset and length of what is to move; bytes
Party = tuple[str, str]  # client and via, as the history tells them


class Goodbye(Exception):
    """The conversation is over and everything is said."""


class Peer:
    def __init__(self, connection: Connection, context: ServerContext, thread: str, host: str) -> None:
        self.connection = connection
        self.context = context
        self.thread = thread
        self.host = host
        self._principal: Principal | None = None
        self._is_known = False
        self._lock = threading.Lock()
        # Written under the lock. Read without it too: whoever reads it early finds the connection's end next.
        self.is_stopping = False
        self._is_transferring = False

    def wind_down(self) -> None:
        """From any thread: take no further request; a transfer that runs may come to its end."""
        with self._lock:
            self.is_stopping = True
            if not self._is_transferring:
                self.connection.stop_reading()

    def check_stopping(self) -> None:
        if self.is_stopping:
            raise ErrorReply("shutting-down", "The server is shutting down.")

    def reply(self, **fields: Any) -> None:
        self.connection.send(replies.ok(**fields))

    # --- who it is, and what it may do

    @property
    def principal(self) -> Principal | None:
        """``None`` for somebody who may do nothing until it says who it is."""
        if not self._is_known:
            self._principal = self.context.access.authenticate(None, self.host)
            self._is_known = True
        return self._principal

    def authenticate(self, token: str) -> Principal:
        found: Principal | None = self.context.access.authenticate(token, self.host)
        if found is None or found.ticket:
            raise ErrorReply("denied", "This token is not known here.")
        self._principal, self._is_known = found, True
        return found

    def may(self, right: Right, name: str = "") -> bool:
        principal = self.principal
        return principal is not None and self.context.access.may(principal, right, composed(name))

    def may_somewhere(self, right: Right, prefix: str) -> bool:
        """Whether this peer has the right for any file whose name may begin so."""
        principal = self.principal
        return principal is not None and self.context.access.may_somewhere(principal, right, composed(prefix))

    def may_see(self, transfer: Transfer) -> bool:
        """Whether this peer may watch that transfer: everybody may watch their own."""
        principal = self.principal
        if principal is None:
            return False
        return principal.is_same_as(transfer.owner.principal) or self.may(WATCH, transfer.name)

    def require(self, verb: str, right: Right, name: str, behalf: RelayRequest | None = None) -> None:
        """Raise ``ErrorReply`` unless this peer may do that, and whom it speaks for too."""
        asker = self.principal
        allowed = self.may(right, name)
        if allowed and behalf is not None and (spoken_for := self._spoken_for(behalf)):
            asker = spoken_for
            allowed = self.context.access.may(spoken_for, right, composed(name))
        if not allowed:
            raise self.refusal(verb, right, asker)

    def refusal(self, verb: str, right: Right, asker: Principal | None) -> ErrorReply:
        code = "denied" if asker and asker.user else "auth-required"
        return ErrorReply(code, f"{verb} needs the right '{verbs.word_of(right)}'.")

    def speaker(self, request: RelayRequest) -> Principal:
        """Whose request this is: whom a relay names, or this peer itself."""
        spoken_for = self._spoken_for(request)
        if spoken_for is None:
            return self.principal or Principal(address=self.host)
        return spoken_for

    def _spoken_for(self, request: RelayRequest) -> Principal | None:
        """Whom a relay names. Raises ``denied`` if somebody else tries."""
        if (request.client, request.user, request.via, request.principal) == (None, None, None, None):
            return None
        if self.principal is None or not self.principal.is_relay:
            raise ErrorReply(
                "denied", "Only the site may speak for somebody else (client, user, via, principal)."
            )
        # A client whose address cannot be read has none: the relay's own would give it the relay's rights.
        address = self.host if request.client is None else host_of(request.client)
        kind, key = request.principal or ("guest", 0)
        return Principal(kind, request.user, address, key=key)

    def recheck(self) -> None:
        """From any thread: send away a peer that is not known any more.

        Its thread may be changing who it is just now. Then it is a new one, which was known a moment ago.
        """
        principal = self._principal
        if principal is None or self.context.access.is_known(principal):
            return
        with self._lock:
            if self._principal is principal:
                self._principal = None  # it may do nothing from here on
                if not self._is_transferring:
                    self.connection.stop_reading()

    # --- transfers

    def allowed_pace(self, asked: Pace | None) -> Pace | None:
        own = self.context.options.pace
        if asked is None:
            return own
        if not is_slower(asked, than=own):
            raise ErrorReply("denied", f"The server's pace is {own}: only a slower one may be asked for.")
        return asked

    def start_download(self, name: str, span: Span, pace: Pace | None, request: Get) -> Transfer:
        """Who stops a download must break the connection, not end it: see ``Connection.break_off``."""
        return self._download(name, span, pace, self.speaker(request), self._party(request))

    def start_ticketed(self, name: str, span: Span, pace: Pace | None, holder: Principal) -> Transfer:
        """The same of a browser with a ticket."""
        return self._download(name, span, pace, holder, (self.connection.peer, "web"))

    def _download(self, name: str, span: Span, pace: Pace | None, who: Principal, party: Party) -> Transfer:
        facts = self._facts("download", name, span, pace, who, party)
        return self._start(facts, pace, Owner(who, (GET,)), self.connection.break_off)

    def start_upload(self, request: Put, upload: str, done: int, owner: Owner) -> Transfer:
        pace = self.context.options.pace
        span = (request.size, 0, request.size)
        facts = self._facts("upload", request.name, span, pace, owner.principal, self._party(request))
        return self._start(facts._replace(upload=upload, done=done), pace, owner)

    def owner_of(self, request: Put, may_replace: bool) -> Owner:
        """Whose upload it is, and what they must be allowed as long as it runs."""
        return Owner(self.speaker(request), (ADD, REPLACE) if may_replace else (ADD,))

    def _facts(
        self,
        direction: Direction,
        name: str,
        span: Span,
        pace: Pace | None,
        who: Principal,
        party: Party,
    ) -> TransferFacts:
        client, via = party
        text = "" if pace is None else str(pace)
        return TransferFacts(
            0,
            direction,
            name,
            *span,
            client,
            who.user,
            via,
            self.thread,
            text,
            time.time(),
            principal=str(who),
        )

    def _party(self, request: Get | Put) -> Party:
        return request.client or self.connection.peer, request.via or "tcp"

    def _start(
        self, facts: TransferFacts, pace: Pace | None, owner: Owner, wake: Callable[[], None] | None = None
    ) -> Transfer:
        self.begin_transfer()
        return self.context.registry.start(facts, Control(wake or self.connection.wake, pace), owner)

    def end(
        self, transfer: Transfer, error: BaseException | None = None, verified: bool | None = None
    ) -> None:
        """The one place in which a transfer gets its ending, for every way to move bytes."""
        reason = transfer.control.close()
        if reason and (error is None or isinstance(error, PeerGone)):
            error = Stopped(reason)  # who stops a transfer ends its connection too
        outcome, word = ending_of(error)
        self.context.registry.finish(transfer, outcome, word, verified)
        self.end_transfer()

    def begin_transfer(self) -> None:
        with self._lock:
            self.check_stopping()
            self._is_transferring = True

    def end_transfer(self) -> None:
        with self._lock:
            self._is_transferring = False
