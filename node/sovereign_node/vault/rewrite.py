"""Writing a head that lists other snapshots or chunks than before: the common end of forget, gc and repair."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from sovereign_crypto.chunks import blob_id
from sovereign_node.vault.backup import Run, store_rest
from sovereign_node.vault.catalog import forget_sweeps, read_blob
from sovereign_node.vault.heads import OpenHead
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.publish import INLINE_SNAPSHOTS, Writer, take_over
from sovereign_node.vault.run_backup import store_segments
from sovereign_node.vault.send import Sender, open_sender
from sovereign_node.vault.session import Session
from sovereign_protocols.vault.blobs import BlobType
from sovereign_protocols.vault.head import CatalogRef, HeadPayload, SegmentRef
from sovereign_protocols.vault.snapshot import MAX_CATALOG_SNAPSHOTS, decode_catalog, encode_catalog


@asynccontextmanager
async def open_run(session: Session) -> AsyncIterator[tuple[Run, Sender]]:
    """Run the sending half of a backup, for housekeeping."""
    context = session.context
    run = Run(context.sealer, context.index, context.config, context.spool_dir, (), 0, 0, 0)
    async with open_sender(
        context.targets,
        copies=context.config.copies,
        min_acks=context.config.min_acks,
        puts_per_target=context.config.puts_per_target,
        on_stored=run.on_stored,
    ) as sender:
        yield run, sender


async def listed_raws(session: Session, payload: HeadPayload) -> list[bytes]:
    """Return all snapshots that a payload lists, oldest first as far as it says."""
    context = session.context
    raws: dict[bytes, None] = {}
    for ref in payload.catalogs:
        data = await read_blob(
            ref.blob_id, BlobType.CATALOG, context.index, session.fetcher, context.sealer.dedup_key
        )
        raws.update(dict.fromkeys(decode_catalog(data)))
    raws.update(dict.fromkeys(payload.snapshots))
    return list(raws)


async def rewrite_head(
    session: Session,
    run: Run,
    sender: Sender,
    writer: Writer,
    payload: HeadPayload,
    raws: Iterable[bytes],
) -> OpenHead:
    """Publish a head that lists exactly the snapshots ``raws``, and segments for all pending chunks.

    Args:
        session: the vault's state.
        run: collects and seals.
        sender: sends.
        writer: the chain that goes on.
        payload: segments, absorbed heads and sweep of the next head.
        raws: snapshots, oldest first.
    """
    ordered = list(raws)
    inline, older = ordered[-INLINE_SNAPSHOTS:], ordered[:-INLINE_SNAPSHOTS]
    key = session.context.sealer.dedup_key
    data = [
        encode_catalog(older[at : at + MAX_CATALOG_SNAPSHOTS]) for at in range(0, len(older), MAX_CATALOG_SNAPSHOTS)
    ]
    counts = [len(older[at : at + MAX_CATALOG_SNAPSHOTS]) for at in range(0, len(older), MAX_CATALOG_SNAPSHOTS)]
    catalogs = [CatalogRef(blob_id(key, item), count) for item, count in zip(data, counts, strict=True)]
    await store_rest(run, sender, [(BlobType.CATALOG, item) for item in data])
    segments = await store_segments(run, sender, payload.segments)
    payload = replace(
        payload,
        created_at=session.context.clock(),
        snapshots=tuple(inline),
        catalogs=tuple(catalogs),
        segments=tuple(segments),
    )
    head, _ = await session.publish(writer, payload)
    await trio.lowlevel.checkpoint()
    return head


async def publish_without(
    session: Session,
    run: Run,
    sender: Sender,
    writer: Writer,
    gone: set[bytes],
    raws: Iterable[bytes],
) -> tuple[OpenHead, list[SegmentRef]]:
    """Publish a head that takes over those of all devices and lists everything but some chunks.

    Args:
        session: the vault's state.
        run: collects and seals.
        sender: sends.
        writer: the chain that goes on.
        gone: ids of chunks.
        raws: all snapshots, oldest first.

    Returns:
        The head, and the segments that no head lists any more.
    """
    index = session.context.index
    others = [item for item in session.view.effective if item.head.device != session.context.device_key.public]
    payload = take_over(writer.payload, others, writer.instance)

    def drop() -> tuple[list[SegmentRef], list[SegmentRef]]:
        forget_sweeps(index)
        divided = _leave_segments(index, payload.segments, gone)
        index.drop_chunks(gone)
        return divided

    staying, replaced = await trio.to_thread.run_sync(drop)
    payload = replace(payload, segments=tuple(staying), sweep=payload.sweep + 1)
    return await rewrite_head(session, run, sender, writer, payload, raws), replaced


def _leave_segments(
    index: LocalIndex, segments: tuple[SegmentRef, ...], gone: set[bytes]
) -> tuple[list[SegmentRef], list[SegmentRef]]:
    """Divide segments into those without a removed chunk and the others, whose other chunks become pending."""
    staying: list[SegmentRef] = []
    replaced: list[SegmentRef] = []
    for ref in segments:
        lists_gone = any(chunk.chunk_id in gone for chunk in index.segment_chunks((ref.segment_id,)))
        (replaced if lists_gone else staying).append(ref)
    index.release_segments(ref.segment_id for ref in replaced)
    return staying, replaced


async def forget_lost(session: Session, lost: set[bytes]) -> None:
    """Forget chunks that are lost everywhere, so that the next backup stores their content again.

    While a target is away, which may hold them, they stay listed. Otherwise a head without them is published: a
    device that builds its index anew would look for their blobs there, and not where the next backup puts them.
    """
    index = session.context.index

    def forget() -> None:
        index.drop_chunks(lost)
        # Remembered folders may refer to what is gone; without them every file is looked at again.
        index.keep_folders(set())

    if session.context.is_complete:
        writer = await session.writer()
        raws = [snapshot.raw for snapshot in await session.snapshots()]
        async with open_run(session) as (run, sender):
            _, replaced = await publish_without(session, run, sender, writer, lost, raws)
        await session.delete([ref.segment_id for ref in replaced])
    await trio.to_thread.run_sync(forget)


async def replace_segments(session: Session, lost: set[bytes]) -> None:
    """Write the lines of lost index segments anew, and publish a head without the lost ones."""
    index = session.context.index
    writer = await session.writer()
    own = session.context.device_key.public
    others = [
        item
        for item in session.view.effective
        if item.head.device != own and any(ref.segment_id in lost for ref in item.payload.segments)
    ]
    payload = take_over(writer.payload, others, writer.instance)
    raws = await listed_raws(session, payload)
    await trio.to_thread.run_sync(index.release_segments, lost)
    staying = tuple(ref for ref in payload.segments if ref.segment_id not in lost)
    async with open_run(session) as (run, sender):
        await rewrite_head(session, run, sender, writer, replace(payload, segments=staying), raws)
