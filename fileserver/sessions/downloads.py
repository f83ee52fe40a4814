"""``GET`` and ``RECEIPT``: the bytes of a file, and the word that they have arrived."""

import logging
from collections import OrderedDict

from fileserver.events import FileHashed, TransferVerified
from fileserver.names import shown
from fileserver.net.stall import PeerGone, Stalled
from fileserver.sessions.peer import Goodbye, Peer
from fileserver.storage.base import Content, Entry
from fileserver.transfers.copying import FileChanged, send
from fileserver.transfers.transfer import Stopped, Transfer
from fileserver.wire import replies
from fileserver.wire.replies import ErrorReply
from fileserver.wire.requests import Get, Receipt

log = logging.getLogger(__name__)

MAX_RECEIPTS = 1000  # deliveries that a session remembers, to check a receipt against


class DownloadVerbs:
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._unreceipted: tuple[Transfer, Entry] | None = None
        self._delivered: OrderedDict[int, Entry] = OrderedDict()

    def get(self, request: Get) -> None:
        peer, connection = self._peer, self._peer.connection
        pace = peer.allowed_pace(request.pace)
        with self._context.opener.open(request.name) as file:
            length = _length_of(request, file)
            span = (file.size, request.offset, length)
            transfer = peer.start_download(file.name, span, pace, request)
            try:
                sha256 = self._context.storage.sha256_of(file)
                header = replies.content_ok(transfer.id, file, request.offset, length, sha256)
                with connection.breakable():
                    send(connection, file, transfer, header, replies.content_end(transfer.id, length))
                if (
                    request.via == "web"
                ):  # it runs on until its receipt, which a wait for the next line brings
                    transfer.control.wake_by(connection.wake)
                else:
                    transfer.control.settle()
            except (Stopped, Stalled) as error:
                # What waits in the system's queue may be all of a small file, END too: it must not arrive.
                connection.reset()
                peer.end(transfer, error)
                raise
            except (ErrorReply, PeerGone, FileChanged) as error:
                peer.end(transfer, error)
                raise
            except BaseException as error:
                peer.end(transfer, error)
                log.exception("%s could not be sent", shown(file.name))
                # Bytes are promised: an ERR line here would be taken for some of them.
                raise Goodbye from error
        # What a receipt is checked against, and no more of the file: one connection may get thousands.
        delivered = Entry(file.name, file.size, file.mtime, file.etag)
        if request.via == "web":
            self._unreceipted = (transfer, delivered)
        else:
            self._remember(transfer.id, delivered)
            peer.end(transfer)

    def receipt(self, request: Receipt) -> None:
        if self._unreceipted and self._unreceipted[0].id == request.id:
            transfer, file = self._unreceipted
            verified = self._verify(file, request.sha256)
            self._unreceipted = None
            self._peer.end(transfer, ErrorReply("checksum", "") if verified is False else None, verified)
        else:
            self.abandon()
            if request.id not in self._delivered:
                raise ErrorReply("not-running", f"This connection has received no transfer {request.id}.")
            file = self._delivered[request.id]
            verified = self._verify(file, request.sha256)
            if verified is not None:
                self._context.observer(TransferVerified(request.id, file.name, verified))
        self._peer.reply(verified=verified)

    # --- relayed downloads

    @property
    def awaits_receipt(self) -> bool:
        """Whether a relay has all bytes of a download and has not said yet that its browser has them."""
        return self._unreceipted is not None

    def abandon(self) -> None:
        """No receipt will come for a relayed download: the browser did not get all of it."""
        if self._unreceipted:
            transfer, _ = self._unreceipted
            self._unreceipted = None
            self._peer.end(transfer, PeerGone("The relay gave no receipt."))

    # --- hashes

    def _remember(self, id: int, delivered: Entry) -> None:
        self._delivered[id] = delivered
        if len(self._delivered) > MAX_RECEIPTS:
            self._delivered.popitem(last=False)

    def _verify(self, delivered: Entry, sha256: str | None) -> bool | None:
        """Compare with what was sent; ``None`` if no hash was given or that state of the file is gone."""
        if sha256 is None:
            return None
        storage = self._context.storage
        known = storage.sha256_of(delivered)
        if known is None:
            try:
                with storage.open(delivered.name) as file:
                    if file.etag != delivered.etag:
                        return None
                    known = file.sha256(self._peer.check_stopping)
                    if file.has_changed():
                        return None
            except (ErrorReply, OSError):
                return None
            storage.remember_hash(delivered.name, delivered.etag, known)
            self._context.observer(FileHashed(delivered.name, delivered.etag, known))
        return known == sha256


def _length_of(request: Get, file: Content) -> int:
    """How many bytes are asked for. Raises ``changed`` and ``bad-range``."""
    if request.etag is not None and request.etag != file.etag:
        raise ErrorReply("changed", f"{shown(file.name)} is not the same as before; start again.")
    if request.offset > file.size:
        raise ErrorReply("bad-range", f"{shown(file.name)} has only {file.size} bytes.")
    rest = file.size - request.offset
    return rest if request.length is None else min(rest, request.length)
