"""Which rights each verb asks for, and about which name, before its method is called.

A test fails when a verb is not in this table.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fileserver import rights
from fileserver.context import ServerContext
from fileserver.rights import Right
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Cancel, Delete, Get, List, Put, Stat

Asked = Iterable[tuple[Right, str]]


def _nothing(request: Any, context: ServerContext) -> Asked:
    return ()


def _list(request: List, context: ServerContext) -> Asked:
    return ((rights.LIST, request.prefix),)


def _stat(request: Stat, context: ServerContext) -> Asked:
    if request.upload is not None:
        return ((rights.ADD, context.uploads.state(request.upload).name),)
    return ((rights.GET, request.name or ""),)


def _get(request: Get, context: ServerContext) -> Asked:
    return ((rights.GET, request.name),)


def _receipt(request: Any, context: ServerContext) -> Asked:
    return ((rights.GET, ""),)  # the name was asked about when this connection was given the file


def _put(request: Put, context: ServerContext) -> Asked:
    may_replace = request.exists == "replace" or request.etag is not None
    if request.upload is not None and request.exists is None and request.etag is None:
        may_replace = context.uploads.state(request.upload).may_replace  # as was said when it began
    return ((rights.ADD, request.name), *([(rights.REPLACE, request.name)] if may_replace else ()))


def _delete(request: Delete, context: ServerContext) -> Asked:
    if request.upload is not None:
        if request.etag is not None:  # said before the upload is looked for
            raise ErrorReply("bad-request", "An upload has no etag.")
        return ((rights.ADD, context.uploads.state(request.upload).name),)
    return ((rights.DELETE, request.name or ""),)


def _watch(request: Any, context: ServerContext) -> Asked:
    return ((rights.WATCH, ""),)


def _cancel(request: Cancel, context: ServerContext) -> Asked:
    return ((rights.CONTROL, context.registry.name_of(request.id)),)


ASKS: Mapping[str, Callable[[Any, ServerContext], Asked]] = {
    "PING": _nothing,
    "HELP": _nothing,
    "AUTH": _nothing,
    "LIST": _list,
    "STAT": _stat,
    "GET": _get,
    "RECEIPT": _receipt,
    "PUT": _put,
    "DELETE": _delete,
    "WATCH": _watch,
    "CANCEL": _cancel,
    "QUIT": _nothing,
}
