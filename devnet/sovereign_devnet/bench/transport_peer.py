"""One process of the transport benchmark: `serve MODE`, or `drive MODE` with a plan as JSON on standard input.

The server prints its addresses and serves until its standard input ends. The client prints one JSON document.
"""

import json
import os
import resource
import statistics
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from sovereign_crypto.signing import SigningKey
from sovereign_devnet.bench.watch import peak_rss_mb
from sovereign_node.log import configure_logging
from sovereign_node.net.baseline import open_baseline
from sovereign_node.net.host import open_network
from sovereign_node.net.streams import STOCK_WRITE_BYTES

SINK = "/sovereign/bench-sink/1.0.0"
ECHO = "/sovereign/bench-echo/1.0.0"
LISTEN = "/ip4/127.0.0.1/tcp/0"
READ_BYTES = 1024 * 1024
WRITE_BYTES = 1024 * 1024
PING_BYTES = 64
FRAME_BYTES = 65536
_SIZE = struct.Struct(">Q")
# The floor's key protects nothing: both ends are this benchmark.
_FLOOR_KEY = bytes(32)
_FLOOR_FRAME = struct.Struct(">I")


def usage() -> dict[str, float]:
    """CPU seconds of this process so far, and its peak memory in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_rss_mb": peak_rss_mb(os.getpid())}


def _report(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def _open_host(mode: str, listen: list[str]) -> Any:
    """Open our network ("fast", or "guarded" for its stock stack), or a plain libp2p host ("stock")."""
    key = SigningKey.generate()
    if mode == "stock":
        return open_baseline(key, listen=listen)
    return open_network(key, listen=listen, stack="stock" if mode == "guarded" else "fast")


# Serving.


async def sink(stream: trio.abc.HalfCloseableStream) -> None:
    """Read a size and that many bytes, then answer with the CPU time that took; until the peer ends."""
    while header := await stream.receive_some(_SIZE.size):
        left = _SIZE.unpack(header)[0]
        before = usage()["cpu_s"]
        while left:
            data = await stream.receive_some(min(left, READ_BYTES))
            if not data:
                return
            left -= len(data)
        after = usage()
        report = json.dumps({**after, "cpu_s": after["cpu_s"] - before}).encode()
        await stream.send_all(report.ljust(256))


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    """Send back what comes."""
    while data := await stream.receive_some(FRAME_BYTES):
        await stream.send_all(data)


class FloorStream:
    """The floor's record layer: sealed frames of 64 KiB, opened from one reused buffer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._cipher = ChaCha20Poly1305(_FLOOR_KEY)
        self._sent = self._received = 0
        self._inbox = bytearray(5 * (FRAME_BYTES + 64))
        self._end = 0

    async def send(self, view: memoryview) -> None:
        """Seal up to four frames into one write."""
        for start in range(0, len(view), 4 * FRAME_BYTES):
            batch = view[start : start + 4 * FRAME_BYTES]
            out = bytearray()
            for at in range(0, len(batch), FRAME_BYTES):
                sealed = self._cipher.encrypt(self._sent.to_bytes(12, "little"), batch[at : at + FRAME_BYTES], None)
                self._sent += 1
                out += _FLOOR_FRAME.pack(len(sealed))
                out += sealed
            await self._stream.send_all(memoryview(out))

    async def receive(self) -> list[bytes]:
        """Open every complete frame of one read; empty at the end."""
        frames: list[bytes] = []
        while not frames:
            with memoryview(self._inbox) as view:
                count = await self._stream.socket.recv_into(view[self._end : self._end + 4 * FRAME_BYTES])
            if not count:
                return []
            self._end += count
            frames = self._open()
        return frames

    def _open(self) -> list[bytes]:
        frames, at = [], 0
        with memoryview(self._inbox) as view:
            while self._end - at >= 4:
                stop = at + 4 + _FLOOR_FRAME.unpack_from(view, at)[0]
                if stop > self._end:
                    break
                frames.append(
                    self._cipher.decrypt(self._received.to_bytes(12, "little"), view[at + 4 : stop], None)
                )
                self._received += 1
                at = stop
        self._inbox[: self._end - at] = self._inbox[at : self._end]
        self._end -= at
        return frames


async def _serve_floor(socket: trio.SocketStream) -> None:
    stream = FloorStream(socket)
    while frames := await stream.receive():
        # What follows the size in the same read is data already.
        left = _SIZE.unpack(frames[0])[0] - sum(map(len, frames[1:]))
        before = usage()["cpu_s"]
        while left:
            left -= sum(map(len, await stream.receive()))
        after = usage()
        report = json.dumps({**after, "cpu_s": after["cpu_s"] - before}).encode()
        await stream.send(memoryview(report.ljust(256)))


async def _until_stdin_ends() -> None:
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        while await stdin.receive_some():
            pass


async def serve(mode: str) -> None:
    """Listen, print where, and serve until standard input ends."""
    async with trio.open_nursery() as nursery:
        if mode == "floor":
            (listener,) = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), _serve_floor, 0)
            address = {"port": listener.socket.getsockname()[1]}
            _report(address)
            await _until_stdin_ends()
        else:
            async with _open_host(mode, [LISTEN]) as network:
                network.set_handler(SINK, sink)
                network.set_handler(ECHO, echo)
                _report({"peer_id": network.peer_id, "addresses": network.addresses()})
                await _until_stdin_ends()
        nursery.cancel_scope.cancel()


# Driving.


async def _timed(action: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await action()
    return (time.perf_counter() - started) * 1000


def _spread(samples_ms: list[float]) -> dict[str, float]:
    ordered = sorted(samples_ms)
    return {
        "median_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 3),
    }


async def _round_trip(stream: Any) -> None:
    await stream.send_all(bytes(PING_BYTES))
    left = PING_BYTES
    while left:
        left -= len(await stream.receive_some(left))


async def _bulk(stream: Any, size_bytes: int, write_bytes: int) -> dict[str, Any]:
    """Send `size_bytes` to the sink and wait for its report."""
    payload = memoryview(os.urandom(write_bytes))
    before = usage()["cpu_s"]
    started = time.perf_counter()
    await stream.send_all(_SIZE.pack(size_bytes))
    for at in range(0, size_bytes, write_bytes):
        await stream.send_all(payload[: min(write_bytes, size_bytes - at)])
    answer = b""
    while len(answer) < 256:
        answer += await stream.receive_some(256 - len(answer))
    return _result(size_bytes, time.perf_counter() - started, usage()["cpu_s"] - before, json.loads(answer))


def _result(size_bytes: int, seconds: float, cpu_s: float, far: dict[str, float]) -> dict[str, Any]:
    return {
        "mb_per_s": round(size_bytes / seconds / 1e6, 1),
        "send_cpu_s_per_gb": round(cpu_s / size_bytes * 1e9, 3),
        "receive_cpu_s_per_gb": round(far["cpu_s"] / size_bytes * 1e9, 3),
        "receive_peak_rss_mb": round(far["peak_rss_mb"], 1),
    }


async def _drive_floor(plan: dict[str, Any]) -> dict[str, Any]:
    stream = FloorStream(await trio.open_tcp_stream("127.0.0.1", plan["server"]["port"]))
    payload = memoryview(os.urandom(WRITE_BYTES))
    size = plan["bytes"] // WRITE_BYTES * WRITE_BYTES
    for warm_up in (True, False):
        total = 8 * WRITE_BYTES if warm_up else size
        before, started = usage()["cpu_s"], time.perf_counter()
        await stream.send(memoryview(_SIZE.pack(total)))
        for _ in range(total // WRITE_BYTES):
            await stream.send(payload)
        far = json.loads((await stream.receive())[0])
    bulk = _result(size, time.perf_counter() - started, usage()["cpu_s"] - before, far)
    return {"bulk": {**bulk, "send_peak_rss_mb": round(usage()["peak_rss_mb"], 1)}}


async def _drive(mode: str, plan: dict[str, Any]) -> dict[str, Any]:
    peer_id, addresses = plan["server"]["peer_id"], plan["server"]["addresses"]
    write_bytes = WRITE_BYTES if mode == "fast" else STOCK_WRITE_BYTES
    async with _open_host(mode, []) as network:
        connects = []
        for _ in range(plan["connects"]):
            connects.append(await _timed(lambda: network.connect(peer_id, addresses)))
            await network.disconnect(peer_id)
        await network.connect(peer_id, addresses)
        report: dict[str, Any] = {"connect": _spread(connects)}
        report.update(await _latencies(network, peer_id, plan))
        stream = await network.open_stream(peer_id, SINK)
        await _bulk(stream, 32 * WRITE_BYTES, write_bytes)
        report["bulk"] = await _bulk(stream, plan["bytes"], write_bytes)
        report["bulk"]["send_peak_rss_mb"] = round(usage()["peak_rss_mb"], 1)
        report["round_trip_under_bulk"] = await _under_bulk(network, peer_id, stream, plan, write_bytes)
        return report


async def _latencies(network: Any, peer_id: str, plan: dict[str, Any]) -> dict[str, Any]:
    opens = []
    for _ in range(plan["streams"]):
        started = time.perf_counter()
        stream = await network.open_stream(peer_id, ECHO)
        opens.append((time.perf_counter() - started) * 1000)
        await stream.aclose()
    async with await network.open_stream(peer_id, ECHO) as stream:
        trips = [await _timed(lambda: _round_trip(stream)) for _ in range(plan["round_trips"])]
    return {"new_stream": _spread(opens), "round_trip": _spread(trips)}


async def _under_bulk(
    network: Any, peer_id: str, bulk: Any, plan: dict[str, Any], write_bytes: int
) -> dict[str, Any]:
    """Measure 64-byte round trips on another stream of a connection that a transfer keeps full."""
    trips: list[float] = []
    done = False

    async def keep_full() -> None:
        nonlocal done
        await _bulk(bulk, plan["bytes"], write_bytes)
        done = True

    async with await network.open_stream(peer_id, ECHO) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(keep_full)
        while not done:
            trips.append(await _timed(lambda: _round_trip(stream)))
    return {**_spread(trips), "samples": len(trips)}


def main() -> None:
    """Run as one of the two processes."""
    role, mode = sys.argv[1:]
    configure_logging("error")
    if role == "serve":
        trio.run(serve, mode)
        return
    plan = json.loads(sys.stdin.readline())
    _report(trio.run(_drive_floor, plan) if mode == "floor" else trio.run(_drive, mode, plan))


if __name__ == "__main__":
    main()
