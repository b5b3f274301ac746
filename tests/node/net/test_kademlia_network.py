"""The DHT on real hosts over loopback, with real signed records."""

import pytest
import trio

from sovereign_crypto.certificate import Capability, IdentityAnchor, issue_certificate
from sovereign_crypto.signing import SigningKey
from sovereign_node.net.host import open_network
from sovereign_node.net.kademlia import Kademlia
from sovereign_node.net.network import Network
from sovereign_protocols.discovery.keys import OFFERS_RENDEZVOUS, peer_record_key
from sovereign_protocols.discovery.records import PeerRecord, sign_peer_record
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.kad import PROTOCOL_ID

NOW = 1_800_000_000
_IDENTITY = SigningKey.from_seed(b"i" * 32)
_ANCHOR = IdentityAnchor(_IDENTITY.public, SigningKey.from_seed(b"r" * 32).public, b"n" * 16)


def make_record(key: SigningKey, addresses: list[str], seq: int) -> bytes:
    certificate = issue_certificate(
        _IDENTITY,
        _ANCHOR,
        key,
        device_enc_pk=bytes([9]) + bytes(31),
        caps=Capability.READ,
        not_before=NOW - 10,
        not_after=NOW + 86400,
        serial=1,
    )
    record = PeerRecord(key.public, certificate, tuple(addresses), ("provider",), "", seq, NOW, NOW + 3600)
    return sign_peer_record(record, key).raw


Node = tuple[SigningKey, Network, Kademlia]


class Nodes:
    """Real nodes in one nursery, each closed in its own order: DHT first, then network."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._stops: dict[str, trio.Event] = {}
        self._gone: dict[str, trio.Event] = {}

    async def start(self, number: int) -> Node:
        key = SigningKey.from_seed(number.to_bytes(32, "big"))
        return await self._nursery.start(lambda task_status: self._run(key, task_status))

    async def start_joined(self, count: int) -> list[Node]:
        nodes: list[Node] = []
        for number in range(count):
            node = await self.start(number)
            if nodes:
                assert await node[2].bootstrap(nodes[0][1].addresses())
            nodes.append(node)
        return nodes

    async def _run(self, key: SigningKey, task_status) -> None:
        async with open_network(key, listen=["/ip4/127.0.0.1/tcp/0"]) as network, trio.open_nursery() as nursery:
            kademlia = Kademlia(network, validator=SovereignValidator(), clock=lambda: NOW)
            await nursery.start(lambda task_status: kademlia.run(task_status=task_status))
            stop = self._stops[network.peer_id] = trio.Event()
            gone = self._gone[network.peer_id] = trio.Event()
            task_status.started((key, network, kademlia))
            await stop.wait()
            nursery.cancel_scope.cancel()
        gone.set()

    async def kill(self, node: Node) -> None:
        self._stops[node[1].peer_id].set()
        await self._gone[node[1].peer_id].wait()

    def stop(self) -> None:
        for stop in self._stops.values():
            stop.set()


@pytest.fixture
async def nodes():
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            group = Nodes(nursery)
            yield group
            group.stop()


async def test_records_and_providers_over_real_connections(nodes):
    members = await nodes.start_joined(6)
    key, network, kademlia = members[3]
    record = make_record(key, network.addresses(), 1)
    assert await kademlia.put(peer_record_key(key.public), record) == 5
    assert await kademlia.provide(OFFERS_RENDEZVOUS) == 5
    for _, other_network, other in members:
        assert await other.get(peer_record_key(key.public)) == record
        if other_network is not network:
            found = await other.find_providers(OFFERS_RENDEZVOUS)
            assert [peer.peer_id for peer in found] == [network.peer_id]
            assert list(found[0].addresses) == network.addresses()
            assert await other.find_peer(network.peer_id) == network.addresses()


async def test_a_restored_table_needs_no_bootstrap_address(nodes):
    members = await nodes.start_joined(4)
    _, _, newcomer = await nodes.start(99)
    assert await newcomer.restore(members[3][2].snapshot()) >= 3
    assert await newcomer.provide(OFFERS_RENDEZVOUS) == 4


async def _never_answer(_stream: object) -> None:
    await trio.sleep_forever()


@pytest.mark.slow
async def test_lookups_survive_closed_and_hung_nodes(nodes):
    members = await nodes.start_joined(12)
    stored = {}
    for key, network, kademlia in members[:4]:
        stored[peer_record_key(key.public)] = record = make_record(key, network.addresses(), 1)
        await kademlia.put(peer_record_key(key.public), record)
        await kademlia.provide(OFFERS_RENDEZVOUS)
    for node in members[4:7]:
        await nodes.kill(node)
    for _, network, _ in members[7:10]:
        network.set_handler(PROTOCOL_ID, _never_answer)
    for _, network, kademlia in members[:4] + members[10:]:
        for key, record in stored.items():
            assert await kademlia.get(key) == record
        found = {peer.peer_id for peer in await kademlia.find_providers(OFFERS_RENDEZVOUS)}
        assert found == {other.peer_id for _, other, _ in members[:4]} - {network.peer_id}
