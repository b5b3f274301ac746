"""Comparing what a target holds with what the heads of a project list."""

from __future__ import annotations

from dataclasses import dataclass

from sovereign_node.vault.session import Session


@dataclass(frozen=True)
class Compared:
    """How a target's chunks relate to a project.

    Args:
        unlisted: chunks that the target holds and this project does not list; of another project, or orphans.
        missing: chunks that the project lists and the target does not hold, or only for their grace period.
    """

    unlisted: set[bytes]
    missing: list[bytes]


def compare(session: Session, held: set[bytes], *, in_use: bool) -> Compared:
    """See :meth:`Vault.compare_listing <sovereign_node.vault.facade.Vault.compare_listing>`. Blocks."""
    index = session.context.index
    segments = session.view.segment_ids
    unlisted = held - segments
    missing = list(segments - held)
    pending = set() if in_use else {chunk.chunk_id for chunk in index.pending()}
    for batch in index.chunks():
        for _, chunk in batch:
            if chunk.chunk_id not in pending:
                unlisted.discard(chunk.chunk_id)
                if chunk.chunk_id not in held:
                    missing.append(chunk.chunk_id)
    return Compared(unlisted, missing)
