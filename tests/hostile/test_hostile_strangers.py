"""Strangers who hold on, lie about their security or are somebody else, against a real provider."""

from __future__ import annotations

import struct

import pytest
import trio
from hostile_bytes import HUGE_VARINTS
from hostile_world import HostileWorld

from sovereign_crypto.signing import SigningKey
from sovereign_node.config import load_config
from sovereign_node.net import negotiate
from sovereign_node.net.addresses import parse_tcp
from sovereign_node.net.network import Network
from sovereign_node.net.streams import receive_exactly
from sovereign_protocols.chunk import PROTOCOL_ID as CHUNK
from sovereign_protocols.errors import ErrorCode, RemoteError
from sovereign_protocols.kad import PROTOCOL_ID as KAD
from sovereign_protocols.market.messages import PROTOCOL_ID as MARKET

pytestmark = [pytest.mark.slow, pytest.mark.processes]

HEADER = negotiate.encode_message(b"/multistream/1.0.0")
STRANGERS = 300
WINDOW_BYTES = 256 * 1024
NODE_WINDOW_BYTES = 64 * 1024**2
#: Lengths of header and payload: both endless, an endless payload, a header of 2 GiB, none.
FRAME_PREFIXES = (b"\xff" * 8, b"\0\0\0\1\xff\xff\xff\xff", b"\x7f\xff\xff\xff\0\0\0\0", bytes(8))


@pytest.mark.parametrize("protocol", ["/plaintext/2.0.0", "/tls/1.0.0", "/secio/1.0.0", "/plaintext/1.0.0", "/x"])
async def test_nothing_but_noise_is_agreed(world: HostileWorld, protocol: str) -> None:
    tcp = parse_tcp(world.address)
    async with await trio.open_tcp_stream(tcp.host, tcp.port) as stream:
        await stream.send_all(HEADER + negotiate.encode_message(protocol.encode()))
        with trio.fail_after(5):
            assert await receive_exactly(stream, len(HEADER)) == HEADER
            assert await receive_exactly(stream, 4) == b"\x03na\n"


async def stall(world: HostileWorld, number: int) -> None:
    """Take a place and keep it as long as may be, again and again; each stops at another point."""
    tcp = parse_tcp(world.address)
    noise = HEADER + negotiate.encode_message(b"/noise")
    beginnings = [b"", b"\x13", HEADER, noise, noise + b"\0", noise + struct.pack(">H", 32) + bytes(31)]
    while True:
        try:
            source = f"127.{1 + number % 60}.0.{1 + number % 250}"
            async with await trio.open_tcp_stream(tcp.host, tcp.port, local_address=source) as stream:
                await stream.send_all(beginnings[number % len(beginnings)])
                # Until it is thrown out: the answers to the negotiation come first.
                while await stream.receive_some(1000):
                    pass
        except (OSError, trio.BrokenResourceError):
            pass
        await trio.sleep(0.5)


async def linger(world: HostileWorld) -> None:
    """A peer that opens streams and says nothing on them, or a byte now and then."""
    async with world.attacker() as network:
        streams = [
            await network.open_stream(world.peer_id, protocol)
            for protocol in (CHUNK, KAD, MARKET)
            for _ in range(3)
        ]
        while True:
            for stream in streams:
                try:
                    await stream.send_all(b"\0")
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    continue
            await trio.sleep(1)


async def test_three_hundred_stalling_peers_do_not_stop_a_backup(world: HostileWorld) -> None:
    world.write(5_000_000)
    async with trio.open_nursery() as nursery:
        for number in range(STRANGERS):
            nursery.start_soon(stall, world, number)
        for _ in range(3):
            nursery.start_soon(linger, world)
        await trio.sleep(1)
        report = await trio.to_thread.run_sync(world.back_up)
        assert report["bytes_sent"] > 5_000_000
        # A peer that the provider has never seen gets in, too.
        with trio.fail_after(10):
            async with world.attacker() as honest:
                assert await honest.ping(world.peer_id) < 5
        nursery.cancel_scope.cancel()


async def test_a_certificate_counts_on_its_own_connection_only(world: HostileWorld) -> None:
    async with world.attacker() as network:
        with pytest.raises(RemoteError) as caught:
            async with world.chunk_client(network, world.thief.credentials) as client:
                await client.ping()
        assert caught.value.code is ErrorCode.IDENTITY


@pytest.mark.parametrize(
    ("protocol", "prefix"),
    [
        *((protocol, prefix) for protocol in (CHUNK, MARKET) for prefix in FRAME_PREFIXES),
        *((KAD, prefix) for prefix in HUGE_VARINTS),
    ],
)
async def test_incredible_lengths_cost_nothing(world: HostileWorld, protocol: str, prefix: bytes) -> None:
    before = world.memory_bytes()
    async with world.attacker(SigningKey.generate()) as network:
        stream = await network.open_stream(world.peer_id, protocol)
        with trio.fail_after(5):
            try:
                await stream.send_all(prefix)
                while await stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                pass
        assert await network.ping(world.peer_id) < 5
    assert world.memory_bytes() - before < 8 * 1024**2


async def test_more_identities_than_places_lock_nobody_out(world: HostileWorld) -> None:
    places = load_config(world.provider.data_dir.config).connection_limit
    async with trio.open_nursery() as nursery:

        async def hold(task_status: trio.TaskStatus[None]) -> None:
            async with world.attacker() as network:
                # A stream that stays open makes the connection look busy.
                stream = await network.open_stream(world.peer_id, "/ipfs/ping/1.0.0")
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await stream.reset()

        for _ in range(places + 10):
            await nursery.start(hold)
        peers = await trio.to_thread.run_sync(lambda: world.provider.call("status")["peers"])
        assert peers <= places + 1
        async with world.attacker() as newcomer:
            assert await newcomer.ping(world.peer_id) < 5
        world.write(10_000)
        report = await trio.to_thread.run_sync(world.back_up)
        assert report["chunks_sent"] > 0
        nursery.cancel_scope.cancel()


async def test_bytes_that_nobody_reads_stay_within_their_budget(world: HostileWorld) -> None:
    """Streams that are full before they say what they want, from a dozen peers at once."""
    before = world.memory_bytes()

    async def fill(network: Network) -> None:
        # The first byte promises a message that never ends.
        with trio.move_on_after(6):
            stream = await network._preferred(world.peer_id, "").open_stream()
            try:
                await stream.send_all(b"\xff\x07" + bytes(4 * WINDOW_BYTES))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    async def attack(task_status: trio.TaskStatus[None]) -> None:
        async with world.attacker() as network, trio.open_nursery() as streams:
            for _ in range(60):
                streams.start_soon(fill, network)
            task_status.started()

    async with trio.open_nursery() as nursery:
        for _ in range(12):
            await nursery.start(attack)
        world.write(3_000_000)
        report = await trio.to_thread.run_sync(world.back_up)
        assert report["bytes_sent"] > 3_000_000
        assert world.memory_bytes() - before < NODE_WINDOW_BYTES + 64 * 1024**2
    with trio.fail_after(10):
        async with world.attacker() as honest:
            assert await honest.ping(world.peer_id) < 5
