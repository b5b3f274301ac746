"""Chunks of a provider, read and damaged behind its back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sovereign_devnet.errors import DevnetError
from sovereign_devnet.stored_chunks import corrupt_chunk, stored_chunks
from sovereign_node.chunkstore import LogChunkStore

CONTRACT = b"c" * 32


def chunk(seed: int, size: int = 1000) -> tuple[bytes, bytes]:
    data = bytes([seed]) * size
    return hashlib.sha256(data).digest(), data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = LogChunkStore(tmp_path / "chunks", reserve_bytes=0)
    store.set_quota(CONTRACT, 10**6)
    for seed in range(5):
        store.put_many(CONTRACT, [chunk(seed, 1000 + seed)])
    store.close()
    return tmp_path / "chunks"


def test_chunks_are_found_as_they_were_stored(folder: Path) -> None:
    found = list(stored_chunks(folder))
    assert [(item.chunk_id, item.read()) for item in found] == [chunk(seed, 1000 + seed) for seed in range(5)]
    assert all(item.contract_id == CONTRACT and item.is_sound for item in found)


def test_a_record_that_was_cut_off_is_left_out(folder: Path) -> None:
    (path,) = (folder / "segments").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 200)
    assert len(list(stored_chunks(folder))) == 5
    path.write_bytes(whole[:-1])
    assert len(list(stored_chunks(folder))) == 4
    path.write_bytes(whole[:-1010])
    assert len(list(stored_chunks(folder))) == 4


def test_the_damage_is_seen_by_the_store(folder: Path) -> None:
    damaged = corrupt_chunk(folder)
    assert damaged.chunk_id == chunk(4, 1004)[0]
    assert not damaged.is_sound
    chosen = corrupt_chunk(folder, chunk(1, 1001)[0].hex()[:8].upper())
    store = LogChunkStore(folder, reserve_bytes=0)
    assert set(store.scrub().corrupt) == {(CONTRACT, damaged.chunk_id), (CONTRACT, chosen.chunk_id)}
    store.close()


def test_there_must_be_something_to_damage(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DevnetError, match="begins with zz"):
        corrupt_chunk(folder, "zz")
    with pytest.raises(DevnetError, match="no sound chunk"):
        corrupt_chunk(tmp_path)
    corrupt_chunk(folder, chunk(0)[0].hex())
    with pytest.raises(DevnetError):
        corrupt_chunk(folder, chunk(0)[0].hex())
