"""Circuits as one more kind of byte pipe: dialled through any relay, accepted from those with a reservation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.net.circuit.addresses import CircuitAddress, parse_circuit
from sovereign_node.net.circuit.errors import CircuitError, refused
from sovereign_node.net.circuit.pipe import CircuitPipe
from sovereign_node.net.errors import AddressError, NetError
from sovereign_node.net.kad.addresses import addresses_to_text
from sovereign_node.net.paths import CIRCUIT_END, RELAYED, is_plain
from sovereign_node.net.streams import PeerStream
from sovereign_node.net.transports import AcceptPipe
from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.circuit.messages import (
    HOP_PROTOCOL_ID,
    STOP_PROTOCOL_ID,
    HopMessage,
    HopType,
    Reservation,
    Status,
    StopMessage,
    StopType,
    decode_hop,
    decode_stop,
    encode_frame,
    encode_hop,
    encode_stop,
)
from sovereign_protocols.circuit.shell import receive_message
from sovereign_protocols.kad.keys import is_peer_id, peer_id_bytes

if TYPE_CHECKING:
    from sovereign_node.net.network import Network

_log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 4.0
ANSWER_TIMEOUT_S = 10.0
MAX_RELAY_ADDRESSES = 4


class CircuitTransport:
    """Pipes through relays.

    Args:
        network: connections to the relays; the transport is to be added to it.
    """

    path = RELAYED

    def __init__(self, network: "Network") -> None:
        self._network = network
        self._held: dict[str, tuple[str, ...]] = {}
        self._accept: AcceptPipe | None = None

    def can_dial(self, address: str) -> bool:
        """Say whether the address leads through a relay."""
        return address.endswith(CIRCUIT_END)

    async def dial(self, address: str, peer_id: str) -> trio.abc.Stream:
        """Open a circuit.

        Args:
            address: `[/ip4/../tcp/..]/p2p/RELAY/p2p-circuit`.
            peer_id: the peer behind the relay.

        Raises:
            AddressError: another kind of address, or a malformed peer id.
            CircuitError: the relay cannot be reached, or refuses.
        """
        circuit = parse_circuit(address)
        if peer_id == circuit.relay_id or self._network.peer_id == circuit.relay_id:
            raise AddressError(address, "the relay is an end of the circuit")
        stream = await self._ask(circuit, HopMessage(HopType.CONNECT, peer=peer_id_bytes(peer_id)))
        return CircuitPipe(stream[0])

    async def reserve(self, relay: CircuitAddress) -> Reservation:
        """Get or prolong a reservation, and list the relay's addresses among ours from then on.

        Args:
            relay: who; connected or at a known address.

        Raises:
            CircuitError: the relay cannot be reached, or refuses.
        """
        stream, answer = await self._ask(relay, HopMessage(HopType.RESERVE))
        await stream.aclose()
        if answer.reservation is None:
            raise CircuitError(relay.relay_id, "the relay's answer holds no reservation")
        told = addresses_to_text(relay.relay_id, answer.reservation.addresses)
        dialled = [
            f"{info.address}/p2p/{relay.relay_id}"
            for info in self._network.connections()
            if info.peer_id == relay.relay_id and not info.inbound and is_plain(info.address)
        ]
        unique = dict.fromkeys([*dialled, *filter(is_plain, told)])
        self._held[relay.relay_id] = tuple(unique)[:MAX_RELAY_ADDRESSES]
        return answer.reservation

    def drop(self, relay_id: str) -> None:
        """Stop listing a relay: its reservation has ended."""
        self._held.pop(relay_id, None)

    def relays(self) -> list[str]:
        """List the peer ids of the relays at which we have a reservation."""
        return list(self._held)

    def addresses(self) -> list[str]:
        """List the addresses, without our peer id, at which circuits reach us."""
        return [f"{address}{CIRCUIT_END}" for group in self._held.values() for address in group]

    async def serve(self, accept: AcceptPipe) -> None:
        """Accept circuits until cancelled."""
        self._accept = accept
        self._network.set_handler(STOP_PROTOCOL_ID, self._handle_stop)
        try:
            await trio.sleep_forever()
        finally:
            self._accept = None
            self._network.remove_handler(STOP_PROTOCOL_ID)

    async def _ask(self, relay: CircuitAddress, request: HopMessage) -> tuple[PeerStream, HopMessage]:
        """Send a request to a relay and return the stream and its answer, which is OK."""
        addresses: Sequence[str] = [relay.transport] if relay.transport else []
        try:
            await self._network.connect(relay.relay_id, addresses, timeout_s=CONNECT_TIMEOUT_S)
            stream = await self._network.open_stream(relay.relay_id, HOP_PROTOCOL_ID)
        except NetError as error:
            raise CircuitError(relay.relay_id, str(error)) from error
        try:
            with trio.fail_after(ANSWER_TIMEOUT_S):
                await stream.send_all(encode_frame(encode_hop(request)))
                answer = decode_hop(await receive_message(stream))
            if answer.type is not HopType.STATUS or answer.status is not Status.OK:
                raise refused(relay.relay_id, answer.status)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await stream.reset()
            if isinstance(error, CircuitMessageError | trio.TooSlowError | trio.BrokenResourceError):
                raise CircuitError(relay.relay_id, str(error) or type(error).__name__) from error
            raise
        return stream, answer

    async def _handle_stop(self, stream: PeerStream) -> None:
        status = Status.OK
        with trio.fail_after(ANSWER_TIMEOUT_S):
            try:
                request = decode_stop(await receive_message(stream))
            except CircuitMessageError:
                request, status = StopMessage(StopType.STATUS), Status.MALFORMED_MESSAGE
            if status is Status.OK:
                status = self._judge(request, stream.peer_id)
            await stream.send_all(encode_frame(encode_stop(StopMessage(StopType.STATUS, status=status))))
        if status is not Status.OK or self._accept is None:
            return
        pipe = CircuitPipe(stream)
        await self._accept(pipe, self._address_of(stream.peer_id))
        # The stream ends when its handler returns, but the connection on it lives on.
        await pipe.closed.wait()

    def _judge(self, request: StopMessage, relay_id: str) -> Status:
        if request.type is not StopType.CONNECT:
            return Status.UNEXPECTED_MESSAGE
        if not is_peer_id(request.peer):
            return Status.MALFORMED_MESSAGE
        if relay_id not in self._held:
            # Whoever is connected could otherwise make us answer handshakes of strangers.
            return Status.PERMISSION_DENIED
        return Status.OK

    def _address_of(self, relay_id: str) -> str:
        known = self._held.get(relay_id) or (f"/p2p/{relay_id}",)
        return f"{known[0]}{CIRCUIT_END}"
