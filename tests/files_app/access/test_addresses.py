"""Which addresses of this machine are of use to others."""

import pytest

from files_app.access import addresses
from files_app.access.addresses import Found, Machine, addresses_of, for_others, found_addresses, machine

LAN = Found("eth0", "192.168.1.5")
WIFI = Found("wlp3s0", "10.0.0.7")
LAN6 = Found("eth0", "2001:db8:1::5")
TABLE: dict[str, tuple[list[Found], list[str], list[str]]] = {
    "nothing": ([], [], []),
    "one": ([Found("lo", "127.0.0.1"), LAN], [], ["192.168.1.5"]),
    "the default route first": ([LAN, WIFI], ["10.0.0.7"], ["10.0.0.7", "192.168.1.5"]),
    "without one as they come": ([LAN, WIFI], [], ["192.168.1.5", "10.0.0.7"]),
    "IPv4 before IPv6": ([LAN6, LAN, WIFI], ["2001:db8:1::5"], ["192.168.1.5", "10.0.0.7", "2001:db8:1::5"]),
    "each once": ([LAN, Found("eth0.1", "192.168.1.5")], [], ["192.168.1.5"]),
    "a default route through a VPN": ([Found("tun0", "10.8.0.2"), LAN], ["10.8.0.2"], ["192.168.1.5"]),
    "loopback": ([Found("lo", "127.0.0.1"), Found("lo", "::1"), Found("lo0", "127.0.1.1")], [], []),
    "link-local": (
        [Found("eth0", "169.254.3.4"), Found("eth0", "fe80::1"), Found("en0", "fe80::1%en0")],
        [],
        [],
    ),
    "no address": ([Found("eth0", "0.0.0.0"), Found("eth0", "::"), Found("eth0", "nonsense")], [], []),
    "macOS": ([Found("en0", "192.168.1.5"), Found("utun3", "10.8.0.2")], [], ["192.168.1.5"]),
    "Windows": (
        [
            Found("Intel(R) Ethernet Connection", "192.168.1.5"),
            Found("Hyper-V Virtual Ethernet Adapter", "172.20.0.1"),
            Found("VirtualBox Host-Only Ethernet Adapter", "192.168.56.1"),
            Found("TAP-Windows Adapter V9", "10.8.0.2"),
            Found("WireGuard Tunnel", "10.9.0.2"),
        ],
        [],
        ["192.168.1.5"],
    ),
}
VIRTUAL = (
    *("docker0", "br-1f2e3d", "veth12ab", "virbr0", "cni0", "podman1", "lxcbr0", "lxdbr0", "tun0", "tap1"),
    *(
        "wg0",
        "tailscale0",
        "utun4",
        "ppp0",
        "ztabcdef12",
        "vmnet8",
        "vboxnet0",
        "vnet0",
        "cali123",
        "DOCKER0",
    ),
)


@pytest.mark.parametrize(("found", "default", "wanted"), TABLE.values(), ids=TABLE)
def test_of_use_to_others(found: list[Found], default: list[str], wanted: list[str]) -> None:
    assert for_others(found, default) == wanted


@pytest.mark.parametrize("interface", VIRTUAL)
def test_containers_machines_in_this_one_and_vpns_are_none(interface: str) -> None:
    assert for_others([Found(interface, "10.1.2.3"), LAN], ["10.1.2.3"]) == ["192.168.1.5"]


@pytest.mark.parametrize("interface", ["eth0", "enp0s3", "wlan0", "en0", "br0", "bond0", "Ethernet", "Wi-Fi"])
def test_real_ones_are(interface: str) -> None:
    assert for_others([Found(interface, "10.1.2.3")], []) == ["10.1.2.3"]


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("0.0.0.0", ["192.168.1.5", "10.0.0.7"]),
        ("", ["192.168.1.5", "10.0.0.7"]),
        ("::", ["fd00::5", "192.168.1.5", "10.0.0.7"]),
        ("172.17.0.1", ["172.17.0.1"]),  # asked for
        ("fd00::5", ["fd00::5"]),
        ("files.example.org", ["files.example.org"]),
    ],
)
def test_where_others_reach_who_listens_there(
    monkeypatch: pytest.MonkeyPatch, host: str, wanted: list[str]
) -> None:
    monkeypatch.setattr(addresses, "machine", lambda: Machine((), ("192.168.1.5", "10.0.0.7", "fd00::5")))
    assert addresses_of(host) == wanted


def test_this_machine_has_loopback_at_least_and_nothing_for_others_that_is_not_its_own() -> None:
    assert "127.0.0.1" in [found.host for found in found_addresses()]
    now = machine()
    assert "127.0.0.1" in now.own
    assert set(now.for_others) <= set(now.own)


def test_it_is_looked_again_after_some_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    found = [LAN]
    monkeypatch.setattr(addresses.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(addresses, "found_addresses", lambda: found)
    addresses._look.cache_clear()
    assert machine().own == ("192.168.1.5",)
    found = [WIFI]
    assert machine().own == ("192.168.1.5",)
    clock[0] += addresses.LOOK_SECONDS
    assert machine() == Machine(("10.0.0.7",), ("10.0.0.7",))
    addresses._look.cache_clear()
