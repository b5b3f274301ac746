"""Writing a head that lists other snapshots or chunks than before: the common end of forget, gc and repair."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import trio

from sovereign_crypto.chunks import blob_id
from sovereign_node.vault.backup import Run, store_rest
from sovereign_node.vault.catalog import read_blob
from sovereign_node.vault.heads import OpenHead
from sovereign_node.vault.publish import INLINE_SNAPSHOTS, Writer, take_over
from sovereign_node.vault.run_backup import store_segments
from sovereign_node.vault.send import Sender, open_sender
from sovereign_node.vault.session import Session
from sovereign_protocols.vault.blobs import BlobType
from sovereign_protocols.vault.head import CatalogRef, HeadPayload
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

    def release() -> None:
        index.make_pending([chunk.chunk_id for chunk in index.segment_chunks(lost)])
        index.forget_segments(lost)

    await trio.to_thread.run_sync(release)
    staying = tuple(ref for ref in payload.segments if ref.segment_id not in lost)
    async with open_run(session) as (run, sender):
        await rewrite_head(session, run, sender, writer, replace(payload, segments=staying), raws)
