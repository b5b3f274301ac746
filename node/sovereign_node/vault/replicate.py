"""Bringing every chunk to as many targets as the placement asks for: one was added, was away, or is leaving."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import trio

from sovereign_node.vault.errors import ChunkUnavailableError, TargetError
from sovereign_node.vault.heads import OpenHead
from sovereign_node.vault.session import Session
from sovereign_node.vault.target import ChunkTarget
from sovereign_protocols.framing import Payload

_IDS_PER_REQUEST = 1024
_PARALLEL = 4


@dataclass(frozen=True)
class ReplicateReport:
    """What was copied.

    Args:
        copies_made: chunks and index segments put to a target that had not got them.
        copies_missing: how many more there should be, had there been targets that take them.
        bytes_copied: their sealed bytes.
        bytes_to: of these, names of targets with what each got.
        unavailable: hex ids of chunks that no target gave.
        failed_targets: targets that dropped out, with the reason.
    """

    copies_made: int
    copies_missing: int
    bytes_copied: int
    bytes_to: tuple[tuple[str, int], ...]
    unavailable: tuple[str, ...]
    failed_targets: tuple[str, ...]


class _Replicator:
    def __init__(self, session: Session, leaving: Collection[str]) -> None:
        self._session = session
        self._targets = {item.name: item for item in session.context.targets if item.name not in leaving}
        self.failed: dict[str, str] = {}
        self.unavailable: list[str] = []
        self.copies_made = 0
        self.copies_missing = 0
        self.bytes_to: dict[str, int] = {}

    async def run(self) -> None:
        index = self._session.context.index
        chunks = await trio.to_thread.run_sync(
            lambda: [chunk.chunk_id for batch in index.chunks() for _, chunk in batch]
        )
        ids = [*chunks, *index.segments()]
        held = {target.name: await self._held(target, ids) for target in self._targets.values()}
        pending = self._missing(ids, held)
        async with trio.open_nursery() as nursery:
            for _ in range(_PARALLEL):
                nursery.start_soon(self._work, pending)
        await self._copy_heads()

    async def _copy_heads(self) -> None:
        """Give a target that lacks the newest head of a writer this one."""
        view = self._session.view
        newest: dict[bytes, OpenHead] = {item.head.device: item for item in view.effective}
        known = {item.head.hash for item in view.effective}
        for target in self._targets.values():
            for device, item in newest.items():
                held = view.previous_at(target.name, device)
                if target.name in self.failed or held in known:
                    continue
                try:
                    await target.set_head(self._session.context.sealer.locator, item.head.raw, held)
                except TargetError as error:
                    self.failed[target.name] = error.reason

    async def _held(self, target: ChunkTarget, ids: list[bytes]) -> set[bytes]:
        held: set[bytes] = set()
        try:
            for at in range(0, len(ids), _IDS_PER_REQUEST):
                batch = ids[at : at + _IDS_PER_REQUEST]
                answers = await target.have(batch)
                held.update(chunk_id for chunk_id, there in zip(batch, answers, strict=True) if there)
        except TargetError as error:
            self.failed[target.name] = error.reason
        return held

    def _missing(self, ids: list[bytes], held: dict[str, set[bytes]]) -> Iterator[tuple[bytes, list[str]]]:
        """Yield chunks with the targets that should get them."""
        wanted = self._session.context.config.copies or len(self._targets)
        for chunk_id in ids:
            have = sum(chunk_id in there for there in held.values())
            without = [name for name, there in held.items() if chunk_id not in there and name not in self.failed]
            chosen = without[: max(0, wanted - have)]
            self.copies_missing += max(0, wanted - have - len(chosen))
            if chosen:
                yield chunk_id, chosen

    async def _work(self, pending: Iterator[tuple[bytes, list[str]]]) -> None:
        sealer = self._session.context.sealer

        def checked(chunk_id: bytes, sealed: Payload, id_checked: bool) -> bytes:
            whole = sealed.to_bytes()
            if not id_checked:
                sealer.check_id(chunk_id, whole)
            return whole

        for chunk_id, names in pending:
            try:
                sealed = await self._session.fetcher.get(
                    chunk_id,
                    lambda data, known, of=chunk_id: checked(of, data, known),  # type: ignore[misc]
                )
            except ChunkUnavailableError:
                self.unavailable.append(chunk_id.hex())
                self.copies_missing += len(names)
                continue
            for name in names:
                await self._put(name, chunk_id, sealed)

    async def _put(self, name: str, chunk_id: bytes, sealed: bytes) -> None:
        if name in self.failed:
            self.copies_missing += 1
            return
        try:
            await self._targets[name].put(chunk_id, sealed)
        except TargetError as error:
            self.failed[name] = error.reason
            self.copies_missing += 1
        else:
            self.copies_made += 1
            self.bytes_to[name] = self.bytes_to.get(name, 0) + len(sealed)


async def run_replicate(session: Session, leaving: Collection[str] = ()) -> ReplicateReport:
    """Copy what is missing; see :meth:`Vault.replicate <sovereign_node.vault.facade.Vault.replicate>`."""
    replicator = _Replicator(session, leaving)
    await replicator.run()
    return ReplicateReport(
        copies_made=replicator.copies_made,
        copies_missing=replicator.copies_missing,
        bytes_copied=sum(replicator.bytes_to.values()),
        bytes_to=tuple(sorted(replicator.bytes_to.items())),
        unavailable=tuple(replicator.unavailable),
        failed_targets=tuple(f"{name}: {reason}" for name, reason in sorted(replicator.failed.items())),
    )
