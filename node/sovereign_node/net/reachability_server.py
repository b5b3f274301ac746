"""Knocking at a peer's door when it asks whether others can reach it."""

import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING

import trio

from sovereign_node.net.addresses import from_socket_name
from sovereign_node.net.paths import is_immediate
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.circuit.messages import encode_frame
from sovereign_protocols.circuit.reach import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_ID,
    ReachAnswer,
    ReachRequest,
    decode_request,
    encode_answer,
)
from sovereign_protocols.circuit.shell import receive_message

if TYPE_CHECKING:
    from sovereign_node.net.network import Network

REQUEST_TIMEOUT_S = 10.0
KNOCK_TIMEOUT_S = 3.0
# A request makes us open at most 4 connections to the address that it came from, once per peer and interval.
PEER_INTERVAL_S = 10.0
REQUESTS_AT_ONCE = 8
_REMEMBERED_PEERS = 1024


class ReachabilityServer:
    """Answers requests for a dial-back.

    Args:
        network: connections of this node.
        peer_interval_s: how often one peer may ask.
    """

    def __init__(self, network: "Network", *, peer_interval_s: float = PEER_INTERVAL_S) -> None:
        self._network = network
        self._peer_interval_s = peer_interval_s
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._active = 0

    def install(self) -> None:
        """Serve from now on."""
        self._network.set_handler(PROTOCOL_ID, self._handle)

    async def _handle(self, stream: PeerStream) -> None:
        try:
            with trio.fail_after(REQUEST_TIMEOUT_S):
                request = decode_request(await receive_message(stream, MAX_MESSAGE_BYTES))
        except CircuitMessageError:
            await stream.reset()
            return
        answer = await self._examine(stream.peer_id, request)
        if answer is None:
            await stream.reset()
            return
        with trio.fail_after(REQUEST_TIMEOUT_S):
            await stream.send_all(encode_frame(encode_answer(answer)))

    async def _examine(self, peer_id: str, request: ReachRequest) -> ReachAnswer | None:
        seen = self._seen_at(peer_id)
        if seen is None:
            return None
        host, port = seen
        if self._active >= REQUESTS_AT_ONCE or not self._admit(peer_id):
            return ReachAnswer(host, port, ())
        self._active += 1
        reached = [False] * len(request.ports)

        async def knock(index: int) -> None:
            address = from_socket_name((host, request.ports[index]))
            reached[index] = await self._network.knock(
                peer_id, address, request.tokens[index], timeout_s=KNOCK_TIMEOUT_S
            )

        try:
            async with trio.open_nursery() as nursery:
                for index in range(len(request.ports)):
                    nursery.start_soon(knock, index)
        finally:
            self._active -= 1
        return ReachAnswer(host, port, tuple(reached))

    def _seen_at(self, peer_id: str) -> tuple[str, int] | None:
        """Return the IP address and port of the peer's newest connection without a third party."""
        for info in reversed(self._network.connections()):
            if info.peer_id == peer_id and info.remote is not None and is_immediate(info.path):
                return _normal(info.remote[0]), info.remote[1]
        return None

    def _admit(self, peer_id: str) -> bool:
        now = trio.current_time()
        if now - self._asked.pop(peer_id, -self._peer_interval_s) < self._peer_interval_s:
            self._asked[peer_id] = now
            return False
        self._asked[peer_id] = now
        if len(self._asked) > _REMEMBERED_PEERS:
            self._asked.popitem(last=False)
        return True


def _normal(host: str) -> str:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
