"""The two byte loops, send and receive, and how each way to end is called.

Unpaced sends go from the disk's cache to the socket without passing through Python (``sendfile``); small
files leave in one piece with their header and ``END``, which is three times as fast as three sends. Paced
sends go a chunk at a time, each at its due time.
"""

import errno
import mmap
import os
import time

from fileserver.events import Outcome
from fileserver.net.connection import Connection, PeerGone, Stalled, StallGuard
from fileserver.pacing import Schedule
from fileserver.storage.base import Content, Writer
from fileserver.transfers.registry import Stopped, Transfer
from fileserver.wire.verbs import ErrorReply

SMALL = 64 * 1024  # bytes that are worth reading to save two system calls
WINDOW = 1 << 20  # bytes between two looks at cancel, and between two counts of progress
BUFFER = 2 << 20  # bytes of a receive: the longer, the less two processes on one machine wait for each other
PIECE = 512 * 1024  # bytes of a send where there is no sendfile
AHEAD = 16 * 1024  # bytes read at a time for small chunks

# What a file system says that cannot be sent from without reading.
_NO_SENDFILE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSOCK}


class FileChanged(Exception):
    """The open file has become shorter while it was sent: promised bytes do not exist any more."""


def send(
    connection: Connection, file: Content, transfer: Transfer, header: bytes, seal: bytes | None = None
) -> None:
    """Send ``header``, the promised bytes and their ``seal``; return when the peer's system has them all.

    The seal leaves when the file has proved to be the same to the end: ``END``, or, where a protocol has no
    such line (``None``), the last promised byte, so that what has changed never looks whole. Raises
    ``ErrorReply`` (``changed``) in place of the seal, ``FileChanged`` when there are too few bytes,
    ``PeerGone``, ``Stalled`` and ``Stopped``.
    """
    guard = StallGuard(connection.stall_seconds)
    stop = transfer.offset + transfer.length
    held = min(1, transfer.length) if seal is None else 0
    seal = bytes(_read(file, stop - held, held)) if seal is None else seal
    if transfer.pace is None and transfer.length <= SMALL:
        content = _read(file, transfer.offset, transfer.length - held)
        changed = file.has_changed()
        connection.send(header + content + (b"" if changed else seal), guard, transfer.check)
        transfer.advance(len(content))
    else:
        connection.send(header, guard, transfer.check)
        if transfer.pace is None:
            _send_unpaced(connection, file, transfer, guard, stop - held)
            # sendfile queues the pages of the file itself: a write can change them until they have arrived.
            connection.wait_acknowledged(guard, transfer.check)
        else:
            _send_paced(connection, file, transfer, guard, stop - held)
        changed = file.has_changed()
        if not changed:
            connection.send(seal, guard, transfer.check)
    if changed:
        raise ErrorReply("changed", "The file was changed while it was sent; ask for it again.")
    transfer.advance(held)
    connection.wait_acknowledged(guard, transfer.check)


def _read(file: Content, offset: int, size: int) -> bytes | bytearray:
    data = file.read(offset, size)
    while len(data) < size:
        more = file.read(offset + len(data), size - len(data))
        if not more:
            raise FileChanged
        data += more
    return data


def _send_unpaced(
    connection: Connection, file: Content, transfer: Transfer, guard: StallGuard, stop: int
) -> None:
    offset, fd = transfer.offset, file.fileno()
    if fd is not None and hasattr(os, "sendfile"):
        offset = _send_from(fd, connection, file, transfer, guard, stop)
    # What has no descriptor, or lies where sendfile does not work, is read.
    while offset < stop:
        piece = memoryview(_read(file, offset, min(PIECE, stop - offset)))
        offset += len(piece)
        while piece:
            sent = connection.send_some(lambda: connection.sock.send(piece), guard, transfer.check)  # noqa: B023
            piece = piece[sent:]
            transfer.advance(sent)
        file.has_changed()


def _send_from(
    fd: int, connection: Connection, file: Content, transfer: Transfer, guard: StallGuard, stop: int
) -> int:
    """Send by ``sendfile``; how far it came: not to the end if the file system knows no such call."""
    out, offset = connection.sock.fileno(), transfer.offset
    while offset < stop:
        count = min(WINDOW, stop - offset)
        try:
            sent = connection.send_some(lambda: os.sendfile(out, fd, offset, count), guard, transfer.check)  # noqa: B023
        except OSError as error:
            if error.errno not in _NO_SENDFILE:
                raise
            return offset
        if not sent:
            raise FileChanged
        offset += sent
        transfer.advance(sent)
        file.has_changed()  # often, for the sake of what it says in the end
    return offset


def _send_paced(
    connection: Connection, file: Content, transfer: Transfer, guard: StallGuard, stop: int
) -> None:
    assert transfer.pace is not None
    connection.expect_to_block()  # it sleeps between two chunks
    schedule = Schedule(transfer.pace, time.monotonic)
    offset, ahead = transfer.offset, memoryview(b"")
    while offset < stop:
        transfer.sleep(schedule.next_delay())
        # With thousands of these on a busy machine some wake late; what is due by then leaves at once.
        chunk_stop = min(stop, offset + transfer.pace.chunk * (1 + schedule.overdue()))
        while offset < chunk_stop:
            count = min(chunk_stop - offset, WINDOW)
            if len(ahead) < count:
                ahead = memoryview(_read(file, offset, min(max(count, AHEAD), stop - offset)))
                file.has_changed()
            connection.send(ahead[:count], guard, transfer.check)
            offset, ahead = offset + count, ahead[count:]
            transfer.advance(count)


def receive(connection: Connection, upload: Writer, transfer: Transfer, length: int) -> None:
    """Write the next ``length`` bytes to ``upload``.

    Raises ``ErrorReply`` when the disk refuses, ``Displaced`` when somebody else goes on with the upload,
    ``PeerGone``, ``Stalled`` and ``Stopped``.
    """

    def check() -> None:
        transfer.check()
        upload.check()

    guard = StallGuard(connection.stall_seconds)
    schedule = transfer.pace and Schedule(transfer.pace, time.monotonic)
    piece = min(BUFFER, transfer.pace.chunk if transfer.pace else BUFFER, max(1, length))
    buffer = memoryview(mmap.mmap(-1, piece))  # memory that is there as far as bytes have come
    left = length
    while left:
        if schedule:
            transfer.sleep(schedule.next_delay())
        view = buffer[: min(left, piece)]
        count = connection.receive_into(view, guard, check)
        upload.write(view[:count])
        left -= count
        transfer.advance(count)


def ending_of(error: BaseException | None) -> tuple[Outcome, str]:
    """The outcome and the error word with which a transfer enters the history."""
    if error is None:
        return "complete", ""
    if isinstance(error, Stopped):
        return ("cancelled", "") if str(error) == "cancelled" else ("aborted", str(error))
    if isinstance(error, ErrorReply):
        return "failed", error.code
    for kind, outcome, word in _ENDINGS:
        if isinstance(error, kind):
            return outcome, word
    return "failed", "internal"


_ENDINGS: tuple[tuple[type[BaseException], Outcome, str], ...] = (
    (Stalled, "aborted", "stalled"),
    (PeerGone, "aborted", "disconnected"),
    (FileChanged, "failed", "changed"),
)
