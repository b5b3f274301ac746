"""The vault of one project: backup, listing, restore, verification and housekeeping behind one class."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import lmdb
import trio

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.clock import Clock, wall_clock
from sovereign_node.vault.backup import OnProgress
from sovereign_node.vault.config import Source, VaultConfig
from sovereign_node.vault.confirm import repeated, run_confirmed_backup
from sovereign_node.vault.errors import VaultError, for_people, single_error
from sovereign_node.vault.heads import SeenHeads
from sovereign_node.vault.housekeeping import GcReport, run_gc
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.orphans import Compared, compare
from sovereign_node.vault.policy import ForgetPlan, ForgetPolicy
from sovereign_node.vault.repair import RepairReport, run_repair_index
from sovereign_node.vault.replicate import ReplicateReport, run_replicate
from sovereign_node.vault.report import BackupReport
from sovereign_node.vault.rewrite import forget_lost
from sovereign_node.vault.run_restore import RestoreReport, run_restore
from sovereign_node.vault.safe_fs import Existing
from sovereign_node.vault.scan import display
from sovereign_node.vault.selection import choose, entry_at, forget_by_rule, split_path
from sovereign_node.vault.session import Context, Session, open_session
from sovereign_node.vault.target import ChunkTarget
from sovereign_node.vault.verify import VerifyReport, run_verify
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import SignedSnapshot
from sovereign_protocols.vault.tree import Entry, Kind


class Vault:
    """All that one device does with the stored data of one project. Use it as a context manager, or call ``close``.

    Operations on one vault wait for each other. Errors are :class:`~sovereign_node.errors.NodeError`.

    Args:
        keys: the project's keys.
        device_key: signs snapshots and heads.
        cache_dir: folder of this project for the local index and the writer's instance; everything in it can be
            thrown away.
        spool_dir: folder for temporary copies of databases.
        targets: where chunks and heads go.
        seen: durable memory of heads.
        is_author: whether a device, by its public key, may write to the project; all devices of an identity, also
            revoked ones, so that their snapshots stay readable.
        config: settings.
        clock: seconds UTC.
        network_id: 32 bytes.
        remembered: signed heads that were seen before, given while a target is away: the targets that are left
            need not have them.
        is_complete: whether no target is away. What none of ``targets`` has may still be somewhere otherwise.
    """

    def __init__(
        self,
        keys: ProjectKeys,
        device_key: SigningKey,
        *,
        cache_dir: Path,
        spool_dir: Path,
        targets: Sequence[ChunkTarget],
        seen: SeenHeads,
        is_author: Callable[[bytes], bool] | None = None,
        config: VaultConfig | None = None,
        clock: Clock = wall_clock,
        network_id: bytes = NETWORK_ID_MAIN,
        remembered: Callable[[], list[bytes]] = list,
        is_complete: bool = True,
    ) -> None:
        cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        spool_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = device_key.public
        self._context = Context(
            ProjectSealer(keys),
            device_key,
            LocalIndex(cache_dir / "index"),
            list(targets),
            seen,
            is_author or (lambda device: device == own),
            config or VaultConfig(),
            clock,
            network_id,
            cache_dir,
            spool_dir,
            remembered,
            is_complete,
        )
        self._lock = trio.Lock()

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the local index."""
        self._context.index.close()

    async def backup(self, sources: Sequence[Source], on_progress: OnProgress | None = None) -> BackupReport:
        """Store new data, then a snapshot, then the head.

        Args:
            sources: what is protected.
            on_progress: called a few times per second.

        Raises:
            NoTargetError: no target answered, or too few took the data.
            RollbackError, ForkError: the targets show a past that can't be.
        """
        async with self._operation():
            return await run_confirmed_backup(self._open_session, sources, on_progress)

    async def snapshots(self) -> list[SignedSnapshot]:
        """Return the live snapshots, oldest first."""
        async with self._operation():
            return await (await open_session(self._context)).snapshots()

    async def snapshot(self, prefix: str = "") -> SignedSnapshot:
        """Return the snapshot whose hex id starts with ``prefix``; without one, the newest.

        Raises:
            NodeError: none or several start with it.
        """
        return choose(await self.snapshots(), prefix)

    async def restore(
        self,
        target: Path,
        *,
        snapshot: str = "",
        paths: Sequence[str | bytes] = (),
        existing: Existing = Existing.REFUSE,
        on_progress: OnProgress | None = None,
    ) -> RestoreReport:
        """Write a snapshot's entries below ``target``, with names, modes, times and symlinks.

        Args:
            target: a folder; created when missing.
            snapshot: hex id or a unique start of it; empty for the newest.
            paths: entries to restore, from the root with slashes; they keep their folders. Empty for everything.
            existing: what happens to entries that are there already and differ. Equal size and time counts as the
                same file, so an interrupted restore goes on where it was.
            on_progress: called a few times per second.

        Raises:
            NodeError: no such snapshot, no space, no target. Single files that fail are in the report.
        """
        async with self._operation():
            session = await open_session(self._context)
            chosen = choose(await session.snapshots(), snapshot)
            parts = [split_path(path) for path in paths]
            return await run_restore(session, chosen, target, parts, existing, on_progress)

    async def verify(
        self,
        *,
        read_data: float = 0.0,
        repair: bool = False,
        on_progress: OnProgress | None = None,
    ) -> VerifyReport:
        """Check that every snapshot can be restored.

        Args:
            read_data: share of the chunks to read and check, from every target; 0 checks structure and presence.
            repair: put good copies where bad or missing ones are; forget chunks without any good copy, so that the
                next backup stores their content again.
            on_progress: called a few times per second.
        """
        async with self._operation():
            session = await open_session(self._context)
            return await run_verify(session, read_data=read_data, repair=repair, on_progress=on_progress)

    async def replicate(self, leaving: Collection[str] = ()) -> ReplicateReport:
        """Bring every chunk to as many targets as ``config.copies`` asks for, by copying from the others.

        For a target that was added, had been away or is going to leave; backups send new chunks only. A target that
        lacks the newest heads gets them too.

        Args:
            leaving: names of targets that are read only, and whose copies do not count.
        """
        async with self._operation():
            return await run_replicate(await open_session(self._context), leaving)

    async def stored_chunks(self) -> dict[bytes, int]:
        """Return the ids of all chunks that live snapshots may need, with their sealed sizes in bytes."""
        async with self._operation():
            await open_session(self._context)
            index = self._context.index
            return await trio.to_thread.run_sync(
                lambda: {chunk.chunk_id: chunk.sealed_bytes for batch in index.chunks() for _, chunk in batch}
            )

    async def forget_chunks(self, ids: Sequence[bytes]) -> None:
        """Forget chunks of which no good copy is left, so that the next backup stores their content again."""
        async with self._operation():
            await repeated(self._open_session, lambda session: forget_lost(session, set(ids)))

    async def forget(
        self, policy: ForgetPolicy | None = None, *, snapshots: Sequence[str] = (), dry_run: bool = False
    ) -> ForgetPlan:
        """Take snapshots off the list; :meth:`gc` then gives their space back.

        Args:
            policy: rules for what to keep.
            snapshots: hex ids (or unique starts) of snapshots to forget, instead of rules.
            dry_run: only say what would go.
        """
        async with self._operation():
            return await repeated(
                self._open_session, lambda session: forget_by_rule(session, policy, snapshots, dry_run)
            )

    async def gc(self, *, dry_run: bool = False) -> GcReport:
        """Delete chunks that no snapshot needs, and repack those of which less than half is needed.

        The providers keep what is deleted for their grace period.
        """
        async with self._operation():
            return await repeated(self._open_session, lambda session: run_gc(session, dry_run=dry_run))

    async def compare_listing(self, held: set[bytes], *, in_use: bool = True) -> Compared:
        """Compare the chunks that a target holds with those that this project lists.

        Args:
            held: ids, of other projects too.
            in_use: whether backups of this device will go on, so that what one of them stored before it was
                interrupted counts as listed.
        """
        async with self._operation():
            session = await open_session(self._context)
            return await trio.to_thread.run_sync(partial(compare, session, held, in_use=in_use))

    async def repair_index(self, *, read_chunks: bool = False, accept_rollback: bool = False) -> RepairReport:
        """Throw the local index away and build it anew.

        Args:
            read_chunks: also read chunks that no index segment lists, and list the snapshots in them again if no
                head lists any; needed when heads or segments are lost.
            accept_rollback: take what the targets show although it is older than what was seen before.
        """
        async with self._operation():
            await trio.to_thread.run_sync(self._context.index.clear)
            session = await open_session(self._context, accept_rollback=accept_rollback)
            return await run_repair_index(session, read_chunks=read_chunks)

    async def list_tree(self, snapshot: str = "", path: str | bytes = b"") -> list[Entry]:
        """Return the entries of a folder of a snapshot, or the one entry of a file.

        Raises:
            NodeError: no such snapshot or path.
        """
        async with self._operation():
            session = await open_session(self._context)
            entry = await entry_at(session, snapshot, path)
            return await session.blobs.entries(entry) if entry.kind is Kind.DIRECTORY else [entry]

    @asynccontextmanager
    async def read_file(self, path: str | bytes, snapshot: str = "") -> AsyncIterator[AsyncIterator[bytes]]:
        """Read one file piece by piece without writing it to disk; a context manager around an async iterator."""
        async with self._operation():
            session = await open_session(self._context)
            entry = await entry_at(session, snapshot, path)
            if entry.kind is not Kind.FILE:
                raise VaultError("not_a_file", f"{display(os.fsencode(path))} is not a file", "list it with: ls")
            async with aclosing(session.blobs.content(entry)) as pieces:
                yield pieces

    async def _open_session(self) -> Session:
        return await open_session(self._context)

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        """One operation at a time; an error of a nursery comes out as itself."""
        async with self._lock:
            try:
                yield
            except BaseExceptionGroup as group:
                error = single_error(group)
                raise for_people(error) from group
            except (CryptoError, OSError, lmdb.Error) as error:
                raise for_people(error) from error
