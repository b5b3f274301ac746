"""Multiaddr text to socket addresses and back, and which addresses of ours others can use."""

import ipaddress
import socket
from dataclasses import dataclass

from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from sovereign_node.net.errors import AddressError

_IP_PROTOCOLS = ("ip4", "ip6")
_NAME_PROTOCOLS = ("dns", "dns4", "dns6")


@dataclass(frozen=True)
class TcpAddress:
    """Host (IP literal or DNS name) and port of a TCP multiaddr, and the peer named at its end."""

    host: str
    port: int
    peer_id: str | None = None


def split_peer_id(address: str) -> tuple[str, str | None]:
    """Separate the transport part of an address from the peer that its last component names.

    Args:
        address: multiaddr text, with or without a final `/p2p/PEER`.

    Returns:
        The address without that component, and the peer id or None.
    """
    head, separator, tail = address.rpartition("/p2p/")
    if separator and tail and "/" not in tail:
        return head, tail
    return address, None


def parse_tcp(address: str) -> TcpAddress:
    """Read `/ip4|ip6|dns*/HOST/tcp/PORT[/p2p/PEER]`.

    Raises:
        AddressError: the text is no multiaddr, or not one of plain TCP.
    """
    transport, peer_id = split_peer_id(address)
    try:
        parts = [(item.name, value) for item, value in Multiaddr(transport).items()]
    except (MultiaddrError, ValueError) as error:
        raise AddressError(address, "not a multiaddr") from error
    if len(parts) != 2 or parts[0][0] not in _IP_PROTOCOLS + _NAME_PROTOCOLS or parts[1][0] != "tcp":
        raise AddressError(address, "not a plain TCP address")
    return TcpAddress(str(parts[0][1]), int(str(parts[1][1])), peer_id)


def is_tcp(address: str) -> bool:
    """Say whether our TCP dialer understands the address."""
    try:
        parse_tcp(address)
    except AddressError:
        return False
    return True


def from_socket_name(name: tuple[str | int, ...]) -> str:
    """Write a socket name (2 fields for IPv4, 4 for IPv6) as a TCP multiaddr."""
    address = ipaddress.ip_address(str(name[0]).partition("%")[0])
    return f"/ip{address.version}/{address}/tcp/{name[1]}"


def path_of_ip(host: str) -> str:
    """Tell a neighbour ("lan": private, loopback or link-local) from the open network ("direct")."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "direct"
    return "lan" if address.is_private or address.is_loopback or address.is_link_local else "direct"


def expand_wildcard(address: str) -> list[str]:
    """Replace 0.0.0.0 or :: in a listening address with the addresses of this machine's interfaces.

    Loopback is left out unless there is nothing else; other peers could not use it.
    """
    tcp = parse_tcp(address)
    host = ipaddress.ip_address(tcp.host)
    if not host.is_unspecified:
        return [address]
    found = _interface_hosts(host.version)
    return [f"/ip{host.version}/{found_host}/tcp/{tcp.port}" for found_host in found]


def _interface_hosts(version: int) -> list[str]:
    """List this machine's addresses of one IP version, loopback only when there is no other."""
    import ifaddr

    usable: list[str] = []
    loopback = "127.0.0.1" if version == 4 else "::1"
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            address = ipaddress.ip_address(text)
            if address.version == version and not address.is_loopback and not address.is_link_local:
                usable.append(str(address))
    return usable or [loopback]


def family_of(host: str) -> socket.AddressFamily:
    """Socket family for an IP literal."""
    return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
