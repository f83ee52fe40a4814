"""Verbs about the files and uploads that are there: list, stat, delete."""

import contextlib
import itertools
from typing import Any

from fileserver.events import FileDeleted
from fileserver.rights import LIST
from fileserver.sessions.peer import Peer
from fileserver.storage.base import Entry
from fileserver.wire import lines, replies
from fileserver.wire.requests import Delete, List, MakeFolder, Stat


class FileVerbs:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context

    def list_files(self, request: List) -> None:
        peer, unread = self._peer, set[str]()
        if not peer.may_somewhere(LIST, request.prefix):
            raise peer.refusal("LIST", LIST, peer.principal)
        listing = self._context.storage.entries(request.prefix, request.after, unread.add)
        with contextlib.closing(listing) as found:
            visible = (entry for entry in found if peer.may(LIST, entry.name))
            entries = list(itertools.islice(visible, request.limit + 1))
        if not entries and not peer.may(LIST, request.prefix):
            raise peer.refusal("LIST", LIST, peer.principal)
        shown = entries[: request.limit]
        missing = {"unread": len(unread)} if unread else {}
        reply = [replies.ok(count=len(shown), more=len(entries) > request.limit, **missing)]
        for entry in shown:
            reply.append(lines.bare({"name": entry.name, "size": entry.size, "mtime": entry.mtime}))
        self._peer.connection.send(b"".join(reply))

    def stat(self, request: Stat) -> None:
        if request.upload is not None:
            self._peer.reply(**self._upload_fields(request.upload))
            return
        storage, name = self._context.storage, request.name or ""
        if request.is_about_folder:
            self._peer.reply(name=name, identity=storage.identity(name))
            return
        entry = storage.stat(name)
        which = {"identity": storage.identity(entry.name)} if request.identity else {}
        self._peer.reply(**_file_fields(entry), sha256=storage.sha256_of(entry), **which)

    def _upload_fields(self, upload: str) -> dict[str, Any]:
        status = self._context.uploads.state(upload)
        return {
            "upload": status.id,
            "name": status.name,
            "size": status.size,
            "offset": status.offset,
            "published": status.published,
            "expires": status.expires,
            "metadata": status.metadata,
        }

    def delete(self, request: Delete) -> None:
        if request.upload is not None:
            name = self._context.uploads.delete(request.upload)
            self._context.registry.cancel_upload(request.upload)
        else:
            name = self._context.storage.delete(request.name or "", request.etag)
            client = request.client or self._peer.connection.peer
            self._context.observer(FileDeleted(name, client, self._peer.speaker(request).user))
            self._context.registry.files_changed()
        self._peer.reply(name=name)

    def make_folder(self, request: MakeFolder) -> None:
        storage = self._context.storage
        name = storage.make_folder(request.name)
        self._peer.reply(name=name, identity=storage.identity(name))


def _file_fields(file: Entry) -> dict[str, Any]:
    return {"name": file.name, "size": file.size, "mtime": file.mtime, "etag": file.etag}
