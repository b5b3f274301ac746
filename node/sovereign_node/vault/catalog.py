"""What the heads say: the union of index segments in the local index, and the list of live snapshots."""

from __future__ import annotations

from collections.abc import Callable

import trio

from sovereign_crypto import cbor
from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.errors import MissingBlobError
from sovereign_node.vault.fetch import Fetcher
from sovereign_node.vault.heads import HeadsView
from sovereign_node.vault.index import LocalIndex
from sovereign_protocols.vault.blobs import BlobDecoder, BlobType
from sovereign_protocols.vault.index import ChunkLines, decode_segment
from sovereign_protocols.vault.snapshot import SignedSnapshot, decode_catalog, parse_snapshot

_PARALLEL_SEGMENTS = 4
_SWEEPS = b"sweeps"


async def load_index(view: HeadsView, index: LocalIndex, fetcher: Fetcher) -> int:
    """Bring the local index up to what the heads list; return the number of segments that were fetched.

    Raises:
        ChunkUnavailableError: a segment can't be had anywhere.
    """
    wanted = view.segment_ids
    loaded = await trio.to_thread.run_sync(_forget_outdated, view, index, wanted)
    missing = sorted(wanted - loaded)
    limit = trio.CapacityLimiter(_PARALLEL_SEGMENTS)

    async def load(segment_id: bytes) -> None:
        async with limit:
            chunks = await trio.to_thread.run_sync(_checked_segment, await fetcher.segment(segment_id))
            await trio.to_thread.run_sync(index.add_segment, segment_id, chunks)

    async with trio.open_nursery() as nursery:
        for segment_id in missing:
            nursery.start_soon(load, segment_id)
    return len(missing)


def note_sweeps(view: HeadsView, index: LocalIndex) -> None:
    """Remember which garbage collections the local index has taken into account."""
    index.cache(_SWEEPS, _sweeps(view))


def forget_sweeps(index: LocalIndex) -> None:
    """Let the next session build the index anew, unless this one publishes a head first; chunks are leaving it."""
    index.cache(_SWEEPS, b"changing")


def _sweeps(view: HeadsView) -> bytes:
    rows = sorted([*slot, item.payload.sweep] for slot, item in view.newest.items() if item.payload.sweep)
    return cbor.encode(rows)


def _forget_outdated(view: HeadsView, index: LocalIndex, wanted: set[bytes]) -> set[bytes]:
    """After somebody's garbage collection read everything anew; return the segments that are loaded."""
    sweeps = _sweeps(view)
    if (index.cached(_SWEEPS) or cbor.encode([])) != sweeps:
        index.clear()
        index.cache(_SWEEPS, sweeps)
    loaded = set(index.segments())
    # Replaced by another writer, or their head was never published: a blob that counts as stored must be listed.
    index.release_segments(loaded - wanted)
    return loaded & wanted


def _checked_segment(plaintext: bytes) -> list[ChunkLines]:
    chunks = decode_segment(plaintext)
    for chunk in chunks:
        chunk.records()
    return chunks


async def live_snapshots(
    view: HeadsView,
    index: LocalIndex,
    fetcher: Fetcher,
    dedup_key: bytes,
    project_id: bytes,
    is_author: Callable[[bytes], bool],
    network_id: bytes,
) -> list[SignedSnapshot]:
    """Return the snapshots that the heads list, oldest first; the index must be loaded.

    Snapshots whose signature does not hold, or whose author may not write, are left out.
    """
    raws: dict[bytes, None] = {}
    for item in view.effective:
        for ref in item.payload.catalogs:
            data = await read_blob(ref.blob_id, BlobType.CATALOG, index, fetcher, dedup_key)
            raws.update(dict.fromkeys(decode_catalog(data)))
        raws.update(dict.fromkeys(item.payload.snapshots))

    def verify() -> list[SignedSnapshot]:
        found: dict[bytes, SignedSnapshot] = {}
        for raw in raws:
            try:
                snapshot = parse_snapshot(raw, project_id, network_id)
            except CryptoError:
                continue
            if is_author(snapshot.author):
                found[snapshot.snapshot_id] = snapshot
        # Stable: within one second the order in which a writer listed them stays.
        return sorted(found.values(), key=lambda item: item.content.created_at)

    return await trio.to_thread.run_sync(verify)


async def read_blob(blob_id: bytes, kind: BlobType, index: LocalIndex, fetcher: Fetcher, dedup_key: bytes) -> bytes:
    """Return one blob, by way of the small cache.

    Raises:
        MissingBlobError: not in the index.
        ChunkUnavailableError: its chunk can't be had.
        ContentError: the blob breaks the format.
    """
    cached = index.cached(b"blob" + blob_id)
    if cached is not None:
        return cached
    place = index.find((blob_id,)).get(blob_id)
    if place is None:
        raise MissingBlobError(blob_id)
    container = await fetcher.container(index.chunk_id(place.chunk))
    stored = container.stored(place.offset_bytes, place.record.stored_bytes)
    raw = bytes(BlobDecoder(dedup_key).decode(place.record, stored, kind))
    if kind is BlobType.CATALOG:
        index.cache(b"blob" + blob_id, raw)
    return raw
