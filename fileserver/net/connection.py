"""One client's connection: lines and bytes, each wait with its limit.

The transport never blocks and every wait is a ``poll``, so that another thread can end any wait with
``wake``, ``break_off`` or ``stop_reading``. Bytes that came in behind a line (pipelining, the body of a
``PUT``) are kept and handed out first.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Callable

from fileserver.net.polling import READABLE
from fileserver.net.stall import STALL_SECONDS, PeerGone, Stalled, StallGuard
from fileserver.net.transport import Transport, WouldBlock
from fileserver.net.waiter import Waiter
from fileserver.storage.content import read_at
from fileserver.wire.lines import MAX_LINE_BYTES, refuse_foreign
from fileserver.wire.replies import ErrorReply
from fileserver.workers.base import Scheduler

READ_SIZE = 64 * 1024  # bytes
PIECE = 512 * 1024  # bytes of a file that are read at a time where there is no sendfile
LINE_SECONDS = 10.0  # from a line's first byte to its LF
MAX_STREAK = 8  # requests in a row that were there already
LINGER_SECONDS = 1.0
LINGER_BYTES = 64 << 20  # a client that sends a refused upload reads the refusal long before
NOISE_BYTES = 64 * 1024  # that a peer to which we only send may send between two looks
# Where bytes go that nobody wants, of all threads at once: it is never read.
_WASTE = memoryview(bytearray(256 * 1024))

# What a file system says that cannot be sent from without reading.
_NO_SENDFILE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSOCK}


def _nothing() -> None:
    """Of a wait that nothing but the peer can stop."""


class Connection:
    """Owned by one thread; only ``wake``, ``break_off`` and ``stop_reading`` are for others."""

    def __init__(self, transport: Transport, peer: str, stall_seconds: float = STALL_SECONDS) -> None:
        self._transport = transport
        self.peer = peer
        self.stall_seconds = stall_seconds
        self._waiter = Waiter(transport)
        self._streak = 0  # requests that were there already when the one before was answered
        self._input = bytearray()
        self._at_end = False  # the peer has said that it will send no more

    @property
    def scheduler(self) -> Scheduler:
        """Told of each wait for the peer, of the rest by ``begin_request`` and ``expect_to_block``."""
        return self._waiter.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Scheduler) -> None:
        self._waiter.scheduler = scheduler

    def handshake(self, seconds: float) -> None:
        """Let the transport agree with the peer on how to talk. Raises ``PeerGone`` and ``Stalled``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._transport.handshake()
            except WouldBlock as would:
                left = deadline - time.monotonic()
                if left <= 0 or not self._waiter.wait(would.events, left):
                    raise Stalled from None

    # --- reading

    def read_line(
        self,
        idle: float,
        line_seconds: float = LINE_SECONDS,
        check: Callable[[bytes], None] = refuse_foreign,
        since: float | None = None,
    ) -> bytes | None:
        """The next line without its LF or CR LF; ``None`` when the peer has closed between two lines.

        Its first byte must come within ``idle`` seconds of ``since`` (a monotonic time, by default now);
        ``check`` may refuse the line, or its start. Raises ``ErrorReply`` (``timeout``, ``too-long``,
        ``bad-request`` for a line without LF), ``PeerGone``, and what ``check`` does.
        """
        waited = 0.0 if since is None else time.monotonic() - since
        if not self._input and not self._fill(idle - waited, f"No request came for {idle:g} s."):
            return None
        deadline = time.monotonic() + line_seconds
        while (found := self._input.find(b"\n")) < 0:
            if len(self._input) > MAX_LINE_BYTES:
                break
            check(bytes(self._input[:4]))
            if not self._fill(
                deadline - time.monotonic(), f"A line must be whole within {line_seconds:g} s."
            ):
                error = ErrorReply("bad-request", "The connection ended in the middle of a line (no LF).")
                error.closes = True  # there will never be another line
                raise error
        if not 0 <= found <= MAX_LINE_BYTES:
            raise ErrorReply("too-long", f"A line may have {MAX_LINE_BYTES} bytes at most.")
        line = bytes(self._input[:found]).removesuffix(b"\r")
        del self._input[: found + 1]
        check(line)
        return line

    def _fill(self, seconds: float, complaint: str) -> bool:
        """Add what the peer sends next to the input; False at its end."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                data = self._transport.recv(READ_SIZE)
            except WouldBlock as would:
                # The clock is asked each time: the records of TLS itself end a wait but bring no byte.
                left = deadline - time.monotonic()
                if left <= 0 or not self._waiter.wait(would.events, left):
                    raise ErrorReply("timeout", complaint) from None
            else:
                self._at_end = not data
                self._input += data
                return bool(data)

    def receive_into(self, view: memoryview, guard: StallGuard, check: Callable[[], None] = _nothing) -> int:
        """Put the next bytes, at least one, into ``view``; how many. ``check`` may raise to give up."""
        if self._input:
            count = min(len(view), len(self._input))
            view[:count] = self._input[:count]
            del self._input[:count]
            return count
        count = self._waiter.insist(lambda: self._transport.recv_into(view), guard, check)
        if not count:
            check()
            raise PeerGone("The other side closed before its last byte.")
        count += self._what_is_there(view[count:])
        guard.moved(count)
        return count

    def _what_is_there(self, view: memoryview) -> int:
        """Put what has come into ``view``, without waiting: a few long writes are cheaper than many short."""
        count = 0
        with contextlib.suppress(WouldBlock, PeerGone):  # for whoever reads next
            while count < len(view) and (more := self._transport.recv_into(view[count:])):
                count += more
        return count

    def has_input(self, seconds: float = 0) -> bool:
        """Whether there is something to read, or will be in ``seconds``: bytes, or the end of them."""
        if self._input or self._transport.pending() or self._transport.poll(READABLE, 0):
            return True
        return seconds > 0 and self._waiter.wait(READABLE, seconds)

    def require_peer(self) -> None:
        """Raise ``PeerGone`` if the connection is broken; one that only has no more to say may still read."""
        if self._transport.poll(0, 0):
            raise PeerGone("The other side is gone.")

    def has_closed(self) -> bool:
        """Whether the peer has closed; bytes that it sends meanwhile are thrown away.

        ``NOISE_BYTES`` at most: who sends more between two looks never lets us stop reading, so it is
        refused (``ErrorReply``).
        """
        left = NOISE_BYTES - len(self._input)
        self._input.clear()
        try:
            while left > 0:
                count = self._transport.recv_into(_WASTE[:left])
                if not count:
                    self._at_end = True
                    return True
                left -= count
        except WouldBlock:
            return False
        except PeerGone:
            return True
        error = ErrorReply("bad-request", "Nothing may be sent here but the end of the connection.")
        error.closes = True
        raise error

    # --- writing

    def send(
        self, data: bytes | memoryview, guard: StallGuard | None = None, check: Callable[[], None] = _nothing
    ) -> None:
        """Send all of ``data``; ``check`` may raise to give up. Raises ``PeerGone`` and ``Stalled``."""
        guard = guard or StallGuard(self.stall_seconds)
        view = memoryview(data)
        while view:
            view = view[self._send_some(lambda: self._transport.send(view), guard, check) :]  # noqa: B023

    def send_file(
        self, fd: int, offset: int, count: int, guard: StallGuard, check: Callable[[], None] = _nothing
    ) -> int:
        """Send up to ``count`` bytes of an open file; how many, 0 if it ends before ``offset``.

        Raises ``PeerGone``, ``Stalled``, what ``check`` does, and ``OSError`` if the file cannot be read.
        """
        self.scheduler.before_blocking()  # the disk may have to be waited for
        if self._transport.sends_files:
            try:
                return self._send_some(lambda: self._transport.sendfile(fd, offset, count), guard, check)
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
        data = read_at(fd, offset, min(count, PIECE))
        return self._send_some(lambda: self._transport.send(data), guard, check) if data else 0

    def _send_some(self, write: Callable[[], int], guard: StallGuard, check: Callable[[], None]) -> int:
        """Call ``write`` until it takes some bytes, and wait until the system has them; how many."""
        count = self._waiter.insist(write, guard, check)
        if not self._transport.unsent():
            guard.moved(count)
        while self._transport.unsent():  # what was encrypted counts when it leaves
            guard.moved(self._waiter.insist(self._transport.flush, guard, check))
        return count

    def wait_acknowledged(self, guard: StallGuard, check: Callable[[], None] = _nothing) -> None:
        """Wait until the peer's system has every byte. Raises ``PeerGone`` if the connection broke before.

        Linux tells (``SIOCOUTQ``); elsewhere the bytes that our system has taken must do.
        """
        self._waiter.wait_acknowledged(guard, check)

    # --- what its owner is about to do

    def begin_request(self) -> None:
        """A request was read: its owner has work to do. One that always has one more request gains nothing
        by it: after some of them the other threads have their turns first."""
        self._streak = 0 if self._waiter.has_waited else self._streak + 1
        self._waiter.has_waited = False
        if self._streak >= MAX_STREAK:
            self._streak = 0
            self.scheduler.before_blocking()
        self.scheduler.take_turn()

    def expect_to_block(self) -> None:
        """Its owner may wait for something else than the peer, the disk say, until the next request."""
        self.scheduler.before_blocking()

    # --- ending

    def wake(self) -> None:
        """End every wait on this socket, from any thread: it can then neither send nor receive."""
        self._waiter.end()
        with contextlib.suppress(OSError):
            self._transport.stop()

    def give_up_socket(self) -> socket.socket:
        """The socket, for somebody else to close; nothing was read from it or sent."""
        return self._transport.sock

    def breakable(self) -> contextlib.AbstractContextManager[None]:
        """In this context, and in no other, ``break_off`` is heard."""
        return self._waiter.breakable()

    def break_off(self) -> None:
        """As ``wake``, but the peer sees no end: the owner finds out by its check, and resets."""
        self._waiter.end()

    def stop_reading(self) -> None:
        """From any thread: the owner reads the end of the stream, but can still send a last line."""
        self._waiter.end_reading()
        with contextlib.suppress(OSError):
            self._transport.stop_receiving()

    def reset(self) -> None:
        """Close so that the peer sees a break: many take an orderly end for the end of what they wanted."""
        with contextlib.suppress(OSError):
            self._transport.reset()

    def close(self) -> None:
        """Close so that the last reply arrives: unread input at ``close`` would reset it away."""
        try:
            if not self._at_end:
                self._linger()
        except (OSError, WouldBlock):
            pass
        finally:
            self._transport.close()

    def _linger(self) -> None:
        self._transport.finish_sending()
        deadline = time.monotonic() + LINGER_SECONDS
        left = LINGER_BYTES
        # The clock is asked each time: a wait for a peer that always has one more byte ends at once.
        while (
            left > 0 and (seconds := deadline - time.monotonic()) > 0 and self._waiter.wait(READABLE, seconds)
        ):
            # As it is on the wire: nobody reads it, so it need not be decrypted, nor end as it should.
            count = self._transport.recv_raw_into(_WASTE[:left])
            if not count:
                return
            left -= count
            self.scheduler.before_blocking()  # these bytes ask for nothing: whoever asks goes first
