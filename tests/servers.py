"""Real servers on port 0, and the other end of their sockets, for tests.

Nothing here sleeps to wait for something: every wait has a condition and a deadline.
"""

import contextlib
import hashlib
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from fileserver import workers
from fileserver.events import Event, TransferFinished
from fileserver.limits import Options
from fileserver.rights import Access, Principal, Right, may_everything
from fileserver.server import FileServer
from fileserver.storage.folder import Storage
from fileserver.storage.place import HAS_DIR_FD
from fileserver.transfers.transfer import Transfer
from fileserver.wire.verbs import RIGHTS, word_of
from tests.conftest import be_late

# The model of all servers that do not ask for another.
WORKER = os.environ.get("WORKER_MODEL", workers.DEFAULT)
Address = tuple[str, int]
T = TypeVar("T")
E = TypeVar("E")
SECONDS = 5.0


def wait_until(predicate: Callable[[], T], seconds: float = SECONDS) -> T:
    """The first true value of ``predicate``; ``AssertionError`` if there is none within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.002)
    return value


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open nothing more: its limit is set to what is open."""
    import resource  # which Windows does not have

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Events:
    """All that an observer was told, in order. For any thread."""

    def __init__(self, also: Callable[[Event], None] | None = None) -> None:
        self._events: list[Event] = []
        self._also = also
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        be_late()
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()
        if self._also:
            self._also(event)

    def __iter__(self) -> Iterator[Event]:
        with self._changed:
            return iter(list(self._events))

    def __len__(self) -> int:
        return len(self._events)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self if isinstance(event, kind)]

    def wait_for(self, predicate: Callable[[Event], Any], seconds: float = SECONDS) -> Event:
        """The first event, past or to come, for which ``predicate`` holds."""
        with self._changed:
            found: list[Event] = []

            def look() -> bool:
                found[:] = [event for event in self._events if predicate(event)][:1]
                return bool(found)

            assert self._changed.wait_for(look, seconds), f"not within {seconds} s; there were {self._events}"
            return found[0]

    def wait_for_kind(self, kind: type[E], seconds: float = SECONDS) -> E:
        found = self.wait_for(lambda event: isinstance(event, kind), seconds)
        assert isinstance(found, kind)
        return found

    def ending(self, transfer_id: int, seconds: float = SECONDS) -> TransferFinished:
        found = self.wait_for(lambda e: isinstance(e, TransferFinished) and e.id == transfer_id, seconds)
        assert isinstance(found, TransferFinished)
        return found


RELAY = Principal("relay", "site")
ALL = frozenset(RIGHTS)


def accounts(people: Mapping[str | None, tuple[Principal, Collection[str]]]) -> Access:
    """Tokens, whose they are, and their rights as words of the protocol. Whom a relay names may do all."""

    def authenticate(token: str | None, address: str) -> Principal | None:
        assert address == "127.0.0.1"
        found = people.get(token)
        return found and found[0]

    def may(principal: Principal, right: Right, name: str) -> bool:
        words = next((words for known, words in people.values() if known == principal), ALL)
        return word_of(right) in words and may_everything(principal, right, name)

    return Access(authenticate, may)


class Running:
    """A server that runs in a thread of its own."""

    def __init__(
        self, server: FileServer, storage: Storage, events: Events, thread: threading.Thread
    ) -> None:
        self.server = server
        self.storage = storage
        self.events = events
        self.thread = thread

    @property
    def address(self) -> Address:
        return self.server.address

    def peer(self, receive_buffer: int | None = None) -> "Peer":
        return Peer(self.address, receive_buffer)

    def talk(self, data: bytes, seconds: float = SECONDS) -> bytes:
        return talk(self.address, data, seconds)

    def live(self) -> Transfer:
        """The one live transfer, as soon as there is one."""
        return wait_until(self.server.registry.live)[0]


@contextlib.contextmanager
def run_server(
    folder: str | os.PathLike[str],
    *,
    use_dir_fd: bool = HAS_DIR_FD,
    observer: Callable[[Event], None] | None = None,
    **kwargs: Any,
) -> Iterator[Running]:
    """A ``FileServer`` of ``folder`` on port 0; ``kwargs`` are its own (``limits``, ``access``), and its
    ``Options`` (``pace``).

    Running transfers are ended at the end. All events are in ``events``; ``observer`` gets them too.
    """
    events = Events(observer)
    given = {field.name: kwargs.pop(field.name) for field in fields(Options) if field.name in kwargs}
    options = replace(Options(worker=WORKER), **given)
    with (
        Storage(folder, use_dir_fd=use_dir_fd) as storage,
        FileServer(storage, observer=events, options=options, **kwargs) as server,
    ):
        thread = threading.Thread(target=server.serve_forever, name="Server")
        running = Running(server, storage, events, thread)
        thread.start()
        try:
            yield running
        finally:
            server.shutdown(grace=0)
            thread.join()


def talk(address: Address, data: bytes, seconds: float = SECONDS) -> bytes:
    """Send ``data``, close the sending side, and return all that comes back until the server closes."""
    with Peer(address, seconds=seconds) as peer:
        with contextlib.suppress(ConnectionError):  # a refusal may come before all is sent
            peer.send(data)
            peer.sock.shutdown(socket.SHUT_WR)
        return peer.rest()


class Peer:
    """A client that does nothing by itself: the raw socket, with lines and replies."""

    def __init__(
        self, address: Address, receive_buffer: int | None = None, seconds: float = 2 * SECONDS
    ) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.sock.settimeout(seconds)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.sock.connect(address)
        except BaseException:
            self.sock.close()
            raise
        self._input = bytearray()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset in place of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Send one request with its fields as JSON and return the fields of its ``OK``."""
        self.send(request(verb, **fields))
        return self.ok()

    def refusal(self, data: bytes) -> dict[str, Any]:
        """Send one line and return the fields of its ``ERR``."""
        self.send(data)
        return self.err()

    def line(self) -> bytes:
        """The next line without its LF; ``EOFError`` if the server closes before it is whole."""
        while (found := self._input.find(b"\n")) < 0:
            self._more()
        line = bytes(self._input[:found])
        del self._input[: found + 1]
        return line

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes; ``EOFError`` if the server closes before."""
        while len(self._input) < size:
            self._more()
        data = bytes(self._input[:size])
        del self._input[:size]
        return data

    def rest(self) -> bytes:
        """All that comes until the server closes; a reset ends it too."""
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self._more()
        data = bytes(self._input)
        self._input.clear()
        return data

    def _more(self) -> None:
        data = self.sock.recv(1 << 18)
        if not data:
            raise EOFError(f"the server closed; what had come was {bytes(self._input[:200])!r}")
        self._input += data

    def reply(self) -> tuple[str, dict[str, Any]]:
        return parsed(self.line())

    def ok(self) -> dict[str, Any]:
        return self._expect("OK")

    def end(self) -> dict[str, Any]:
        return self._expect("END")

    def err(self) -> dict[str, Any]:
        return self._expect("ERR")

    def json(self) -> dict[str, Any]:
        value = json.loads(self.line())
        assert isinstance(value, dict)
        return value

    def _expect(self, wanted: str) -> dict[str, Any]:
        word, fields = self.reply()
        assert word == wanted, (word, fields)
        return fields

    def is_usable(self) -> bool:
        """Whether the connection answers another request; False if the server has closed it."""
        try:
            self.send(b"PING\n")
            return self.reply()[0] == "OK"
        except (EOFError, ConnectionError):
            return False


def request(verb: str, **fields: Any) -> bytes:
    return f"{verb} {json.dumps(fields)}\n".encode() if fields else f"{verb}\n".encode()


def parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    """``OK {…}`` as its word and its fields."""
    word, _, rest = line.partition(b" ")
    value = json.loads(rest)
    assert isinstance(value, dict)
    return word.decode(), value


def numbered_bytes(size: int) -> bytes:
    """Content in which no two places look alike."""
    return b"".join(b"%015d\n" % n for n in range(size // 16 + 1))[:size]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
