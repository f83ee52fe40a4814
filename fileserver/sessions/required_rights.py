"""Which rights each verb asks for, and about which name, before its method is called.

A test fails when a verb is not in this table.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fileserver import rights
from fileserver.rights import Right
from fileserver.sessions.peer import Peer
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Cancel, Delete, Get, MakeFolder, Put, Stat

Asked = Iterable[tuple[Right, str]]


def _nothing(request: Any, peer: Peer) -> Asked:
    return ()


def _stat(request: Stat, peer: Peer) -> Asked:
    if request.upload is not None:
        return ((rights.ADD, peer.context.uploads.state(request.upload).name),)
    return ((rights.LIST if request.is_about_folder else rights.GET, request.name or ""),)


def _get(request: Get, peer: Peer) -> Asked:
    return ((rights.GET, request.name),)


def _receipt(request: Any, peer: Peer) -> Asked:
    return ((rights.GET, ""),)  # the name was asked about when this connection was given the file


def _put(request: Put, peer: Peer) -> Asked:
    may_replace = request.exists == "replace" or request.etag is not None
    if request.upload is not None and request.exists is None and request.etag is None:
        may_replace = peer.context.uploads.state(request.upload).may_replace  # as was said when it began
    return ((rights.ADD, request.name), *([(rights.REPLACE, request.name)] if may_replace else ()))


def _delete(request: Delete, peer: Peer) -> Asked:
    if request.upload is not None:
        if request.etag is not None:  # said before the upload is looked for
            raise ErrorReply("bad-request", "An upload has no etag.")
        return ((rights.ADD, peer.context.uploads.state(request.upload).name),)
    return ((rights.DELETE, request.name or ""),)


def _make_folder(request: MakeFolder, peer: Peer) -> Asked:
    return ((rights.ADD, request.name.removesuffix("/") + "/"),)


def _cancel(request: Cancel, peer: Peer) -> Asked:
    transfer = peer.context.registry.find(request.id)
    if transfer is not None and peer.speaker(request).is_same_as(transfer.owner.principal):
        return ()  # everybody may stop their own
    return ((rights.CONTROL, transfer.name if transfer else ""),)


ASKS: Mapping[str, Callable[[Any, Peer], Asked]] = {
    "PING": _nothing,
    "HELP": _nothing,
    "AUTH": _nothing,
    "LIST": _nothing,  # the method asks for each name
    "STAT": _stat,
    "GET": _get,
    "RECEIPT": _receipt,
    "PUT": _put,
    "DELETE": _delete,
    "MKDIR": _make_folder,
    "WATCH": _nothing,  # which transfers it shows, is asked for each of them
    "CANCEL": _cancel,
    "QUIT": _nothing,
}
