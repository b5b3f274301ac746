"""What a store does in the background: compaction, scrub, export. All of it in bounded steps."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sovereign_node.chunkstore.engine import Engine, Entry
from sovereign_node.chunkstore.index import decode_chunk, split_chunk_key
from sovereign_node.chunkstore.interface import ScrubReport
from sovereign_node.chunkstore.segments import record_bytes
from sovereign_protocols.framing import Payload

# A page is what is looked at between two read transactions and sorted for reading forwards.
_PAGE_CHUNKS: Final = 4_096
_PAGE_BYTES: Final = 256 * 1024**2
_COPY_BYTES: Final = 16 * 1024**2


def pages(store: Engine, prefix: bytes = b"", after: bytes = b"") -> Iterator[list[Entry]]:
    """Yield the rows of the chunk table in key order, a bounded number at a time."""
    while True:
        page: list[Entry] = []
        size_bytes = 0
        with store.index.read() as transaction:
            for key, raw in store.index.scan(transaction, "chunks", prefix, after):
                page.append(Entry(key, decode_chunk(raw)))
                size_bytes += page[-1].row.location.size
                if len(page) == _PAGE_CHUNKS or size_bytes >= _PAGE_BYTES:
                    break
        if not page:
            return
        yield page
        after = page[-1].key


def in_read_order(entries: list[Entry]) -> list[Entry]:
    """Return the entries in the order in which they lie on disk."""
    return sorted(entries, key=lambda entry: entry.row.location)


def read_entries(store: Engine, entries: list[Entry]) -> Iterator[tuple[Entry, bytes | memoryview | None]]:
    """Yield entries with their bytes; entries that were moved or removed meanwhile are read at their new place."""
    ordered = in_read_order(entries)
    position = 0
    while position < len(ordered):
        try:
            for data in store.segments.read([entry.row.location for entry in ordered[position:]]):
                yield ordered[position], data
                position += 1
        except FileNotFoundError:
            entry = ordered[position]
            with store.index.read() as transaction:
                row = store.index.chunk(transaction, entry.key)
            if row is None:
                position += 1
            elif row.location == entry.row.location:
                yield entry, None
                position += 1
            else:
                ordered[position] = Entry(entry.key, row)


def is_intact(key: bytes, data: bytes | memoryview | None) -> bool:
    """Tell whether bytes are those that the chunk's id promises."""
    return data is not None and hashlib.sha256(data).digest() == split_chunk_key(key)[1]


def scrub(store: Engine, cursor: bytes | None, max_bytes: int | None) -> ScrubReport:
    """Recompute hashes from `cursor` on; quarantine what rotted."""
    checked = checked_bytes = 0
    corrupt: list[tuple[bytes, bytes]] = []
    for page in pages(store, after=cursor or b""):
        rotten = []
        for entry, data in read_entries(store, page):
            checked += 1
            checked_bytes += entry.row.location.size
            if not is_intact(entry.key, data):
                rotten.append(entry)
        corrupt.extend(store.quarantine(rotten))
        cursor = page[-1].key
        if max_bytes is not None and checked_bytes >= max_bytes:
            return ScrubReport(checked, checked_bytes, tuple(corrupt), cursor)
    return ScrubReport(checked, checked_bytes, tuple(corrupt), None)


def compact(store: Engine, max_segments: int) -> int:
    """Copy what lives in mostly dead segments to the active one and remove them; return bytes freed."""
    with store.index.read() as transaction:
        segments = store.index.segments(transaction)
    candidates = sorted(
        (live, segment)
        for segment, (end, live) in segments.items()
        if segment != store.segments.active and 2 * live < end
    )[:max_segments]
    chosen = {segment for _, segment in candidates}
    if any(live for live, _ in candidates):
        batch: list[Entry] = []
        for page in pages(store):
            batch.extend(entry for entry in page if entry.row.location.segment in chosen)
            if sum(entry.row.location.size for entry in batch) >= _COPY_BYTES:
                _move(store, batch)
                batch = []
        _move(store, batch)
    return sum(_drop_if_dead(store, segment) for segment in sorted(chosen))


def _move(store: Engine, entries: list[Entry]) -> None:
    rotten = []
    batch: list[tuple[Entry, Payload]] = []
    size_bytes = 0
    for entry, data in read_entries(store, entries):
        if data is None or not is_intact(entry.key, data):
            rotten.append(entry)
            continue
        batch.append((entry, Payload([data])))
        size_bytes += len(data)
        if size_bytes >= _COPY_BYTES:
            _move_batch(store, batch)
            batch, size_bytes = [], 0
    _move_batch(store, batch)
    store.quarantine(rotten)


def _move_batch(store: Engine, batch: list[tuple[Entry, Payload]]) -> None:
    if not batch:
        return
    with store.writing() as transaction:
        current = [
            (entry, payload)
            for entry, payload in batch
            if (row := store.index.chunk(transaction, entry.key)) is not None and row.location == entry.row.location
        ]
        locations = store.append(transaction, [(entry.key, payload) for entry, payload in current])
        for (entry, _), location in zip(current, locations, strict=True):
            row = store.index.chunk(transaction, entry.key)
            assert row is not None
            store.index.put_chunk(transaction, entry.key, row._replace(location=location))
            store.index.change_segment(transaction, entry.row.location.segment, live=-record_bytes(location.size))


def _drop_if_dead(store: Engine, segment: int) -> int:
    with store.writing() as transaction:
        end, live = store.index.segment(transaction, segment)
        if live:
            return 0
        store.index.drop_segment(transaction, segment)
    # After the commit: a crash in between leaves a file that the next start removes.
    store.segments.remove(segment)
    return end


def export(store: Engine, contract_id: bytes, directory: Path) -> int:
    """Write every readable chunk of a contract to a file named by its id."""
    directory.mkdir(parents=True, exist_ok=True)
    exported = 0
    for page in pages(store, store.prefix(contract_id)):
        for entry, data in read_entries(store, page):
            if data is None:
                continue
            name = split_chunk_key(entry.key)[1].hex()
            temporary = directory / f".{name}.partial"
            temporary.write_bytes(data)
            os.replace(temporary, directory / name)
            exported += 1
    return exported
