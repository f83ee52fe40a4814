"""The two byte loops, send and receive, and how each way to end is called.

Unpaced sends go from the disk's cache to the socket without passing through Python (``sendfile``); small
files leave in one piece with their header and ``END``, which is three times as fast as three sends. Paced
sends go a chunk at a time, each at its due time.
"""

import mmap
import time
from collections.abc import Callable

from fileserver.events import Outcome
from fileserver.net.connection import PIECE, Connection
from fileserver.net.stall import PeerGone, Stalled, StallGuard
from fileserver.pacing import Schedule
from fileserver.storage.base import Content, Writer
from fileserver.transfers.transfer import Control, Stopped, Transfer
from fileserver.wire.replies import ErrorReply

SMALL = 64 * 1024  # bytes that are worth reading to save two system calls
WINDOW = 1 << 20  # bytes between two looks at cancel, and between two counts of progress
BUFFER = 2 << 20  # bytes of a receive: the longer, the less two processes on one machine wait for each other
_LOOK_SECONDS = 1.0  # between two looks, in a long pause, whether the peer is still there
AHEAD = 16 * 1024  # bytes read at a time for small chunks


class FileChanged(Exception):
    """The open file has become shorter while it was sent: promised bytes do not exist any more."""


def send(
    connection: Connection, file: Content, transfer: Transfer, header: bytes, trailer: bytes | None = None
) -> None:
    """Send ``header``, the promised bytes and their ``trailer``; return when the peer's system has them all.

    The trailer leaves when the file has proved to be the same to the end: ``END``, or, where a protocol has
    no such line (``None``), the last promised byte, so that what has changed never looks whole. Raises
    ``ErrorReply`` (``changed``) in place of the trailer, ``FileChanged`` when there are too few bytes,
    ``PeerGone``, ``Stalled`` and ``Stopped``.
    """
    guard = StallGuard(connection.stall_seconds)
    stop = transfer.facts.offset + transfer.facts.length
    held = min(1, transfer.facts.length) if trailer is None else 0
    trailer = bytes(_read(file, stop - held, held)) if trailer is None else trailer
    if transfer.control.pace is None and transfer.facts.length <= SMALL:
        content = _read(file, transfer.facts.offset, transfer.facts.length - held)
        changed = file.has_changed()
        connection.send(header + content + (b"" if changed else trailer), guard, transfer.control.check)
        transfer.advance(len(content))
    else:
        connection.send(header, guard, transfer.control.check)
        _send_content(connection, file, transfer, guard, stop - held)
        changed = file.has_changed()
        if not changed:
            connection.send(trailer, guard, transfer.control.check)
    if changed:
        raise ErrorReply("changed", "The file was changed while it was sent; ask for it again.")
    transfer.advance(held)
    connection.wait_acknowledged(guard, transfer.control.check)


def _read(file: Content, offset: int, size: int) -> bytes | bytearray:
    data = file.read(offset, size)
    while len(data) < size:
        more = file.read(offset + len(data), size - len(data))
        if not more:
            raise FileChanged
        data += more
    return data


def _send_content(
    connection: Connection, file: Content, transfer: Transfer, guard: StallGuard, stop: int
) -> None:
    """All bytes up to ``stop``, at whatever pace the transfer has meanwhile."""
    offset = transfer.facts.offset
    while offset < stop:
        if transfer.control.pace is None:
            offset = _send_unpaced(connection, file, transfer, guard, (offset, stop))
            # sendfile queues the pages of the file itself: a write can change them until they have arrived.
            connection.wait_acknowledged(guard, transfer.control.check)
        else:
            offset = _send_paced(connection, file, transfer, guard, (offset, stop))


def _send_unpaced(
    connection: Connection, file: Content, transfer: Transfer, guard: StallGuard, span: tuple[int, int]
) -> int:
    """Send as fast as the peer takes it, until the end or until there is a pace; the offset it came to."""
    (offset, stop), fd = span, file.fileno()
    while offset < stop and transfer.control.pace is None:
        if fd is None:
            piece = _read(file, offset, min(PIECE, stop - offset))
            connection.send(memoryview(piece), guard, transfer.control.check)
            sent = len(piece)
        else:
            count = min(WINDOW, stop - offset)
            sent = connection.send_file(fd, offset, count, guard, transfer.control.check)
        if not sent:
            raise FileChanged
        offset += sent
        transfer.advance(sent)
        file.has_changed()  # often, for the sake of what it says in the end
    return offset


def _send_paced(
    connection: Connection, file: Content, transfer: Transfer, guard: StallGuard, span: tuple[int, int]
) -> int:
    """Send a chunk at each due time, until the end or until the pace is another; the offset it came to."""
    pace = transfer.control.pace
    assert pace is not None
    connection.expect_to_block()  # it sleeps between two chunks
    schedule = Schedule(pace, time.monotonic)
    (offset, stop), ahead = span, memoryview(b"")
    while offset < stop and transfer.control.pace is pace:
        _sleep(connection, transfer.control, schedule.next_delay(), transfer.control.check)
        # With thousands of these on a busy machine some wake late; what is due by then leaves at once.
        chunk_stop = min(stop, offset + pace.chunk * (1 + schedule.overdue()))
        while offset < chunk_stop:
            count = min(chunk_stop - offset, WINDOW)
            if len(ahead) < count:
                ahead = memoryview(_read(file, offset, min(max(count, AHEAD), stop - offset)))
                file.has_changed()
            connection.send(ahead[:count], guard, transfer.control.check)
            offset, ahead = offset + count, ahead[count:]
            transfer.advance(count)
    return offset


def _sleep(connection: Connection, control: Control, seconds: float, check: Callable[[], None]) -> None:
    """Until the next chunk is due. Raises ``Stopped``, what ``check`` does, and ``PeerGone`` soon after the
    peer is gone: nobody may keep a thread for an hour by a long pause."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > _LOOK_SECONDS:
        control.sleep(_LOOK_SECONDS)
        check()
        connection.require_peer()
    control.sleep(left)


def receive(connection: Connection, upload: Writer, transfer: Transfer, length: int) -> None:
    """Write the next ``length`` bytes to ``upload``.

    Raises ``ErrorReply`` when the disk refuses, ``Displaced`` when another client resumes the upload,
    ``PeerGone``, ``Stalled`` and ``Stopped``.
    """

    def check() -> None:
        transfer.control.check()
        upload.check()

    guard = StallGuard(connection.stall_seconds)
    # Memory that is there as far as bytes have come.
    buffer = memoryview(mmap.mmap(-1, min(BUFFER, max(1, length))))
    left = length
    while left:
        pace = transfer.control.pace  # which somebody may have changed
        if pace is None:
            transfer.schedule = None
        elif transfer.schedule is None or transfer.schedule.pace is not pace:
            transfer.schedule = Schedule(pace, time.monotonic)
        if transfer.schedule:
            _sleep(connection, transfer.control, transfer.schedule.next_delay(), check)
        view = buffer[: min(left, len(buffer), pace.chunk if pace else left)]
        count = connection.receive_into(view, guard, check)
        upload.write(view[:count])
        left -= count
        transfer.advance(count)


def ending_of(error: BaseException | None) -> tuple[Outcome, str]:
    """The outcome and the error word with which a transfer enters the history."""
    if error is None:
        return "complete", ""
    if isinstance(error, Stopped):
        return error.ending
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
