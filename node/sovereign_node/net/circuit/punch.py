"""From a relayed connection to a direct one between two peers behind routers (DCUtR, hole punching over TCP).

Both ends dial each other at the same moment from the port on which they listen. Each router sees its own side
begin, so that what comes from the other side is an answer to it. It works when both routers keep one outside port
for one inside port; behind a symmetric one the outside port is another for every destination, and nobody knows it.

Source: libp2p specs, relay/DCUtR.md.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import structlog
import trio

from sovereign_node.net.addresses import family_of, parse_tcp
from sovereign_node.net.dialer import connect_from
from sovereign_node.net.errors import NetError
from sovereign_node.net.kad.addresses import addresses_to_text, addresses_to_wire
from sovereign_node.net.paths import HOLE_PUNCHED, is_global_literal, is_immediate
from sovereign_node.net.pipes import Pipe
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.circuit.messages import (
    DCUTR_PROTOCOL_ID,
    PunchMessage,
    PunchType,
    decode_punch,
    encode_frame,
    encode_punch,
)
from sovereign_protocols.circuit.shell import receive_message

if TYPE_CHECKING:
    from sovereign_node.net.network import Network

_log = structlog.get_logger(__name__)

EXCHANGE_TIMEOUT_S = 5.0
# Long enough for the kernel to send its second SYN, when the first came before the other side's hole was open.
PUNCH_TIMEOUT_S = 3.5
# A router may refuse what comes too early, and the other end may come through first: a moment later all is settled.
FAILED_PAUSE_S = 0.1
MAX_TARGETS = 4


class HolePuncher:
    """Turns relayed connections into direct ones.

    Args:
        network: connections of this node.
        outside: gives the multiaddrs at which others see our listening port.
    """

    def __init__(self, network: "Network", outside: Callable[[], Sequence[str]]) -> None:
        self._network = network
        self._outside = outside

    @property
    def has_addresses(self) -> bool:
        """Whether there is an address of ours at which the other end could knock."""
        return bool(self._hello().addresses)

    def install(self) -> None:
        """Answer peers that want to punch, from now on."""
        self._network.set_handler(DCUTR_PROTOCOL_ID, self._respond)

    async def punch(self, peer_id: str) -> bool:
        """Try once, as the end that accepted the relayed connection.

        Returns:
            Whether there is a connection without a third party now.
        """
        with ExitStack() as exits:
            if await self._begin(peer_id, exits):
                return self._is_direct(peer_id)
        return False

    async def _begin(self, peer_id: str, exits: ExitStack) -> bool:
        """Agree on the moment and dial; False if the peer did not agree."""
        try:
            with trio.fail_after(EXCHANGE_TIMEOUT_S):
                async with await self._network.open_stream(peer_id, DCUTR_PROTOCOL_ID) as stream:
                    started = trio.current_time()
                    await _send(stream, self._hello())
                    answer = await _receive(stream, PunchType.CONNECT)
                    rtt_s = trio.current_time() - started
                    # From SYNC on the other end may come through, even before we dial.
                    exits.enter_context(self._expecting(peer_id, answer, initiator=True))
                    await _send(stream, PunchMessage(PunchType.SYNC))
        except (NetError, CircuitMessageError, trio.TooSlowError, trio.BrokenResourceError) as error:
            _log.debug("hole_punch_not_agreed", peer_id=peer_id, reason=str(error))
            return False
        # The other end starts when it gets SYNC, half a round trip after it left.
        await trio.sleep(min(rtt_s / 2, EXCHANGE_TIMEOUT_S))
        await self._dial(peer_id, answer, initiator=True)
        return True

    async def _respond(self, stream: PeerStream) -> None:
        with trio.fail_after(EXCHANGE_TIMEOUT_S):
            try:
                request = await _receive(stream, PunchType.CONNECT)
                await _send(stream, self._hello())
                await _receive(stream, PunchType.SYNC)
            except CircuitMessageError:
                await stream.reset()
                return
        with self._expecting(stream.peer_id, request, initiator=False):
            await self._dial(stream.peer_id, request, initiator=False)

    @contextmanager
    def _expecting(self, peer_id: str, message: PunchMessage, *, initiator: bool) -> Iterator[None]:
        """Take what arrives at our listener from the peer's addresses in the agreed role.

        The hole of an attempt before may still be open: the other end then reaches our listener, where both would
        wait for the other to begin.
        """

        async def take(pipe: Pipe) -> None:
            pipe.path = HOLE_PUNCHED
            await self._network.adopt(pipe, peer_id, initiator=initiator)

        targets = _targets(peer_id, message)
        self._network.door.expected.update(dict.fromkeys(targets, take))
        try:
            yield
        finally:
            for address in targets:
                self._network.door.expected.pop(address, None)

    def _hello(self) -> PunchMessage:
        # IPv6 is not translated, only filtered: the address at which nobody got through is the one to knock at.
        own = self._network.own
        addresses = dict.fromkeys([*self._outside(), *own.all(), *own.interfaces()])
        return PunchMessage(PunchType.CONNECT, addresses_to_wire(filter(is_global_literal, addresses)))

    def _is_direct(self, peer_id: str) -> bool:
        return any(is_immediate(info.path) for info in self._network.connections() if info.peer_id == peer_id)

    async def _dial(self, peer_id: str, message: PunchMessage, *, initiator: bool) -> None:
        own = self._network.own
        doors = [(item, own.port_towards(parse_tcp(item).host)) for item in _targets(peer_id, message)]
        if self._is_direct(peer_id):
            return
        with trio.move_on_after(PUNCH_TIMEOUT_S):
            async with trio.open_nursery() as nursery:
                for address, port in doors:
                    if port is not None:
                        nursery.start_soon(
                            self._knock_through, peer_id, address, port, initiator, nursery.cancel_scope
                        )

    async def _knock_through(
        self, peer_id: str, address: str, port: int, initiator: bool, race: trio.CancelScope
    ) -> None:
        target = parse_tcp(address)
        while not self._is_direct(peer_id):
            try:
                async with self._network.places.dial():
                    stream = await connect_from(port, target.host, target.port)
                pipe = Pipe.over_tcp(stream, address=address, path=HOLE_PUNCHED)
            except OSError as error:
                _log.debug("hole_punch_failed", peer_id=peer_id, address=address, reason=str(error))
                await trio.sleep(FAILED_PAUSE_S)
                continue
            await self._network.adopt(pipe, peer_id, initiator=initiator)
        race.cancel()


def _targets(peer_id: str, message: PunchMessage) -> list[str]:
    """Choose the addresses to dial; those of a local network are dialled anyway, and need no hole.

    Those of both families have a place: a peer may list many of one, and only the other may lead to it.
    """
    named = [item.partition("/p2p/")[0] for item in addresses_to_text(peer_id, message.addresses)]
    found = [address for address in named if is_global_literal(address)]
    families: dict[socket.AddressFamily, list[str]] = {}
    for address in dict.fromkeys(found):
        families.setdefault(family_of(parse_tcp(address).host), []).append(address)
    return [address for group in families.values() for address in group[: MAX_TARGETS // 2]]


async def _send(stream: PeerStream, message: PunchMessage) -> None:
    await stream.send_all(encode_frame(encode_punch(message)))


async def _receive(stream: PeerStream, kind: PunchType) -> PunchMessage:
    message = decode_punch(await receive_message(stream))
    if message.type is not kind:
        raise CircuitMessageError("message out of turn")
    return message
