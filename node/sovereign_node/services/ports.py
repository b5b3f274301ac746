"""Keep the TCP ports that were free at the first start: others know this node by them.

A port of 0 in a listen address means "any". A node that took another one at each start would be lost to peers that
remember its address, and to those that were given it as their bootstrap address.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence

from sovereign_node.store import State

_KEY = "listen_ports"
_ANY_PORT = re.compile(r"^/(ip4|ip6)/([^/]+)/tcp/0$")
_PORT = re.compile(r"^/(?:ip4|ip6)/[^/]+/tcp/(\d+)/p2p/")


def remembered_listen(listen: Sequence[str], state: State) -> tuple[str, ...]:
    """Return the listen addresses with the port of the last run in the place of 0, if it is still free. Blocks."""
    ports = json.loads(state.meta.get(_KEY) or "{}")
    return tuple(_with_port(address, ports.get(address)) for address in listen)


def remember_ports(listen: Sequence[str], addresses: Sequence[str], state: State) -> None:
    """Store the ports that were taken. Blocks.

    Args:
        listen: configured addresses.
        addresses: those of the running network; with one listen address of port 0, they share one port.
        state: open state database.
    """
    any_port = [address for address in listen if _ANY_PORT.match(address)]
    taken = {match.group(1) for address in addresses if (match := _PORT.match(address))}
    if len(any_port) == 1 and len(taken) == 1:
        state.meta.set(_KEY, json.dumps({any_port[0]: int(taken.pop())}))


def _with_port(address: str, port: int | None) -> str:
    match = _ANY_PORT.match(address)
    if match is None or port is None or not _is_free(match.group(1), match.group(2), port):
        return address
    return f"/{match.group(1)}/{match.group(2)}/tcp/{port}"


def _is_free(kind: str, host: str, port: int) -> bool:
    family = socket.AF_INET if kind == "ip4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the listener does: connections of the last run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
