"""How uploads come in: a ``PUT`` from its line to its file, at once or by parts, and on after a break."""

from fileserver.events import FilePublished
from fileserver.names import composed, shown
from fileserver.net.stall import PeerGone, Stalled, StallGuard
from fileserver.sessions.peer import Peer
from fileserver.storage.base import UploadRequest, UploadStatus, Writer
from fileserver.storage.claims import Displaced
from fileserver.transfers.copying import receive
from fileserver.transfers.transfer import Stopped, Transfer
from fileserver.wire import replies
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Put

# After these nothing of an upload is kept: it is wrong, or does not fit.
DISCARDING_CODES = frozenset({"checksum", "no-space", "too-large"})


class UploadVerbs:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context

    def put(self, request: Put) -> None:
        request = request._replace(name=composed(request.name))  # macOS hands out decomposed ones
        # All of it, in each part: what has come so far is counted nowhere else.
        over = self._context.access.reserve(self._peer.speaker(request), request.name, request.size)
        stored = None
        try:
            stored = self._put(request)
        finally:
            over(stored)

    def _put(self, request: Put) -> str | None:
        """The name that the file got, if it is one now."""
        upload = self._open_upload(request)
        stored = None
        if isinstance(upload, UploadStatus):
            # It ended well, and the line broke before the client heard it: it may hear it again.
            self._peer.reply(id=0, upload=upload.id, offset=upload.size)
            last = replies.end(id=0, name=upload.published, size=upload.size, sha256=upload.sha256)
        else:
            try:
                last, stored = self._receive(upload, request)
            finally:
                upload.close()  # before END is out: the next part may come at once
        self._peer.connection.send(last)
        if request.length is None:
            # What is kept for those who did not hear END has no use once they have.
            self._peer.connection.wait_acknowledged(StallGuard(self._context.limits.stall))
            self._context.uploads.forget(upload.id)
        return stored

    def _open_upload(self, request: Put) -> Writer | UploadStatus:
        """A new upload, one to resume, or the state of one that has ended."""
        name, size, upload_id = request.name, request.size, request.upload
        most = self._context.limits.max_upload_size
        if most and size > most:
            raise ErrorReply("too-large", f"{shown(name)} has {size} bytes; the limit is {most}.")
        if request.etag is not None and request.exists in ("fail", "rename"):
            raise ErrorReply("bad-request", "An etag is of the file to be replaced: exists must be replace.")
        uploads, wake = self._context.uploads, self._peer.connection.stop_reading
        if upload_id is None:
            if request.offset:
                raise ErrorReply("offset", "A new upload begins at 0.", offset=0)
            exists, etag = _decided(request) or ("fail", None)
            facts = (name, size, exists, request.sha256, etag, request.metadata)
            return uploads.begin(UploadRequest(*facts), wake)
        state = uploads.state(upload_id)
        if (name, size) != (state.name, state.size):
            message = f"The upload {upload_id} is {shown(state.name)} with {state.size} bytes."
            raise ErrorReply("bad-request", message)
        return uploads.resume(upload_id, request.offset, self._peer.check_stopping, wake)

    def _receive(self, upload: Writer, request: Put) -> tuple[bytes, str | None]:
        """Take the bytes of one ``PUT``; the last line of the reply, and the name if it is a file now."""
        rest = request.size - upload.offset
        length = rest if request.length is None else min(rest, request.length)
        transfer = self._transfer_of(upload, request)
        try:
            self._peer.reply(id=transfer.id, upload=upload.id, offset=upload.offset)
            receive(self._peer.connection, upload, transfer, length)
            if length == rest:
                return self._publish(upload, request, transfer)
            if reason := transfer.control.wait_for_part():
                raise Stopped(reason)
        except BaseException as error:
            self._break_off(upload, transfer, error, is_part=request.length is not None)
            raise
        self._peer.end_transfer()
        facts = {"upload": upload.id, "offset": upload.offset, "expires": upload.expires}
        return replies.end(id=transfer.id, **facts), None

    def _transfer_of(self, upload: Writer, request: Put) -> Transfer:
        """One transfer for all parts of an upload, as long as they come in time."""
        self._peer.begin_transfer()
        peer = self._peer
        exists, _ = _decided(request) or (upload.description.exists, None)
        owner = peer.owner_of(request, may_replace=exists == "replace")
        waiting = self._context.registry.resume(upload.id, peer.thread, peer.connection.wake, owner)
        return waiting or peer.start_upload(request, upload.id, upload.offset, owner)

    def _publish(self, upload: Writer, request: Put, transfer: Transfer) -> tuple[bytes, str]:
        if {request.sha256, upload.description.sha256} - {None, upload.sha256}:
            message = f"{shown(upload.name)} arrived with another hash; nothing was kept."
            raise ErrorReply("checksum", message)
        exists, etag = _decided(request) or (upload.description.exists, upload.description.etag)
        upload.settle()
        transfer.control.settle()
        entry = upload.publish(exists, etag)
        transfer.name = entry.name
        self._context.observer(
            FilePublished(entry.name, entry.size, entry.mtime, entry.etag, upload.sha256, transfer.facts.user)
        )
        self._context.registry.files_changed()
        self._peer.end(transfer)
        facts = {"name": entry.name, "size": entry.size, "sha256": upload.sha256}
        return replies.end(id=transfer.id, **facts, replaced=upload.replaced), entry.name

    def _break_off(self, upload: Writer, transfer: Transfer, error: BaseException, is_part: bool) -> None:
        """What came is kept for a next try, unless it is wrong, unwanted or does not fit."""
        if isinstance(error, ErrorReply):
            error.closes = True  # the rest of the bytes is on its way
        # Where another client resumes it, it is still one transfer.
        may_wait = isinstance(error, Displaced) or (is_part and isinstance(error, PeerGone | Stalled))
        if may_wait and not transfer.control.wait_for_part():
            self._peer.end_transfer()
            return
        is_wrong = isinstance(error, ErrorReply) and error.code in DISCARDING_CODES
        if transfer.control.close() == "cancelled" or is_wrong:
            upload.discard()
        self._peer.end(transfer, error)


def _decided(request: Put) -> tuple[str, str | None] | None:
    """What this ``PUT`` wants if the name is taken, and in which state of the file; ``None``: it says not."""
    if request.etag is not None:
        return "replace", request.etag
    return None if request.exists is None else (request.exists, None)
