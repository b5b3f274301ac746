"""The memory store keeps the contract of chunk stores."""

from collections.abc import Iterator

import pytest
from chunk_store_suite import CONTRACT, ChunkStoreContract, chunk

from sovereign_node.chunkstore import ChunkStore, MemoryChunkStore


class TestMemoryStore(ChunkStoreContract):
    @pytest.fixture
    def store(self) -> Iterator[ChunkStore]:
        store = MemoryChunkStore()
        yield store
        store.close()

    def test_rot(self, store: MemoryChunkStore) -> None:
        key, data = chunk(1)
        store.put_many(CONTRACT, [(key, data[:-1])], verified=True)
        assert store.scrub().corrupt == ((CONTRACT, key),)
        assert store.quarantined(CONTRACT) == [key]
        store.put_many(CONTRACT, [(key, data)])
        assert store.quarantined(CONTRACT) == []
