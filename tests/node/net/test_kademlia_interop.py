"""Another implementation in our DHT: py-libp2p's KadDHT on a stock host, under our protocol id."""

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.kad_dht import common, kad_dht, peer_routing, provider_store, value_store
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.records.validator import NamespacedValidator, Validator
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from sovereign_crypto.signing import SigningKey
from sovereign_node.net.host import open_network
from sovereign_node.net.kademlia import Kademlia
from sovereign_protocols.kad import PROTOCOL_ID
from sovereign_protocols.kad.errors import InvalidRecordError
from sovereign_protocols.kad.keys import provider_wire_key, record_wire_key

KEY = bytes(range(32))


class Numbers:
    def validate(self, key: bytes, value: bytes, now: int) -> None:
        if not value.isdigit():
            raise InvalidRecordError("malformed")

    def select(self, key: bytes, values: list[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index]))


class TheirNumbers(Validator):
    def validate(self, key: str, value: bytes) -> None:
        if not value.isdigit():
            raise ValueError("not a number")

    def select(self, key: str, values: list[bytes]) -> int:
        return max(range(len(values)), key=lambda index: int(values[index]))


@pytest.fixture
async def ours():
    stop = trio.Event()

    async def run(task_status) -> None:
        key = SigningKey.generate()
        async with open_network(key, listen=["/ip4/127.0.0.1/tcp/0"]) as network, trio.open_nursery() as nursery:
            kademlia = Kademlia(network, validator=Numbers())
            await nursery.start(lambda task_status: kademlia.run(task_status=task_status))
            task_status.started((network, kademlia))
            await stop.wait()
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        first, second = [await nursery.start(lambda task_status: run(task_status)) for _ in range(2)]
        assert await second[1].bootstrap(first[0].addresses()) == 1
        yield first, second
        stop.set()


@pytest.fixture
def their_protocol_id(monkeypatch):
    for module in (common, kad_dht, peer_routing, provider_store, value_store):
        monkeypatch.setattr(module, "PROTOCOL_ID", PROTOCOL_ID)


async def test_py_libp2p_stores_reads_and_provides_among_our_nodes(ours, their_protocol_id):
    (network, kademlia), (_, second) = ours
    key_pair = create_new_key_pair()
    host = new_host(
        key_pair=key_pair,
        sec_opt={"/noise": Noise(key_pair, noise_privkey=create_x25519_key_pair().private_key)},
        connection_config=ConnectionConfig(max_connections_per_peer=1),
    )
    with trio.fail_after(60):
        async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            validator = NamespacedValidator({"sov": TheirNumbers()}, strict_validation=True)
            dht = KadDHT(host, DHTMode.SERVER, validator=validator, validator_changed=True, strict_validation=True)
            async with background_trio_service(dht):
                for address in network.addresses():
                    await host.connect(info_from_p2p_addr(Multiaddr(address)))
                await dht.add_peer(ID.from_string(network.peer_id), skip_server_mode_check=True)
                wire_key = record_wire_key(KEY).decode()

                await dht.put_value(wire_key, b"5")
                assert await kademlia.get(KEY) == b"5"
                assert await second.get(KEY) == b"5"
                assert await second.put(KEY, b"6") >= 1
                dht.value_store.store.pop(wire_key.encode(), None)
                assert await dht.get_value(wire_key) == b"6"

                assert await kademlia.provide(KEY) >= 1
                found = await dht.find_providers(provider_wire_key(KEY))
                assert network.peer_id in {str(peer.peer_id) for peer in found}
                assert await dht.provide(provider_wire_key(KEY))
                providers = {peer.peer_id for peer in await second.find_providers(KEY)}
                assert providers == {network.peer_id, str(host.get_id())}
            await host.close()
