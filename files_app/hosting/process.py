"""What a process with a thread for each of thousands of clients asks of the interpreter and of the system."""

import gc
import logging
import sys

try:
    import resource
except ImportError:  # Windows, where nothing has to be asked for
    resource = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

# Seconds after which a thread that waits for the interpreter asks for it, again and again; usual are 0.005.
# With two thousand slow transfers on two cores this asking took most of the time: 23 s of the processor in
# place of 9, and the last of them ended after twice the time of the first.
SWITCH_INTERVAL = 0.02
# Objects made until there is a look for garbage, of which transfers leave hardly any; usual are 700 or 2,000.
GARBAGE_THRESHOLD = 20_000
DESCRIPTORS = 3  # of a client at most: a socket, a file, and a folder on the way to it
OTHERS = 100  # descriptors: of the database, the log and the rest


def prepare_for(clients: int) -> None:
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # what is there from the start is none: it need not be looked at again and again
    gc.set_threshold(GARBAGE_THRESHOLD)
    allow_descriptors(clients)


def allow_descriptors(clients: int) -> int:
    """See to it that so many clients can be served at once; returns how many can, at most ``clients``."""
    if resource is None:
        return clients
    return min(
        clients, max(1, (_raise_descriptor_limit(DESCRIPTORS * clients + OTHERS) - OTHERS) // DESCRIPTORS)
    )


def _raise_descriptor_limit(wanted: int) -> int:
    """How many files the system allows now. Many allow 1,024 to a process, and more to one that asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinity = resource.RLIM_INFINITY
    allowed = wanted if hard == infinity else min(wanted, hard)
    if soft != infinity and soft < allowed:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        except (OSError, ValueError):  # macOS has a second limit that it does not tell
            allowed = soft
    if allowed < wanted:
        log.warning(
            "the system allows %d open files; with all clients at once %d may be needed", allowed, wanted
        )
    return wanted if soft == infinity else max(soft, allowed)
