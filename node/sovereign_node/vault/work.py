"""The work of one backup thread: hash pieces, skip what is stored, compress, fill containers, seal."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from sovereign_crypto.chunks import blob_id
from sovereign_node.vault.assemble import Assembler
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.pack import Packer, SealedChunk, seal_container
from sovereign_node.vault.read import (
    READ_ATTEMPTS,
    Batch,
    Group,
    LargeFile,
    Part,
    content_cutter,
    cut_whole,
    read_small,
)
from sovereign_node.vault.report import Counters, ItemError
from sovereign_node.vault.scan import FileWork, display
from sovereign_protocols.vault.blobs import BLOB_ID_BYTES, BlobType
from sovereign_protocols.vault.container import LINE_BYTES
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.tree import (
    MAX_INLINE_BYTES,
    MODE_MASK,
    Content,
    Entry,
    Flag,
    Kind,
    encode_entry,
    split_ids,
)


class Claims:
    """Blobs that some thread has taken on, but that the index does not know yet."""

    def __init__(self) -> None:
        self._owners: dict[bytes, object] = {}

    def take(self, wanted: bytes, owner: object) -> bool:
        """Whether ``owner`` is the first to claim a blob."""
        return self._owners.setdefault(wanted, owner) is owner

    def release(self, ids: Sequence[bytes]) -> None:
        """Forget claims; the index knows the blobs now."""
        for wanted in ids:
            self._owners.pop(wanted, None)


class Worker:
    """State of one thread: a cutter, an encoder and an open container.

    Args:
        sealer: the project's sealer.
        level: zstd level.
        index: what is stored.
        claims: shared by all workers of a run.
        assembler: gets the entries.
        counters: sums of the run.
    """

    def __init__(
        self,
        sealer: ProjectSealer,
        level: int,
        index: LocalIndex,
        claims: Claims,
        assembler: Assembler,
        counters: Counters,
    ) -> None:
        self._sealer = sealer
        self._packer = Packer(sealer, level)
        self._index = index
        self._claims = claims
        self._assembler = assembler
        self._counters = counters
        self._cutter = content_cutter()

    def process(self, batch: Batch) -> list[SealedChunk]:
        """Handle one batch; return the chunks that became full, sealed."""
        if isinstance(batch, Group):
            self._group(batch)
        else:
            self._part(batch)
        return self._sealed(final=False)

    def finish(self) -> list[SealedChunk]:
        """Seal what is left in the open container."""
        self._packer.close()
        return self._sealed(final=False)

    def _sealed(self, *, final: bool) -> list[SealedChunk]:
        full = self._packer.take_full() + self._assembler.take_full(final=final)
        self._assembler.flush_records()
        return [seal_container(self._sealer, blobs) for blobs in full]

    def _group(self, group: Group) -> None:
        loaded: list[tuple[FileWork, bytes, os.stat_result, bool]] = []
        for work in group.works:
            item = self._load(work)
            if item is None:
                self._assembler.finish(work.folder, work.name, None)
            else:
                loaded.append((work, *item))
        pieces: list[memoryview] = []
        spans: list[int] = []
        for _, data, _, _ in loaded:
            cut = [] if len(data) <= MAX_INLINE_BYTES else cut_whole(self._cutter, data)
            spans.append(len(cut))
            pieces += cut
        ids = self._store(pieces)
        at = 0
        for (work, data, info, again), count in zip(loaded, spans, strict=True):
            content = (Content.INLINE, data) if data and not count else self._content(ids[at : at + count])
            self._enter(work, info, len(data), content, Flag.CHANGED if again else 0, again=again)
            at += count

    def _part(self, part: Part) -> None:
        file = part.file
        ids = self._store(part.pieces)
        if part.pieces and len(ids) > 8:
            # Small pieces pin the whole window that they are views of.
            self._packer.own_open()
        with file.lock:
            file.parts[part.number] = b"".join(ids)
            if part.last:
                file.total = part.number + 1
                file.closed = True
            complete = file.closed and len(file.parts) == file.total
        with self._counters.lock:
            self._counters.bytes_read += sum(len(piece) for piece in part.pieces)
            self._counters.bytes_total += sum(len(piece) for piece in part.pieces)
        if complete:
            self._finish_large(file)

    def _finish_large(self, file: LargeFile) -> None:
        work = file.work
        if file.info is None:
            self._assembler.finish(work.folder, work.name, None)
            return
        ids = split_ids(b"".join(file.parts[number] for number in range(file.total)))
        flags = file.flags | (Flag.CHANGED if file.again else 0)
        self._enter(work, file.info, file.size_bytes, self._content(ids), flags, again=file.again)

    def _content(self, ids: list[bytes]) -> tuple[Content, bytes]:
        return self._assembler.file_content(ids) if ids else (Content.NONE, b"")

    def _enter(
        self,
        work: FileWork,
        info: os.stat_result,
        size_bytes: int,
        content: tuple[Content, bytes],
        flags: int,
        *,
        again: bool,
    ) -> None:
        mode = stat.S_IMODE(info.st_mode) & MODE_MASK
        entry = Entry(work.name, Kind.FILE, mode, info.st_mtime_ns, size_bytes, *content, flags)
        with self._counters.lock:
            self._counters.files_changed += 1
        self._assembler.finish(work.folder, work.name, encode_entry(entry), size_bytes, again=again)

    def _load(self, work: FileWork) -> tuple[bytes, os.stat_result, bool] | None:
        for attempt in range(READ_ATTEMPTS):
            try:
                data, info, changed = read_small(work.path)
            except OSError as error:
                self._fail(work, error.strerror or str(error))
                return None
            if not changed or attempt == READ_ATTEMPTS - 1:
                break
        if changed:
            self._fail(work, "kept changing while it was read")
        with self._counters.lock:
            self._counters.bytes_read += len(data)
            self._counters.bytes_total += len(data)
        return data, info, changed

    def _store(self, pieces: Sequence[memoryview]) -> list[bytes]:
        key = self._sealer.dedup_key
        ids = [blob_id(key, piece) for piece in pieces]
        known = self._index.known(ids)
        new_bytes = stored_bytes = 0
        for wanted, piece in zip(ids, pieces, strict=True):
            token = object()
            if wanted not in known and self._claims.take(wanted, token):
                stored_bytes += self._packer.add(wanted, BlobType.DATA, piece)
                new_bytes += len(piece)
        with self._counters.lock:
            self._counters.bytes_new += new_bytes
            self._counters.bytes_stored += stored_bytes
        return ids

    def _fail(self, work: FileWork, reason: str) -> None:
        with self._counters.lock:
            self._counters.errors.append(ItemError(display(work.path), reason))


def claimed_ids(chunk: ChunkLines) -> list[bytes]:
    """Return the ids of the blobs in a chunk."""
    lines = chunk.lines
    return [lines[at : at + BLOB_ID_BYTES] for at in range(0, len(lines), LINE_BYTES)]
