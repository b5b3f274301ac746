"""How long lookups in the DHT take while a third of its nodes is dead or hung.

    python -m sovereign_devnet.bench.dht [--nodes 16,32,64] [--fault kill|hang] [--json FILE]

All nodes run in this process over real loopback connections, so every figure holds the work of all nodes together.
After the fault, living nodes read records, each stored and announced by one of the nodes before it; the first
lookups meet the failed nodes unprepared. The bar: every lookup succeeds, the slowest one in a hundred takes 2 s.
"""

import argparse
import gc
import json
import random
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from sovereign_crypto.certificate import Capability, IdentityAnchor, issue_certificate
from sovereign_crypto.signing import SigningKey
from sovereign_node.clock import wall_clock
from sovereign_node.log import configure_logging
from sovereign_node.net.host import open_network
from sovereign_node.net.kad import Kademlia
from sovereign_node.net.network import Network
from sovereign_protocols.discovery.keys import OFFERS_RENDEZVOUS, peer_record_key
from sovereign_protocols.discovery.records import PeerRecord, sign_peer_record
from sovereign_protocols.discovery.validator import SovereignValidator
from sovereign_protocols.kad import PROTOCOL_ID

if TYPE_CHECKING:
    from trio_typing import TaskStatus

SHARE_FAILED = 0.3
BAR_P99_S = 2.0
_RECORDS = 10
_PROVIDERS = 5
_JOIN_TOGETHER = 4
_QUIET_S = 1.0


@dataclass
class _Node:
    key: SigningKey
    network: Network
    kademlia: Kademlia
    killed: trio.Event
    gone: trio.Event


async def _run_node(number: int, task_status: "TaskStatus[_Node]") -> None:
    key = SigningKey.from_seed(number.to_bytes(32, "big"))
    killed, gone = trio.Event(), trio.Event()
    async with (
        open_network(key, listen=["/ip4/127.0.0.1/tcp/0"]) as network,
        trio.open_nursery() as nursery,
    ):
        kademlia = Kademlia(network, validator=SovereignValidator())
        await nursery.start(lambda task_status: kademlia.run(task_status=task_status))
        task_status.started(_Node(key, network, kademlia, killed, gone))
        await killed.wait()
        nursery.cancel_scope.cancel()
    gone.set()


def _record(node: _Node) -> bytes:
    now = wall_clock()
    identity = SigningKey.from_seed(b"i" * 32)
    certificate = issue_certificate(
        identity,
        IdentityAnchor(identity.public, identity.public, bytes(16)),
        node.key,
        device_enc_pk=bytes([9]) + bytes(31),
        caps=Capability.READ,
        not_before=now,
        not_after=now + 86400,
        serial=1,
    )
    addresses = tuple(node.network.addresses())
    record = PeerRecord(node.key.public, certificate, addresses, ("provider",), "", 1, now, now + 3600)
    return sign_peer_record(record, node.key).raw


async def _never_answer(_stream: object) -> None:
    await trio.sleep_forever()


async def _fail(nodes: list[_Node], fault: str) -> None:
    for node in nodes:
        if fault == "hang":
            node.network.set_handler(PROTOCOL_ID, _never_answer)
        else:
            node.killed.set()
    if fault == "kill":
        for node in nodes:
            await node.gone.wait()


class _Times:
    """Durations of one kind of lookup."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures = 0

    def note(self, started: float, found: bool) -> None:
        self.seconds.append(time.perf_counter() - started)
        self.failures += not found

    def summary(self) -> dict[str, float]:
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return {
            "lookups": len(self.seconds),
            "success": 1 - self.failures / len(self.seconds),
            "p50_s": round(cuts[49], 4),
            "p99_s": round(cuts[98], 4),
            "max_s": round(max(self.seconds), 4),
        }


async def _measure(readers: list[_Node], records: dict[bytes, bytes], providers: set[str], lookups: int) -> Any:
    gets, finds = _Times(), _Times()
    keys = list(records)
    for number in range(lookups):
        reader = readers[number % len(readers)].kademlia
        key = keys[number % len(keys)]
        started = time.perf_counter()
        gets.note(started, await reader.get(key) == records[key])
        started = time.perf_counter()
        found = {peer.peer_id for peer in await reader.find_providers(OFFERS_RENDEZVOUS)}
        finds.note(started, found >= providers - {readers[number % len(readers)].network.peer_id})
    return {"get": gets.summary(), "find_providers": finds.summary()}


async def _floor(nodes: list[_Node]) -> float:
    """Median round trip of a ping on an open connection: a lookup is a few questions one after the other."""
    asker, other = nodes[0], nodes[1]
    await asker.network.connect(other.network.peer_id, other.network.addresses())
    seconds = []
    for _ in range(30):
        started = time.perf_counter()
        await asker.network.ping(other.network.peer_id)
        seconds.append(time.perf_counter() - started)
    return round(statistics.median(seconds), 5)


async def _start(nursery: trio.Nursery, count: int) -> list[_Node]:
    nodes: list[_Node] = [await nursery.start(_run_node, number) for number in range(count)]
    limiter = trio.CapacityLimiter(_JOIN_TOGETHER)

    async def join(node: _Node) -> None:
        async with limiter:
            await node.kademlia.bootstrap(nodes[0].network.addresses())

    async with trio.open_nursery() as joiners:
        for node in nodes[1:]:
            joiners.start_soon(join, node)
    await _wait_quiet(nodes)
    return nodes


async def _wait_quiet(nodes: list[_Node]) -> None:
    """Nodes that heard of each other while joining still ask each other for their addresses."""
    calls, last = -1, -2
    while calls != last:
        last = calls
        await trio.sleep(_QUIET_S)
        calls = sum(node.kademlia.statistics()["calls"] for node in nodes)


async def measure_dht(node_count: int, *, fault: str = "kill", lookups: int = 100) -> dict[str, Any]:
    """Measure lookups among real nodes on loopback of which 30 % have failed.

    Args:
        node_count: at least 4.
        fault: "kill" (connections closed, port refuses) or "hang" (connected, never answers).
        lookups: of each kind.

    Returns:
        Data for JSON; times in seconds.
    """
    async with trio.open_nursery() as nursery:
        started = time.perf_counter()
        nodes = await _start(nursery, node_count)
        joined_s = time.perf_counter() - started
        records = {}
        for node in nodes[:_RECORDS]:
            key = peer_record_key(node.key.public)
            records[key] = _record(node)
            await node.kademlia.put(key, records[key])
        # The providers and the node through which all joined survive; everyone else may fail.
        for node in nodes[:_PROVIDERS]:
            await node.kademlia.provide(OFFERS_RENDEZVOUS)
        floor_s = await _floor(nodes)
        doomed = random.Random(node_count).sample(nodes[_PROVIDERS:], int(node_count * SHARE_FAILED))  # noqa: S311
        contacts = statistics.median(node.kademlia.statistics()["contacts"] for node in nodes)
        gc.collect()
        await _fail(doomed, fault)
        readers = [node for node in nodes if node not in doomed]
        providers = {node.network.peer_id for node in nodes[:_PROVIDERS]}
        result: dict[str, Any] = await _measure(readers, records, providers, lookups)
        for node in nodes:
            node.killed.set()
    return {
        "nodes": node_count,
        "fault": fault,
        "failed": len(doomed),
        "contacts_median": contacts,
        "join_all_s": round(joined_s, 2),
        "floor_ping_s": floor_s,
        **result,
        "meets_bar": all(
            result[kind]["success"] == 1 and result[kind]["p99_s"] <= BAR_P99_S
            for kind in ("get", "find_providers")
        ),
    }


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> int:
    """Run the benchmark from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", default="16,32,64", help="numbers of nodes, separated by commas")
    parser.add_argument("--fault", choices=["kill", "hang"], default="kill")
    parser.add_argument("--lookups", type=int, default=100, help="of each kind")
    parser.add_argument("--json", type=Path, help="write the results there as well")
    options = parser.parse_args()
    _raise_file_limit()
    configure_logging("warning")
    results = []
    for count in map(int, options.nodes.split(",")):
        result = trio.run(lambda count=count: measure_dht(count, fault=options.fault, lookups=options.lookups))
        results.append(result)
        sys.stdout.write(json.dumps(result) + "\n")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(result["meets_bar"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
