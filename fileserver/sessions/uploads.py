"""How uploads come in: a ``PUT`` from its line to its file, at once or by parts, and on after a break."""

from fileserver.events import FilePublished
from fileserver.names import composed, shown
from fileserver.net.connection import PeerGone, Stalled, StallGuard
from fileserver.sessions.base import Handler
from fileserver.storage.base import UploadRequest, UploadStatus, Writer
from fileserver.storage.claims import Displaced
from fileserver.transfers.copying import receive
from fileserver.transfers.registry import Stopped, Transfer
from fileserver.wire import verbs as protocol
from fileserver.wire.verbs import ErrorReply, Fields

# After these nothing of an upload is kept: it is wrong, or does not fit.
DISCARDING_CODES = frozenset({"checksum", "no-space", "too-large"})


class UploadVerbs(Handler):
    def do_put(self, ask: Fields) -> None:
        ask = {**ask, "name": composed(ask["name"])}  # macOS hands out decomposed ones
        upload = self._open_upload(ask)
        if isinstance(upload, UploadStatus):
            # It ended well, and the line broke before the client heard it: it may hear it again.
            self._reply(id=0, upload=upload.id, offset=upload.size)
            last = protocol.end(id=0, name=upload.published, size=upload.size, sha256=upload.sha256)
        else:
            try:
                last = self._receive(upload, ask)
            finally:
                upload.close()  # before END is out: the next part may come at once
        self.connection.send(last)
        if ask["length"] is None:
            # What is kept for those who did not hear END has no use once they have.
            self.connection.wait_acknowledged(StallGuard(self.context.limits.stall))
            self.context.uploads.forget(upload.id)

    def _open_upload(self, ask: Fields) -> Writer | UploadStatus:
        """A new upload, one to go on with, or the state of one that has ended."""
        name, size, upload_id = ask["name"], ask["size"], ask["upload"]
        most = self.context.limits.max_upload_size
        if most and size > most:
            raise ErrorReply("too-large", f"{shown(name)} has {size} bytes; the limit is {most}.")
        if ask["etag"] is not None and ask["exists"] in ("fail", "rename"):
            raise ErrorReply("bad-request", "An etag is of the file to be replaced: exists must be replace.")
        uploads, wake = self.context.uploads, self.connection.stop_reading
        if upload_id is None:
            if ask["offset"]:
                raise ErrorReply("offset", "A new upload begins at 0.", offset=0)
            exists, etag = _decided(ask) or ("fail", None)
            return uploads.begin(
                UploadRequest(name, size, exists, ask["sha256"], etag, ask["metadata"]), wake
            )
        state = uploads.state(upload_id)
        if (name, size) != (state.name, state.size):
            message = f"The upload {upload_id} is {shown(state.name)} with {state.size} bytes."
            raise ErrorReply("bad-request", message)
        return uploads.resume(upload_id, ask["offset"], self._check_stopping, wake)

    def _receive(self, upload: Writer, ask: Fields) -> bytes:
        """Take the bytes of one ``PUT``; the last line of the reply."""
        rest = ask["size"] - upload.offset
        length = rest if ask["length"] is None else min(rest, ask["length"])
        transfer = self._transfer_of(upload, ask)
        try:
            self._reply(id=transfer.id, upload=upload.id, offset=upload.offset)
            receive(self.connection, upload, transfer, length)
            if length == rest:
                return self._publish(upload, ask, transfer)
            if reason := transfer.wait():
                raise Stopped(reason)
        except BaseException as error:
            self._break_off(upload, transfer, error, is_part=ask["length"] is not None)
            raise
        self._end_transfer()
        return protocol.end(id=transfer.id, upload=upload.id, offset=upload.offset, expires=upload.expires)

    def _transfer_of(self, upload: Writer, ask: Fields) -> Transfer:
        """One transfer for all parts of an upload, as long as they come in time."""
        self._begin_transfer()
        waiting = self.context.registry.go_on(upload.id, self.thread, self.connection.wake)
        if waiting is not None:
            return waiting
        facts = {"size": ask["size"], "offset": 0, "length": ask["size"], "pace": self.context.options.pace}
        return self._start("upload", ask, **facts, upload=upload.id, done=upload.offset)

    def _publish(self, upload: Writer, ask: Fields, transfer: Transfer) -> bytes:
        if {ask["sha256"], upload.description.sha256} - {None, upload.sha256}:
            message = f"{shown(upload.name)} arrived with another hash; nothing was kept."
            raise ErrorReply("checksum", message)
        exists, etag = _decided(ask) or (upload.description.exists, upload.description.etag)
        upload.settle()
        if reason := transfer.close():  # from here on a cancel comes too late
            raise Stopped(reason)
        entry = upload.publish(exists, etag)
        transfer.name = entry.name
        self.context.observer(
            FilePublished(entry.name, entry.size, entry.mtime, entry.etag, upload.sha256, transfer.user)
        )
        self.context.registry.files_changed()
        self._end(transfer)
        return protocol.end(id=transfer.id, name=entry.name, size=entry.size, sha256=upload.sha256)

    def _break_off(self, upload: Writer, transfer: Transfer, error: BaseException, is_part: bool) -> None:
        """What came is kept for a next try, unless it is wrong, unwanted or does not fit."""
        if isinstance(error, ErrorReply):
            error.closes = True  # the rest of the bytes is on its way
        # Where somebody else goes on with it, it is still one transfer.
        may_wait = isinstance(error, Displaced) or (is_part and isinstance(error, PeerGone | Stalled))
        if may_wait and not transfer.wait():
            self._end_transfer()
            return
        is_wrong = isinstance(error, ErrorReply) and error.code in DISCARDING_CODES
        if transfer.close() == "cancelled" or is_wrong:
            upload.discard()
        self._end(transfer, error)

    def _delete_upload(self, upload_id: str) -> str:
        name = self.context.uploads.delete(upload_id)
        self.context.registry.cancel_upload(upload_id)
        return name


def _decided(ask: Fields) -> tuple[str, str | None] | None:
    """What this ``PUT`` wants if the name is taken, and in which state of the file; ``None``: it says not."""
    if ask["etag"] is not None:
        return "replace", ask["etag"]
    return None if ask["exists"] is None else (ask["exists"], None)
