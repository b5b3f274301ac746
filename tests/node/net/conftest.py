"""Hosts of ours for the tests of this folder."""

import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace

import pytest

from sovereign_node.net.host import open_network

LOOPBACK = "/ip4/127.0.0.1/tcp/0"


def new_key() -> SimpleNamespace:
    return SimpleNamespace(seed=secrets.token_bytes(32))


@pytest.fixture
def make_network():
    """Open a host: `async with make_network(stack=..., listen=[...], ...) as network`."""

    @asynccontextmanager
    async def make(**options):
        async with open_network(new_key(), **{"listen": [LOOPBACK], **options}) as network:
            yield network

    return make


@pytest.fixture
async def connected(make_network):
    """Two hosts on the fast stack, the first connected to the second."""
    async with AsyncExitStack() as exits:
        first = await exits.enter_async_context(make_network())
        second = await exits.enter_async_context(make_network())
        await first.connect(second.peer_id, second.addresses())
        yield first, second
