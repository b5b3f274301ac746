"""Folders from the bottom up: entries come in as files are done, tree nodes go out when a folder is complete."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sovereign_crypto.chunks import blob_id
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.pack import Packer
from sovereign_node.vault.report import Counters
from sovereign_protocols.vault.blobs import BlobRecord, BlobType
from sovereign_protocols.vault.tree import (
    MAX_DIRECT_IDS,
    MAX_ENTRY_IDS,
    MAX_LIST_IDS,
    Content,
    Entry,
    Kind,
    cut_nodes,
    encode_entry,
    encode_list,
    iterate_encoded,
)

STAMP_BYTES = 36
_RECORD = struct.Struct(">QQQII32s")
_FLUSH_BYTES = 8 * 1024 * 1024


class FolderRecord:
    """What is remembered of a scanned folder, parsed as far as it is needed.

    ::

        u64 run | u64 files | u64 bytes | u32 ids | u32 entries | signature 32
        u8 content kind | ids 32 each | stamps 36 each, in entry order | u32 length + node, each

    Args:
        data: the stored value.
    """

    def __init__(self, data: bytes) -> None:
        self.run, self.files, self.size_bytes, self._ids, self._entries, self.signature = _RECORD.unpack_from(data)
        self.content_kind = Content(data[_RECORD.size])
        self._ids_at = _RECORD.size + 1
        self._stamps_at = self._ids_at + 32 * self._ids
        self._data = data

    @property
    def content(self) -> bytes:
        """Content of the folder's entry in its parent."""
        return self._data[self._ids_at : self._stamps_at]

    def entries(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield name, stamp and encoded entry."""
        at = self._stamps_at
        stamps_end = at + STAMP_BYTES * self._entries
        node_at = stamps_end
        while node_at < len(self._data):
            node_end = node_at + 4 + int.from_bytes(self._data[node_at : node_at + 4], "big")
            for name, encoded in iterate_encoded(memoryview(self._data)[node_at + 4 : node_end]):
                yield name, self._data[at : at + STAMP_BYTES], encoded
                at += STAMP_BYTES
            node_at = node_end


@dataclass(slots=True, eq=False)
class Folder:
    """A folder whose entries are not all known yet.

    Args:
        parent: the folder above; ``None`` for the root.
        name: raw name.
        mode: permission bits.
        mtime_ns: modification time.
        key: under which it is remembered.
    """

    parent: Folder | None
    name: bytes
    mode: int
    mtime_ns: int
    key: bytes
    entries: dict[bytes, bytes]
    stamps: dict[bytes, bytes]
    record: FolderRecord | None = None
    signature: bytes = bytes(32)
    same_listing: bool = False
    outstanding: int = 0
    files: int = 0
    size_bytes: int = 0


class FinishedFile(NamedTuple):
    """A file of which everything is known.

    Args:
        folder: where it lies.
        name: raw name.
        encoded: its entry; ``None`` if it could not be read.
        size_bytes: its length.
        again: it must be read next time even if it looks the same.
    """

    folder: Folder
    name: bytes
    encoded: bytes | None
    size_bytes: int = 0
    again: bool = False


class Assembler:
    """Collects entries; calls come from several threads.

    Args:
        dedup_key: 32 bytes, for ids of nodes and lists.
        index: says which nodes are stored already.
        packer: container of metadata; only used under the assembler's lock.
        counters: sums of the run.
        run: number of this run, written into the remembered folders.
    """

    def __init__(self, dedup_key: bytes, index: LocalIndex, packer: Packer, counters: Counters, run: int) -> None:
        self._dedup_key = dedup_key
        self._index = index
        self._packer = packer
        self._counters = counters
        self._run = run
        self._lock = threading.Lock()
        self._claimed: set[bytes] = set()
        self._changed: dict[bytes, bytes] = {}
        self._changed_bytes = 0
        self.visited: set[bytes] = set()
        self.root: Entry | None = None

    def listed(self, folder: Folder, *, held: int = 0) -> None:
        """Take note that a folder's listing is complete; it may be done already.

        Args:
            folder: the folder.
            held: how much of ``outstanding`` only kept it from being completed too early.
        """
        with self._lock:
            folder.outstanding -= held
            self.visited.add(folder.key)
            self._counters.directories += 1
            if not folder.outstanding:
                self._complete(folder)

    def finish(self, files: Sequence[FinishedFile]) -> None:
        """Enter files of folders."""
        with self._lock:
            for folder, name, encoded, size_bytes, again in files:
                if encoded is None or again:
                    folder.signature = bytes(32)
                    folder.stamps.pop(name, None)
                if encoded is not None:
                    folder.entries[name] = encoded
                    folder.files += 1
                    folder.size_bytes += size_bytes
                folder.outstanding -= 1
                if not folder.outstanding:
                    self._complete(folder)

    def file_content(self, ids: list[bytes], list_ids: int = MAX_LIST_IDS) -> tuple[Content, bytes]:
        """Return the content of an entry that consists of the data blobs ``ids``.

        Args:
            ids: 32 bytes each.
            list_ids: how many go into one list; each change of a file costs a new list.
        """
        if 0 < len(ids) <= MAX_DIRECT_IDS:
            return Content.BLOBS, b"".join(ids)
        with self._lock:
            return self._content(ids, Content.BLOBS, Content.LISTS, list_ids)

    def put_blob(self, kind: BlobType, raw: bytes) -> bytes:
        """Store a piece of metadata unless it is stored already; return its id."""
        with self._lock:
            return self._put(kind, raw)

    def take_full(self, *, final: bool = False) -> list[list[tuple[BlobRecord, bytes | memoryview]]]:
        """Return metadata containers that are full (or, at the end, all) for sealing outside the lock."""
        with self._lock:
            if final:
                self._packer.close()
            return self._packer.take_full()

    def has_open(self) -> bool:
        """Whether metadata waits to be sent."""
        with self._lock:
            return self._packer.has_open

    def flush_records(self, *, final: bool = False) -> None:
        """Write remembered folders to the cache, in batches."""
        with self._lock:
            if not self._changed or (self._changed_bytes < _FLUSH_BYTES and not final):
                return
            changed, self._changed, self._changed_bytes = self._changed, {}, 0
        self._index.put_folders(changed)

    def _put(self, kind: BlobType, raw: bytes) -> bytes:
        wanted = blob_id(self._dedup_key, raw)
        if wanted not in self._claimed and not self._index.known((wanted,)):
            # A claim is kept for the whole run: nodes are few.
            self._claimed.add(wanted)
            self._packer.add(wanted, kind, raw)
        return wanted

    def _content(
        self, ids: list[bytes], direct: Content, lists: Content, list_ids: int = MAX_LIST_IDS
    ) -> tuple[Content, bytes]:
        if not ids:
            return Content.NONE, b""
        if len(ids) <= MAX_DIRECT_IDS:
            return direct, b"".join(ids)
        level = self._lists(ids, list_ids)
        if len(level) <= (MAX_DIRECT_IDS if direct is Content.BLOBS else MAX_ENTRY_IDS):
            return lists, b"".join(level)
        if direct is not Content.BLOBS:
            raise ValueError("folder has too many entries")
        # Few enough at the top that two levels reach every size.
        return Content.LISTS_OF_LISTS, b"".join(self._lists(level, max(list_ids, -(-len(level) // MAX_ENTRY_IDS))))

    def _lists(self, ids: list[bytes], list_ids: int) -> list[bytes]:
        return [
            self._put(BlobType.LIST, encode_list(ids[at : at + list_ids])) for at in range(0, len(ids), list_ids)
        ]

    def _complete(self, folder: Folder | None) -> None:
        while folder is not None:
            entry, unchanged = self._build(folder)
            parent = folder.parent
            if parent is None:
                self.root = entry
                return
            if not (parent.same_listing and unchanged):
                self._materialize(parent)
                parent.entries[folder.name] = encode_entry(entry)
            parent.outstanding -= 1
            folder = None if parent.outstanding else parent

    @staticmethod
    def _materialize(folder: Folder) -> None:
        """A folder that seemed the same has a changed child: its other entries come from the record."""
        if folder.same_listing and folder.record is not None:
            folder.same_listing = False
            for name, stamp, encoded in folder.record.entries():
                folder.entries.setdefault(name, encoded)
                folder.stamps.setdefault(name, stamp)

    def _build(self, folder: Folder) -> tuple[Entry, bool]:
        record = folder.record
        if folder.same_listing and record is not None:
            content_kind, content = record.content_kind, record.content
            unchanged = True
        else:
            ordered = sorted(folder.entries.items())
            nodes = list(cut_nodes(ordered))
            ids = [self._put(BlobType.TREE, node) for node in nodes]
            content_kind, content = self._content(ids, Content.NODES, Content.LISTS_OF_NODES)
            unchanged = record is not None and record.content == content
            self._remember(folder, [name for name, _ in ordered], content_kind, content, nodes)
        with self._counters.lock:
            self._counters.files += folder.files
        entry = Entry(folder.name, Kind.DIRECTORY, folder.mode, folder.mtime_ns, 0, content_kind, content)
        return entry, unchanged

    def _remember(
        self, folder: Folder, names: list[bytes], kind: Content, content: bytes, nodes: list[bytes]
    ) -> None:
        none = bytes(STAMP_BYTES)
        stamps = folder.stamps
        head = _RECORD.pack(
            self._run, folder.files, folder.size_bytes, len(content) // 32, len(names), folder.signature
        )
        parts = [head, bytes((kind,)), content, *[stamps.get(name, none) for name in names]]
        for node in nodes:
            parts += (len(node).to_bytes(4, "big"), node)
        value = b"".join(parts)
        self._changed[folder.key] = value
        self._changed_bytes += len(value)
