"""Where the servers may listen."""

import pytest
from django.core.management import CommandError

from files_app.access.network import require_private


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "a..b"])
def test_listening_elsewhere_is_refused_with_the_setting_to_change(host: str) -> None:
    with pytest.raises(CommandError, match="Refusing to listen on") as refusal:
        require_private(host, "SERVER_HOST")
    assert host in str(refusal.value)
    assert "set SERVER_HOST to 127.0.0.1" in str(refusal.value)


def test_listening_on_this_machine_is_allowed() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        require_private(host, "SERVER_HOST")
