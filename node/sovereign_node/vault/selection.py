"""What a user means: a snapshot by the beginning of its id, an entry by its path, what to forget by a rule."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sovereign_node.errors import ExitCode, ambiguous, not_found
from sovereign_node.vault.errors import VaultError
from sovereign_node.vault.housekeeping import run_forget
from sovereign_node.vault.policy import ForgetPlan, ForgetPolicy, plan_forget
from sovereign_node.vault.scan import display
from sovereign_node.vault.session import Session
from sovereign_node.vault.walk import find
from sovereign_protocols.vault.snapshot import SignedSnapshot
from sovereign_protocols.vault.tree import Entry


def split_path(path: str | bytes) -> tuple[bytes, ...]:
    """Return the components of a path with slashes; leading, trailing and doubled ones do not count."""
    return tuple(part for part in os.fsencode(path).split(b"/") if part not in (b"", b"."))


def choose(snapshots: list[SignedSnapshot], prefix: str) -> SignedSnapshot:
    """Return the snapshot whose hex id starts with ``prefix``; without one, the newest.

    Raises:
        NodeError: none or several start with it.
    """
    if not prefix or prefix == "latest":
        if not snapshots:
            raise not_found("snapshot", prefix or "latest", "sovereign snapshots")
        return snapshots[-1]
    matches = [item for item in snapshots if item.snapshot_id.hex().startswith(prefix.lower())]
    if not matches:
        raise not_found("snapshot", prefix, "sovereign snapshots")
    if len(matches) > 1:
        raise ambiguous("snapshot", prefix, [item.snapshot_id.hex()[:16] for item in matches])
    return matches[0]


async def forget_by_rule(
    session: Session, policy: ForgetPolicy | None, snapshots: Sequence[str], dry_run: bool
) -> ForgetPlan:
    """See :meth:`Vault.forget <sovereign_node.vault.facade.Vault.forget>`."""
    live = await session.snapshots()
    if snapshots:
        chosen = {choose(live, prefix).snapshot_id for prefix in snapshots}
        kept = tuple((item, ("not named",)) for item in reversed(live) if item.snapshot_id not in chosen)
        plan = ForgetPlan(kept, tuple(item for item in reversed(live) if item.snapshot_id in chosen))
    else:
        plan = plan_forget(live, policy or ForgetPolicy())
    if not dry_run:
        await run_forget(session, plan.forget)
    return plan


async def entry_at(session: Session, snapshot: str, path: str | bytes) -> Entry:
    """Return an entry of a snapshot.

    Raises:
        NodeError: no such snapshot, or nothing at ``path`` in it.
    """
    chosen = choose(await session.snapshots(), snapshot)
    entry = await find(session.blobs, chosen.content.root, split_path(path))
    if entry is None:
        raise VaultError(
            "path_not_found",
            f"the snapshot has no {display(os.fsencode(path))}",
            "look with: sovereign ls PROJECT",
            ExitCode.NOT_FOUND,
        )
    return entry
