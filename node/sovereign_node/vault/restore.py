"""Restoring: folders first, then files chunk by chunk, then symlinks, then the folders' modes and times.

Each chunk is fetched once per group of files and written where its blobs belong, so memory is bounded by the chunks
under way. An error of one file stops no other.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.errors import ChunkUnavailableError, MissingBlobError
from sovereign_node.vault.index import LocalIndex, Place
from sovereign_node.vault.report import ItemError
from sovereign_node.vault.safe_fs import Folders, TargetTree
from sovereign_node.vault.scan import display
from sovereign_node.vault.session import Session
from sovereign_node.vault.walk import Found, find, walk
from sovereign_node.vault.write_behind import LARGE_BYTES, WriteBehind
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault.blobs import BlobDecoder, BlobType
from sovereign_protocols.vault.container import MAX_PLAINTEXT_BYTES, Container
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.tree import Content, Entry, Kind

# Bounds of what is planned at once; 100 bytes or so each.
_GROUP_FILES = 20_000
_GROUP_BLOBS = 100_000
# Bounds of what is written in one call.
_RUN_BYTES = 2 * 1024 * 1024
_RUN_BLOBS = 256


@dataclass(slots=True, eq=False)
class _File:
    """A file that is being restored."""

    path: tuple[bytes, ...]
    entry: Entry
    number: int
    ids: list[bytes] = field(default_factory=list)
    pieces: int = 0
    missing: int = 0
    failed: bool = False

    @property
    def temporary(self) -> bytes:
        """Its name while it is unfinished."""
        return b"%d" % self.number


class _Write(NamedTuple):
    """One blob that belongs into one file."""

    file: _File
    at: int
    place: Place


@dataclass(frozen=True)
class _Tools:
    """What each thread has for itself.

    Args:
        decoder: of blobs.
        buffer: room for one container.
    """

    decoder: BlobDecoder
    buffer: bytearray


class Restorer:
    """State of one restore.

    Args:
        session: the vault's state.
        tree: where to write.
    """

    def __init__(self, session: Session, tree: TargetTree) -> None:
        self._session = session
        self._tree = tree
        self._index: LocalIndex = session.context.index
        self._sealer = session.context.sealer
        self._of_thread = threading.local()
        self._behind = WriteBehind()
        self._lock = threading.Lock()
        self._numbers = 0
        self._folders: list[Found] = []
        self._made = 0
        self._links: list[Found] = []
        self.errors: list[ItemError] = []
        self.files = 0
        self.symlinks = 0
        self.present = 0
        self.bytes_written = 0

    @property
    def directories(self) -> int:
        """Folders handled."""
        return len(self._folders)

    async def run(self, root: Entry, paths: Sequence[tuple[bytes, ...]]) -> None:
        """Restore what lies at ``paths`` below ``root``; an empty path is everything."""
        group: list[_File] = []
        blobs = 0
        for path in paths:
            start = await self._start(root, path)
            if start is None:
                continue
            for found in start:
                await self._visit(found, group)
            if start[-1].entry.kind is not Kind.DIRECTORY:
                continue
            async with aclosing(walk(self._session.blobs, start[-1].entry, path, self._fail)) as below:
                async for found in below:
                    blobs += await self._visit(found, group)
                    if len(group) >= _GROUP_FILES or blobs >= _GROUP_BLOBS:
                        await self._write_group(group)
                        group, blobs = [], 0
        await self._write_group(group)
        await trio.to_thread.run_sync(self._finish)

    def close(self) -> None:
        """Let go of what is still open; nothing may be written after that."""
        self._behind.close()

    async def _start(self, root: Entry, path: tuple[bytes, ...]) -> list[Found] | None:
        """Return the entries from the root down to ``path``."""
        chain = [Found((), root)]
        for depth in range(1, len(path) + 1):
            entry = await find(self._session.blobs, chain[-1].entry, path[depth - 1 : depth])
            if entry is None:
                self._fail(path, "is not in the snapshot")
                return None
            chain.append(Found(path[:depth], entry))
        return chain

    async def _visit(self, found: Found, group: list[_File]) -> int:
        """Note an entry; return the number of blobs that it needs."""
        entry = found.entry
        if entry.kind is Kind.SYMLINK:
            self._links.append(found)
        elif entry.kind is Kind.DIRECTORY:
            self._folders.append(found)
        else:
            self._numbers += 1
            file = _File(found.path, entry, self._numbers)
            try:
                file.ids = await self._session.blobs.leaf_ids(entry)
            except (MissingBlobError, ChunkUnavailableError, ContentError) as error:
                self._fail(found.path, str(error))
                return 0
            group.append(file)
            return len(file.ids)
        return 0

    def _make_folders(self, folders: Folders) -> None:
        """Make the folders that were found since the last group."""
        while self._made < len(self._folders):
            path = self._folders[self._made].path
            self._made += 1
            try:
                if path:
                    self._tree.make_folder(folders, path)
            except OSError as error:
                self._fail(path, error.strerror or str(error))

    # Files

    async def _write_group(self, group: list[_File]) -> None:
        plan = await trio.to_thread.run_sync(self._plan, group)
        slots = trio.Semaphore(self._session.context.config.read_ahead_chunks)

        async def fetch(chunk: int, writes: list[_Write]) -> None:
            try:
                await self._fetch(self._index.chunk_id(chunk), writes)
            except ChunkUnavailableError as error:
                await trio.to_thread.run_sync(self._fail_writes, writes, str(error))
            finally:
                slots.release()

        async with trio.open_nursery() as nursery:
            for chunk, writes in plan.items():
                await slots.acquire()
                nursery.start_soon(fetch, chunk, writes)

    async def _fetch(self, chunk_id: bytes, writes: list[_Write]) -> None:
        """Fetch a chunk and write what it holds, all in the thread in which it is verified."""
        first = threading.Lock()

        def unpack(sealed: Payload, id_checked: bool) -> None:
            opened = self._sealer.open_arrived(chunk_id, sealed, id_checked=id_checked, buffer=self._tools().buffer)
            container = Container(opened)
            # Two targets may answer, when the first one stalled for a while.
            if first.acquire(blocking=False):
                self._write_chunk(container, writes)

        await self._session.fetcher.get(chunk_id, unpack)

    def _plan(self, group: list[_File]) -> dict[int, list[_Write]]:
        """Return the writes of each chunk, chunks in the order in which the files first need them."""
        plan: dict[int, list[_Write]] = {}
        with self._tree.folders() as folders:
            self._make_folders(folders)
            for file in group:
                try:
                    if self._tree.is_there(folders, file.path, file.entry):
                        self.present += 1
                    elif file.ids:
                        self._plan_file(file, plan)
                    else:
                        self._write_whole(folders, file)
                except OSError as error:
                    self._fail(file.path, error.strerror or str(error))
                except (ContentError, MissingBlobError) as error:
                    self._fail(file.path, str(error))
        return plan

    def _plan_file(self, file: _File, plan: dict[int, list[_Write]]) -> None:
        places = self._index.find(file.ids)
        at = 0
        writes: list[_Write] = []
        for wanted in file.ids:
            place = places.get(wanted)
            if place is None:
                raise MissingBlobError(wanted)
            writes.append(_Write(file, at, place))
            at += place.record.raw_bytes
        if at != file.entry.size_bytes:
            raise ContentError("pieces do not add up to the file's size")
        file.missing = file.pieces = len(writes)
        file.ids = []
        for write in writes:
            plan.setdefault(write.place.chunk, []).append(write)

    def _write_whole(self, folders: Folders, file: _File) -> None:
        """Write a file whose content is in its entry, or empty."""

        def write(descriptor: int) -> None:
            if file.entry.content_kind is Content.INLINE:
                os.write(descriptor, file.entry.content)

        if self._tree.is_fresh(file.path):
            self._tree.write_whole(folders, file.path, file.entry, file.temporary, write)
        else:
            self._write_part(folders, file, 0, write)
        with self._lock:
            self.files += 1
            self.bytes_written += file.entry.size_bytes

    def _write_chunk(self, container: Container, writes: list[_Write]) -> None:
        decoder = self._tools().decoder
        with self._tree.folders() as folders:
            at = 0
            while at < len(writes):
                file = writes[at].file
                end = at
                while end < len(writes) and writes[end].file is file:
                    end += 1
                if not file.failed:
                    self._write_pieces(container, decoder, folders, file, writes[at:end])
                at = end

    def _write_pieces(
        self,
        container: Container,
        decoder: BlobDecoder,
        folders: Folders,
        file: _File,
        writes: list[_Write],
    ) -> None:
        def write(descriptor: int) -> None:
            self._write_blobs(container, decoder, descriptor, writes)

        try:
            if len(writes) == file.pieces and self._tree.is_fresh(file.path):
                self._tree.write_whole(folders, file.path, file.entry, file.temporary, write)
                done = True
            else:
                done = self._write_part(folders, file, len(writes), write)
            with self._lock:
                self.files += done
                self.bytes_written += sum([write.place.record.raw_bytes for write in writes])
        except CryptoError as error:
            self._fail_file(file, str(error))
        except OSError as error:
            self._fail_file(file, error.strerror or str(error))

    def _write_part(self, folders: Folders, file: _File, pieces: int, write: Callable[[int], None]) -> bool:
        """Write some of the pieces of a file, and move it to its place after the last."""
        descriptor = self._tree.open_temporary(file.temporary)
        try:
            write(descriptor)
            with self._lock:
                file.missing -= pieces
                done = not file.missing and not file.failed
            if done:
                self._tree.finish_file(folders, descriptor, file.temporary, file.path, file.entry)
            return done
        finally:
            os.close(descriptor)

    def _write_blobs(
        self, container: Container, decoder: BlobDecoder, descriptor: int, writes: list[_Write]
    ) -> None:
        """Write blobs of one file; neighbours in one call."""
        run: list[bytes | memoryview] = []
        at = size_bytes = 0
        for write in writes:
            if run and (write.at != at + size_bytes or size_bytes >= _RUN_BYTES or len(run) == _RUN_BLOBS):
                self._write_run(descriptor, run, at, size_bytes)
                run = []
            if not run:
                at, size_bytes = write.at, 0
            record = write.place.record
            stored = container.stored(write.place.offset_bytes, record.stored_bytes)
            run.append(decoder.decode(record, stored, BlobType.DATA))
            size_bytes += record.raw_bytes
        self._write_run(descriptor, run, at, size_bytes)

    def _write_run(self, descriptor: int, run: list[bytes | memoryview], at: int, size_bytes: int) -> None:
        written = os.pwritev(descriptor, run, at)
        if written < size_bytes:
            # Rare, as when the disk is almost full; the rest in one piece.
            _write_at(descriptor, b"".join(run)[written:], at + written)
        if size_bytes >= LARGE_BYTES:
            self._behind.wrote(descriptor, at, size_bytes)

    def _fail_writes(self, writes: list[_Write], reason: str) -> None:
        for write in writes:
            self._fail_file(write.file, reason)

    def _fail_file(self, file: _File, reason: str) -> None:
        with self._lock:
            if file.failed:
                return
            file.failed = True
        self._tree.drop_temporary(file.temporary)
        self._fail(file.path, reason)

    # The end

    def _finish(self) -> None:
        with self._tree.folders() as folders:
            for found in self._links:
                try:
                    if self._tree.is_there(folders, found.path, found.entry):
                        self.present += 1
                        continue
                    self._tree.make_link(folders, found.path, found.entry, b"link")
                    self.symlinks += 1
                except OSError as error:
                    self._tree.drop_temporary(b"link")
                    self._fail(found.path, error.strerror or str(error))
        # Before the root gets its time back.
        self._tree.remove_temporary()
        with self._tree.folders() as folders:
            for found in reversed(self._folders):
                if not found.path and not self._tree.created_root:
                    continue
                try:
                    self._tree.finish_folder(folders, found.path, found.entry)
                except OSError as error:
                    self._fail(found.path, error.strerror or str(error))

    def _tools(self) -> _Tools:
        tools: _Tools | None = getattr(self._of_thread, "tools", None)
        if tools is None:
            tools = self._of_thread.tools = _Tools(
                BlobDecoder(self._sealer.dedup_key), bytearray(MAX_PLAINTEXT_BYTES)
            )
        return tools

    def _fail(self, path: tuple[bytes, ...], reason: str) -> None:
        with self._lock:
            self.errors.append(ItemError(display(b"/".join(path) or b"."), reason))


def _write_at(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, at)
        view = view[count:]
        at += count
