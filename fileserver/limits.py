"""What a server allows its clients, and how it works: all that may be set, with its defaults."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from fileserver import workers
from fileserver.net.connection import LINE_SECONDS
from fileserver.net.stall import STALL_SECONDS
from fileserver.pacing import Pace
from fileserver.storage.uploads import KEEP_SECONDS


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes; 0 means no limit where a limit can be absent."""

    max_clients: int = 1000
    max_clients_per_address: int = 0
    max_upload_size: int = 0
    min_free: int = 0  # of the disk, which uploads leave to others
    first_silence: float = 30.0
    silence: float = 300.0
    line: float = LINE_SECONDS
    keep_alive: float = 15.0  # silence between two HTTP requests
    stall: float = STALL_SECONDS
    grace: float = 10.0
    waiting: float = 120.0  # for the next part of an upload, until the history calls it aborted
    keep_partial: float = KEEP_SECONDS


@dataclass(frozen=True, slots=True)
class Options:
    """How a server works, beside its limits."""

    worker: str = workers.DEFAULT  # one of ``workers.MODELS``
    pace: Pace | None = None  # for everybody; ``None`` is full speed
    direct: bool = False  # whether browsers with a ticket are served over HTTP
    tls: ssl.SSLContext | None = None  # encrypts what clients and server say; ``None``: plain text
    # Where the site's page is, to which a browser that opens this port is sent; it may change meanwhile.
    page_url: Callable[[], str | None] = lambda: None
