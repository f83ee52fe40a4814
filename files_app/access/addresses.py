"""The addresses of this machine: all of them, and those that are of use to others on its network.

Left out for others: loopback, link-local, and what belongs to containers, virtual machines and VPNs.
"""

import functools
import socket
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

import ifaddr

from fileserver.net.address import read_address

LOOK_SECONDS = 3  # after which it is looked again: a network may come and go while the servers run

# Beginnings of interfaces' names on Linux, macOS and the BSDs.
_VIRTUAL = (
    *("docker", "br-", "veth", "virbr", "vnet", "cni", "flannel", "cali", "podman", "lxc", "lxd", "incus"),
    *("vmnet", "vboxnet", "bridge", "tun", "tap", "wg", "tailscale", "utun", "ppp", "zt", "ipsec", "nebula"),
)
# Words in those of Windows, which are the descriptions of adapters.
_VIRTUAL_WORDS = ("virtual", "vmware", "hyper-v", "tap-windows", "wireguard", "tailscale", "zerotier", "vpn")
# Documentation addresses (RFC 5737, RFC 3849), so on no network of anybody: the way there is the default one.
_FAR_AWAY = ((socket.AF_INET, "198.51.100.1"), (socket.AF_INET6, "2001:db8::1"))


class Found(NamedTuple):
    interface: str
    host: str


class Machine(NamedTuple):
    """Its addresses of one moment. ``for_others``: the best first."""

    own: tuple[str, ...]
    for_others: tuple[str, ...]


def machine() -> Machine:
    """At most ``LOOK_SECONDS`` old. For any thread."""
    return _look(int(time.monotonic() / LOOK_SECONDS))


@functools.lru_cache(1)
def _look(moment: int) -> Machine:
    found = found_addresses()
    return Machine(tuple(host for _, host in found), tuple(for_others(found, default_addresses())))


def found_addresses() -> list[Found]:
    """Each address of each interface, as the system tells them."""
    try:
        adapters = ifaddr.get_adapters()
    except OSError:  # no memory for it, or no descriptor; a later look may work
        return []
    return [
        Found(adapter.nice_name, ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in adapters
        for ip in adapter.ips
    ]


def default_addresses() -> list[str]:
    """The address of this machine on the way to everywhere, of IPv4 and of IPv6. No packet is sent for it."""
    found = []
    for family, far_away in _FAR_AWAY:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far_away, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:  # there is no such way, or no such family
            continue
    return found


def for_others(found: Iterable[Found], default: Collection[str]) -> list[str]:
    """Those of use to others: of IPv4 first, which are shorter; of each kind those of ``default`` first."""

    def order(host: str) -> tuple[bool, bool]:
        return (":" in host, host not in default)

    return sorted(dict.fromkeys(one.host for one in found if _is_for_others(one)), key=order)


def _is_for_others(found: Found) -> bool:
    address = read_address(found.host)
    if address is None or address.is_loopback or address.is_link_local or address.is_unspecified:
        return False
    name = found.interface.lower()
    return not name.startswith(_VIRTUAL) and not any(word in name for word in _VIRTUAL_WORDS)


def addresses_of(host: str) -> list[str]:
    """Where others reach a server that listens on ``host``, the best first; none without a network."""
    address = read_address(host)
    if host and (address is None or not address.is_unspecified):
        return [host]
    found = machine().for_others
    if host == "::":  # of both families; who asks for IPv6 gets that first
        return sorted(found, key=lambda one: ":" not in one)
    return [one for one in found if ":" not in one]
