"""Sybil peers around a key, over real connections: they hide, and they deceive nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from sovereign_crypto.signing import SigningKey
from sovereign_node.net.errors import DialError
from sovereign_node.net.host import open_network
from sovereign_node.net.kad.addresses import addresses_to_wire
from sovereign_node.net.kademlia import Kademlia
from sovereign_node.net.network import Network
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.discovery.keys import OFFERS_RENDEZVOUS, peer_record_key
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.kad import PROTOCOL_ID, shell
from sovereign_protocols.kad.keys import peer_id_bytes
from sovereign_protocols.kad.messages import Contact, Message, MessageType, Record

pytestmark = pytest.mark.slow

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
SYBILS = 30


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    async with open_network(SigningKey.generate(), listen=[LOOPBACK]) as opened:
        yield opened


class Sybils:
    """Peers that name each other as nearest to everything, and themselves as the way to the victim."""

    def __init__(self, members: list[Network], victim: str) -> None:
        self._crowd = tuple(
            Contact(peer_id_bytes(member.peer_id), addresses_to_wire(member.addresses())) for member in members[:19]
        )
        wrong = addresses_to_wire([members[0].addresses()[0].partition("/p2p/")[0], "/ip4/127.0.0.1/tcp/9"])
        self._victim = Contact(peer_id_bytes(victim), wrong)
        for member in members:
            member.set_handler(PROTOCOL_ID, self._serve)

    async def _serve(self, stream: PeerStream) -> None:
        await shell.serve(stream, self._answer, idle_timeout_s=10, write_timeout_s=10)

    def _answer(self, request: Message) -> Message | None:
        closer = (self._victim, *self._crowd)
        if request.type is MessageType.ADD_PROVIDER:
            return None
        if request.type is MessageType.PUT_VALUE:
            return request
        providers = (self._victim,) if request.type is MessageType.GET_PROVIDERS else ()
        record = Record(request.key, b"\xff" * 300) if request.type is MessageType.GET_VALUE else None
        return Message(request.type, request.key, record=record, closer_peers=closer, provider_peers=providers)


async def test_sybils_with_wrong_addresses_lead_nobody_astray() -> None:
    async with AsyncExitStack() as exits:
        victim = await exits.enter_async_context(network())
        sybils = [await exits.enter_async_context(network()) for _ in range(SYBILS)]
        Sybils(sybils, victim.peer_id)
        asker = await exits.enter_async_context(network())
        nursery = await exits.enter_async_context(trio.open_nursery())
        kademlia = Kademlia(asker, validator=SovereignValidator())
        await nursery.start(lambda task_status: kademlia.run(task_status=task_status))
        with trio.fail_after(30):
            assert await kademlia.bootstrap(sybils[0].addresses())
            # What they say of the key is refused, and what they say of addresses does not survive the dial.
            key = peer_record_key(bytes(32))
            assert await kademlia.get(key) is None
            lies = await kademlia.find_peer(victim.peer_id)
            for found in await kademlia.find_providers(OFFERS_RENDEZVOUS):
                lies = [*lies, *found.addresses]
            with pytest.raises(DialError):
                await asker.connect(victim.peer_id, lies)
            assert not asker.is_connected(victim.peer_id)
            # An address that is known from elsewhere still leads there, among all the wrong ones.
            await asker.connect(victim.peer_id, victim.addresses())
            assert asker.is_connected(victim.peer_id)
            assert victim.peer_id not in {contact.peer_id for contact in kademlia.contacts()}
        nursery.cancel_scope.cancel()
