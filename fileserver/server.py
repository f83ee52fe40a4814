"""Listens, and gives each client a thread to itself, named ``ClientThread-n``.

Who waits for clients takes one in and lets another wait in its place before it waits for anything else
(``crew``), so no client can hold up another, and no single bad connection ends it. ``shutdown`` runs in these
steps: stop listening, let idle clients go, wait for running transfers, end what still runs, wait for the
threads.
"""

import contextlib
import errno
import ipaddress
import itertools
import logging
import socket
import sys
import threading
import time
from collections import deque

from fileserver.context import Authorize, Limits, Service, everybody_may_everything
from fileserver.events import ClientConnected, ClientDisconnected, ClientRefused, Observer, ignore
from fileserver.net.connection import Connection
from fileserver.pacing import Pace
from fileserver.sessions.session import Session
from fileserver.storage.folder import Storage
from fileserver.storage.uploads import UploadStore
from fileserver.transfers.registry import Registry
from fileserver.wire.verbs import ErrorReply
from fileserver.workers.leader_followers import LeaderFollowers

log = logging.getLogger(__name__)

BACKLOG = 1024
STACK_SIZE = 512 * 1024  # bytes of address space for each client's thread
SWEEP_INTERVAL = 3600.0  # seconds between two looks for old uploads
_HOUSEKEEPING_SECONDS = 1.0
# Seconds of one wait for a client. Where a shutdown of the listener does not end it, it must end by itself.
_ACCEPT_SECONDS = None if sys.platform.startswith("linux") else 1.0
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_BREATH = 0.1  # seconds to wait when the system has no more descriptors
_REFUSED_KEPT = 64  # sockets of refused clients that stay open for a second, so that they can read why
_REFUSED_SECONDS = 1.0


class FileServer:
    """A context manager: it listens from ``with`` on; ``serve_forever`` returns after ``shutdown``."""

    def __init__(
        self,
        storage: Storage,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        observer: Observer = ignore,
        authorize: Authorize = everybody_may_everything,
        limits: Limits | None = None,
        pace: Pace | None = None,
        direct: bool = False,
        page_url: str | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.registry = Registry(observer, self.limits.max_clients)
        self._uploads = UploadStore(storage, self.limits.keep_partial)
        self._service = Service(
            storage, self._uploads, self.registry, observer, authorize, self.limits, pace, direct, page_url
        )
        self._host, self._port = host, port
        self._listener: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._sessions: set[Session] = set()
        self._crew = LeaderFollowers(self._serve_next)
        self._refused: deque[tuple[float, socket.socket]] = deque()
        self._sweep_due = 0.0
        self._is_short = False  # of descriptors or memory
        self._stopping = threading.Event()

    # --- life

    def __enter__(self) -> "FileServer":
        self._uploads.sweep()
        self._listener = _listen(self._host, self._port)
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown(grace=0)
        if self._listener is not None:
            self._listener.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on; the port is the real one where 0 was asked for."""
        assert self._listener is not None, "not listening"
        host, port = self._listener.getsockname()[:2]
        return host, port

    def serve_forever(self) -> None:
        """Serve clients until ``shutdown``; the threads of those that are still there go on."""
        assert self._listener is not None, "not listening"
        usual_size = threading.stack_size(STACK_SIZE)
        try:
            self._crew.start()
            while not self._stopping.wait(_HOUSEKEEPING_SECONDS):
                self._keep_house(time.monotonic())
        finally:
            threading.stack_size(usual_size)
            self._stop_listening()
            self._crew.dismiss()
            self._let_refused_go(float("inf"))
            self._listener.close()

    def _keep_house(self, now: float) -> None:
        """What has to be done now and then, whoever comes."""
        self._let_refused_go(now)
        self.registry.folder_is(self._service.storage.fault())
        self.registry.end_waiting(self.limits.waiting, "aborted", "disconnected")
        if now >= self._sweep_due:
            self._sweep_due = now + SWEEP_INTERVAL
            removed = self._uploads.sweep()
            if removed:
                log.info("removed %d uploads that nobody has gone on with", removed)

    def shutdown(self, grace: float | None = None) -> None:
        """Stop, and return when no client's thread is left. May be called again, from any thread, to hurry.

        Running transfers get ``grace`` seconds (by default that of the limits) to come to their end.
        """
        grace = self.limits.grace if grace is None else grace
        # 1. No new clients.
        self._stop_listening()
        # 2. Clients between two requests, and watchers, are told and let go.
        self.registry.close()
        for session in self._current():
            session.wind_down()
        # 3. Running transfers may end by themselves, within the grace.
        if not self._wait_for_sessions(grace):
            # 4. Those that did not are ended: aborted, shutting-down.
            self.registry.stop_all("shutting-down")
            # 5. Another may be sending a line to somebody who does not read, or linger: its socket is shut.
            if not self._wait_for_sessions(1.0):
                for session in self._current():
                    session.connection.wake()
        self._wait_for_sessions(None)
        self._crew.close()
        # 6. Uploads that wait for their next part get none. Last: a thread could have left one more.
        self.registry.end_waiting(0, "aborted", "shutting-down")

    def _stop_listening(self) -> None:
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # which ends a wait for clients

    def _current(self) -> list[Session]:
        with self._lock:
            return list(self._sessions)

    def _wait_for_sessions(self, seconds: float | None) -> bool:
        with self._left:
            return self._left.wait_for(lambda: not self._sessions, seconds)

    # --- clients

    def _serve_next(self) -> bool:
        """Wait for a client, in the thread that will be its own, and serve it; False when none will come."""
        assert self._listener is not None, "not listening"
        try:
            sock, address = self._listener.accept()
        except TimeoutError:
            return True
        except OSError as error:
            if self._stopping.is_set():
                return False
            self._complain(error)
            return True
        self._is_short = False
        self._welcome(sock, address[0], address_text(*address[:2]))
        return True

    def _complain(self, error: OSError) -> None:
        if error.errno not in _OUT_OF_RESOURCES:
            log.warning("a client was gone before it was accepted: %s", error)
            return
        # Said once: without a descriptor to be had, accept fails even if nobody knocks.
        if not self._is_short:
            log.error("cannot accept a client: %s; waiting", error.strerror)
        self._is_short = True
        self._stopping.wait(_BREATH)

    def _welcome(self, sock: socket.socket, host: str, peer: str) -> None:
        reason = self._reason_to_refuse(host)
        if reason:
            self._refuse(sock, peer, reason)
            return
        try:
            self._crew.ensure_spare()
        except RuntimeError:
            self._refuse(sock, peer, "The server has no more threads; try again later.")
            return
        name = f"ClientThread-{next(self._numbers)}"
        connection = Connection(sock, peer, self.limits.stall, self._crew)
        session = Session(connection, self._service, name, host)
        with self._lock:
            # Listed before it begins, and not once it is too late: shutdown must never miss one.
            if self._stopping.is_set():
                sock.close()
                return
            self._sessions.add(session)
            # Still under the lock: two threads must not tell their counts in the wrong order.
            self.registry.clients_changed(len(self._sessions))
        self._attend(session)

    def _reason_to_refuse(self, host: str) -> str | None:
        limits = self.limits
        with self._lock:
            if len(self._sessions) >= limits.max_clients:
                return f"The server has its {limits.max_clients} clients; try again later."
            most = limits.max_clients_per_address
            if not most or _is_loopback(host):
                return None
            mine = sum(session.host == host for session in self._sessions)
        return f"Your address has its {most} connections; try again later." if mine >= most else None

    def _refuse(self, sock: socket.socket, peer: str, reason: str) -> None:
        self._service.observer(ClientRefused(peer, reason))
        with contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(ErrorReply("busy", reason).line())
            sock.shutdown(socket.SHUT_WR)
        # Closed at once, a request that lies unread would reset the connection and eat the answer.
        with self._lock:
            self._refused.append((time.monotonic() + _REFUSED_SECONDS, sock))
            if len(self._refused) > _REFUSED_KEPT:
                self._refused.popleft()[1].close()

    def _let_refused_go(self, now: float) -> None:
        with self._lock:
            while self._refused and self._refused[0][0] <= now:
                self._refused.popleft()[1].close()

    def _attend(self, session: Session) -> None:
        observer, peer = self._service.observer, session.connection.peer
        threading.current_thread().name = session.thread
        observer(ClientConnected(peer, session.thread))
        try:
            session.run()
        except Exception:
            self._crew.before_blocking()
            log.exception("the session of %s failed", peer)
        finally:
            observer(ClientDisconnected(peer, session.thread))
            self._forget(session)

    def _forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
            self.registry.clients_changed(len(self._sessions))
            if not self._sessions and self._stopping.is_set():  # only who stops it waits for that
                self._left.notify_all()


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # which those of the clients inherit
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.settimeout(_ACCEPT_SECONDS)
    except BaseException:
        listener.close()
        raise
    return listener


def address_text(host: str, port: int) -> str:
    """``127.0.0.1:9999``, and ``[::1]:9999`` for IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
