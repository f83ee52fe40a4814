"""Listens, accepts clients, and ends them all at a shutdown.

The way of one client: ``accept`` here, a thread by one of the models in ``workers`` (read
``workers/thread_per_client`` first), then ``Session.run`` in that thread, which is named ``ClientThread-n``.

``shutdown`` has these steps: stop listening, let idle clients go, wait for running transfers, end what still
runs, wait for the threads.
"""

import contextlib
import errno
import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterator

from fileserver import workers
from fileserver.context import ServerContext
from fileserver.events import ClientConnected, ClientDisconnected, ClientRefused, Observer, ignore
from fileserver.limits import Limits, Options
from fileserver.net.address import address_text, is_own_client, neighbourhood
from fileserver.net.connection import Connection
from fileserver.net.listener import listen
from fileserver.net.refusals import Refusals
from fileserver.net.tls import TlsTransport
from fileserver.net.transport import PlainTransport
from fileserver.rights import Access
from fileserver.sessions.session import Session
from fileserver.storage.base import Opener, Store
from fileserver.storage.cached import CachedOpener
from fileserver.storage.folder import Storage
from fileserver.transfers.registry import Registry
from fileserver.wire.replies import ErrorReply
from fileserver.workers.base import Scheduler

log = logging.getLogger(__name__)

STACK_SIZE = 512 * 1024  # bytes of address space for each client's thread
SWEEP_INTERVAL = 3600.0  # seconds between two looks for old uploads
_HOUSEKEEPING_SECONDS = 1.0
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_ACCEPT_PAUSE = 0.1  # seconds to wait when the system has no more descriptors


class FileServer:
    """A context manager: it listens from ``with`` on; ``serve_forever`` returns after ``shutdown``."""

    def __init__(
        self,
        storage: Store,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        observer: Observer = ignore,
        access: Access = Access(),  # noqa: B008 - it is a constant
        limits: Limits | None = None,
        options: Options | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.registry = Registry(observer, self.limits.max_clients)
        self._uploads = storage.uploads(self.limits.keep_partial, min_free=self.limits.min_free)
        options = options or Options()
        self._workers = workers.MODELS[options.worker](self.accept)
        # A folder has a fast way to open its files; any other store is its own opener.
        opener: Opener = storage
        if isinstance(storage, Storage):
            opener = CachedOpener(storage, self._workers.before_blocking)
        self._context = ServerContext(
            storage, opener, self._uploads, self.registry, observer, access, self.limits, options
        )
        self._host, self._port = host, port
        self._listener: socket.socket | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._left = threading.Condition(self._lock)
        self._clients: set[Client] = set()
        self._refusals = Refusals()
        self._is_short = False  # of descriptors or memory
        self._stopping = threading.Event()

    # --- life

    def __enter__(self) -> "FileServer":
        self._uploads.sweep()
        self._listener = listen(self._host, self._port, self.limits.max_clients)
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
        """Serve clients until ``shutdown``; the threads of those that are still there continue."""
        assert self._listener is not None, "not listening"
        usual_size = threading.stack_size(STACK_SIZE)
        try:
            with self._housekeeping():
                self._workers.run()
        finally:
            threading.stack_size(usual_size)
            self._stop_listening()
            self._refusals.close_until(float("inf"))
            self._listener.close()

    def shutdown(self, grace: float | None = None) -> None:
        """Stop, and return when no client's thread is left. May be called again, from any thread, to hurry.

        Running transfers get ``grace`` seconds (by default that of the limits) to come to their end.
        """
        grace = self.limits.grace if grace is None else grace
        # 1. No new clients.
        self._stop_listening()
        # 2. Clients between two requests, and watchers, are told so and released.
        self.registry.close()
        for client in self._current():
            client.session.wind_down()
        # 3. Running transfers may end by themselves, within the grace.
        if not self._wait_for_clients(grace):
            # 4. Those that did not are ended: aborted, shutting-down.
            self.registry.stop_all("shutting-down")
            # 5. Another may be sending a line to somebody who does not read, or linger: its socket is shut.
            if not self._wait_for_clients(1.0):
                for client in self._current():
                    client.session.connection.wake()
        self._wait_for_clients(None)
        self._workers.join()
        # 6. Uploads that wait for a part get none. Last: a thread could have left one more.
        self.registry.end_waiting(0, "aborted", "shutting-down")

    def _stop_listening(self) -> None:
        self._stopping.set()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # which ends a wait for clients

    def _current(self) -> "list[Client]":
        with self._lock:
            return list(self._clients)

    def _wait_for_clients(self, seconds: float | None) -> bool:
        with self._left:
            return self._left.wait_for(lambda: not self._clients, seconds)

    def recheck(self) -> None:
        """Rights have changed: end what is not allowed any more. For any thread."""
        self.registry.recheck(self._context.access.may)
        for client in self._current():
            client.session.peer.recheck()

    # --- clients

    def accept(self) -> "Client | None":
        """Wait for the next client; ``None`` when none will come any more. For any thread."""
        assert self._listener is not None, "not listening"
        while True:
            try:
                sock, address = self._listener.accept()
            except TimeoutError:
                if self._stopping.is_set():
                    return None
            except OSError as error:
                if self._stopping.is_set():
                    return None
                self._complain(error)
            else:
                self._is_short = False
                if client := self._welcome(sock, address[0], address_text(*address[:2])):
                    return client

    def _welcome(self, sock: socket.socket, host: str, peer: str) -> "Client | None":
        """A client from its socket, unless a limit is reached or the server is stopping."""
        if reason := self._reason_to_refuse(sock, host):
            self._refuse(sock, peer, reason)
            return None
        tls = self._context.options.tls
        transport = TlsTransport(sock, tls) if tls else PlainTransport(sock)
        connection = Connection(transport, peer, self.limits.stall)
        client = Client(self, connection, f"ClientThread-{next(self._numbers)}", host)
        with self._lock:
            # Listed before it begins, and not once it is too late: shutdown must never miss one.
            if self._stopping.is_set():
                sock.close()
                return None
            self._clients.add(client)
            # Still under the lock: two threads must not report their counts in the wrong order.
            self.registry.clients_changed(len(self._clients))
        return client

    def _reason_to_refuse(self, sock: socket.socket, host: str) -> str | None:
        limits = self.limits
        with self._lock:
            if len(self._clients) >= limits.max_clients:
                return f"The server has its {limits.max_clients} clients; try again later."
            most = limits.max_clients_per_address
            if not most or is_own_client(sock, host):
                return None
            mine = sum(client.place == neighbourhood(host) for client in self._clients)
        return f"Your address has its {most} connections; try again later." if mine >= most else None

    def _refuse(self, sock: socket.socket, peer: str, reason: str) -> None:
        self._context.observer(ClientRefused(peer, reason))
        # Over TLS there is no sentence before the handshake, which is not worth its time here.
        line = b"" if self._context.options.tls else ErrorReply("busy", reason).line()
        self._refusals.add(sock, line)

    def _forget(self, client: "Client") -> None:
        with self._lock:
            self._clients.discard(client)
            self.registry.clients_changed(len(self._clients))
            if not self._clients and self._stopping.is_set():  # only who stops it waits for that
                self._left.notify_all()

    def _complain(self, error: OSError) -> None:
        if error.errno not in _OUT_OF_RESOURCES:
            log.warning("a client was gone before it was accepted: %s", error)
            return
        # Said once: without a descriptor to be had, accept fails even if nobody knocks. Read and written
        # without a lock: at worst two threads say it.
        if not self._is_short:
            log.error("cannot accept a client: %s; waiting", error.strerror)
        self._is_short = True
        self._stopping.wait(_ACCEPT_PAUSE)

    # --- now and then

    @contextlib.contextmanager
    def _housekeeping(self) -> Iterator[None]:
        """Meanwhile, keep house in a thread of its own. If that fails, the server stops, and its error is
        raised here."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                self._keep_house()
            except BaseException as error:
                failed.append(error)
                self._stop_listening()

        thread = threading.Thread(target=run, name="Housekeeper")
        thread.start()
        try:
            yield
        finally:
            self._stop_listening()
            thread.join()
        if failed:
            raise failed[0]

    def _keep_house(self) -> None:
        """Until it stops: what has to be done now and then, whoever comes."""
        sweep_due = 0.0
        while not self._stopping.wait(_HOUSEKEEPING_SECONDS):
            now = time.monotonic()
            self._refusals.close_until(now)
            self.registry.folder_is(self._context.storage.fault())
            self.registry.end_waiting(self.limits.waiting, "aborted", "disconnected")
            if now >= sweep_due:
                sweep_due = now + SWEEP_INTERVAL
                if removed := self._uploads.sweep():
                    log.info("removed %d uploads that nobody has resumed", removed)


class Client:
    """A client that was accepted, on its way to a thread."""

    def __init__(self, server: FileServer, connection: Connection, thread: str, host: str) -> None:
        self.thread = thread
        self.place = neighbourhood(host)
        self._server = server
        self.session = Session(connection, server._context, thread, host)

    def serve(self) -> None:
        """Talk until either side is done, in the thread of the caller. Raises nothing."""
        observer, peer = self._server._context.observer, self.session.connection.peer
        observer(ClientConnected(peer, self.thread))
        try:
            self.session.run()
        except Exception:
            log.exception("the session of %s failed", peer)
        finally:
            observer(ClientDisconnected(peer, self.thread))
            self._server._forget(self)

    def refuse(self, reason: str) -> None:
        own = self.session.connection
        self._server._refuse(own.give_up_socket(), own.peer, reason)
        self._server._forget(self)

    def announce_to(self, scheduler: Scheduler) -> None:
        self.session.connection.scheduler = scheduler
