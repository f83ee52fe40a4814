"""Two hosts and a cable between them, for tests: network namespaces of Linux, which only root may make."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stack import PROJECT

SERVER, SERVER6 = "10.77.0.1", "fd77::1"
CLIENT, CLIENT6 = "10.77.0.2", "fd77::2"
NEW_SERVER = "10.77.0.9"  # these a test may give them later
OTHER_SERVER, OTHER_CLIENT = "10.78.0.1", "10.78.0.2"


class Host:
    """One of the two."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *words: str) -> list[str]:
        """What runs these words on that host, in the very process that is started with it."""
        return ["ip", "netns", "exec", self.name, *words]

    def run(self, *words: str, **kwargs: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=60, cwd=PROJECT, **kwargs
        )

    def ip(self, *words: str) -> None:
        _ip("-n", self.name, *words)

    def browser(self, folder: Path, chromium: str) -> Path:
        """A program that is Chromium, on that host."""
        path = folder / "chromium-elsewhere"
        path.write_text(f'#!/bin/sh\nexec {" ".join(self.command(chromium))} "$@"\n')
        path.chmod(0o755)
        return path


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """A server's and a client's; skips, or fails in CI, where they cannot be made."""
    server, client = (Host(f"cfs-{os.getpid()}-{role}") for role in ("server", "client"))
    with contextlib.ExitStack() as stack:
        for host in (server, client):
            _make(host)
            stack.callback(_ip, "netns", "del", host.name)
        # A container's interface would be named veth: addresses of such are not handed on.
        _ip("link", "add", "lan0", "netns", server.name, "type", "veth", "peer", "lan0", "netns", client.name)
        for host, *addresses in ((server, SERVER, SERVER6), (client, CLIENT, CLIENT6)):
            for address in addresses:
                # No wait until nobody else has that address of IPv6.
                more = ["nodad"] if ":" in address else []
                host.ip("addr", "add", f"{address}/{64 if more else 24}", "dev", "lan0", *more)
            for interface in ("lo", "lan0"):
                host.ip("link", "set", interface, "up")
        yield server, client


def _make(host: Host) -> None:
    reason = ""
    if not sys.platform.startswith("linux") or not shutil.which("ip"):
        reason = "network namespaces are of Linux, and need its program ip"
    elif os.geteuid() != 0:
        reason = "only root may make network namespaces"
    else:
        made = subprocess.run(["ip", "netns", "add", host.name], capture_output=True, text=True)
        reason = made.stderr.strip()
    if reason and os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(f"{reason}, and REQUIRE_BROWSER is set")
    if reason:
        pytest.skip(f"{reason}: the way through a network is not tested")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stderr)
