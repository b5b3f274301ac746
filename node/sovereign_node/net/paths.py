"""The ways to a peer, from best to worst: what is dialled first, and what new streams take.

Both ends must rank a connection alike, or each would close the one that the other keeps: whatever goes from machine
to machine without a third party is one class, whether an end calls it "lan", "direct" or "hole-punched".
"""

import ipaddress

from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.errors import AddressError

LAN = "lan"
DIRECT = "direct"
HOLE_PUNCHED = "hole-punched"
RELAYED = "relayed"
NATS = "nats"
CIRCUIT_END = "/p2p-circuit"

_WITHOUT_THIRD_PARTY = frozenset((LAN, DIRECT, HOLE_PUNCHED))
_RANKS = {RELAYED: 2, NATS: 1}
# A kind of pipe that is not of this package, as a test's; it goes through somebody, like a relayed one.
_OTHER_RANK = 2
BEST_RANK = 3


def is_immediate(path: str) -> bool:
    """Say whether nobody else carries the bytes."""
    return path in _WITHOUT_THIRD_PARTY


def rank_of_path(path: str) -> int:
    """Return how good a connection's path is; larger is better."""
    return BEST_RANK if is_immediate(path) else _RANKS.get(path, _OTHER_RANK)


def rank_of_address(address: str) -> int:
    """Return how good the path would be to which an address leads; larger is better."""
    if address.endswith(CIRCUIT_END):
        return _RANKS[RELAYED]
    if address.startswith(("/nats/", "/nats-tls/")):
        return _RANKS[NATS]
    try:
        parse_tcp(address)
    except AddressError:
        return _OTHER_RANK
    return BEST_RANK


def is_local_address(address: str) -> bool:
    """Say whether a TCP address is one of a local network or of this machine."""
    try:
        return not ipaddress.ip_address(parse_tcp(address).host).is_global
    except (AddressError, ValueError):
        return False


def is_global_literal(address: str) -> bool:
    """Say whether a TCP address is an IP literal of the open network."""
    try:
        return ipaddress.ip_address(parse_tcp(address).host).is_global
    except (AddressError, ValueError):
        return False


def is_plain(address: str) -> bool:
    """Say whether the address, with or without a peer id at its end, is one of plain TCP."""
    return rank_of_address(address) == BEST_RANK


def dial_order(address: str) -> tuple[int, bool]:
    """Return a sort key: local network, other direct addresses, circuits, message brokers."""
    return -rank_of_address(address), not is_local_address(address)
