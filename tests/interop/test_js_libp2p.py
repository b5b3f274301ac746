"""js-libp2p, an implementation by others, against ours: connections, streams, DHT and chunk protocol."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from chunk_service_rig import NOW, Person, Rig
from js_process import JsError, JsPeers

from sovereign_crypto.signing import SigningKey
from sovereign_node.chunkstore import LogChunkStore
from sovereign_node.net.errors import AddressError, DialError
from sovereign_node.net.host import open_network
from sovereign_node.net.kademlia import Kademlia
from sovereign_node.net.network import Network
from sovereign_protocols.chunk import PROTOCOL_ID as CHUNK
from sovereign_protocols.discovery.keys import peer_record_key
from sovereign_protocols.discovery.records import PeerRecord, sign_peer_record
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.kad import PROTOCOL_ID as KAD
from sovereign_protocols.kad import shell
from sovereign_protocols.kad.keys import peer_id_text, provider_wire_key, record_wire_key
from sovereign_protocols.kad.messages import Message, MessageType

pytestmark = [pytest.mark.slow, pytest.mark.processes]

ECHO = "/test/echo/1.0.0"
PIECE_BYTES = 256 * 1024
SIZES = [1, 3_000_000, 40 * 1024**2]


async def echo(stream: Any) -> None:
    while data := await stream.receive_some(PIECE_BYTES):
        await stream.send_all(data)
    await stream.send_eof()


@asynccontextmanager
async def our_network(key: SigningKey | None = None, stack: str = "fast") -> AsyncIterator[Network]:
    key = key or SigningKey.generate()
    async with open_network(key, listen=["/ip4/127.0.0.1/tcp/0"], stack=stack) as network:  # type: ignore[arg-type]
        network.set_handler(ECHO, echo)
        yield network


async def send_and_compare(network: Network, peer_id: str, size: int) -> None:
    """Send random bytes, end our direction, and expect the same until the peer ends its own."""
    stream = await network.open_stream(peer_id, ECHO)
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        for start in range(0, size, PIECE_BYTES):
            piece = secrets.token_bytes(min(PIECE_BYTES, size - start))
            sent.update(piece)
            await stream.send_all(piece)
        await stream.send_eof()

    count = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await stream.receive_some(PIECE_BYTES):
            received.update(data)
            count += len(data)
    await stream.aclose()
    assert (count, received.digest()) == (size, sent.digest())


@pytest.mark.parametrize("dialler", ["js", "ours"])
async def test_streams_of_both_sides_over_a_connection_of_either(js_peer: JsPeers, dialler: str) -> None:
    async with our_network() as network, js_peer() as peer:
        if dialler == "js":
            found = await peer.call("dial", address=network.addresses()[0])
            assert found["peer_id"] == network.peer_id
            assert (found["security"], found["muxer"]) == ("/noise", "/yamux/1.0.0")
        else:
            await network.connect(peer.peer_id, peer.addresses)

        assert (await peer.call("ping", peer_id=network.peer_id))["milliseconds"] < 5_000
        assert await network.ping(peer.peer_id) < 5
        seen = await peer.call("identify", peer_id=network.peer_id)
        assert ECHO in seen["protocols"]
        assert seen["addresses"] == [address.partition("/p2p/")[0] for address in network.addresses()]

        for size in SIZES:
            assert await peer.call("echo", peer_id=network.peer_id, size=size) == {"size": size, "same": True}
            await send_and_compare(network, peer.peer_id, size)

        # Many at once, in both directions.
        async with trio.open_nursery() as nursery:
            for size in (1, 70_000, 1_000_000):
                for _ in range(5):
                    nursery.start_soon(send_and_compare, network, peer.peer_id, size)
            for _ in range(5):
                answer = await peer.call("echo", peer_id=network.peer_id, size=500_000)
                assert answer["same"]
        assert len(network.connections()) == 1


@pytest.mark.parametrize(("security", "key_type"), [("tls", "Ed25519"), ("noise", "secp256k1"), ("noise", "RSA")])
async def test_peers_with_other_security_or_keys_are_refused_both_ways(
    js_peer: JsPeers, security: str, key_type: str
) -> None:
    async with our_network() as network, js_peer(security=security, key_type=key_type) as peer:
        # Its own half of the handshake may be over before ours refuses it.
        with suppress(JsError):
            await peer.call("dial", address=network.addresses()[0])
        with pytest.raises(JsError):
            await peer.call("ping", peer_id=network.peer_id)
        with pytest.raises((DialError, AddressError)):
            await network.connect(peer.peer_id, peer.addresses)
        assert network.connections() == []


Node = tuple[Network, Kademlia]


@asynccontextmanager
async def our_node(bootstrap: list[str]) -> AsyncIterator[Node]:
    async with our_network() as network, trio.open_nursery() as nursery:
        kademlia = Kademlia(network, validator=SovereignValidator(), clock=lambda: NOW)
        await nursery.start(lambda task_status: kademlia.run(task_status=task_status))
        if bootstrap:
            assert await kademlia.bootstrap(bootstrap)
        yield network, kademlia
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def our_dht(count: int) -> AsyncIterator[list[Node]]:
    """Run nodes of ours with servers of the DHT, the later ones joined through the first."""
    nodes: list[Node] = []
    async with AsyncExitStack() as exits:
        for _ in range(count):
            bootstrap = nodes[0][0].addresses() if nodes else []
            nodes.append(await exits.enter_async_context(our_node(bootstrap)))
        yield nodes


async def wait_for(condition: Callable[[], Awaitable[bool]], timeout_s: float = 10) -> None:
    with trio.fail_after(timeout_s):
        while not await condition():
            await trio.sleep(0.05)


async def test_records_and_announcements_in_one_dht(js_peer: JsPeers) -> None:
    person = Person(1)
    async with our_dht(3) as nodes, js_peer() as peer:
        await peer.call("dial", address=nodes[0][0].addresses()[0])

        async def is_a_member() -> bool:
            members = {network.peer_id for network, _ in nodes} | {peer.peer_id}
            known = {contact.peer_id for contact in nodes[0][1].contacts()} | {nodes[0][0].peer_id}
            size: int = (await peer.call("dht_size"))["size"]
            return known == members and size > 0

        await wait_for(is_a_member)

        # A record that it signs itself, by the specification.
        device = person.add_device(key=SigningKey.from_seed(peer.seed))
        published: dict[str, Any] = {}

        async def reaches_all() -> bool:
            # Its lookups follow only those who are nearer to the key than who named them.
            # A young table, which knows one of us, takes a second round.
            seq = published.get("seq", 0) + 1
            published.update(await peer.call("publish", certificate=device.certificate.hex(), seq=seq, at=NOW))
            published["seq"] = seq
            assert published["errors"] == []
            return bool(published["stored"] == len(nodes))

        await wait_for(reaches_all)
        assert bytes.fromhex(published["key"]) == peer_record_key(device.key.public)
        for _, kademlia in nodes:
            value = await kademlia.get(peer_record_key(device.key.public))
            assert value == bytes.fromhex(published["value"])

        # One of ours, which is also read back where only other nodes have it.
        key = SigningKey.generate()
        ours = person.add_device(key=key)
        record = PeerRecord(key.public, ours.certificate, (), ("provider",), "", 7, NOW, NOW + 3600)
        raw = sign_peer_record(record, key).raw
        assert await nodes[1][1].put(peer_record_key(key.public), raw) == len(nodes)
        assert (await peer.call("get", key=peer_record_key(key.public).hex()))["value"] == raw.hex()

        # What is not valid is refused: under another key, changed, of another namespace.
        wrong_key = record_wire_key(bytes(32)).decode()
        for wire_key, value in [
            (wrong_key, raw),
            (record_wire_key(peer_record_key(key.public)).decode(), raw[:-1]),
        ]:
            refused = await peer.call("put", wire_key=wire_key, value=value.hex())
            assert refused["stored"] == 0
            assert refused["refused"] > 0
        assert await nodes[0][1].get(bytes(32)) is None

        # Announcements, found by the other implementation in both directions.
        theirs, mine = b"\x01" * 32, b"\x02" * 32
        assert (await peer.call("provide", key=theirs.hex()))["told"] > 0
        for _, kademlia in nodes:
            found = await kademlia.find_providers(theirs)
            assert [(item.peer_id, list(item.addresses)) for item in found] == [(peer.peer_id, peer.addresses)]
        # It resets the stream of an announcement that it stored, which counts as refused.
        assert await nodes[2][1].provide(mine) >= len(nodes) - 1
        question = Message(MessageType.GET_PROVIDERS, provider_wire_key(mine))
        told = await shell.ask(await nodes[0][0].open_stream(peer.peer_id, KAD), question)
        assert told is not None
        assert [peer_id_text(item.peer_id) for item in told.provider_peers] == [nodes[2][0].peer_id]
        answer = await peer.call("providers", key=mine.hex())
        (provider,) = answer["providers"]
        assert provider["peer_id"] == nodes[2][0].peer_id
        assert provider["addresses"] == [item.partition("/p2p/")[0] for item in nodes[2][0].addresses()]

        assert await nodes[2][1].find_peer(peer.peer_id) == peer.addresses


async def test_a_client_written_from_the_specification_stores_and_fetches_chunks(
    js_peer: JsPeers, tmp_path: Path
) -> None:
    alice, bob = Person(1), Person(2)
    contract, foreign, locator = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
    rig = Rig(LogChunkStore(tmp_path / "chunks"))
    rig.sign(alice, contract)
    rig.sign(bob, foreign)
    stored = secrets.token_bytes(4184)
    chunk_id = hashlib.sha256(stored).digest()
    secret = secrets.token_bytes(4184)
    secret_id = hashlib.sha256(secret).digest()
    try:
        async with rig.connect(alice.add_device()) as client:
            await client.put(contract, chunk_id, stored)
        async with rig.connect(bob.add_device()) as client:
            await client.put(foreign, secret_id, secret)
        async with our_network() as network, js_peer() as peer:
            network.set_handler(CHUNK, rig.service.handle)
            device = alice.add_device(key=SigningKey.from_seed(peer.seed))
            hello = {
                "peer_id": network.peer_id,
                "certificate": device.certificate.hex(),
                "log": [entry.hex() for entry in alice.log.entries],
                "clock": NOW,
            }
            await peer.call("dial", address=network.addresses()[0])
            wanted = [chunk_id.hex(), secret_id.hex()]
            sizes = [4184, 88 + 65536, 4194392]
            asked = []
            for size in sizes:
                answer = await peer.call("chunks", contract=contract.hex(), size=size, ids=wanted, **hello)
                assert (answer["same"], answer["have"]) == (True, [True, False])
                # Not the chunk of a contract that is not theirs.
                assert sorted(answer["found"]) == sorted([answer["id"], chunk_id.hex()])
                asked.append(answer["log_asked"])
            assert asked == [True, False, False]
            assert answer["usage"] == {"quota": 10**9, "chunks": 4, "bytes": 4184 + sum(sizes)}

            head = secrets.token_bytes(500).hex()
            heads = await peer.call("head", contract=contract.hex(), locator=locator.hex(), head=head, **hello)
            assert (heads["heads"], heads["conflict"]) == ([head], "conflict")

            # Another device's certificate, a clock that is off, and the log of somebody else.
            other = alice.add_device().certificate.hex()
            assert await peer.call("greet", **hello | {"certificate": other}) == {"refused": "identity"}
            assert await peer.call("greet", **hello | {"clock": NOW - 400}) == {"refused": "clock_skew"}
            logs = [entry.hex() for entry in bob.log.entries]
            assert await peer.call("greet", **hello | {"log": logs}) == {"refused": "identity"}
    finally:
        rig.store.close()
