"""At which addresses other peers can reach this node."""

import ipaddress
from collections.abc import Sequence

from sovereign_node.net.addresses import expand_wildcard, family_of, parse_tcp
from sovereign_node.net.paths import is_global_literal
from sovereign_node.net.transports import PipeTransport


class OwnAddresses:
    """What this node listens on, what others confirmed of it, and what its transports offer.

    Args:
        transports: custom byte pipes; the list of the network itself.
    """

    def __init__(self, transports: Sequence[PipeTransport]) -> None:
        self._transports = transports
        self._bound: tuple[str, ...] = ()
        self._confirmed: tuple[str, ...] = ()
        self._refuted: frozenset[str] = frozenset()

    def set_bound(self, bound: Sequence[str]) -> None:
        """Take the multiaddrs of the listeners."""
        self._bound = tuple(bound)

    def set_confirmed(self, confirmed: Sequence[str], refuted: Sequence[str]) -> None:
        """Take what others found out.

        Args:
            confirmed: multiaddrs at which somebody reached us.
            refuted: hosts of our interfaces at which nobody did.
        """
        self._confirmed, self._refuted = tuple(confirmed), frozenset(refuted)

    def all(self) -> list[str]:
        """List them, without our peer id, those that somebody confirmed first."""
        found = [*self._confirmed]
        found += [item for item in self.interfaces() if parse_tcp(item).host not in self._refuted]
        found += [address for transport in self._transports for address in transport.addresses()]
        return list(dict.fromkeys(found))

    def ports(self) -> list[int]:
        """List the TCP ports on which this node listens."""
        return list(dict.fromkeys(parse_tcp(bound).port for bound in self._bound))

    def hosts(self) -> frozenset[str]:
        """List the IP addresses of this machine on which this node listens."""
        return frozenset(parse_tcp(address).host for address in self.interfaces())

    def port_towards(self, host: str) -> int | None:
        """Return the port of the first listener of the same family as an IP literal, None without one."""
        family = family_of(host)
        bound = [parse_tcp(item) for item in self._bound]
        return next((item.port for item in bound if family_of(item.host) == family), None)

    def source_port(self, address: str) -> int | None:
        """Choose the local port from which to dial a TCP address, None for any.

        It is our listening port when a router may stand between, so that the router keeps one hole for both.
        """
        if not is_global_literal(address):
            return None
        target = parse_tcp(address).host
        # Behind a router that translates IPv4 there may be IPv6 addresses of the open network: that says nothing.
        own = [host for host in self.hosts() if family_of(host) == family_of(target)]
        is_behind_router = not any(ipaddress.ip_address(host).is_global for host in own)
        return self.port_towards(target) if is_behind_router else None

    def interfaces(self) -> list[str]:
        """List the addresses of this machine on which this node listens, whether or not somebody can reach them."""
        return [expanded for bound in self._bound for expanded in expand_wildcard(bound)]
