"""Verbs about the server and its transfers: who is there, what moves, end it."""

import contextlib

from fileserver.rights import WATCH
from fileserver.sessions.peer import Goodbye, Peer
from fileserver.wire import lines, verbs
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Auth, Cancel, Nothing

CLOSED_INTERVAL = 1.0  # seconds between two checks whether a watcher is still there


class ControlVerbs:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context

    def ping(self, request: Nothing) -> None:
        self._peer.reply(protocol=lines.NAME, **self._context.registry.ping())

    def help(self, request: Nothing) -> None:
        self._peer.reply(verbs={name: verb.help for name, verb in verbs.VERBS.items()})

    def auth(self, request: Auth) -> None:
        principal = self._peer.authenticate(request.token)
        can = [word for word, asked in verbs.RIGHTS.items() if any(map(self._peer.may, asked))]
        self._peer.reply(user=principal.user, can=can)

    def watch(self, request: Nothing) -> None:
        peer = self._peer
        if peer.principal is None:
            raise peer.refusal("WATCH", WATCH, None)
        peer.reply()
        with self._context.registry.watching(peer.may_see) as watcher:
            while not peer.is_stopping and not peer.connection.has_closed():
                line = watcher.next_line(CLOSED_INTERVAL)
                if line is not None:
                    peer.connection.send(lines.bare(line))
        if not peer.is_stopping:
            raise Goodbye

    def cancel(self, request: Cancel) -> None:
        upload = self._context.registry.cancel(request.id)
        if upload:
            with contextlib.suppress(ErrorReply):  # its writer was quicker
                self._context.uploads.delete(upload)
        self._peer.reply(id=request.id, state="cancelled")

    def quit(self, request: Nothing) -> None:
        self._peer.reply()
        raise Goodbye
