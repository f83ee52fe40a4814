"""A file of 10 KiB, thousands of times."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Contender, requests_rate, take_turns
from benchmarks.peers import COPYPARTY, NGINX_PEER, PYTHON_HTTP, STARLETTE
from benchmarks.result import Result, Scenario, Target, ratio_to, ratio_to_best, requests_table
from benchmarks.servers import free_port, process
from benchmarks.stand import Stand

NGINX = NGINX_PEER.name
TEXTBOOK = Path(__file__).with_name("textbook.py")
AT_ONCE = 4  # connections: http.server lets no more than five wait, and loses the others for a second
SOURCES = 8  # addresses, so that the ports that wait for their end do not run out


def new_connections(stand: Stand) -> Result:
    options = {"connections": AT_ONCE, "requests": stand.bench.pick(4000, 100), "sources": SOURCES}
    others = stand.http([NGINX, *PYTHON_HTTP], "small.bin", **options)
    with textbook(stand, **options) as least:
        rounds = take_turns([stand.tcp("small.bin", **options), *others, least], stand.bench.rounds)
    targets = [
        Target("≥ 0.4 of nginx", ratio_to(rounds, NGINX, requests_rate), 0.4),
        Target("≥ 2 × the best Python peer", ratio_to_best(rounds, PYTHON_HTTP, requests_rate), 2),
    ]
    return requests_table(rounds, targets, [_NO_FTP, _WHERE_NEW])


def one_after_another(stand: Stand) -> Result:
    options = {"requests": stand.bench.pick(4000, 100), "keep": True}
    others = stand.http([NGINX, STARLETTE.name, COPYPARTY.name], "small.bin", **options)
    with textbook(stand, **options) as least:
        rounds = take_turns([stand.tcp("small.bin", **options), *others, least], stand.bench.rounds)
    targets = [Target("≥ 0.6 of nginx", ratio_to(rounds, NGINX, requests_rate), 0.6)]
    return requests_table(rounds, targets, [_NO_HTTP_SERVER, _WHERE_KEPT])


@contextlib.contextmanager
def textbook(stand: Stand, **options: int) -> Iterator[Contender]:
    """A server that does the least, to be seen beside ours; no peer, as nobody would use it."""
    port, length = free_port(), stand.size("small.bin")
    with process([sys.executable, str(TEXTBOOK), str(stand.files), str(port)], port, stand.bench.home):
        yield Contender(
            "textbook: a thread for each, no more",
            lambda: stand.bench.load("cfs", port, "small.bin", length=length, **options),
        )


_NO_FTP = "pyftpdlib is left out of the small files: FTP opens a second connection for each of them."
_NO_HTTP_SERVER = (
    "http.server is left out: on a kept connection it takes 44 ms for each file, as it sends head and "
    "content apart and the second waits until the first is acknowledged."
)

_WHERE_NEW = (
    "Where our time goes, by `perf`: of about 85 µs of the processor for each, half is Python (a "
    "connection, a session, a transfer, four events), 35 the kernel's (12 of them to send, 12 to close), "
    "8 the row of the history. One interpreter runs one thread at a time, and `perf sched` shows that "
    "Linux often wakes the client, which needs 32 more, on the core of the thread that serves it; nginx "
    "needs 20, on two cores. Tried and kept: each thread takes its client in by itself and "
    "hands on before it waits (4,400 to 9,700 a second without history; 21 changes of thread for each to "
    "hardly one), a client has a moment before that (seven threads that pass the work around to one or "
    "two, a quarter more a second), files that are in memory are opened without letting the interpreter go "
    "(5,000 to 10,500), events are tuples and not frozen dataclasses, names and addresses that were looked "
    "at once are known. Tried and left: the garbage collection turned off, and the client kept to one "
    "core, which changed nothing that could be told from noise. With a Python that was compiled with the "
    "defaults, on the same day: 0.37 to 0.40 of nginx."
)
_WHERE_KEPT = (
    "Where our time goes: about 60 µs of the processor for each without history and console, of which 25 "
    "are the kernel's, and 15 more with them; the rest of the time either side waits until the other is "
    "awake, and the longer it has slept the longer that takes (24 µs by `perf sched`, where nginx's client "
    "needs hardly any). nginx needs 25. Tried and left: a look at the socket twenty times before it is "
    "waited for, which made it slower. What arrives acknowledged counts as complete, so an ending is "
    "written down after the next request has come, which brings the acknowledgement. With a Python that was "
    "compiled with the defaults, on the same day: 0.50 to 0.54 of nginx."
)

SCENARIOS = [
    Scenario(
        "small-new",
        "10 KiB, a new connection for each",
        f"{AT_ONCE} clients at once, 4,000 requests in all: connect, ask, receive to the end, close.",
        new_connections,
    ),
    Scenario(
        "small-kept",
        "10 KiB, one connection, one request after another",
        "4,000 requests; the next goes out when the reply to the last is whole. HTTP with keep-alive.",
        one_after_another,
    ),
]
