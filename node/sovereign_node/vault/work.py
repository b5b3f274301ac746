"""The work of one backup thread: hash pieces, skip what is stored, compress, fill containers, seal."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, islice
from typing import NamedTuple

from sovereign_crypto.chunks import blob_id
from sovereign_node.vault.assemble import Assembler, FinishedFile
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
    read_cached,
    read_small,
)
from sovereign_node.vault.report import Counters, ItemError
from sovereign_node.vault.scan import FileWork, display
from sovereign_protocols.vault.blobs import BLOB_ID_BYTES, BlobType
from sovereign_protocols.vault.container import LINE_BYTES
from sovereign_protocols.vault.index import ChunkLines
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.tree import (
    MODE_MASK,
    Content,
    Flag,
    Kind,
    pack_fields,
    split_ids,
)

# Content inside an entry is sent again whenever a neighbour changes, so only what is hardly larger than the lines
# and ids of a blob stays there; readers take up to 1 KiB.
_INLINE_BYTES = 256


class Claims:
    """Blobs that some thread has taken on, but that the index does not know yet."""

    def __init__(self) -> None:
        self._taken: set[bytes] = set()
        self._lock = threading.Lock()

    def take(self, ids: Iterable[bytes]) -> list[bool]:
        """Claim blobs; tells for each whether nobody had."""
        taken, first = self._taken, []
        with self._lock:
            for wanted in ids:
                first.append(wanted not in taken)
                taken.add(wanted)
        return first

    def release(self, ids: Iterable[bytes]) -> None:
        """Forget claims; the index knows the blobs now."""
        with self._lock:
            self._taken.difference_update(ids)


class _Loaded(NamedTuple):
    """A small file in memory; without pieces, it goes into its entry."""

    work: FileWork
    data: bytes | bytearray
    pieces: list[memoryview]
    info: os.stat_result
    again: bool


class Worker:
    """State of one thread: a cutter, an encoder and an open container.

    Args:
        sealer: the project's sealer.
        level: zstd level.
        index: what is stored.
        claims: shared by all workers of a run.
        assembler: gets the entries.
        counters: sums of the run.
        turn: held while small files are read and sorted out; shared with whoever else works entry by entry.
    """

    def __init__(
        self,
        sealer: ProjectSealer,
        level: int,
        index: LocalIndex,
        claims: Claims,
        assembler: Assembler,
        counters: Counters,
        turn: threading.Lock,
    ) -> None:
        self._sealer = sealer
        self._packer = Packer(sealer, level)
        self._index = index
        self._claims = claims
        self._assembler = assembler
        self._counters = counters
        self._turn = turn
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
        with self._turn:
            loaded, waiting = self._load_cached(group.works)
        # Those that wait for the disk do not wait for each other.
        loaded += self._load_slowly(waiting)
        with self._turn:
            self._count(loaded)
            pieces = [piece for file in loaded for piece in file.pieces]
            ids, new = self._sort_out(pieces)
        self._lay_down(new)
        with self._turn:
            self._assembler.finish(list(self._entries(loaded, iter(ids))))

    def _load_cached(self, works: Sequence[FileWork]) -> tuple[list[_Loaded], list[FileWork]]:
        """Load what is in memory; return it, and the others."""
        loaded: list[_Loaded] = []
        waiting: list[FileWork] = []
        for work in works:
            data = read_cached(work.path, work.info)
            if data is None:
                waiting.append(work)
            else:
                loaded.append(_Loaded(work, data, self._cut(data), work.info, False))
        return loaded, waiting

    def _load_slowly(self, works: Sequence[FileWork]) -> list[_Loaded]:
        loaded: list[_Loaded] = []
        for work in works:
            item = self._load(work)
            if item is None:
                self._assembler.finish([FinishedFile(work.folder, work.name, None)])
                continue
            data, info, again = item
            loaded.append(_Loaded(work, data, self._cut(data), info, again))
        return loaded

    def _cut(self, data: bytes | bytearray) -> list[memoryview]:
        return [] if len(data) <= _INLINE_BYTES else cut_whole(self._cutter, data)

    def _count(self, loaded: Sequence[_Loaded]) -> None:
        size_bytes = sum(len(file.data) for file in loaded)
        with self._counters.lock:
            self._counters.bytes_read += size_bytes
            self._counters.bytes_total += size_bytes
            self._counters.files_changed += len(loaded)

    def _entries(self, loaded: list[_Loaded], ids: Iterator[bytes]) -> Iterator[FinishedFile]:
        for work, data, pieces, info, again in loaded:
            if pieces:
                content = self._assembler.file_content(list(islice(ids, len(pieces))))
            else:
                content = (Content.INLINE, bytes(data)) if data else (Content.NONE, b"")
            yield _finished(work, info, len(data), content, Flag.CHANGED if again else 0, again=again)

    def _part(self, part: Part) -> None:
        file = part.file
        ids, new = self._sort_out(part.pieces)
        self._lay_down(new)
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
            self._assembler.finish([FinishedFile(work.folder, work.name, None)])
            return
        ids = split_ids(b"".join(file.parts[number] for number in range(file.total)))
        flags = file.flags | (Flag.CHANGED if file.again else 0)
        with self._counters.lock:
            self._counters.files_changed += 1
        content = self._assembler.file_content(ids, file.list_ids)
        self._assembler.finish([_finished(work, file.info, file.size_bytes, content, flags, again=file.again)])

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
        return data, info, changed

    def _sort_out(self, pieces: Sequence[memoryview]) -> tuple[list[bytes], list[tuple[bytes, memoryview]]]:
        """Return the ids of pieces, and those pieces that this thread has to store."""
        key = self._sealer.dedup_key
        ids = [blob_id(key, piece) for piece in pieces]
        known = self._index.known(ids)
        unknown = [item for item in zip(ids, pieces, strict=True) if item[0] not in known]
        return ids, list(compress(unknown, self._claims.take([wanted for wanted, _ in unknown])))

    def _lay_down(self, new: Sequence[tuple[bytes, memoryview]]) -> None:
        if new:
            stored_bytes = self._packer.add_many(BlobType.DATA, new)
            new_bytes = sum(len(piece) for _, piece in new)
            with self._counters.lock:
                self._counters.bytes_new += new_bytes
                self._counters.bytes_stored += stored_bytes

    def _fail(self, work: FileWork, reason: str) -> None:
        with self._counters.lock:
            self._counters.errors.append(ItemError(display(work.path), reason))


def _finished(
    work: FileWork,
    info: os.stat_result,
    size_bytes: int,
    content: tuple[Content, bytes],
    flags: int,
    *,
    again: bool,
) -> FinishedFile:
    mode = stat.S_IMODE(info.st_mode) & MODE_MASK
    encoded = pack_fields(Kind.FILE, flags, mode, info.st_mtime_ns, size_bytes, content, work.name)
    return FinishedFile(work.folder, work.name, encoded, size_bytes, again)


def claimed_ids(chunk: ChunkLines) -> list[bytes]:
    """Return the ids of the blobs in a chunk."""
    lines = chunk.lines
    return [lines[at : at + BLOB_ID_BYTES] for at in range(0, len(lines), LINE_BYTES)]
