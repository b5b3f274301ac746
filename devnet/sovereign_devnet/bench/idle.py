"""What an idle node sends and receives: five minutes with 30 connected peers, one of them its provider.

The node and its provider are real processes; the other peers share this one, each with a host, a DHT that knows the
others, and the answers that a node gives to those who ask whether they can be reached. Bytes are counted by the
node on its connections, packets by the kernel on the other ends.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.bench import corpora
from sovereign_devnet.bench.ours import Sovereign, open_sovereign
from sovereign_devnet.bench.results import Bar, Part, Settings, Table
from sovereign_devnet.processes import wait_until
from sovereign_node.log import configure_logging
from sovereign_node.net.host import open_network
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.network import Network
from sovereign_node.net.reachability_server import ReachabilityServer
from sovereign_protocols.discovery.validator import SovereignValidator

if TYPE_CHECKING:
    from trio_typing import TaskStatus

PEERS = 30
BAR_KBIT_PER_S = 20.0
# IPv4 and TCP with timestamps; what lies below is the line's own.
HEADER_BYTES = 52
SETTLE_S = 60
CONNECT_TIMEOUT_S = 120
# Offsets in Linux' struct tcp_info.
_SEGMENTS_AT = 136
_TCP_INFO_BYTES = 144


def measure(settings: Settings) -> Part:
    """Run a node among peers that do nothing, and count."""
    configure_logging("error")
    measured_s = settings.pick(60, 300)
    with open_sovereign(settings.folder / "nodes") as ours:
        noise = corpora.make_incompressible(settings.folder / "noise", size_bytes=1 << 20)
        ours.protect("noise", noise.root)
        ours.laptop.stream("backup", project="noise")
        ours.laptop.stop()
        found = trio.run(_measure_among_peers, ours, settings, measured_s)
    bits = {name: count * 8 / 1000 / measured_s for name, count in found["bytes"].items()}
    rows: list[list[Any]] = [
        [name, *(bits[f"{name}, {way}"] for way in ("received", "sent")), sum(_of(bits, name))]
        for name in ("on the connections", "with TCP/IP headers")
    ]
    title = f"An idle laptop with {found['peers']} peers, one of them its provider, over {measured_s} s"
    packets_per_s = found["packets"] / measured_s
    note = f"{packets_per_s:.1f} packets per second; {found['replaced']} connections ended meanwhile."
    bar = Bar("idle traffic with headers", sum(_of(bits, "with TCP/IP headers")), "<=", BAR_KBIT_PER_S, "kbit/s")
    columns = ("traffic", "received kbit/s", "sent kbit/s", "both kbit/s")
    return Part([Table(title, columns, rows, note)], [bar], found)


def _of(bits: dict[str, float], name: str) -> list[float]:
    return [value for key, value in bits.items() if key.startswith(name)]


async def _measure_among_peers(ours: Sovereign, settings: Settings, measured_s: int) -> dict[str, Any]:
    async with trio.open_nursery() as nursery:
        peers: list[Network] = []
        for number in range(PEERS - 1):
            entrance = peers[0].addresses() if peers else []
            peers.append(await nursery.start(_run_peer, number, entrance))
        bootstrap = [peer.addresses()[0] for peer in peers]
        await trio.to_thread.run_sync(ours.laptop.up, bootstrap)
        await trio.to_thread.run_sync(wait_until, lambda: _is_surrounded(ours), CONNECT_TIMEOUT_S, "connecting")
        settings.say(f"idle: {PEERS} peers are connected, measuring {measured_s} s")
        await trio.sleep(SETTLE_S)
        node_id = (await _ask(ours, "status"))["peer_id"]
        before, packets_before = await _connections(ours), _packets(peers, node_id)
        await trio.sleep(measured_s)
        after, packets_after = await _connections(ours), _packets(peers, node_id)
        await trio.to_thread.run_sync(ours.laptop.stop)
        nursery.cancel_scope.cancel()
    return _compare(
        before, after, [last - first for first, last in zip(packets_before, packets_after, strict=True)]
    )


async def _run_peer(number: int, entrance: Sequence[str], task_status: TaskStatus[Network]) -> None:
    key = SigningKey.from_seed((number + 1).to_bytes(32, "big"))
    async with open_network(key, listen=["/ip4/127.0.0.1/tcp/0"]) as network, trio.open_nursery() as nursery:
        ReachabilityServer(network).install()
        kademlia = Kademlia(network, validator=SovereignValidator())
        await nursery.start(kademlia.run)
        await kademlia.bootstrap(entrance)
        task_status.started(network)
        await trio.sleep_forever()


def _is_surrounded(ours: Sovereign) -> bool:
    return len({row["peer_id"] for row in ours.laptop.call("peers")}) >= PEERS


async def _ask(ours: Sovereign, operation: str) -> Any:
    return await trio.to_thread.run_sync(lambda: ours.laptop.call(operation))


async def _connections(ours: Sovereign) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["peer_id"], row["address"]): row for row in await _ask(ours, "peers")}


def _packets(peers: Sequence[Network], node_id: str) -> list[int]:
    """Read how many packets came and went on the peers' ends of the node's connections."""
    counts = []
    for peer in peers:
        streams = [item.pipe.stream for item in peer.table.of(node_id)]
        counts.append(sum(_segments(stream) for stream in streams if isinstance(stream, trio.SocketStream)))
    return counts


def _segments(stream: trio.SocketStream) -> int:
    info = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    assert isinstance(info, bytes)
    return sum(struct.unpack_from("=II", info, _SEGMENTS_AT))


def _compare(before: Any, after: Any, packets: Sequence[int]) -> dict[str, Any]:
    """Take the difference; what came or went with a connection that is no longer there is missing."""
    kept = before.keys() & after.keys()
    received = sum(row["bytes_received"] for row in after.values())
    received -= sum(before[key]["bytes_received"] for key in kept)
    sent = sum(row["bytes_sent"] for row in after.values()) - sum(before[key]["bytes_sent"] for key in kept)
    # The provider's end is in another process; its packets are taken to be as many as those of the others.
    all_packets = sum(packets) / len(packets) * len(after)
    headers = all_packets * HEADER_BYTES
    return {
        "peers": len({peer_id for peer_id, _ in after}),
        "replaced": len(before.keys() - kept),
        "packets": all_packets,
        "bytes": {
            "on the connections, received": received,
            "on the connections, sent": sent,
            "with TCP/IP headers, received": received + headers / 2,
            "with TCP/IP headers, sent": sent + headers / 2,
        },
    }
