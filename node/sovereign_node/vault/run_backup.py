"""The backup operation: decides what may be reused, runs the pipeline, publishes the result."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from sovereign_crypto import cbor
from sovereign_crypto.chunks import blob_id
from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.backup import (
    OnProgress,
    Run,
    keep_progress,
    send_all,
    store_files,
    store_rest,
    tell_progress,
)
from sovereign_node.vault.catalog import read_blob
from sovereign_node.vault.config import Source
from sovereign_node.vault.estimate import estimate
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.pack import SealedChunk
from sovereign_node.vault.publish import CATALOG_FAN_IN, INLINE_SNAPSHOTS, Writer, plan_segments
from sovereign_node.vault.report import BackupReport, ItemError
from sovereign_node.vault.send import Sender, open_sender
from sovereign_node.vault.session import Session
from sovereign_protocols.vault.blobs import BlobType
from sovereign_protocols.vault.head import CatalogRef, HeadPayload, SegmentRef
from sovereign_protocols.vault.index import ChunkLines, encode_segment, split_for_segments
from sovereign_protocols.vault.snapshot import (
    MAX_CATALOG_SNAPSHOTS,
    SignedSnapshot,
    Snapshot,
    decode_catalog,
    encode_catalog,
    parse_snapshot,
)
from sovereign_protocols.vault.tree import Entry

# A backup that is done sooner needs no estimate of how long it takes.
_ESTIMATE_AFTER_S = 2.0
# Beyond this, inline snapshots move to a catalog even if nothing else has to be sent.
_MOST_INLINE = 48
_RUN_KEY = b"run"
_FOLDERS_KEY = b"folders"


@dataclass(frozen=True)
class _Shelf:
    """Where the snapshots of the next head lie."""

    inline: tuple[bytes, ...]
    catalogs: tuple[CatalogRef, ...]
    new_catalog: bytes = b""


async def run_backup(session: Session, sources: Sequence[Source], on_progress: OnProgress | None) -> BackupReport:
    """Back up ``sources``; see :meth:`Vault.backup <sovereign_node.vault.facade.Vault.backup>`."""
    context = session.context
    started = trio.current_time()
    now = context.clock()
    snapshots = await session.snapshots()
    writer = await session.writer()
    run_number, valid_run = await trio.to_thread.run_sync(_runs, context.index, snapshots)
    run = Run(
        context.sealer,
        context.index,
        context.config,
        context.spool_dir,
        sources,
        run_number,
        valid_run,
        await trio.to_thread.run_sync(_file_time_ns, context.spool_dir),
    )
    if snapshots:
        run.counters.files_expected = snapshots[-1].content.files
        run.counters.bytes_expected = snapshots[-1].content.size_bytes
    async with keep_progress(run), trio.open_nursery() as nursery:
        if on_progress is not None:
            nursery.start_soon(tell_progress, run.counters, on_progress)
            if not snapshots:
                nursery.start_soon(_estimate_later, run)
        async with open_sender(
            context.targets,
            copies=context.config.copies,
            min_acks=context.config.min_acks,
            puts_per_target=context.config.puts_per_target,
            on_stored=run.on_stored,
        ) as sender:
            snapshot, head_failures = await _store_all(session, run, sender, writer, snapshots, now)
            failed = [ItemError(failure.target, failure.reason) for failure in sender.failures]
        nursery.cancel_scope.cancel()
    await trio.to_thread.run_sync(_remember_folders, run, snapshot)
    return _report(run, snapshot, trio.current_time() - started, tuple(dict.fromkeys([*failed, *head_failures])))


async def _estimate_later(run: Run) -> None:
    await trio.sleep(_ESTIMATE_AFTER_S)
    await trio.to_thread.run_sync(estimate, run.sources, run.counters, run.stop, run.turn)


def _report(
    run: Run, snapshot: SignedSnapshot, seconds: float, failed_targets: tuple[ItemError, ...]
) -> BackupReport:
    counters = run.counters
    return BackupReport(
        project=run.sealer.project_id.hex(),
        snapshot=snapshot.snapshot_id.hex(),
        files=snapshot.content.files,
        files_changed=counters.files_changed,
        directories=snapshot.content.directories,
        bytes_total=snapshot.content.size_bytes,
        bytes_read=counters.bytes_read,
        bytes_new=counters.bytes_new,
        bytes_sent=counters.bytes_sent,
        chunks_sent=counters.chunks_sent,
        dedup_saved_bytes=max(0, counters.bytes_read - counters.bytes_new),
        compression_saved_bytes=max(0, counters.bytes_new - counters.bytes_stored),
        seconds=seconds,
        partial=bool(counters.errors or failed_targets),
        errors=tuple(counters.errors),
        failed_targets=failed_targets,
    )


async def _store_all(
    session: Session, run: Run, sender: Sender, writer: Writer, snapshots: list[SignedSnapshot], now: int
) -> tuple[SignedSnapshot, list[ItemError]]:
    context = session.context
    run.counters.phase = "store"
    root = await store_files(run, sender)
    run.counters.files_expected, run.counters.bytes_expected = run.counters.files, run.counters.bytes_total
    snapshot = _sign(session, run, root, writer, snapshots, now)
    anything_new = run.counters.chunks_sent > 0 or run.assembler.has_open() or context.index.has_pending()
    shelf = await _shelve(session, writer.payload, snapshot, anything_new)
    extra: list[tuple[BlobType, bytes]] = []
    if shelf.new_catalog:
        extra.append((BlobType.CATALOG, shelf.new_catalog))
    if anything_new:
        extra.append((BlobType.SNAPSHOT, snapshot.raw))
    run.counters.phase = "publish"
    await store_rest(run, sender, extra)
    segments = await store_segments(run, sender, writer.payload.segments)
    payload = replace(
        writer.payload,
        created_at=now,
        snapshots=shelf.inline,
        catalogs=shelf.catalogs,
        segments=tuple(segments),
    )
    head, failures = await session.publish(writer, payload)
    run.counters.bytes_sent += len(head.head.raw)
    merged = set(writer.payload.segments) - set(segments)
    await session.delete([ref.segment_id for ref in merged])
    return snapshot, failures


def _sign(
    session: Session, run: Run, root: Entry, writer: Writer, snapshots: list[SignedSnapshot], now: int
) -> SignedSnapshot:
    context = session.context
    counters = run.counters
    content = Snapshot(
        context.sealer.project_id,
        root,
        tuple(item.snapshot_id for item in snapshots[-1:]),
        now,
        counters.files,
        counters.directories,
        counters.bytes_total,
        len(counters.errors),
        tuple(_source_name(source) for source in run.sources[:64]),
        session.others(writer),
    )
    raw = content.sign(context.device_key, context.network_id).raw
    return parse_snapshot(raw, context.sealer.project_id, context.network_id)


def _source_name(source: Source) -> str:
    text = source.name or source.path.absolute().name
    # A signed text has one encoding only; file systems keep others too.
    return unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())[:255]


async def _shelve(session: Session, payload: HeadPayload, snapshot: SignedSnapshot, anything_new: bool) -> _Shelf:
    """Add a snapshot; when many are inline, move them to a catalog, and many small catalogs into one."""
    inline = (*payload.snapshots, snapshot.raw)
    limit = INLINE_SNAPSHOTS if anything_new else _MOST_INLINE
    if len(inline) <= limit:
        return _Shelf(inline, payload.catalogs)
    moved = list(inline[:-1])
    small = [ref for ref in payload.catalogs if ref.snapshots < MAX_CATALOG_SNAPSHOTS // CATALOG_FAN_IN * 4]
    catalogs = list(payload.catalogs)
    total = sum(ref.snapshots for ref in small) + len(moved)
    if len(small) >= CATALOG_FAN_IN and total <= MAX_CATALOG_SNAPSHOTS:
        context = session.context
        older: list[bytes] = []
        for ref in small:
            data = await read_blob(
                ref.blob_id, BlobType.CATALOG, context.index, session.fetcher, context.sealer.dedup_key
            )
            older += decode_catalog(data)
        moved = older + moved
        catalogs = [ref for ref in catalogs if ref not in small]
    data = encode_catalog(moved)
    catalogs.append(CatalogRef(blob_id(session.context.sealer.dedup_key, data), len(moved)))
    return _Shelf(inline[-1:], tuple(catalogs), data)


async def store_segments(run: Run, sender: Sender, existing: tuple[SegmentRef, ...]) -> list[SegmentRef]:
    """Write index segments for all chunks that no head refers to yet; return the segments of the next head."""

    def seal() -> tuple[list[SegmentRef], list[tuple[SegmentRef, SealedChunk, list[ChunkLines]]]]:
        staying, chunks = plan_segments(existing, run.index.pending(), run.index)
        sealed: list[tuple[SegmentRef, SealedChunk, list[ChunkLines]]] = []
        for batch in split_for_segments(chunks):
            segment_id, data = run.sealer.seal_segment(encode_segment(batch))
            ref = SegmentRef(segment_id, len(data), sum(chunk.blobs for chunk in batch))
            sealed.append((ref, SealedChunk(segment_id, data, None), batch))
        return staying, sealed

    staying, sealed = await trio.to_thread.run_sync(seal)
    await send_all(run, sender, [chunk for _, chunk, _ in sealed])
    await sender.drain()

    def enter() -> None:
        for ref, _, batch in sealed:
            run.index.add_segment(ref.segment_id, batch)

    await trio.to_thread.run_sync(enter)
    return [*staying, *(ref for ref, _, _ in sealed)]


def _runs(index: LocalIndex, snapshots: list[SignedSnapshot]) -> tuple[int, int]:
    """Return the number of this run, and the newest run whose remembered folders may be used.

    They may be if the snapshot that they describe is live, because then everything they refer to is stored.
    """
    last = int.from_bytes(index.cached(_RUN_KEY) or b"", "big")
    index.cache(_RUN_KEY, (last + 1).to_bytes(8, "big"))
    marker = index.cached(_FOLDERS_KEY)
    if marker is None:
        return last + 1, 0
    try:
        run, snapshot_id = cbor.decode(marker)
    except (CryptoError, ValueError):
        return last + 1, 0
    live = any(item.snapshot_id == snapshot_id for item in snapshots)
    return last + 1, run if live else 0


def _file_time_ns(folder: Path) -> int:
    """Return the time that a file written now gets; comparing with it needs no second clock."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"now")
        file.flush()
        return os.fstat(file.fileno()).st_mtime_ns


def _remember_folders(run: Run, snapshot: SignedSnapshot) -> None:
    visited = run.assembler.visited
    # What was not met in this run may refer to blobs that a garbage collection has removed since.
    if run.index.folder_count() != len(visited):
        run.index.keep_folders(visited)
    run.index.cache(_FOLDERS_KEY, cbor.encode([run.run, snapshot.snapshot_id]))
