"""One client's socket: lines and bytes, each wait with its limit.

The socket is non-blocking underneath and every wait is a ``poll``, so that another thread can end any wait
with ``wake``, ``break_off`` or ``stop_reading``. Bytes that came in behind a line (pipelining, the body of a
``PUT``) are kept and handed out first.
"""

import contextlib
import errno
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator

from fileserver.wire.verbs import MAX_LINE_BYTES, ErrorReply, refuse_foreign
from fileserver.workers.base import NullScheduler, Scheduler

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = termios = None  # type: ignore[assignment]

READ_SIZE = 64 * 1024  # bytes
STALL_SECONDS = 60.0
STALL_FLOOR = 100  # bytes a second, on average over STALL_SECONDS
LINE_SECONDS = 10.0  # from a line's first byte to its LF
MAX_STREAK = 8  # requests in a row that were there already
LINGER_SECONDS = 1.0
LINGER_BYTES = 64 << 20  # a client that sends a refused upload reads the refusal long before
NOISE_BYTES = 64 * 1024  # that a peer to which we only send may send between two looks
# Where bytes go that nobody wants, of all threads at once: it is never read.
_WASTE = bytearray(256 * 1024)

READABLE = getattr(select, "POLLIN", 1)
WRITABLE = getattr(select, "POLLOUT", 4)
# Windows wakes no wait when another thread shuts the socket down: there each wait is cut in slices.
_SLICE = 1.0 if sys.platform == "win32" else float("inf")
_SHORT_SLICE = 0.25  # for waits that must end although nothing may happen on the socket

_TELLS_UNACKNOWLEDGED = fcntl is not None and sys.platform.startswith("linux")
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)

# Beside ConnectionError and TimeoutError, these of the network say that nobody is there any more.
_GONE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENOTCONN, errno.ESHUTDOWN}


def _is_peer_gone(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in _GONE


def _poll(sock: socket.socket, events: int, seconds: float) -> bool:
    if not hasattr(select, "poll"):
        return _select(sock, events, seconds)
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(seconds * 1000))


def _poll_finely(sock: socket.socket, events: int, seconds: float) -> bool:
    """For less than the milliseconds of ``_poll``; never in time for a descriptor that is too high for it."""
    try:
        return _select(sock, events, seconds)
    except ValueError:
        return False


def _select(sock: socket.socket, events: int, seconds: float) -> bool:
    if not events:  # only errors are of interest; select needs at least one set of its own
        return any(select.select([], [], [sock], seconds))
    found = select.select(
        [sock] if events == READABLE else [], [sock] if events == WRITABLE else [], [sock], seconds
    )
    return any(found)


class PeerGone(ConnectionError):
    """The other side closed or reset the connection."""


class Stalled(TimeoutError):
    """The other side takes or gives no bytes, or hardly any."""


class StallGuard:
    """Judges a peer by the time spent waiting for it, so that a pace of our own is never held against it."""

    def __init__(self, limit: float = STALL_SECONDS, floor: int = STALL_FLOOR) -> None:
        self.limit = limit
        self.floor = floor
        self._silent = 0.0
        self._window = 0.0
        self._window_bytes = 0

    def moved(self, count: int) -> None:
        self._silent = 0.0
        self._window_bytes += count

    def waited(self, seconds: float) -> None:
        self._silent += seconds
        self._window += seconds
        if self._silent >= self.limit:
            raise Stalled
        if self._window >= self.limit:
            if self._window_bytes < self.floor * self.limit:
                raise Stalled
            self._window, self._window_bytes = 0.0, 0

    @property
    def patience(self) -> float:
        """Seconds that may still be waited in silence."""
        return self.limit - self._silent


def _nothing() -> None:
    """Of a wait that nothing but the peer can stop."""


class Connection:
    """Owned by one thread; only ``wake``, ``break_off`` and ``stop_reading`` are for others."""

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self.stall_seconds = stall_seconds
        # Told of each wait for the peer here, of the rest by ``begin_request`` and ``expect_to_block``.
        self.scheduler: Scheduler = NullScheduler()
        self._has_waited = False  # for the peer, since the last request
        self._streak = 0  # requests that were there already when the one before was answered
        self._input = bytearray()
        self._over = 0  # the events that nobody waits for any more
        self._slice = _SLICE
        self._at_end = False  # the peer has said that it will send no more

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
                data = self._recv(READ_SIZE)
            except BlockingIOError:
                if not self.wait(READABLE, deadline - time.monotonic()):
                    raise ErrorReply("timeout", complaint) from None
            else:
                self._input += data
                return bool(data)

    def receive_into(self, view: memoryview, guard: StallGuard, check: Callable[[], None] = _nothing) -> int:
        """Put the next bytes, at least one, into ``view``; how many. ``check`` may raise to give up."""
        if self._input:
            count = min(len(view), len(self._input))
            view[:count] = self._input[:count]
            del self._input[:count]
            return count
        while True:
            check()
            try:
                count = self.sock.recv_into(view)
            except BlockingIOError:
                self._wait_guarded(guard, READABLE)
                continue
            except OSError as error:
                check()
                raise PeerGone(str(error)) from error
            if not count:
                check()
                raise PeerGone("The other side closed before its last byte.")
            count += self._what_is_there(view[count:])
            guard.moved(count)
            return count

    def _what_is_there(self, view: memoryview) -> int:
        """Put what has come into ``view``, without waiting: a few long writes are cheaper than many short."""
        count = 0
        with contextlib.suppress(OSError):  # for whoever reads next
            while count < len(view) and (more := self.sock.recv_into(view[count:])):
                count += more
        return count

    def has_input(self, seconds: float = 0) -> bool:
        """Whether there is something to read, or will be in ``seconds``: bytes, or the end of them."""
        if self._input or _poll(self.sock, READABLE, 0):
            return True
        return seconds > 0 and self.wait(READABLE, seconds)

    def has_closed(self) -> bool:
        """Whether the peer has closed; bytes that it sends meanwhile are thrown away.

        ``NOISE_BYTES`` at most: who sends more between two looks never lets us stop reading, so it is
        refused (``ErrorReply``).
        """
        left = NOISE_BYTES - len(self._input)
        self._input.clear()
        try:
            while left > 0:
                count = self._recv_waste(left)
                if not count:
                    return True
                left -= count
        except BlockingIOError:
            return False
        except PeerGone:
            return True
        error = ErrorReply("bad-request", "Nothing may be sent here but the end of the connection.")
        error.closes = True
        raise error

    def _recv(self, size: int) -> bytes:
        try:
            data = self.sock.recv(size)
        except BlockingIOError:
            raise
        except OSError as error:
            raise PeerGone(str(error)) from error
        self._at_end = not data
        return data

    def _recv_waste(self, most: int) -> int:
        """Throw away what has come, but no more than ``most`` bytes; how many, 0 at the end of the stream."""
        try:
            count = self.sock.recv_into(_WASTE, min(most, len(_WASTE)))
        except BlockingIOError:
            raise
        except OSError as error:
            raise PeerGone(str(error)) from error
        self._at_end = not count
        return count

    # --- writing

    def send(
        self, data: bytes | memoryview, guard: StallGuard | None = None, check: Callable[[], None] = _nothing
    ) -> None:
        """Send all of ``data``; ``check`` may raise to give up. Raises ``PeerGone`` and ``Stalled``."""
        guard = guard or StallGuard(self.stall_seconds)
        view = memoryview(data)
        while view:
            view = view[self.send_some(lambda: self.sock.send(view), guard, check) :]  # noqa: B023

    def send_some(
        self, write: Callable[[], int], guard: StallGuard, check: Callable[[], None] = _nothing
    ) -> int:
        """Call ``write`` (a send or sendfile on this socket) until it takes some bytes; how many it took."""
        while True:
            check()
            try:
                count = write()
            except BlockingIOError:
                self._wait_guarded(guard, WRITABLE)
            except OSError as error:
                check()
                if not _is_peer_gone(error):  # of the file that sendfile reads, say
                    raise
                raise PeerGone(str(error)) from error
            else:
                guard.moved(count)
                return count

    def wait_acknowledged(self, guard: StallGuard, check: Callable[[], None] = _nothing) -> None:
        """Wait until the peer's system has every byte. Raises ``PeerGone`` if the connection broke before.

        Linux tells (``SIOCOUTQ``); elsewhere the bytes that our system has taken must do.
        """
        delay, events, left = 0.0002, READABLE, self._unacknowledged()
        while left:
            check()
            begun = time.monotonic()
            if self.wait(events, delay):
                if not events:  # broken: what is in the queue is lost, but Linux goes on counting it
                    check()
                    raise PeerGone("The connection was reset before the last byte was acknowledged.")
                events = 0  # the next request has come, often with the acknowledgement; once is enough
            guard.waited(time.monotonic() - begun)
            before, left = left, self._unacknowledged()
            if left < before:
                guard.moved(before - left)
            delay = min(delay * 2, 0.02)
        # Only a whole connection means that the bytes arrived.
        check()
        if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise PeerGone("The connection was reset before the last byte was acknowledged.")

    def _unacknowledged(self) -> int:
        if not _TELLS_UNACKNOWLEDGED:
            return 0
        answer = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        return int.from_bytes(answer, sys.byteorder, signed=True)

    # --- waiting

    def begin_request(self) -> None:
        """A request was read: its owner has work to do. One that always has one more request gains nothing
        by it: after some of them the other threads have their turns first."""
        self._streak = 0 if self._has_waited else self._streak + 1
        self._has_waited = False
        if self._streak >= MAX_STREAK:
            self._streak = 0
            self.scheduler.before_blocking()
        self.scheduler.take_turn()

    def expect_to_block(self) -> None:
        """Its owner may wait for something else than the peer, the disk say, until the next request."""
        self.scheduler.before_blocking()

    def wait(self, events: int, seconds: float) -> bool:
        """Wait until the socket is ready for ``events``, broken, or ended by another thread."""
        if self.scheduler.spin(lambda seconds: _poll_finely(self.sock, events, seconds)):
            return True
        self.scheduler.before_blocking()
        self._has_waited = True
        deadline = time.monotonic() + seconds
        while not self._over & events:
            left = max(0.0, deadline - time.monotonic())
            if _poll(self.sock, events, min(left, self._slice)):
                return True
            if left <= self._slice:
                return False
        return True

    def _wait_guarded(self, guard: StallGuard, events: int) -> None:
        begun = time.monotonic()
        self.wait(events, guard.patience)
        guard.waited(time.monotonic() - begun)

    # --- ending

    def wake(self) -> None:
        """End every wait on this socket, from any thread: it can then neither send nor receive."""
        self._over = READABLE | WRITABLE
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def breakable(self) -> Iterator[None]:
        """In this context, and in no other, ``break_off`` is heard."""
        self._slice = _SHORT_SLICE
        try:
            yield
        finally:
            self._slice = _SLICE

    def break_off(self) -> None:
        """As ``wake``, but the peer sees no end: the owner finds out by its check, and resets."""
        self._over = READABLE | WRITABLE

    def stop_reading(self) -> None:
        """From any thread: the owner reads the end of the stream, but can still send a last line."""
        self._over |= READABLE
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)

    def reset(self) -> None:
        """Close so that the peer sees a break: many take an orderly end for the end of what they wanted."""
        with contextlib.suppress(OSError), self.sock:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    def close(self) -> None:
        """Close so that the last reply arrives: unread input at ``close`` would reset it away."""
        try:
            if not self._at_end:
                self._linger()
        except OSError:
            pass
        finally:
            self.sock.close()

    def _linger(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        left = LINGER_BYTES
        # The clock is asked each time: a wait for a peer that always has one more byte ends at once.
        while left > 0 and (seconds := deadline - time.monotonic()) > 0 and self.wait(READABLE, seconds):
            count = self._recv_waste(left)
            if not count:
                return
            left -= count
            self.scheduler.before_blocking()  # these bytes ask for nothing: whoever asks goes first
