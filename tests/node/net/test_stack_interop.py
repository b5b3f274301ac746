"""Every pair of our stack, our stock stack and a plain libp2p host understands each other."""

import hashlib
import secrets
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
import trio

from sovereign_node.net.baseline import open_baseline
from sovereign_node.net.host import open_network

ECHO = "/test/echo/1.0.0"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def open_stack(name: str):
    key = SimpleNamespace(seed=secrets.token_bytes(32))
    if name == "plain":
        return open_baseline(key, listen=[LOOPBACK])
    return open_network(key, listen=[LOOPBACK], stack=name)


async def answer_after_the_end(stream) -> None:
    """Read to the end, then send back what came."""
    data = bytearray()
    while piece := await stream.receive_some(65536):
        data += piece
    await stream.send_all(bytes(data))
    await stream.send_eof()


async def exchange(stream, payload: bytes) -> None:
    digest = hashlib.sha256()
    await stream.send_all(payload)
    await stream.send_eof()
    while piece := await stream.receive_some(65536):
        digest.update(piece)
    await stream.aclose()
    assert digest.digest() == hashlib.sha256(payload).digest()


@pytest.mark.parametrize("listener", ["fast", "stock", "plain"])
@pytest.mark.parametrize("dialer", ["fast", "stock", "plain"])
async def test_echo_with_half_close(dialer, listener):
    async with AsyncExitStack() as exits:
        near = await exits.enter_async_context(open_stack(dialer))
        far = await exits.enter_async_context(open_stack(listener))
        far.set_handler(ECHO, answer_after_the_end)
        await near.connect(far.peer_id, far.addresses())
        with trio.fail_after(20):
            for size in (1, 65507, 65508, 262_065, 3_000_000):
                stream = await near.open_stream(far.peer_id, ECHO)
                await exchange(stream, secrets.token_bytes(size))


@pytest.mark.parametrize("listener", ["fast", "stock"])
@pytest.mark.parametrize("dialer", ["fast", "stock"])
async def test_streams_opened_by_the_listening_side(dialer, listener):
    async with open_stack(dialer) as near, open_stack(listener) as far:
        near.set_handler(ECHO, answer_after_the_end)
        await near.connect(far.peer_id, far.addresses())
        with trio.fail_after(10):
            while not far.is_connected(near.peer_id):
                await trio.lowlevel.checkpoint()
            await exchange(await far.open_stream(near.peer_id, ECHO), secrets.token_bytes(300_000))


@pytest.mark.parametrize("listener", ["fast", "plain"])
async def test_many_short_streams(listener):
    async with open_stack("fast") as near, open_stack(listener) as far:
        far.set_handler(ECHO, answer_after_the_end)
        await near.connect(far.peer_id, far.addresses())

        async def one() -> None:
            await exchange(await near.open_stream(far.peer_id, ECHO, timeout_s=20), b"short")

        with trio.fail_after(20):
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(40):
                        nursery.start_soon(one)
