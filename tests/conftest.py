"""What every test must leave as it found it: threads and file descriptors.

A leaked thread or socket shows itself only under load; here the test that leaks it fails, with the names of
what it has left.

A test that asks for what another thread is only about to do fails under load alone, too. Two variables of the
environment find such tests: SWITCH_INTERVAL=1e-6 lets threads take turns as often as they can, and LATE=0.05
makes what other threads say, to the log or to an observer, come by so many seconds later.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: properties are about values, not about time.
settings.register_profile(
    "house", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("house")

SECONDS = 5.0  # within which what a test has started must be gone
# These files take a minute each: begun last, one would run alone while the other cores are idle.
LONG = ("test_browser_uploads.py", "test_browser.py", "test_two_processes.py", "test_flow.py")
LATE = float(os.environ.get("LATE", "0"))


def pytest_configure() -> None:
    # Started with nohup, or in the background of a script, we would ignore these, and so would all children.
    for name, usual in {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}.items():
        number = getattr(signal, name, None)  # Windows has only the first
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    if interval := os.environ.get("SWITCH_INTERVAL"):
        sys.setswitchinterval(float(interval))
    if LATE:
        handle = logging.Logger.handle

        def handle_late(logger: logging.Logger, record: logging.LogRecord) -> None:
            be_late()
            handle(logger, record)

        logging.Logger.handle = handle_late  # type: ignore[method-assign]


def be_late() -> None:
    """In any thread but the tests' own, and nowhere unless it is asked for."""
    if LATE and threading.current_thread() is not threading.main_thread():
        time.sleep(LATE)


def pytest_xdist_auto_num_workers() -> int:
    # Half of the tests' time is waiting, for servers to start and for a browser to paint.
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def _hangup_is_put_back() -> Iterator[None]:
    """A server that a closed terminal has ended ignores the signal from then on; tests share a process."""
    number = getattr(signal, "SIGHUP", None)
    before = number and signal.getsignal(number)
    yield
    if number:
        signal.signal(number, before)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    _close_database_connections()
    deadline = time.monotonic() + SECONDS
    while left := _left(threads, descriptors):
        if time.monotonic() > deadline:
            pytest.fail(f"The test has left behind: {left}", pytrace=False)
        # Garbage that was never closed says so itself: a ResourceWarning, which is an error here.
        gc.collect()
        time.sleep(0.01)


def _left(threads: set[threading.Thread], descriptors: dict[str, str]) -> str:
    """What is there that was not before, as a sentence; empty if there is nothing."""
    new_threads = set(threading.enumerate()) - threads - _threads_that_stay()
    if new_threads:
        return "threads " + ", ".join(sorted(thread.name for thread in new_threads))
    now = _descriptors()
    if len(now) <= len(descriptors):
        return ""
    new = sorted(f"{fd} → {target}" for fd, target in now.items() if descriptors.get(fd) != target)
    return f"{len(now) - len(descriptors)} of the file descriptors " + ", ".join(new)


def _descriptors() -> dict[str, str]:
    """Number and target of each open descriptor; empty where the system does not tell."""
    found = {}
    try:
        for fd in os.listdir("/proc/self/fd"):
            try:
                found[fd] = os.readlink(f"/proc/self/fd/{fd}")
            except FileNotFoundError:  # the one of the listing itself
                continue
    except FileNotFoundError:
        pass
    return found


def _threads_that_stay() -> set[threading.Thread]:
    """asgiref keeps one thread for all code that must stay in one thread: made once, used until the end."""
    executor = _asgiref_executor()
    return set(executor._threads) if executor else set()


def _asgiref_executor():  # type: ignore[no-untyped-def]
    module = sys.modules.get("asgiref.sync")
    return module and module.SyncToAsync.single_thread_executor


def _close_database_connections() -> None:
    """Where Django is in use, its connections of this thread and of asgiref's are closed, not leaked."""
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured or "django.db" not in sys.modules:
        return
    _close_idle_connections()
    executor = _asgiref_executor()
    if executor and executor._threads:
        executor.submit(_close_idle_connections).result(SECONDS)


def _close_idle_connections() -> None:
    from django.db import connections

    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # that of a TestCase class goes on to its next test
            connection.close()
