"""The cached list of a project's snapshots, for when no provider can be reached."""

from __future__ import annotations

from collections.abc import Sequence

from sovereign_node.store import State
from sovereign_node.store.snapshots import SnapshotRow
from sovereign_protocols.vault.snapshot import SignedSnapshot


def save_snapshots(state: State, project_id: bytes, found: Sequence[SignedSnapshot], *, at: int) -> None:
    """Bring the list in line with what the heads say. Blocks.

    Args:
        state: where it is kept.
        project_id: 32 bytes.
        found: all live snapshots.
        at: now, Unix seconds UTC.
    """
    live = {item.snapshot_id for item in found}
    with state.transaction():
        for row in state.snapshots.all(project_id):
            if row.snapshot_id not in live:
                state.snapshots.forget(row.snapshot_id, at)
        for item in found:
            state.snapshots.save(
                SnapshotRow(
                    snapshot_id=item.snapshot_id,
                    project_id=project_id,
                    device_id=item.author,
                    taken_at=item.content.created_at,
                    file_count=item.content.files,
                    size_bytes=item.content.size_bytes,
                    parents=item.content.parents,
                    raw=item.raw,
                )
            )
