"""Where the servers may listen."""

from typing import Any

import pytest
from django.core.management import CommandError

from files_app.access.network import require_encrypted, require_private


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "a..b"])
def test_listening_elsewhere_is_refused_with_the_setting_to_change(host: str) -> None:
    with pytest.raises(CommandError, match="Refusing to listen on") as refusal:
        require_private(host, "SERVER_HOST")
    assert host in str(refusal.value)
    assert "set SERVER_HOST to 127.0.0.1" in str(refusal.value)


def test_listening_on_this_machine_is_allowed() -> None:
    for host in ("127.0.0.1", "::1", "localhost"):
        require_private(host, "SERVER_HOST")


def test_where_tls_is_required_the_network_is_for_tls_alone(settings: Any) -> None:
    settings.REQUIRE_TLS, settings.TLS_CERT = True, ""
    with pytest.raises(CommandError, match="without TLS, which REQUIRE_TLS asks for") as refusal:
        require_encrypted("192.168.0.1", "WEB_HOST")
    assert "set WEB_HOST to 127.0.0.1" in str(refusal.value)
    require_encrypted("127.0.0.1", "WEB_HOST")
    settings.TLS_CERT = "cert.pem"
    require_encrypted("192.168.0.1", "WEB_HOST")
    settings.REQUIRE_TLS, settings.TLS_CERT = False, ""
    require_encrypted("192.168.0.1", "WEB_HOST")
