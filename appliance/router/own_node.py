"""Where a host name leads, and whether the node may send there at all.

It never sends to itself, to a port of its own services, or to an address that no
DICOM node has.  A name is resolved once, and that address is connected to, so a
name that answers differently the second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket

import psutil

from appliance.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def addresses_of(host: str) -> tuple[Address, ...]:
    """Resolve a host; nothing when its name is not known just now."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(plain(str(entry[4][0])) for entry in found))


def plain(text: str) -> Address:
    """Read an address; an IPv4 address in IPv6's clothes becomes IPv4.

    Raises ValueError when it is none.
    """
    address = ipaddress.ip_address(text.split("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def why_never(address: Address, port: int, settings: Settings, *, may_be_self: bool = False) -> str:
    """Say in words after "it" why nothing is sent there; "" when it may be.

    `may_be_self` is for a person who sends to this very node.
    """
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        return f"leads to {address}, which is no address of a DICOM node"
    if not _is_of_this_machine(address):
        return ""
    if port == settings.receiver.port and not may_be_self:
        return "is this node itself, which would send its results to itself"
    if port in _own_ports(settings):
        return f"leads to port {port} of this machine, which Brookbox uses for something else"
    return ""


def _own_ports(settings: Settings) -> set[int]:
    ports = {settings.web.port}
    for server in settings.queue.servers:
        port = server.rpartition(":")[2]
        if port.isdigit():
            ports.add(int(port))
    return ports


def _is_of_this_machine(address: Address) -> bool:
    if address.is_loopback:
        return True
    families = (socket.AF_INET, socket.AF_INET6)
    own = {
        plain(one.address)
        for addresses in psutil.net_if_addrs().values()
        for one in addresses
        if one.family in families
    }
    return address in own
