"""A server ends with its supervisor, and with the terminal that it was started in.

The supervisor keeps one end of a pipe whose other end is its child's standard input, and never writes to it.
So the child reads the end of the pipe when the supervisor is gone, in whatever way it has died and on every
system. Linux sends a signal besides, in case somebody else has inherited the supervisor's end.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

VARIABLE = "CFS_SUPERVISED"  # set for a child: its standard input is the pipe
HANGUP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def environment() -> dict[str, str]:
    """For a child whose standard input is the pipe, started by a thread that lives as long as we do."""
    return {**os.environ, VARIABLE: "1"}


@contextlib.contextmanager
def ends_with_supervisor(end: Callable[[], None]) -> Iterator[None]:
    """Call ``end`` when the supervisor is gone, or the terminal; for the main thread of a server.

    It may be called twice, in any thread and in a signal handler. It stops as SIGTERM does, but must not
    hurry if called again: a shell and the system both tell of a closed terminal.
    """
    is_child = os.environ.pop(VARIABLE, None) is not None
    with on_hangup(end, even_if_ignored=is_child):
        if is_child:
            _ask_for_a_signal()
            watch(0, end)
        yield


@contextlib.contextmanager
def on_hangup(end: Callable[[], None], even_if_ignored: bool = False) -> Iterator[None]:
    """Call ``end`` when the terminal is closed, unless ``nohup`` has said that this does not matter."""
    if HANGUP is None or (signal.getsignal(HANGUP) is signal.SIG_IGN and not even_if_ignored):
        yield
        return
    has_ended = False

    def hang_up(*args: object) -> None:
        nonlocal has_ended
        has_ended = True
        end()

    before = signal.signal(HANGUP, hang_up)
    try:
        yield
    finally:
        # The second one, of the system or the shell, may come only now: it must not kill what has ended well.
        signal.signal(HANGUP, signal.SIG_IGN if has_ended else before)


def watch(fd: int, end: Callable[[], None]) -> threading.Thread:
    """Call ``end`` in another thread at the end of the pipe ``fd``, which stays open."""

    def wait() -> None:
        with contextlib.suppress(OSError):  # a pipe that cannot be read has nobody at its other end
            while os.read(fd, 1024):
                pass
        end()

    # A daemon, for nothing wakes it when the server ends by itself. It holds no lock while it waits: it reads
    # the descriptor, not sys.stdin.
    thread = threading.Thread(target=wait, name="Supervisor", daemon=True)
    thread.start()
    return thread


def terminate() -> None:
    """To this process, from any thread, what SIGTERM from outside does."""
    if sys.platform == "win32":  # where os.kill is no signal, but the end
        signal.raise_signal(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def once(work: Callable[[], None]) -> Callable[[], None]:
    """``work`` at the first call only, from whichever thread or signal handler it comes."""
    calls = itertools.count()

    def call() -> None:
        if next(calls) == 0:
            work()

    return call


def _ask_for_a_signal() -> None:
    """SIGHUP when the supervisor's thread that has started us ends; if it is gone already, the pipe tells."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGHUP, 0, 0, 0)
