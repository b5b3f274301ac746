"""One process of the chunk benchmark: `serve MODE FOLDER`, or `drive MODE` with a plan on standard input.

The server is a provider with one contract for one customer: the chunk service on a real store, without a node
around it. Both ends know the customer, who is made from a constant.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.identity import (
    Capability,
    IdentityLog,
    IdentityRoot,
    build_add_device,
    build_genesis,
    issue_certificate,
)
from sovereign_crypto.signing import SigningKey
from sovereign_devnet.bench.transport_peer import usage
from sovereign_node.chunkstore import LogChunkStore
from sovereign_node.clock import wall_clock
from sovereign_node.interpreter import set_up_interpreter
from sovereign_node.log import configure_logging
from sovereign_node.net.host import open_network
from sovereign_node.net.network import Network
from sovereign_node.services.provide import ChunkService, ContractGrant, Right
from sovereign_protocols.chunk import PROTOCOL_ID
from sovereign_protocols.chunk.client import ChunkClient, Credentials, open_chunk_client

CONTRACT = b"\x01" * 32
ENVELOPE_BYTES = 88
MIB = 1024 * 1024
_LISTEN = "/ip4/127.0.0.1/tcp/0"
_DEVICE_SEED = b"d" * 32
_DAY_S = 86_400
_PUTS_TOGETHER = 8


class _OpenHouse:
    """Grants everything: who may what is not measured here."""

    def authorize(
        self, identity_id: bytes, device_pk: bytes, contract_id: bytes, right: Right
    ) -> ContractGrant | None:
        return ContractGrant(2**60)

    def is_customer(self, identity_id: bytes) -> bool:
        return True


def customer(at: int) -> Credentials:
    """Return certificate and log of the customer's device."""
    root = IdentityRoot(b"i" * 32)
    recovery = SigningKey.from_seed(b"r" * 32)
    anchor = root.new_anchor(recovery.public)
    keys = {"recovery_enc_pk": EncryptionKey.generate().public, "user_pk": EncryptionKey.generate().public}
    log = IdentityLog(build_genesis(root.signing_key, anchor, **keys, at=at))
    certificate = issue_certificate(
        root.signing_key,
        anchor,
        SigningKey.from_seed(_DEVICE_SEED),
        device_enc_pk=EncryptionKey.generate().public,
        caps=Capability.READ | Capability.WRITE,
        not_before=at - _DAY_S,
        not_after=at + _DAY_S,
        serial=log.next_serial,
    )
    log.append(build_add_device(root.signing_key, log.next_position, certificate, at=at))
    return Credentials(certificate, log.entries)


async def serve(mode: str, folder: Path) -> None:
    """Provide until standard input ends; report the processor time whenever a line comes in."""
    store = LogChunkStore(folder, reserve_bytes=0)
    store.set_quota(CONTRACT, 2**60)
    service = ChunkService(store, _OpenHouse(), clock=wall_clock)
    async with open_network(SigningKey.generate(), listen=[_LISTEN], stack=_stack(mode)) as network:
        network.set_handler(PROTOCOL_ID, service.handle)
        _report({"peer_id": network.peer_id, "addresses": network.addresses()})
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
            while await stdin.receive_some():
                _report(usage())
    store.close()


async def drive(mode: str, plan: dict[str, Any]) -> None:
    """Put and get chunks of each size; one line of figures for each, then wait for a line."""
    key = SigningKey.from_seed(_DEVICE_SEED)
    async with open_network(key, listen=[], stack=_stack(mode)) as network:
        await network.connect(plan["server"]["peer_id"], plan["server"]["addresses"])
        client_scope = await _open(network, plan["server"]["peer_id"])
        async with client_scope as client:
            for size in plan["sizes"]:
                chunks = _make_chunks(size, plan["bytes"])
                _report(await _timed(partial(_put, client, chunks), chunks))
                await trio.to_thread.run_sync(sys.stdin.readline)
                _report(await _timed(partial(_get, client, list(chunks)), chunks))
                await trio.to_thread.run_sync(sys.stdin.readline)


async def _open(network: Network, peer_id: str) -> Any:
    now = wall_clock()
    return open_chunk_client(await network.open_stream(peer_id, PROTOCOL_ID), customer(now), clock_at=now)


async def _put(client: ChunkClient, chunks: dict[bytes, bytes]) -> None:
    together = trio.Semaphore(_PUTS_TOGETHER)

    async def put(chunk_id: bytes, data: bytes) -> None:
        try:
            await client.put(CONTRACT, chunk_id, data)
        finally:
            together.release()

    async with trio.open_nursery() as nursery:
        for chunk_id, data in chunks.items():
            await together.acquire()
            nursery.start_soon(put, chunk_id, data)


async def _get(client: ChunkClient, ids: list[bytes]) -> None:
    count = 0
    # As a restore does: what it needs of a chunk it takes in the thread that has verified it.
    async for _chunk_id, _size in client.get_unpacked(CONTRACT, ids, lambda _, sealed: len(sealed)):
        count += 1
    if count != len(ids):
        raise RuntimeError(f"{len(ids) - count} chunks are missing")


async def _timed(act: Callable[[], Awaitable[None]], chunks: dict[bytes, bytes]) -> dict[str, float]:
    before, started = usage()["cpu_s"], time.perf_counter()
    await act()
    size_bytes = sum(map(len, chunks.values()))
    seconds = time.perf_counter() - started
    return {"mb_per_s": size_bytes / seconds / 1e6, "cpu_s": usage()["cpu_s"] - before, "bytes": size_bytes}


def _make_chunks(size_bytes: int, total_bytes: int) -> dict[bytes, bytes]:
    sealed = [os.urandom(size_bytes + ENVELOPE_BYTES) for _ in range(max(1, total_bytes // size_bytes))]
    return {hashlib.sha256(data).digest(): data for data in sealed}


def _stack(mode: str) -> Any:
    return "stock" if mode == "stock" else "fast"


def _report(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run as one of the two processes."""
    configure_logging("error")
    # As a node does when it starts.
    set_up_interpreter()
    if sys.argv[1] == "serve":
        trio.run(serve, sys.argv[2], Path(sys.argv[3]))
    else:
        trio.run(drive, sys.argv[2], json.loads(sys.stdin.readline()))


if __name__ == "__main__":
    main()
