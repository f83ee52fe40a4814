"""Runs programs as children that live and die with it, and starts again what dies: for ``manage.py start``.

All of it happens in the main thread, which looks at its children ten times a second: on Linux a child ends
with the *thread* that has started it (``lifeline``). Only what children print is passed on by other threads.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from files_app.history import recorder
from files_app.hosting import lifeline
from files_app.hosting.ending import Ending, ends_on_signal
from fileserver.limits import Limits

READY_SECONDS = 30.0
LOOK = 0.1  # seconds between two looks at the children
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before a new start; the last one again and again
LIVED = 60.0  # seconds after which a death is the first one again
# The file server gives running transfers the grace, and then has the last rows to write, or to spill.
STOP_SECONDS = Limits().grace + recorder.STOP_SECONDS + 10.0

# In a group of their own the children do not get the terminal's Ctrl+C: it comes once, from here.
_APART: dict[str, Any]
if sys.platform == "win32":
    _STOP = signal.CTRL_BREAK_EVENT
    _APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
else:
    _STOP = signal.SIGTERM
    _APART = {"start_new_session": True}


@dataclass(frozen=True)
class Program:
    """``label`` goes before each of its lines; it is ready when ``address`` answers."""

    label: str
    command: list[str]
    address: tuple[str, int]
    environment: dict[str, str] = field(default_factory=dict)  # besides our own


class Backoff:
    """How long to wait before a new start: longer each time, unless it has lived for a while."""

    def __init__(self) -> None:
        self._deaths = 0

    def pause(self, lived: float) -> float:
        """Seconds to wait, after it has lived for ``lived`` seconds."""
        if lived >= LIVED:
            self._deaths = 0
        self._deaths += 1
        return PAUSES[min(self._deaths, len(PAUSES)) - 1]


class Child:
    """One program, and the process that runs it now, if there is one."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.is_ready = False  # has answered once
        self._backoff = Backoff()
        self._process: subprocess.Popen[str] | None = None
        self._printer: threading.Thread | None = None
        self._changed = 0.0  # when it was started, or has to be

    def start(self) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own commands
            self.program.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            stdin=subprocess.PIPE,  # nothing is ever written to it
            env={**lifeline.environment(), **self.program.environment},
            **_APART,
        )
        self._process, self._changed = process, time.monotonic()
        self._printer = threading.Thread(
            target=_pass_on, args=(self.program.label, process), name=f"Output of {self.program.label}"
        )
        self._printer.start()

    def look(self) -> bool:
        """Start it again if it has died and the time has come; False if it has died and was never ready."""
        if self._process is None:
            if time.monotonic() >= self._changed:
                self._start_again()
            return True
        code = self._process.poll()
        if code is None:
            self.is_ready = self.is_ready or _answers(self.program.address)
            return True
        lived = time.monotonic() - self._changed
        self._let_go()
        if self.is_ready:
            self._wait_after(lived, f"ended unasked ({_how(code)})")
        return self.is_ready

    def _start_again(self) -> None:
        try:
            self.start()
        except OSError as error:  # no memory, or too many processes
            self._wait_after(0.0, f"cannot be started ({error.strerror})")

    def _wait_after(self, lived: float, what: str) -> None:
        pause = self._backoff.pause(lived)
        self._changed = time.monotonic() + pause
        say(f"{self.program.label} | {what}; it is started again in {pause:g} s\n")

    def send_stop(self) -> None:
        """For any thread: the main one may find at this moment that it has ended."""
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                process.send_signal(_STOP)

    def wait(self, deadline: float) -> None:
        """Return when it has ended; what hangs until ``deadline`` is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._printer is not None
        self._process.stdin.close()
        self._printer.join()
        self._process = None


class Supervisor:
    """Started children, from ``supervising``."""

    def __init__(self, programs: list[Program], ending: Ending) -> None:
        self._children = [Child(program) for program in programs]
        self._ending = ending
        self._failed: str | None = None

    def start(self) -> None:
        for child in self._children:
            child.start()

    def wait_ready(self) -> bool:
        """Whether all answer before the user, or one that cannot be started, ends it all."""
        deadline = time.monotonic() + READY_SECONDS
        while self._look() and time.monotonic() < deadline:
            if all(child.is_ready for child in self._children):
                return True
        return False

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> str | None:
        """Until a signal comes, or one ends before it was ever ready: its name.

        ``meanwhile`` is called ten times a second.
        """
        while self._look():
            meanwhile()
        return self._failed

    def _look(self) -> bool:
        """One look at all children; False if there will be no other."""
        for child in self._children:
            if not self._ending.is_asked and not self._failed and not child.look():
                self._failed = child.program.label.strip()
        if self._ending.is_asked or self._failed:
            return False
        time.sleep(LOOK)
        return True

    def send_stop(self) -> None:
        """To all children: the first time it ends them, the next time it hurries them."""
        for child in self._children:
            child.send_stop()

    def stop(self) -> None:
        """All are told at once, then waited for."""
        self.send_stop()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children:
            child.wait(deadline)


@contextlib.contextmanager
def supervising(programs: list[Program]) -> Iterator[Supervisor]:
    """The programs run from here on, until the end of the block; for the main thread."""
    # A second hangup is no hurry: shell and system both tell of it.
    with ends_on_signal() as ending, lifeline.on_hangup(ending.ask):
        supervisor = Supervisor(programs, ending)
        ending.hurry_with(supervisor.send_stop)
        try:
            supervisor.start()
            yield supervisor
        finally:
            supervisor.stop()


def say(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except OSError:
        # The terminal is closed, or the pipe that this went to. The children must be able to print on,
        # and what is left in the buffer must not fail once more at the end.
        _discard_output()


def _discard_output() -> None:
    with contextlib.suppress(OSError, ValueError), open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _pass_on(label: str, process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            say(f"{label} | {line}")


def _how(code: int) -> str:
    with contextlib.suppress(ValueError):
        if code < 0:
            return signal.Signals(-code).name
    return f"exit code {code}"


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, 1.0):
            return True
    except OSError:
        return False
