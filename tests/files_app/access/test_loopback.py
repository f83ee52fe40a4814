"""What means this machine, and nobody else."""

from typing import Any

import pytest
from django.test import RequestFactory

from files_app.access.loopback import is_local_request, is_this_machine


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


HERE = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost:8000"}


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "127.9.9.9"])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_request_from_this_machine_to_this_machine_is_local(host: str, address: str) -> None:
    assert is_local_request(RequestFactory().get("/", **HERE | {"HTTP_HOST": host}), address)


@pytest.mark.parametrize(
    "host", ["files.local", "files.local:8000", "192.168.0.1:8000", "0.0.0.0:8000", "", "."]
)
def test_one_by_another_name_is_not(host: str) -> None:
    """A page elsewhere can have its own name lead to this machine (DNS rebinding)."""
    assert not is_local_request(RequestFactory().get("/", **HERE | {"HTTP_HOST": host}), "127.0.0.1")


@pytest.mark.parametrize(
    "address", ["192.168.0.7", "::ffff:192.168.0.7", "fe80::1", "0.0.0.0", "", "unknown"]
)
def test_one_from_elsewhere_is_not(address: str) -> None:
    assert not is_local_request(RequestFactory().get("/", **HERE), address)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1"])
def test_none_is_if_the_site_can_be_reached_from_elsewhere(settings: Any, host: str) -> None:
    settings.WEB_HOST = host
    assert not is_local_request(RequestFactory().get("/", **HERE), "127.0.0.1")


@pytest.mark.parametrize(
    "header",
    [
        *(
            "Forwarded",
            "Via",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "X-Forwarded-Anything",
        ),
        *("X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "X-Original-Forwarded-For", "True-Client-IP"),
        *("CF-Connecting-IP", "Client-IP", "Remote-User", "X-Remote-User"),
    ],
)
def test_none_is_that_tells_of_a_proxy(header: str) -> None:
    name = "HTTP_" + header.upper().replace("-", "_")
    assert not is_local_request(RequestFactory().get("/", **HERE | {name: "127.0.0.1"}), "127.0.0.1")
    scope = {"headers": [(b"host", b"localhost:8000"), (header.lower().encode(), b"")]}
    assert not is_local_request(scope, "127.0.0.1")
    del scope["headers"][1]
    assert is_local_request(scope, "127.0.0.1")
