"""``manage.py start``: migrates, then runs the file server and the site together until Ctrl+C."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from files_app.access import require_loopback
from files_app.options import require_free_port, require_nothing_secret
from fileserver.pacing import SLOW_MOTION
from fileserver.server import address_text

READY_SECONDS = 30.0
STOP_SECONDS = 20.0  # the file server gives running transfers 10


class Command(BaseCommand):
    help = "Runs the file server and the web site together."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slow-motion", action="store_true", help=f"everything at {SLOW_MOTION}")
        parser.add_argument("--open", action="store_true", help="open the page in the browser")

    def handle(self, *args: Any, **options: Any) -> None:
        require_loopback(settings.SERVER_HOST, "SERVER_HOST")
        require_loopback(settings.WEB_HOST, "WEB_HOST")
        require_nothing_secret(settings.FILES_DIRECTORY)
        require_free_port(settings.SERVER_HOST, settings.SERVER_PORT, "SERVER_PORT")
        require_free_port(settings.WEB_HOST, settings.WEB_PORT, "WEB_PORT")
        call_command("migrate", verbosity=0, interactive=False)
        file_server = ["runfileserver", *(["--slow-motion"] if options["slow_motion"] else [])]
        site = ["runserver", "--noreload", "--skip-checks"]
        with both_until_signal() as group:
            group.start("files", file_server)
            group.start("site ", site)
            if group.wait_ready(
                [(settings.SERVER_HOST, settings.SERVER_PORT), (settings.WEB_HOST, settings.WEB_PORT)]
            ):
                url = f"http://{address_text(settings.WEB_HOST, settings.WEB_PORT)}/"
                self.stdout.write(self.style.SUCCESS(f"\n  The page is at {url}   Ctrl+C stops.\n"))
                self.stdout.flush()  # into a pipe it would lie until the next line
                if options["open"]:
                    webbrowser.open(url)
            failed = group.wait()
        if failed:
            raise CommandError(f"{failed} ended by itself; its lines above say why.")


class Group:
    """Child processes that live and die together; their output is passed on with a prefix."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[str]] = {}
        self._printers: list[threading.Thread] = []
        self._signals = 0

    def start(self, label: str, command: list[str]) -> None:
        child = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-u", sys.argv[0], *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **_apart(),
        )
        self._children[label] = child
        printer = threading.Thread(target=_pass_on, args=(label, child), name=f"Output of {label.strip()}")
        printer.start()
        self._printers.append(printer)

    def wait_ready(self, addresses: list[tuple[str, int]]) -> bool:
        """Whether all addresses answer before a child or the user ends it all."""
        deadline = time.monotonic() + READY_SECONDS
        waiting = list(addresses)
        while waiting and not self._over() and time.monotonic() < deadline:
            waiting = [address for address in waiting if not _answers(address)]
            time.sleep(0.05)
        return not waiting

    def wait(self) -> str | None:
        """Until a signal comes or a child ends; the name of the child that ended unasked."""
        while not self._over():
            time.sleep(0.1)
        ended = [label.strip() for label, child in self._children.items() if child.poll() is not None]
        return ended[0] if ended and not self._signals else None

    def _over(self) -> bool:
        return bool(self._signals) or any(child.poll() is not None for child in self._children.values())

    def on_signal(self, *args: object) -> None:
        self._signals += 1
        if self._signals > 1:
            self._pass_signal()

    def _pass_signal(self) -> None:
        for child in self._children.values():
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(_STOP)

    def stop(self) -> None:
        """The site first and with it its transfers, then both are waited for; what hangs is killed."""
        self._pass_signal()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self._children.values():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for printer in self._printers:
            printer.join()


# In a group of their own the children do not get the terminal's Ctrl+C: it comes once, from here.
if sys.platform == "win32":
    _STOP = signal.CTRL_BREAK_EVENT
else:
    _STOP = signal.SIGTERM


def _apart() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


@contextlib.contextmanager
def both_until_signal() -> Iterator[Group]:
    group = Group()
    before = {number: signal.signal(number, group.on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield group
    finally:
        group.stop()
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(label: str, child: "subprocess.Popen[str]") -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            print(f"{label} | {line}", end="", flush=True)


def _answers(address: tuple[str, int]) -> bool:
    try:
        with socket.create_connection(address, 1.0):
            return True
    except OSError:
        return False
