"""What every operation needs: collaborators of one vault, and the state of its heads at the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_node.clock import Clock
from sovereign_node.vault.catalog import live_snapshots, load_index, note_sweeps
from sovereign_node.vault.config import VaultConfig
from sovereign_node.vault.errors import NoTargetError, OvertakenError, TargetError
from sovereign_node.vault.fetch import Fetcher
from sovereign_node.vault.heads import HeadReader, HeadsView, OpenHead, SeenHeads, overtaken
from sovereign_node.vault.index import LocalIndex
from sovereign_node.vault.publish import Writer, load_writer
from sovereign_node.vault.report import ItemError
from sovereign_node.vault.target import ChunkTarget
from sovereign_node.vault.walk import BlobReader
from sovereign_protocols.vault.head import HeadPayload, build_head
from sovereign_protocols.vault.sealing import ProjectSealer
from sovereign_protocols.vault.snapshot import SeenHead, SignedSnapshot

_IDS_PER_REQUEST = 1000


@dataclass(frozen=True)
class Context:
    """Collaborators of a vault; see :class:`~sovereign_node.vault.facade.Vault`."""

    sealer: ProjectSealer
    device_key: SigningKey = field(repr=False)
    index: LocalIndex
    targets: list[ChunkTarget]
    seen: SeenHeads
    is_author: Callable[[bytes], bool]
    config: VaultConfig
    clock: Clock
    network_id: bytes
    cache_dir: Path
    spool_dir: Path
    remembered: Callable[[], list[bytes]] = list
    is_complete: bool = True

    @property
    def writer_path(self) -> Path:
        """The file with this device's writer instance."""
        return self.cache_dir / "writer.cbor"


class Session:
    """One operation's view of the project.

    Args:
        context: the vault's collaborators.
        view: heads of all targets.
        reader: reads them again.
    """

    def __init__(self, context: Context, view: HeadsView, reader: HeadReader) -> None:
        self.context = context
        self.view = view
        self._reader = reader
        self.fetcher = Fetcher(context.targets, context.sealer)
        self.published: list[ChunkTarget] = []
        self.blobs = BlobReader(context.index, self.fetcher, context.sealer.dedup_key)

    async def snapshots(self) -> list[SignedSnapshot]:
        """Return the live snapshots, oldest first."""
        context = self.context
        return await live_snapshots(
            self.view,
            context.index,
            self.fetcher,
            context.sealer.dedup_key,
            context.sealer.project_id,
            context.is_author,
            context.network_id,
        )

    async def writer(self) -> Writer:
        """Return this device as a writer."""
        context = self.context
        return await trio.to_thread.run_sync(load_writer, context.writer_path, context.device_key.public, self.view)

    def others(self, writer: Writer) -> tuple[SeenHead, ...]:
        """Return the other writers' heads, for evidence inside a snapshot."""
        own = (self.context.device_key.public, writer.instance)
        newest = [item.seen for slot, item in sorted(self.view.newest.items()) if slot != own]
        return tuple(newest[-64:])

    async def publish(self, writer: Writer, payload: HeadPayload) -> tuple[OpenHead, list[ItemError]]:
        """Write the next head to every target that takes it.

        Returns:
            The head, and the targets that did not take it.

        Raises:
            NoTargetError: none took it.
            OvertakenError: another device has published what this head would contradict.
        """
        context = self.context
        if await self.is_overtaken(set(payload.absorbed) - set(writer.payload.absorbed)):
            raise OvertakenError

        def build() -> OpenHead:
            head = build_head(
                context.sealer,
                context.device_key,
                writer.instance,
                writer.sequence + 1,
                writer.head_hash,
                payload,
                context.network_id,
            )
            return OpenHead(head, payload)

        opened = await trio.to_thread.run_sync(build)
        failures: list[TargetError] = []
        self.published = []

        async def put(target: ChunkTarget) -> None:
            previous = self.view.previous_at(target.name, opened.head.device)
            try:
                await target.set_head(context.sealer.locator, opened.head.raw, previous)
            except TargetError as error:
                failures.append(error)
            else:
                self.view.current.setdefault(target.name, {})[opened.head.device] = opened.head.hash
                self.published.append(target)

        async with trio.open_nursery() as nursery:
            for target in context.targets:
                nursery.start_soon(put, target)
        if len(failures) == len(context.targets):
            raise NoTargetError(failures)
        self.view.newest[opened.head.slot] = opened
        await trio.to_thread.run_sync(self._remember, opened)
        return opened, [ItemError(failure.target, failure.reason) for failure in failures]

    async def is_overtaken(self, absorbed: Iterable[SeenHead] = ()) -> bool:
        """Tell whether other devices have published since what contradicts this view; see :func:`overtaken`."""
        return overtaken(self.view, await self._reader.read(), self.context.device_key.public, absorbed)

    async def delete(self, ids: Iterable[bytes]) -> tuple[str, ...]:
        """Give chunks up at the targets that took the new head; the others still refer to them.

        Segments that a head still lists stay.

        Returns:
            What targets answered that did not take the deletion.
        """
        failed: list[str] = []
        listed = self.view.segment_ids
        gone = [chunk_id for chunk_id in ids if chunk_id not in listed]

        async def remove(target: ChunkTarget) -> None:
            try:
                for part in parts(gone):
                    await target.delete(part)
            except TargetError as error:
                failed.append(str(error))

        async with trio.open_nursery() as nursery:
            for target in self.published:
                nursery.start_soon(remove, target)
        return tuple(failed)

    def _remember(self, opened: OpenHead) -> None:
        self.context.seen.record(self.context.sealer.locator, opened.seen, opened.head.raw)
        note_sweeps(self.view, self.context.index)


async def open_session(context: Context, *, accept_rollback: bool = False) -> Session:
    """Read the heads of all targets and bring the local index up to date.

    Args:
        context: the vault's collaborators.
        accept_rollback: take what the targets show, although it is older than what was seen before.

    Raises:
        NoTargetError: no target answered.
        RollbackError, ForkError: the targets show a past that can't be.
        ChunkUnavailableError: an index segment can't be had.
    """
    reader = HeadReader(
        context.targets,
        context.sealer,
        context.seen,
        context.is_author,
        context.network_id,
        context.remembered,
    )
    view = await reader.read(accept_rollback=accept_rollback)
    if accept_rollback:
        # A new instance: the old one may have used higher numbers.
        context.writer_path.unlink(missing_ok=True)
        await trio.to_thread.run_sync(lambda: context.index.clear(keep_pending=False))
    session = Session(context, view, reader)
    await load_index(view, context.index, session.fetcher)
    return session


def parts(ids: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Divide ids of chunks into as many as fit one request."""
    return [ids[at : at + _IDS_PER_REQUEST] for at in range(0, len(ids), _IDS_PER_REQUEST)]
