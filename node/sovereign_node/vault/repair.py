"""Rebuilding the index: from the segments that the heads list or, when those are gone, from the chunks."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from sovereign_crypto.errors import CryptoError, FormatError
from sovereign_node.vault.errors import ChunkUnavailableError, TargetError
from sovereign_node.vault.mark import mark
from sovereign_node.vault.rewrite import open_run, rewrite_head
from sovereign_node.vault.session import Session
from sovereign_protocols.vault.blobs import BlobDecoder, BlobType
from sovereign_protocols.vault.container import Container
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.snapshot import SignedSnapshot, parse_snapshot

_IDS_PER_REQUEST = 1024


@dataclass(frozen=True)
class RepairReport:
    """What rebuilding the index found.

    Args:
        segments: index segments known.
        chunks: chunks in the index.
        blobs: blobs in the index.
        chunks_read: chunks read one by one because no segment lists them.
        snapshots_recovered: snapshots found in chunks and listed again.
        unreadable: hex ids of stored things that do not open.
        failed_targets: targets whose chunks could not be listed.
    """

    segments: int
    chunks: int
    blobs: int
    chunks_read: int
    snapshots_recovered: int
    unreadable: tuple[str, ...] = ()
    failed_targets: tuple[str, ...] = ()


class _Finder:
    """Collects what unlisted chunks hold."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._decoder = BlobDecoder(session.context.sealer.dedup_key)
        self.chunks_read = 0
        self.raws: dict[bytes, None] = {}
        self.unreadable: set[str] = set()
        self.failed: list[str] = []

    async def run(self) -> None:
        """Look at every chunk of every target that no segment lists."""
        for target in self._session.context.targets:
            after = b""
            try:
                while ids := await target.list_ids(after, _IDS_PER_REQUEST):
                    after = ids[-1]
                    await self._look(ids)
            except TargetError as error:
                self.failed.append(str(error))

    async def _look(self, ids: list[bytes]) -> None:
        index = self._session.context.index
        segments = set(index.segments())
        for chunk_id in ids:
            if chunk_id not in segments and not index.has_chunk(chunk_id):
                try:
                    await self._session.fetcher.get(
                        chunk_id,
                        lambda sealed, _, of=chunk_id: self._open(of, sealed.to_bytes()),  # type: ignore[misc]
                    )
                except ChunkUnavailableError:
                    self.unreadable.add(chunk_id.hex())

    def _open(self, chunk_id: bytes, sealed: bytes) -> None:
        context = self._session.context
        try:
            container = Container(context.sealer.open_chunk(chunk_id, sealed))
        except FormatError:
            # A segment of a head that is gone; its chunks are looked at one by one.
            context.sealer.open_segment(chunk_id, sealed)
            return
        self.chunks_read += 1
        context.index.add_pending([ChunkLines(chunk_id, len(sealed), bytes(container.directory))])
        at = 0
        for record in container.records:
            if record.type is BlobType.SNAPSHOT:
                stored = container.stored(at, record.stored_bytes)
                self.raws[bytes(self._decoder.decode(record, stored, BlobType.SNAPSHOT))] = None
            at += record.stored_bytes

    def snapshots(self) -> list[SignedSnapshot]:
        """Return the snapshots that were found and that count, oldest first."""
        context = self._session.context
        found: list[SignedSnapshot] = []
        for raw in self.raws:
            try:
                snapshot = parse_snapshot(raw, context.sealer.project_id, context.network_id)
            except CryptoError:
                continue
            if context.is_author(snapshot.author):
                found.append(snapshot)
        return sorted(found, key=lambda item: item.content.created_at)


async def run_repair_index(session: Session, *, read_chunks: bool) -> RepairReport:
    """Rebuild; see :meth:`Vault.repair_index <sovereign_node.vault.facade.Vault.repair_index>`."""
    index = session.context.index
    finder = _Finder(session)
    recovered = 0
    if read_chunks:
        await finder.run()
        snapshots = await trio.to_thread.run_sync(finder.snapshots)
        if snapshots and not await session.snapshots():
            recovered = await _list_again(session, snapshots)
    return RepairReport(
        len(index.segments()),
        index.chunk_count(),
        index.blob_count(),
        finder.chunks_read,
        recovered,
        tuple(sorted(finder.unreadable)),
        tuple(finder.failed),
    )


async def _list_again(session: Session, snapshots: list[SignedSnapshot]) -> int:
    """Publish a head with the snapshots whose trees are complete."""
    whole = [item for item in snapshots if not (await mark(session, [item])).broken]
    writer = await session.writer()
    async with open_run(session) as (run, sender):
        await rewrite_head(session, run, sender, writer, writer.payload, [item.raw for item in whole])
    return len(whole)
