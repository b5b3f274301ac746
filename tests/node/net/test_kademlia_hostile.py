"""The DHT among peers that lie, flood and hold on: nothing of theirs is stored, returned or waited for."""

import random
from collections.abc import Callable

import pytest
import trio

from sovereign_devnet.memory_dht import START, key_of, simulate_dht, value_of
from sovereign_devnet.memory_network import Health, MemoryNetwork
from sovereign_node.net.kad.addresses import addresses_to_wire
from sovereign_node.net.streams import PeerStream
from sovereign_protocols.kad import PROTOCOL_ID, shell
from sovereign_protocols.kad.errors import InvalidRecordError
from sovereign_protocols.kad.keys import peer_id_bytes, record_wire_key
from sovereign_protocols.kad.messages import Contact, Message, MessageType, Record, encode_frame


def put_message(key: bytes, value: bytes) -> Message:
    return Message(MessageType.PUT_VALUE, record_wire_key(key), Record(record_wire_key(key), value))


async def ask(asker: MemoryNetwork, other: MemoryNetwork, request: Message) -> Message | None:
    stream = await asker.open_stream(other.peer_id, PROTOCOL_ID)
    return await shell.ask(stream, request)


def serving(answer: Callable[[Message], Message | None]) -> Callable[[PeerStream], object]:
    async def handle(stream: PeerStream) -> None:
        await shell.serve(stream, answer, idle_timeout_s=10, write_timeout_s=10)

    return handle


async def test_records_of_wrong_key_or_age_are_neither_stored_nor_returned(autojump_clock):
    key = key_of("x")
    bad = {
        "key": value_of(key_of("y"), 9),
        "expired": value_of(key, 9, START),
        "size": value_of(key, 9) + b" " * 5120,
    }
    async with simulate_dht() as net:
        await net.grow(4)
        hostile = net.hub.add_node()
        victim, kademlia = net.nodes[1]
        await hostile.connect(victim.peer_id, victim.addresses())
        for value in bad.values():
            with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
                await ask(hostile, victim, put_message(key, value))
            with pytest.raises(InvalidRecordError):
                await kademlia.put(key, value)
        foreign = Message(MessageType.PUT_VALUE, b"/pk/x", Record(b"/pk/x", value_of(key, 1)))
        with pytest.raises((trio.BrokenResourceError, trio.ClosedResourceError)):
            await ask(hostile, victim, foreign)
        assert kademlia.statistics()["records"] == 0
        assert kademlia.statistics()["requests_refused"] == len(bad) + 1

        # A node that answers with such values convinces nobody.
        async def lie(stream: PeerStream) -> None:
            await stream.receive_some()
            record = Record(record_wire_key(key), bad["key"])
            await stream.send_all(encode_frame(Message(MessageType.GET_VALUE, record_wire_key(key), record)))

        victim.set_handler(PROTOCOL_ID, lie)
        assert await net.nodes[2][1].get(key) is None


async def test_an_older_record_does_not_replace_a_newer_one_anywhere(autojump_clock):
    key = key_of("x")
    async with simulate_dht() as net:
        await net.grow(8)
        await net.nodes[1][1].put(key, value_of(key, 2))
        with pytest.raises(InvalidRecordError):
            await net.nodes[2][1].put(key, value_of(key, 1))
        outsider = await net.add(server=False)
        assert await outsider.put(key, value_of(key, 1)) == 0
        for _, kademlia in net.nodes:
            assert await kademlia.get(key) == value_of(key, 2)


async def test_a_lie_about_addresses_does_not_enter_the_table(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(4)
        victim = net.nodes[2][0]
        wrong = Contact(peer_id_bytes(victim.peer_id), addresses_to_wire(["/ip4/127.9.9.9/tcp/9"]))

        async def lie(stream: PeerStream) -> None:
            await stream.receive_some()
            await stream.send_all(encode_frame(Message(MessageType.FIND_NODE, closer_peers=(wrong,))))

        liar = net.hub.add_node()
        liar.set_handler(PROTOCOL_ID, lie)
        newcomer = await net.add()
        assert await newcomer.bootstrap(liar.addresses()) >= 1
        await newcomer.find_peer(victim.peer_id)
        await trio.sleep(60)
        known = {peer.peer_id: list(peer.addresses) for peer in newcomer.contacts()}
        assert known[victim.peer_id] == victim.addresses()


async def test_a_flood_of_invented_peers_fills_nothing(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(4)
        made = [net.hub.add_node() for _ in range(200)]
        for node in made:
            node.health = Health.DEAD

        def invent(request: Message) -> Message:
            chosen = random.Random(len(request.key)).sample(made, 20)
            peers = tuple(
                Contact(peer_id_bytes(node.peer_id), addresses_to_wire(node.addresses())) for node in chosen
            )
            return Message(request.type, request.key, closer_peers=peers, provider_peers=peers)

        liar = net.hub.add_node()
        liar.set_handler(PROTOCOL_ID, serving(invent))
        kademlia = await net.add()
        await kademlia.bootstrap(liar.addresses())
        started = trio.current_time()
        await kademlia.get(key_of("x"))
        assert trio.current_time() - started < 2
        assert len(await kademlia.find_providers(key_of("x"), limit=100)) <= 64
        await trio.sleep(600)
        invented = {node.peer_id for node in made}
        assert not invented & {peer.peer_id for peer in kademlia.contacts()}
        assert len(kademlia.contacts()) == 5


async def test_idle_streams_do_not_switch_a_server_off(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(3)
        victim, kademlia = net.nodes[0]
        hostile, honest = net.hub.add_node(), net.hub.add_node()
        await hostile.connect(victim.peer_id, victim.addresses())
        await honest.connect(victim.peer_id, victim.addresses())
        held = [await hostile.open_stream(victim.peer_id, PROTOCOL_ID) for _ in range(300)]
        await trio.sleep(1)
        assert await ask(honest, victim, Message(MessageType.PING)) == Message(MessageType.PING)
        assert kademlia.statistics()["requests_refused"] == 300 - kademlia.settings.streams_per_peer
        await trio.sleep(kademlia.settings.idle_timeout_s)
        assert await ask(hostile, victim, Message(MessageType.PING)) == Message(MessageType.PING)
        assert len(held) == 300


async def test_garbage_resets_its_stream_only(autojump_clock):
    async with simulate_dht() as net:
        await net.grow(2)
        victim, _ = net.nodes[0]
        hostile = net.hub.add_node()
        await hostile.connect(victim.peer_id, victim.addresses())
        for garbage in (b"\xff" * 10, b"\x05hello", encode_frame(Message(MessageType.FIND_NODE))):
            stream = await hostile.open_stream(victim.peer_id, PROTOCOL_ID)
            await stream.send_all(garbage)
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        assert await ask(hostile, victim, Message(MessageType.PING)) == Message(MessageType.PING)
