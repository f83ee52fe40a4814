"""Addresses as text: how they are written, and which of them mean this machine."""

import functools
import ipaddress
import socket


def literal(host: str) -> str:
    """As it stands in a URL, and in the header ``Host``."""
    return f"[{host}]" if ":" in host else host


def address_text(host: str, port: int) -> str:
    return f"{literal(host)}:{port}"


def where_reached(host: str) -> str:
    """Where a program on this machine reaches a server that listens on ``host``: "all addresses" is none."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - nothing listens


def host_of(text: str) -> str:
    """The host of ``host:port`` or ``[host]:port``; or all of it, if there is no port."""
    host, colon, port = text.rpartition(":")
    return host.strip("[]") if colon and port.isdecimal() and read_address(text) is None else text.strip("[]")


@functools.lru_cache(1024)  # to read one takes longer than to open a file, and each client has one
def read_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Without brackets and zone, and an IPv4 address as such if it comes in one of IPv6 (RFC 4291, 2.5.5.2).

    ``None`` for what is no address, but a name perhaps.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def neighbourhood(host: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, which one customer has all of."""
    address = read_address(host)
    if address is None:
        return host
    return str(address) if address.version == 4 else f"{int(address) >> 64:x}"


def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address of this machine that no other machine reaches. Names are none."""
    address = read_address(host)
    return address is not None and address.is_loopback


def is_own_client(sock: socket.socket, peer: str) -> bool:
    """Whether a client is on this machine. It may have come by the very address that it has connected to."""
    return is_loopback(peer) or peer == sock.getsockname()[0]
