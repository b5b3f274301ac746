"""What a tunnel through a NATS server costs, against the same bytes published plainly, in one run.

    python -m sovereign_devnet.bench.nats [--megabytes N] [--json FILE]

Three processes: a real nats-server, a peer, and this one. Every way moves the same bytes in messages of 64 KiB and
answers the same 64-byte round trips. The bars are ratios: a peer's stream over Yamux, Noise and the tunnel moves at
least half of what plain publishing moves, and its round trip takes at most three times as long.
"""

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.bench.nats_peer import ACK_EVERY_BYTES, MESSAGE_BYTES, PLAIN_WINDOW_BYTES, PROTOCOL_ID
from sovereign_devnet.nats_server import run_nats_server
from sovereign_node.log import configure_logging
from sovereign_node.net.host import open_network
from sovereign_node.net.nats.client import NatsClient
from sovereign_node.net.nats.relay import Relay
from sovereign_node.net.nats.transport import NatsTransport
from sovereign_protocols.relay.endpoint import Endpoint, parse_url
from sovereign_protocols.relay.nats_wire import Message

_ROUNDS = 5
_ROUND_TRIPS = 100
_MEGABYTE = 1_000_000
_BAR_THROUGHPUT = 0.5
_BAR_ROUND_TRIP = 3.0
_SMALL = b"x" * 64
# Every way sends these bytes again and again.
_PAYLOAD = secrets.token_bytes(1 << 20)

Results = dict[str, dict[str, float]]


class _Plain:
    """Publishing with a bound on what is under way, acknowledged by the peer every megabyte."""

    def __init__(self, client: NatsClient) -> None:
        self._client = client
        self._acknowledged = 0
        self._news = trio.Event()
        client.subscribe("bench.ack", self._on_message)
        client.subscribe("bench.back", self._on_message)

    def _on_message(self, message: Message) -> None:
        if message.subject == "bench.ack":
            self._acknowledged += ACK_EVERY_BYTES
        self._news.set()
        self._news = trio.Event()

    async def send(self, total: int) -> None:
        connection = await self._client.connected()
        start, sent = self._acknowledged, 0
        pieces = [_PAYLOAD[at : at + MESSAGE_BYTES] for at in range(0, len(_PAYLOAD), MESSAGE_BYTES)]
        while self._acknowledged - start < total:
            if sent < total and sent - (self._acknowledged - start) < PLAIN_WINDOW_BYTES:
                await connection.publish("bench.sink", pieces[sent // MESSAGE_BYTES % len(pieces)])
                sent += MESSAGE_BYTES
            else:
                await self._news.wait()

    async def round_trip(self) -> None:
        connection = await self._client.connected()
        await connection.publish("bench.echo", _SMALL)
        await self._news.wait()


class _Stream:
    """A byte stream whose first byte tells the peer whether to echo or to count."""

    def __init__(self, open_stream: Callable[[], Awaitable[trio.abc.HalfCloseableStream]]) -> None:
        self._open_stream = open_stream
        self._echo: trio.abc.HalfCloseableStream | None = None

    async def send(self, total: int) -> None:
        stream = await self._open_stream()
        await stream.send_all(b"s")
        for _ in range(total // len(_PAYLOAD)):
            await stream.send_all(_PAYLOAD)
        await stream.send_eof()
        answer = b""
        while piece := await stream.receive_some(64):
            answer += piece
        await stream.aclose()
        if int(answer) != total:
            raise RuntimeError(f"the peer counted {answer!r} of {total} bytes")

    async def round_trip(self) -> None:
        if self._echo is None:
            self._echo = await self._open_stream()
            await self._echo.send_all(b"e")
        await self._echo.send_all(_SMALL)
        left = len(_SMALL)
        while left:
            left -= len(await self._echo.receive_some(left))


async def _transfer(way: _Plain | _Stream, total: int) -> tuple[float, float]:
    """Return megabytes per second, and this process's seconds of processor time per gigabyte."""
    started, cpu = time.perf_counter(), time.process_time()
    await way.send(total)
    elapsed = time.perf_counter() - started
    return total / elapsed / _MEGABYTE, (time.process_time() - cpu) / total * 1e9


async def _round_trips(way: _Plain | _Stream) -> list[float]:
    trips = []
    for _ in range(_ROUND_TRIPS):
        started = time.perf_counter()
        await way.round_trip()
        trips.append((time.perf_counter() - started) * 1000)
    return trips


async def _measure(ways: dict[str, _Plain | _Stream], total: int) -> Results:
    """Take turns, so that what else the machine does falls on every way alike."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    trips: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        await way.send(32 << 20)
        await _round_trips(way)
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            rates[name].append(await _transfer(way, total))
            trips[name] += await _round_trips(way)
    return {
        name: {
            "megabytes_per_s": round(statistics.median(rate for rate, _ in rates[name]), 1),
            "sender_cpu_s_per_gb": round(statistics.median(cpu for _, cpu in rates[name]), 2),
            "round_trip_ms": round(statistics.median(trips[name]), 3),
        }
        for name in ways
    }


async def run(total: int) -> Results:
    """Measure every way once, in one process tree.

    Args:
        total: bytes per transfer, a multiple of 1 MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with run_nats_server(Path(folder)) as server:
            endpoint = parse_url(server.url)
            peer = await trio.lowlevel.open_process(
                [sys.executable, "-m", "sovereign_devnet.bench.nats_peer", server.url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            try:
                assert peer.stdout is not None
                line = b""
                while not line.endswith(b"\n"):
                    line += await peer.stdout.receive_some(4096)
                return await _measure_all(endpoint, json.loads(line), total)
            finally:
                peer.kill()
                with trio.CancelScope(shield=True):
                    await peer.wait()


async def _measure_all(endpoint: Endpoint, peer: dict[str, str], total: int) -> Results:
    async def ignore(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    key = SigningKey.generate()
    client = NatsClient([endpoint])
    raw = Relay([endpoint], SigningKey.generate().public)
    transport = NatsTransport([Relay([endpoint], key.public)])
    async with trio.open_nursery() as nursery, open_network(key, listen=[], transports=[transport]) as network:
        nursery.start_soon(client.run)
        nursery.start_soon(raw.run, ignore)
        await network.connect(peer["peer_id"], [f"{endpoint.multiaddr}/p2p/{peer['peer_id']}"])
        ways: dict[str, _Plain | _Stream] = {
            "plain": _Plain(client),
            "tunnel": _Stream(lambda: raw.dial(bytes.fromhex(peer["raw_key"]))),
            "peer_stream": _Stream(lambda: network.open_stream(peer["peer_id"], PROTOCOL_ID)),
        }
        results = await _measure(ways, total)
        nursery.cancel_scope.cancel()
    return results


def _bars(results: Results) -> dict[str, float]:
    plain, stream = results["plain"], results["peer_stream"]
    return {
        "throughput_ratio": round(stream["megabytes_per_s"] / plain["megabytes_per_s"], 3),
        "throughput_bar": _BAR_THROUGHPUT,
        "round_trip_ratio": round(stream["round_trip_ms"] / plain["round_trip_ms"], 3),
        "round_trip_bar": _BAR_ROUND_TRIP,
    }


def main() -> int:
    """Run the benchmark and print what it found; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=128, help="MiB per transfer")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    configure_logging()
    results = trio.run(run, arguments.megabytes << 20)
    bars = _bars(results)
    for name, figures in results.items():
        line = "  ".join(f"{key} {value}" for key, value in figures.items())
        sys.stdout.write(f"{name:12} {line}\n")
    line = "  ".join(f"{key} {value}" for key, value in bars.items())
    sys.stdout.write(f"{'bars':12} {line}\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"ways": results, "bars": bars}, indent=2) + "\n")
    met = bars["throughput_ratio"] >= _BAR_THROUGHPUT and bars["round_trip_ratio"] <= _BAR_ROUND_TRIP
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
