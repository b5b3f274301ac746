"""Finding all that live snapshots refer to."""

from __future__ import annotations

from dataclasses import dataclass, field

from sovereign_crypto.chunks import blob_id
from sovereign_node.vault.errors import ChunkUnavailableError, MissingBlobError
from sovereign_node.vault.scan import display
from sovereign_node.vault.session import Session
from sovereign_node.vault.walk import MAX_DEPTH
from sovereign_protocols.vault.errors import ContentError
from sovereign_protocols.vault.snapshot import SignedSnapshot
from sovereign_protocols.vault.tree import Content, Entry, Kind


@dataclass
class Marked:
    """What is in use.

    Args:
        blobs: ids of all blobs in use; some 100 bytes of memory each.
        broken: paths that could not be followed, with the reason.
        entries: number of entries met; equal folders of several snapshots count once.
    """

    blobs: set[bytes] = field(default_factory=set)
    broken: list[tuple[str, str]] = field(default_factory=list)
    entries: int = 0


async def mark(session: Session, snapshots: list[SignedSnapshot]) -> Marked:
    """Walk the trees of snapshots, equal folders once."""
    marked = Marked()
    key = session.context.sealer.dedup_key
    visited: set[bytes] = set()
    for snapshot in snapshots:
        marked.blobs.add(blob_id(key, snapshot.raw))
        stack: list[tuple[tuple[bytes, ...], Entry]] = [((), snapshot.content.root)]
        while stack:
            path, entry = stack.pop()
            if entry.kind is Kind.DIRECTORY and entry.content in visited:
                continue
            if entry.content_kind in (Content.NONE, Content.INLINE):
                continue
            try:
                stack += await _follow(session, marked, path, entry)
            except (MissingBlobError, ChunkUnavailableError, ContentError) as error:
                marked.broken.append((display(b"/".join(path) or b"."), str(error)))
            if entry.kind is Kind.DIRECTORY:
                visited.add(entry.content)
    for item in session.view.effective:
        marked.blobs.update(ref.blob_id for ref in item.payload.catalogs)
    return marked


async def _follow(
    session: Session, marked: Marked, path: tuple[bytes, ...], entry: Entry
) -> list[tuple[tuple[bytes, ...], Entry]]:
    if len(path) > MAX_DEPTH:
        raise ContentError("folders are nested too deep")
    lists: list[bytes] = []
    ids = await session.blobs.leaf_ids(entry, lists)
    marked.blobs.update(lists)
    marked.blobs.update(ids)
    marked.entries += 1
    if entry.kind is Kind.FILE:
        known = session.context.index.known(ids)
        if len(known) != len(set(ids)):
            raise MissingBlobError(next(item for item in ids if item not in known))
        return []
    below = await session.blobs.entries(entry)
    return [((*path, item.name), item) for item in below if item.kind is not Kind.SYMLINK]
