"""The relay: gives reservations and couples two streams into a circuit."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.clock import Clock, wall_clock
from sovereign_node.net.errors import NetError
from sovereign_node.net.kad.addresses import addresses_to_wire
from sovereign_node.net.paths import is_immediate, is_plain
from sovereign_node.net.streams import PeerStream
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
from sovereign_protocols.circuit.relay_book import Circuit, RelayBook, RelayLimits
from sovereign_protocols.circuit.shell import receive_message
from sovereign_protocols.kad.keys import is_peer_id, peer_id_bytes, peer_id_text

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from sovereign_node.net.network import Network

_log = structlog.get_logger(__name__)

REQUEST_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
# What one direction of a circuit holds in the relay between reading and writing.
PIECE_BYTES = 128 * 1024


class _CutError(Exception):
    """A circuit has reached one of its limits."""


class RelayService:
    """Carries circuits for peers that are connected directly.

    Args:
        network: connections of this node.
        limits: what it is willing to do.
        is_favoured: peers whose circuits have no limits (own devices, customers); asked with a peer id.
        is_willing: whether to give reservations now, as when others can reach this node.
        clock: wall time, for the end of reservations.
    """

    def __init__(
        self,
        network: "Network",
        limits: RelayLimits | None = None,
        *,
        is_favoured: Callable[[str], bool] = lambda _peer_id: False,
        is_willing: Callable[[], bool] = lambda: True,
        clock: Clock = wall_clock,
    ) -> None:
        self._network = network
        self._book = RelayBook(limits or RelayLimits())
        self._is_favoured = is_favoured
        self._is_willing = is_willing
        self._clock = clock
        self.carried_bytes = 0

    def statistics(self) -> dict[str, int]:
        """Count reservations, circuits, and bytes carried since the start."""
        return {
            "reservations": self._book.reservations(trio.current_time()),
            "circuits": self._book.circuits,
            "carried_bytes": self.carried_bytes,
        }

    async def run(self, task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        unwatch = self._network.watch_connections(self._note_connection)
        self._network.set_handler(HOP_PROTOCOL_ID, self._handle)
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            unwatch()
            self._network.remove_handler(HOP_PROTOCOL_ID)

    def _note_connection(self, peer_id: str, connected: bool) -> None:
        if not connected:
            self._book.release(peer_id)

    async def _handle(self, stream: PeerStream) -> None:
        with trio.fail_after(REQUEST_TIMEOUT_S):
            try:
                message = decode_hop(await receive_message(stream))
            except CircuitMessageError:
                await _answer(stream, HopMessage(HopType.STATUS, status=Status.MALFORMED_MESSAGE))
                return
            if message.type is HopType.RESERVE:
                await _answer(stream, self._reserve(stream.peer_id))
                return
        if message.type is HopType.CONNECT:
            await self._connect(stream, message.peer)
        else:
            await _answer(stream, HopMessage(HopType.STATUS, status=Status.UNEXPECTED_MESSAGE))

    def _is_direct(self, peer_id: str) -> bool:
        return any(is_immediate(info.path) for info in self._network.connections() if info.peer_id == peer_id)

    def _reserve(self, peer_id: str) -> HopMessage:
        # A circuit through a circuit would let one peer use two relays for each of its bytes.
        if not self._is_direct(peer_id):
            return HopMessage(HopType.STATUS, status=Status.PERMISSION_DENIED)
        now = trio.current_time()
        status = self._book.reserve(peer_id, now) if self._is_willing() else Status.RESERVATION_REFUSED
        if status is not Status.OK:
            return HopMessage(HopType.STATUS, status=status)
        addresses = [address for address in self._network.addresses() if is_plain(address)]
        return HopMessage(
            HopType.STATUS,
            reservation=Reservation(
                self._clock() + self._book.limits.reservation_s, addresses_to_wire(addresses, keep_peer_id=True)
            ),
            limit=self._book.limit_of(favoured=self._is_favoured(peer_id)),
            status=Status.OK,
        )

    async def _connect(self, stream: PeerStream, peer: bytes) -> None:
        if not is_peer_id(peer):
            await _answer(stream, HopMessage(HopType.STATUS, status=Status.MALFORMED_MESSAGE))
            return
        source, destination = stream.peer_id, peer_id_text(peer)
        favoured = self._is_favoured(source) or self._is_favoured(destination)
        admitted: Circuit | Status = Status.PERMISSION_DENIED
        if self._is_direct(source) and source != destination:
            admitted = self._book.open(source, destination, trio.current_time(), favoured=favoured)
        if isinstance(admitted, Status):
            await _answer(stream, HopMessage(HopType.STATUS, status=admitted))
            return
        try:
            await self._carry(stream, admitted)
        finally:
            self._book.close(admitted)

    async def _carry(self, stream: PeerStream, circuit: Circuit) -> None:
        onward = await self._stop(circuit)
        if isinstance(onward, Status):
            await _answer(stream, HopMessage(HopType.STATUS, status=onward))
            return
        try:
            await _answer(stream, HopMessage(HopType.STATUS, limit=circuit.limit, status=Status.OK))
            await self._couple(stream, onward, circuit)
        except BaseException:
            with trio.CancelScope(shield=True):
                await onward.reset()
                await stream.reset()
            raise

    async def _stop(self, circuit: Circuit) -> PeerStream | Status:
        """Ask the destination; return the stream to it, or what to tell the source."""
        if not self._is_direct(circuit.destination):
            return Status.NO_RESERVATION
        request = StopMessage(StopType.CONNECT, peer_id_bytes(circuit.source), circuit.limit)
        try:
            stream = await self._network.open_stream(circuit.destination, STOP_PROTOCOL_ID)
        except NetError:
            return Status.CONNECTION_FAILED
        try:
            with trio.fail_after(STOP_TIMEOUT_S):
                await stream.send_all(encode_frame(encode_stop(request)))
                answer = decode_stop(await receive_message(stream))
            if answer.type is StopType.STATUS and answer.status is Status.OK:
                return stream
        except (CircuitMessageError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
            _log.debug("circuit_not_accepted", destination=circuit.destination)
        except BaseException:
            with trio.CancelScope(shield=True):
                await stream.reset()
            raise
        await stream.reset()
        return Status.CONNECTION_FAILED

    async def _couple(self, source: PeerStream, destination: PeerStream, circuit: Circuit) -> None:
        """Carry bytes both ways until both ends are done, one breaks, or a limit is reached."""
        duration_s = circuit.limit.duration_s or float("inf")
        whole = False
        try:
            with trio.move_on_after(duration_s):
                async with trio.open_nursery(strict_exception_groups=True) as nursery:
                    nursery.start_soon(self._pump, source, destination, circuit)
                    nursery.start_soon(self._pump, destination, source, circuit)
                whole = True
        except* (trio.BrokenResourceError, trio.ClosedResourceError, _CutError):
            whole = False
        if whole:
            await destination.aclose()
            return
        await destination.reset()
        await source.reset()

    async def _pump(self, source: PeerStream, sink: PeerStream, circuit: Circuit) -> None:
        carried = 0
        while data := await source.receive_some(PIECE_BYTES):
            carried += len(data)
            self.carried_bytes += len(data)
            over = circuit.limit.data_bytes and carried > circuit.limit.data_bytes
            if not self._book.carry(circuit, len(data), trio.current_time()) or over:
                raise _CutError
            await sink.send_all(data)
        await sink.send_eof()


async def _answer(stream: PeerStream, message: HopMessage) -> None:
    with trio.fail_after(REQUEST_TIMEOUT_S):
        await stream.send_all(encode_frame(encode_hop(message)))
