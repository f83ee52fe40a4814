"""What the handling of every verb stands on: the connection, what the client may do, its transfers.

A handler belongs to one thread. Others may only ask it to ``wind_down``.
"""

import threading
from collections.abc import Callable
from typing import Any

from fileserver.context import Grant, ServerContext
from fileserver.events import Direction
from fileserver.net.connection import Connection
from fileserver.net.stall import PeerGone
from fileserver.pacing import Pace, is_slower
from fileserver.transfers.copying import ending_of
from fileserver.transfers.registry import Stopped, Transfer
from fileserver.wire import verbs as protocol
from fileserver.wire.verbs import ErrorReply, Fields


class Handler:
    def __init__(self, connection: Connection, context: ServerContext, thread: str, host: str) -> None:
        self.connection = connection
        self.host = host
        self.context = context
        self.thread = thread
        self._grant: Grant | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._transferring = False

    def wind_down(self) -> None:
        """From any thread: take no further request; a transfer that runs may come to its end."""
        with self._lock:
            self._stopping = True
            if not self._transferring:
                self.connection.stop_reading()

    @property
    def grant(self) -> Grant:
        if self._grant is None:
            found = self.context.authorize(None, self.host)
            self._grant = found or Grant(None, frozenset())
        return self._grant

    def _reply(self, **fields: Any) -> None:
        self.connection.send(protocol.ok(**fields))

    # --- transfers

    def _allowed_pace(self, asked: Pace | None) -> Pace | None:
        own = self.context.options.pace
        if asked is None:
            return own
        if not is_slower(asked, than=own):
            raise ErrorReply("denied", f"The server's pace is {own}: only a slower one may be asked for.")
        return asked

    def _start(
        self, direction: Direction, ask: Fields, wake: Callable[[], None] | None = None, **facts: Any
    ) -> Transfer:
        self._begin_transfer()
        return self.context.registry.start(
            direction=direction,
            name=ask["name"],
            client=ask["client"] or self.connection.peer,
            user=ask["user"] or self.grant.user,
            via=ask["via"] or "tcp",
            thread=self.thread,
            wake=wake or self.connection.wake,
            **facts,
        )

    def _end(
        self, transfer: Transfer, error: BaseException | None = None, verified: bool | None = None
    ) -> None:
        reason = transfer.close()
        if reason and (error is None or isinstance(error, PeerGone)):
            error = Stopped(reason)  # who stops a transfer ends its connection too
        outcome, word = ending_of(error)
        self.context.registry.finish(transfer, outcome, word, verified)
        self._end_transfer()

    def _begin_transfer(self) -> None:
        with self._lock:
            if self._stopping:
                raise ErrorReply("shutting-down", "The server is shutting down.")
            self._transferring = True

    def _end_transfer(self) -> None:
        with self._lock:
            self._transferring = False

    def _check_stopping(self) -> None:
        if self._stopping:
            raise ErrorReply("shutting-down", "The server is shutting down.")
