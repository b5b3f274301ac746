"""Forget and garbage collection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import trio

from sovereign_node.vault.backup import Run, send_all
from sovereign_node.vault.errors import OvertakenError
from sovereign_node.vault.mark import mark
from sovereign_node.vault.pack import Packer, seal_container
from sovereign_node.vault.publish import take_over
from sovereign_node.vault.rewrite import listed_raws, open_run, publish_without, rewrite_head
from sovereign_node.vault.send import Sender
from sovereign_node.vault.session import Session
from sovereign_protocols.vault.blobs import BlobType
from sovereign_protocols.vault.container import Container
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.snapshot import SignedSnapshot

# Small chunks of many small backups are worth joining once there are this many of them.
_SMALL_CHUNK_BYTES = 256 * 1024
_MANY_SMALL = 32


@dataclass(frozen=True)
class GcReport:
    """What a garbage collection did, or would do.

    Args:
        chunks_kept: chunks that stay.
        chunks_deleted: chunks without a live blob.
        chunks_repacked: chunks whose live blobs move to new chunks.
        bytes_freed: sealed bytes of deleted and repacked chunks.
        bytes_sent: sealed bytes of new chunks, segments and the head.
        dry_run: nothing was changed.
        failed_targets: targets that did not take the deletion; the next run tries again.
    """

    chunks_kept: int
    chunks_deleted: int
    chunks_repacked: int
    bytes_freed: int
    bytes_sent: int
    dry_run: bool
    failed_targets: tuple[str, ...] = ()


async def run_forget(session: Session, forget: Iterable[SignedSnapshot]) -> int:
    """Take snapshots off the list; their chunks go with the next garbage collection. Returns how many went."""
    gone = {snapshot.raw for snapshot in forget}
    if not gone:
        return 0
    writer = await session.writer()
    listing = []
    for item in session.view.effective:
        own = item.head.device == session.context.device_key.public
        if not own and gone & set(await listed_raws(session, item.payload)):
            listing.append(item)
    payload = take_over(writer.payload, listing, writer.instance)
    raws = [raw for raw in await listed_raws(session, payload) if raw not in gone]
    async with open_run(session) as (run, sender):
        await rewrite_head(session, run, sender, writer, payload, raws)
    return len(gone)


@dataclass
class _Sorted:
    """Chunks by what happens to them."""

    kept: int
    dead: list[ChunkLines]
    repack: list[tuple[int, ChunkLines]]


def _sort_chunks(session: Session, live: set[bytes]) -> _Sorted:
    index = session.context.index
    result = _Sorted(0, [], [])
    small: list[tuple[int, ChunkLines]] = []
    for batch in index.chunks():
        for number, chunk in batch:
            records = chunk.records()
            places = index.find(record.blob_id for record in records if record.blob_id in live)
            live_bytes = sum(place.record.stored_bytes for place in places.values() if place.chunk == number)
            total_bytes = sum(record.stored_bytes for record in records)
            if not any(place.chunk == number for place in places.values()):
                result.dead.append(chunk)
            elif live_bytes * 2 < total_bytes:
                result.repack.append((number, chunk))
            elif chunk.sealed_bytes < _SMALL_CHUNK_BYTES:
                small.append((number, chunk))
            else:
                result.kept += 1
    if len(small) >= _MANY_SMALL:
        result.repack += small
    else:
        result.kept += len(small)
    return result


async def run_gc(session: Session, *, dry_run: bool) -> GcReport:
    """Delete chunks without live blobs, repack those with less than half; see the facade."""
    snapshots = await session.snapshots()
    marked = await mark(session, snapshots)
    found = await trio.to_thread.run_sync(_sort_chunks, session, marked.blobs)
    freed = sum(chunk.sealed_bytes for chunk in found.dead) + sum(chunk.sealed_bytes for _, chunk in found.repack)
    removed = [*found.dead, *(chunk for _, chunk in found.repack)]
    if dry_run or marked.broken or not removed:
        # With a broken tree nobody knows what is in use.
        return GcReport(
            found.kept, len(found.dead), len(found.repack), freed, 0, dry_run=dry_run or bool(marked.broken)
        )
    writer = await session.writer()
    gone = {chunk.chunk_id for chunk in removed}
    raws = [snapshot.raw for snapshot in snapshots]
    async with open_run(session) as (run, sender):
        await _repack(session, run, sender, found.repack, marked.blobs)
        await sender.drain()
        await run.commit(final=True)
        head, replaced = await publish_without(session, run, sender, writer, gone, raws)
        if await session.is_overtaken(head.payload.absorbed):
            # A backup that was published in between may rely on what is about to go: list it again.
            await trio.to_thread.run_sync(session.context.index.add_pending, removed)
            payload = replace(head.payload, sweep=head.payload.sweep + 1)
            await rewrite_head(session, run, sender, await session.writer(), payload, raws)
            raise OvertakenError
        sent = run.counters.bytes_sent + len(head.head.raw)
    failed = await session.delete([*gone, *(ref.segment_id for ref in replaced)])
    return GcReport(found.kept, len(found.dead), len(found.repack), freed, sent, False, failed)


async def _repack(
    session: Session, run: Run, sender: Sender, chunks: list[tuple[int, ChunkLines]], live: set[bytes]
) -> None:
    context = session.context
    data, metadata = Packer(context.sealer, 0), Packer(context.sealer, 0)

    def take(number: int, container: Container) -> None:
        places = context.index.find(record.blob_id for record in container.records if record.blob_id in live)
        at = 0
        for record in container.records:
            place = places.get(record.blob_id)
            if place is not None and place.chunk == number and place.offset_bytes == at:
                stored = bytes(container.stored(at, record.stored_bytes))
                (data if record.type is BlobType.DATA else metadata).add_stored(record, stored)
            at += record.stored_bytes

    for number, chunk in chunks:
        container = await session.fetcher.container(chunk.chunk_id)
        await trio.to_thread.run_sync(take, number, container)
        await _send_full(run, sender, data, metadata)
    data.close()
    metadata.close()
    await _send_full(run, sender, data, metadata)


async def _send_full(run: Run, sender: Sender, *packers: Packer) -> None:
    full = [blobs for packer in packers for blobs in packer.take_full()]
    for blobs in full:
        await send_all(run, sender, [await trio.to_thread.run_sync(seal_container, run.sealer, blobs)])
