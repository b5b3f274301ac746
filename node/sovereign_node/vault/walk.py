"""Walking stored trees: breadth bounded, depth bounded, every node fetched by way of few chunks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass

import trio

from sovereign_node.vault.errors import ChunkUnavailableError, MissingBlobError
from sovereign_node.vault.fetch import Fetcher
from sovereign_node.vault.index import LocalIndex
from sovereign_protocols.vault.blobs import BlobDecoder, BlobType
from sovereign_protocols.vault.container import Container
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.tree import (
    Content,
    Entry,
    Kind,
    decode_list,
    decode_node,
)

MAX_DEPTH = 128
_CACHED_CONTAINERS = 8
_CACHED_NODES_BYTES = 32 * 1024 * 1024


class BlobReader:
    """Reads metadata blobs; keeps the last few containers open, because neighbours lie together.

    Args:
        index: local index.
        fetcher: gets chunks.
        dedup_key: 32 bytes.
    """

    def __init__(self, index: LocalIndex, fetcher: Fetcher, dedup_key: bytes) -> None:
        self._index = index
        self._fetcher = fetcher
        self._decoder = BlobDecoder(dedup_key)
        self._containers: OrderedDict[int, Container] = OrderedDict()

    async def read(self, blob_id: bytes, kind: BlobType) -> bytes:
        """Return a metadata blob.

        Raises:
            MissingBlobError: not in the index.
            ChunkUnavailableError: its chunk can't be had.
            ContentError: it breaks the format.
        """
        place = self._index.find((blob_id,)).get(blob_id)
        if place is None:
            raise MissingBlobError(blob_id)
        container = self._containers.get(place.chunk)
        if container is None:
            container = await self._fetcher.container(self._index.chunk_id(place.chunk))
            self._containers[place.chunk] = container
            if len(self._containers) > _CACHED_CONTAINERS:
                self._containers.popitem(last=False)
        else:
            self._containers.move_to_end(place.chunk)
            await trio.lowlevel.checkpoint()
        stored = container.stored(place.offset_bytes, place.record.stored_bytes)
        return bytes(self._decoder.decode(place.record, stored, kind))

    async def entries(self, folder: Entry) -> list[Entry]:
        """Return the entries of a folder, in the order of their names.

        Raises:
            ContentError: a node breaks the format, or names are not in order across nodes.
        """
        entries: list[Entry] = []
        for node_id in await self.leaf_ids(folder):
            data = await self.read(node_id, BlobType.TREE)
            node = await trio.to_thread.run_sync(decode_node, data) if len(data) > 16384 else decode_node(data)
            if entries and node[0].name <= entries[-1].name:
                raise ContentError("nodes of a folder are not in order")
            entries += node
        return entries

    async def content(self, entry: Entry) -> AsyncGenerator[bytes, None]:
        """Yield the content of a file, piece by piece; errors as :meth:`read`."""
        if entry.content_kind is Content.INLINE:
            yield entry.content
        for data_id in await self.leaf_ids(entry):
            yield await self.read(data_id, BlobType.DATA)

    async def leaf_ids(self, entry: Entry, visited: list[bytes] | None = None) -> list[bytes]:
        """Return the ids of an entry's data blobs or nodes; lists on the way are added to ``visited``."""
        levels = {Content.LISTS: 1, Content.LISTS_OF_NODES: 1, Content.LISTS_OF_LISTS: 2}
        if entry.content_kind in (Content.NONE, Content.INLINE):
            return []
        ids = entry.ids
        for _ in range(levels.get(entry.content_kind, 0)):
            below: list[bytes] = []
            for list_id in ids:
                if visited is not None:
                    visited.append(list_id)
                below += decode_list(await self.read(list_id, BlobType.LIST))
            ids = below
        return ids


@dataclass(frozen=True, slots=True)
class Found:
    """An entry with its place.

    Args:
        path: components from the root.
        entry: the entry.
    """

    path: tuple[bytes, ...]
    entry: Entry


async def walk(
    reader: BlobReader,
    root: Entry,
    path: tuple[bytes, ...],
    on_error: Callable[[tuple[bytes, ...], str], None],
) -> AsyncGenerator[Found, None]:
    """Yield everything below a folder, a folder before its content, depth first.

    Args:
        reader: reads nodes.
        root: the folder.
        path: its place.
        on_error: told of folders that can't be read or lie deeper than 128; the others go on.
    """
    stack: list[Found] = [Found(path, root)]
    while stack:
        found = stack.pop()
        if found.path != path:
            yield found
        if found.entry.kind is Kind.DIRECTORY:
            try:
                if len(found.path) > MAX_DEPTH:
                    raise ContentError("folders are nested too deep")
                below = await reader.entries(found.entry)
            except (MissingBlobError, ChunkUnavailableError, ContentError) as error:
                on_error(found.path, str(error))
                continue
            stack.extend(Found((*found.path, item.name), item) for item in reversed(below))


async def find(reader: BlobReader, root: Entry, path: Iterable[bytes]) -> Entry | None:
    """Return the entry at ``path`` below a folder, or ``None``."""
    entry = root
    for name in path:
        if entry.kind is not Kind.DIRECTORY:
            return None
        below = {item.name: item for item in await reader.entries(entry)}
        if name not in below:
            return None
        entry = below[name]
    return entry
