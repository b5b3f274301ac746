"""Fixtures of the tests of services: whole nodes, and the chunk service by itself."""

from __future__ import annotations

from collections.abc import Iterator

import keyring
import keyring.backends.null
import pytest
from chunk_service_rig import Person, Rig

from sovereign_node.chunkstore import MemoryChunkStore


@pytest.fixture
def no_keyring() -> Iterator[None]:
    """Keep device keys under a file: the tests' nodes must not touch the keyring of whoever runs them."""
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A chunk service over a store in memory."""
    store = MemoryChunkStore()
    yield Rig(store)
    store.close()


@pytest.fixture
def alice() -> Person:
    """A customer of the chunk service."""
    return Person(1)
