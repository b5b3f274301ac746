"""The DHT on simulated networks: all times are simulated, so nothing here waits."""

import pytest
import trio

from sovereign_devnet.memory_dht import START, NumberValidator, key_of, simulate_dht, value_of
from sovereign_devnet.memory_network import Health, open_hub
from sovereign_node.net.kademlia import Kademlia, KademliaSettings


@pytest.mark.parametrize("count", [2, 16, pytest.param(32, marks=pytest.mark.slow)])
async def test_every_node_finds_what_one_stored(autojump_clock, count):
    key = key_of("x")
    async with simulate_dht() as net:
        await net.grow(count)
        assert await net.nodes[0][1].put(key, value_of(key, 1)) == min(20, count - 1)
        for _, kademlia in net.nodes:
            assert await kademlia.get(key) == value_of(key, 1)


async def test_every_node_finds_all_providers_once(autojump_clock):
    key = key_of("offers")
    async with simulate_dht() as net:
        await net.grow(24)
        providers = net.nodes[3:6]
        for _, kademlia in providers:
            assert await kademlia.provide(key) >= 20
        for network, kademlia in net.nodes:
            found = await kademlia.find_providers(key)
            expected = {other.peer_id for other, _ in providers} - {network.peer_id}
            assert {peer.peer_id for peer in found} == expected
            assert len(found) == len(expected)
            assert all(list(peer.addresses) == net.hub.nodes[peer.peer_id].addresses() for peer in found)


@pytest.mark.parametrize("health", [Health.DEAD, Health.HUNG])
@pytest.mark.parametrize("count", [16, pytest.param(32, marks=pytest.mark.slow)])
async def test_survives_when_a_third_fails(autojump_clock, health, count):
    async with simulate_dht() as net:
        await net.grow(count)
        keys = [key_of(f"k{index}") for index in range(6)]
        for index, key in enumerate(keys):
            kademlia = net.nodes[index][1]
            await kademlia.put(key, value_of(key, 1))
            await kademlia.provide(key)
        net.spoil(health, 0.3, spare=len(keys))
        durations = []
        for kademlia in net.living():
            for key in keys:
                started = trio.current_time()
                assert await kademlia.get(key) == value_of(key, 1)
                middle = trio.current_time()
                await kademlia.find_providers(key)
                durations += [middle - started, trio.current_time() - middle]
        assert max(durations) <= 2.0


async def test_a_read_asks_the_network_even_when_an_old_copy_is_here(autojump_clock):
    key = key_of("x")
    async with simulate_dht() as net:
        await net.grow(8)
        stale, kademlia = net.nodes[3]
        await net.nodes[1][1].put(key, value_of(key, 1))
        stale.health = Health.DEAD
        assert await net.nodes[1][1].put(key, value_of(key, 2)) == 6
        stale.health = Health.ALIVE
        assert await kademlia.get(key) == value_of(key, 2)


@pytest.mark.slow
async def test_values_and_announcements_outlive_days_by_repetition(autojump_clock):
    key, rendezvous = key_of("x"), key_of("r")
    settings = KademliaSettings(refresh_s=43200, check_s=43200, tick_s=1800)
    sequence = [0]

    def make_value() -> bytes:
        sequence[0] += 1
        return value_of(key, sequence[0], net.wall() + 86400)

    async with simulate_dht() as net:
        await net.grow(6, settings)
        author = net.nodes[2][1]
        assert await author.publish(key, make_value) == 5
        assert await author.provide(rendezvous) == 5
        await net.nodes[3][1].put(key_of("once"), value_of(key_of("once"), 1, START + 10**6))
        for _ in range(3):
            await trio.sleep(20 * 3600)
            found = await net.nodes[4][1].get(key)
            assert found == value_of(key, sequence[0], int(found.split(b"|")[2]))
            assert [peer.peer_id for peer in await net.nodes[4][1].find_providers(rendezvous)] == [
                net.nodes[2][0].peer_id
            ]
        assert sequence[0] >= 10
        assert await net.nodes[5][1].get(key_of("once")) is None
        author.stop_publishing(key)
        author.stop_providing(rendezvous)
        await trio.sleep(25 * 3600)
        assert await net.nodes[4][1].get(key) is None
        assert await net.nodes[4][1].find_providers(rendezvous) == []


async def test_a_publisher_that_starts_alone_is_found_later(autojump_clock):
    key = key_of("r")
    async with simulate_dht() as net:
        first = await net.add()
        assert await first.provide(key) == 0
        await net.grow(12)
        await trio.sleep(60)
        net.nodes[0][0].health = Health.DEAD
        for _, kademlia in net.nodes[1:]:
            found = await kademlia.find_providers(key)
            assert [peer.peer_id for peer in found] == [net.nodes[0][0].peer_id]


async def test_what_a_restarted_node_forgot_is_published_again(autojump_clock):
    key = key_of("r")
    async with open_hub() as hub, trio.open_nursery() as nursery:
        keeper_network, provider_network, asker_network = (hub.add_node() for _ in range(3))

        async def run_in(scope: trio.CancelScope, kademlia: Kademlia, task_status) -> None:
            with scope:
                await kademlia.run(task_status=task_status)

        first_life = trio.CancelScope()
        first = Kademlia(keeper_network, validator=NumberValidator())
        await nursery.start(lambda task_status: run_in(first_life, first, task_status))
        provider = Kademlia(provider_network, validator=NumberValidator())
        await nursery.start(lambda task_status: run_in(trio.CancelScope(), provider, task_status))
        assert await provider.bootstrap(keeper_network.addresses()) == 1
        assert await provider.provide(key) == 1
        await trio.sleep(100)

        first_life.cancel()
        keeper_network.drop_connections()
        await trio.sleep(1)
        second = Kademlia(keeper_network, validator=NumberValidator())
        await nursery.start(lambda task_status: run_in(trio.CancelScope(), second, task_status))
        assert second.statistics()["provider_keys"] == 0
        await trio.sleep(120)
        provider_network.health = Health.DEAD
        asker = Kademlia(asker_network, validator=NumberValidator())
        await nursery.start(lambda task_status: run_in(trio.CancelScope(), asker, task_status))
        await asker.bootstrap(keeper_network.addresses())
        found = await asker.find_providers(key)
        assert [peer.peer_id for peer in found] == [provider_network.peer_id]
        nursery.cancel_scope.cancel()


async def test_a_maker_of_bad_values_does_not_stop_the_rest(autojump_clock):
    key = key_of("x")
    settings = KademliaSettings(republish_s=100)
    calls = [0]

    def make_value() -> bytes:
        calls[0] += 1
        return value_of(key, 5 if calls[0] != 2 else 1)

    async with simulate_dht() as net:
        await net.grow(3, settings)
        await net.nodes[1][1].publish(key, make_value)
        await trio.sleep(1000)
        assert calls[0] > 5
        assert await net.nodes[2][1].get(key) == value_of(key, 5)


@pytest.mark.slow
async def test_dead_and_hung_contacts_leave_the_table(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(16)
        net.spoil(Health.HUNG, 0.2)
        net.spoil(Health.DEAD, 0.2)
        gone = {network.peer_id for network, _ in net.nodes if network.health is not Health.ALIVE}
        await trio.sleep(1200)
        for kademlia in net.living():
            assert not gone & {peer.peer_id for peer in kademlia.contacts()}


@pytest.mark.slow
async def test_a_node_that_comes_back_is_found_again(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(8)
        lost, kademlia = net.nodes[4]
        lost.health = Health.DEAD
        await trio.sleep(3600)
        assert await net.nodes[2][1].find_peer(lost.peer_id) == []
        lost.health = Health.ALIVE
        await trio.sleep(1200)
        assert await net.nodes[2][1].find_peer(lost.peer_id) == lost.addresses()
        assert len(kademlia.contacts()) == 7


async def test_clients_ask_but_are_not_contacts(autojump_clock):
    key = key_of("x")
    async with simulate_dht() as net:
        await net.grow(6)
        client = await net.add(server=False)
        assert await client.put(key, value_of(key, 1)) == 6
        assert await client.get(key) == value_of(key, 1)
        assert await client.provide(key) == 6
        assert client.statistics()["records"] == client.statistics()["provider_keys"] == 0
        await trio.sleep(60)
        client_id = net.nodes[-1][0].peer_id
        for _, kademlia in net.nodes[:-1]:
            assert client_id not in {peer.peer_id for peer in kademlia.contacts()}
            assert [peer.peer_id for peer in await kademlia.find_providers(key)] == [client_id]


async def test_the_table_survives_a_restart(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(10)
        saved = net.nodes[9][1].snapshot()
        network = net.hub.add_node()
        kademlia = await net.start(network)
        assert await kademlia.restore(saved) >= 8
        assert network.peer_id in {peer.peer_id for peer in net.nodes[4][1].contacts()} or await net.nodes[4][
            1
        ].find_peer(network.peer_id)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"version": 2, "contacts": []},
        {"version": 1, "contacts": {}},
        {"version": 1, "contacts": [1, {}, {"peer_id": "x", "addresses": []}, {"peer_id": 5, "addresses": []}]},
        {"version": 1, "contacts": [{"peer_id": "12D3KooW", "addresses": "x"}]},
    ],
)
async def test_a_damaged_table_is_an_empty_one(autojump_clock, data):
    async with simulate_dht() as net:
        kademlia = await net.add()
        assert await kademlia.restore(data) == 0


async def test_bootstrap_addresses_are_tried_again_until_someone_answers(autojump_clock):
    async with simulate_dht() as net:
        first = await net.add()
        net.nodes[0][0].health = Health.DEAD
        second = await net.add()
        assert second.statistics()["contacts"] == 0
        assert await second.bootstrap(["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/nobody"]) == 0
        net.nodes[0][0].health = Health.ALIVE
        await trio.sleep(60)
        assert second.statistics()["contacts"] == first.statistics()["contacts"] == 1


async def test_announcements_carry_new_addresses_soon(autojump_clock):
    key = key_of("r")
    async with simulate_dht() as net:
        await net.grow(6)
        network, kademlia = net.nodes[2]
        await kademlia.provide(key)
        moved = "/ip4/127.0.0.200/tcp/4001"
        net.hub.move(network, moved)
        kademlia.announce_soon()
        await trio.sleep(30)
        found = await net.nodes[5][1].find_providers(key)
        assert found[0].addresses[0] == f"{moved}/p2p/{network.peer_id}"
