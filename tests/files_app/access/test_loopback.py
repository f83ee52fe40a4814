"""What means this machine, and nobody else."""

import pytest
from django.core.management import CommandError

from files_app.access.loopback import is_this_machine, require_loopback


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.255.0.1", "::1", "[::1]", "localhost", "::1%lo", "::ffff:127.0.0.1"]
)
def test_this_machine_is_loopback(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "0.0.0.0",
            "::",
            "192.168.0.1",
            "8.8.8.8",
            "",
            "no-such-host.invalid",
            "127.0.0.1.evil.invalid",
        ),
        *("a..b", "x" * 70, "x" * 300, "127.0.0.1:80", "\x00", "é" * 64, "256.0.0.1"),
    ],
)
def test_everything_else_is_not(host: str) -> None:
    assert not is_this_machine(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "a..b"])
def test_listening_elsewhere_is_refused_with_the_setting_to_change(host: str) -> None:
    with pytest.raises(CommandError, match="Refusing to listen on") as refusal:
        require_loopback(host, "SERVER_HOST")
    assert host in str(refusal.value)
    assert "set SERVER_HOST to 127.0.0.1" in str(refusal.value)


def test_listening_on_this_machine_is_allowed() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        require_loopback(host, "SERVER_HOST")
