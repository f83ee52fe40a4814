"""Daphne with flow control: a browser that reads slowly slows the view and does not fill our memory.

`FlowServer` takes the place of `daphne.server.Server` (`server_cls` of a `runserver` command). Daphne and
Twisted leave these things open; each override here, in `channel`, `incoming` and `exchange` closes one:

- `send` never waits, so a whole file ends up in memory and its view believes it sent: here `send` waits
  while the transport is full, and who reads nothing for `stall_timeout` seconds is dropped.
- A view cannot learn whether its bytes arrived: `scope["extensions"]["cfsite.delivered"]` is an async
  callable that waits and says True or False. Behind a proxy the peer is the proxy. Nor can it say that the
  rest will not come: `cfsite.abort` resets the connection.
- A websocket's `send` never waits either: `cfsite.backlog` tells a consumer how many bytes wait for its peer.
  And what a websocket sends is queued without end: `sockets` reads no faster than the consumer takes it.
- Form bodies are parsed in memory and copied onto a queue, without any limit: `receive` reads the spooled
  file piece by piece, and `body_limit` is enforced before and while a body comes in. What `streams_body`
  names is not even spooled: the application iterates `cfsite.webserver.body`, and the browser waits for it.
- A client that asks before it sends a body (`Expect: 100-continue`) is told to go on before anybody has
  looked at its request: here it is when the application wants the first byte, so a refusal spares the body.
- An exception after the first byte leaves the client hanging and ends for good the loop that reaps
  applications: each is judged as it ends here, and a response that cannot be completed is reset, never taken
  for whole.
- TLS has no limit for a handshake, and its half-close cuts a stream without a word: `encryption` has both.
- Slow, malformed and too many connections are looked after in `guard` and `limiter`.
- A server that stops closes running downloads cleanly, as if they were whole, and leaves tasks to a dying
  interpreter: connections are reset, applications are told and waited for, all tasks are ended.
"""

# mypy: disable-error-code="no-untyped-call"

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from daphne.http_protocol import HTTPFactory
from daphne.server import Server, reactor  # importing Daphne first installs its asyncio reactor
from daphne.ws_protocol import WebSocketFactory
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from cfsite.webserver.body import BodyLost
from cfsite.webserver.channel import FlowChannel
from cfsite.webserver.encryption import EncryptedChannel, EncryptedFactory, EncryptedTransport, socket_of
from cfsite.webserver.exchange import ClientGone, FlowRequest
from cfsite.webserver.incoming import Message
from cfsite.webserver.limiter import ConnectionLimiter, Tally
from cfsite.webserver.sockets import FlowSocket
from cfsite.webserver.unsent import buffered
from files_app.hosting.process import allow_descriptors

logger = logging.getLogger(__name__)

BODY_LIMIT = 10 * 1024 * 1024  # bytes; for a server that sets no `body_limit` of its own


class FlowFactory(HTTPFactory):
    protocol = FlowChannel  # in place of Twisted's switch between HTTP/1.1 and HTTP/2, which stays off

    def buildProtocol(self, addr: Any) -> Any:
        channel = super().buildProtocol(addr)
        channel.requestFactory = FlowRequest
        return channel

    def acceptableProtocols(self) -> list[bytes]:
        return [b"http/1.1"]


class EncryptedFlowFactory(FlowFactory):
    protocol = EncryptedChannel


class FlowServer(Server):
    tls: Any = None  # `CertificateOptions`; None is plain HTTP
    stall_timeout = 60.0  # seconds in which the peer read nothing while bytes waited for it
    exit_grace = 2.0  # seconds for applications to end by themselves when the server stops

    # Whether many clients come from that address, as from a proxy; loopback is one in any case.
    is_shared: Callable[[str], bool] = staticmethod(lambda address: False)

    # (method, path) → the greatest request body in bytes, None for no limit
    body_limit: Callable[[str, str], int | None] = staticmethod(lambda method, path: BODY_LIMIT)

    # (method, path) → whether the application takes the body from `cfsite.webserver.body` as it comes in
    streams_body: Callable[[str, str], bool] = staticmethod(lambda method, path: False)

    # At once; fewer, if the system does not allow so many descriptors. Windows waits for 512 sockets at most.
    connections_wanted = 400 if sys.platform == "win32" else 2000
    head_timeout = 10.0  # seconds from the first byte of a request to the end of its head

    closing = False

    _http_factory: FlowFactory | EncryptedFactory

    @property
    def http_factory(self) -> FlowFactory | EncryptedFactory:
        return self._http_factory

    @http_factory.setter
    def http_factory(self, stock: HTTPFactory) -> None:
        """Daphne's `run` makes a factory, then listens with `self.http_factory`: the one seam it leaves."""
        if self.tls is None:
            self._http_factory = FlowFactory(self)
        else:
            self._http_factory = EncryptedFactory(self.tls, False, EncryptedFlowFactory(self))

    @property
    def ws_factory(self) -> WebSocketFactory:
        return self._ws_factory

    @ws_factory.setter
    def ws_factory(self, stock: WebSocketFactory) -> None:
        stock.protocol = FlowSocket
        self._ws_factory = stock

    def run(self) -> None:
        places = allow_descriptors(self.connections_wanted)
        self.limiter = ConnectionLimiter(places, close_at_once, lambda transport: not buffered(transport))
        self.tally = Tally()
        # Autobahn would hold these against what we send, too; `sockets` has limits for what comes.
        self.websocket_max_message_size = self.websocket_max_frame_size = 0
        try:
            super().run()
        finally:
            end_all_tasks(reactor._asyncioEventloop, self.application_close_timeout)

    def create_application(self, protocol: Any, scope: Message) -> asyncio.Queue[Message] | None:
        queue = None
        scope["asgi"] = {"version": "3.0"}
        if isinstance(protocol, FlowSocket):
            # Which Daphne leaves out, and without which nobody knows that the page is one of https.
            scope["scheme"] = "wss" if isinstance(protocol.transport, EncryptedTransport) else "ws"
            scope["extensions"] = {"cfsite.backlog": partial(buffered, protocol.transport)}
            queue = protocol.queue
        elif self.closing:
            protocol.abort()
            return None
        else:
            protocol.tell_length(scope["headers"])
            scope["extensions"] = {"cfsite.delivered": protocol.delivered, "cfsite.abort": protocol.abort}
            if protocol.stream is not None:
                scope["extensions"]["cfsite.webserver.body"] = protocol.stream
        send = partial(self.handle_reply, protocol)
        application = self.application(scope=scope, receive=protocol.receive, send=send)
        task = asyncio.ensure_future(application)
        self.connections[protocol]["application_instance"] = task
        task.add_done_callback(partial(self.application_done, protocol))
        return queue  # none for HTTP: Daphne then copies no body onto it

    async def handle_reply(self, protocol: Any, message: Message) -> None:
        await super().handle_reply(protocol, message)
        if isinstance(protocol, FlowRequest) and message.get("more_body"):
            await protocol.drained()

    def application_done(self, protocol: Any, task: asyncio.Future[None]) -> None:
        """Leaves nothing that can raise to Daphne's checker, which comes by once a second."""
        details = self.connections.get(protocol, {})
        details.pop("application_instance", None)
        connected = "disconnected" not in details and not self.closing
        error = None if task.cancelled() else task.exception()
        if error is None and connected and isinstance(protocol, FlowRequest) and not protocol.is_over():
            error = RuntimeError(f"The application ended before its response to {protocol.uri!r}")
        if error is not None and not isinstance(error, ClientGone | BodyLost):
            logger.error("Exception inside application: %s", error, exc_info=error)
        if error is not None and connected:
            self.guarded(protocol.handle_exception, error)

    def timeout_checker(self) -> None:
        for protocol in list(self.connections):
            self.guarded(protocol.check_timeouts)
        self.tally.tell()
        reactor.callLater(min(2.0, self.stall_timeout / 4), self.timeout_checker)

    @staticmethod
    def guarded(check: Callable[..., None], *args: Any) -> None:
        """One broken connection must not end what watches over all of them."""
        try:
            check(*args)
        except Exception:
            logger.exception("A connection could not be looked after")

    # The end

    def kill_all_applications(self) -> "Deferred[None]":
        """Twisted calls this before it stops, and waits for it."""
        self.closing = True
        return Deferred.fromFuture(asyncio.ensure_future(self.close())).addErrback(lambda failure: None)

    async def close(self) -> None:
        """Close all connections, so that applications end as if their clients had left; cancel who stays."""
        # A response that is finished but still in our buffer would be cut short: that is what a writer has.
        cut = [writer for writer in reactor.getWriters() if hasattr(writer, "abortConnection")]
        requests = [protocol for protocol in self.connections if isinstance(protocol, FlowRequest)]
        cut += [request.transport for request in requests if request.transport and not request.ended.is_set()]
        for transport in cut:
            transport.abortConnection()
        for protocol in list(self.connections):
            if not isinstance(protocol, FlowRequest):
                self.guarded(self.close_websocket, protocol)
        await self.wait_for(lambda: all(transport.disconnected for transport in cut))
        await self.wait_for(lambda: not self.applications())
        for task in self.applications():
            task.cancel()
        await self.wait_for(lambda: not self.applications())

    @staticmethod
    def close_websocket(protocol: Any) -> None:
        if protocol.state == protocol.STATE_OPEN:
            protocol.sendCloseFrame(code=1001)  # going away (RFC 6455, 7.4.1): the page reconnects
        protocol.transport.loseConnection()

    def applications(self) -> list[asyncio.Future[None]]:
        tasks = (details.get("application_instance") for details in self.connections.values())
        return [task for task in tasks if task is not None and not task.done()]

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.exit_grace
        while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110, transports set no event
            await asyncio.sleep(0.005)


def close_at_once(transport: Any) -> None:
    """Its descriptor is free when this returns; what the system has of it still goes out."""
    socket_of(transport).connectionLost(Failure(ConnectionDone()))


def end_all_tasks(loop: asyncio.AbstractEventLoop, timeout: float) -> None:
    """An asynchronous generator left to the dying interpreter crashes it before Python 3.11.8 (gh-113566)."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=timeout))
    loop.run_until_complete(loop.shutdown_asyncgens())
