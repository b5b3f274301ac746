"""Bringing every chunk to as many targets as the placement asks for, after a target was added or had been away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import trio

from sovereign_node.vault.errors import ChunkUnavailableError, TargetError
from sovereign_node.vault.session import Session
from sovereign_node.vault.target import ChunkTarget

_IDS_PER_REQUEST = 1024
_PARALLEL = 4


@dataclass(frozen=True)
class ReplicateReport:
    """What was copied.

    Args:
        copies_made: chunks and index segments put to a target that had not got them.
        bytes_copied: their sealed bytes.
        unavailable: hex ids of chunks that no target gave.
        failed_targets: targets that dropped out, with the reason.
    """

    copies_made: int
    bytes_copied: int
    unavailable: tuple[str, ...]
    failed_targets: tuple[str, ...]


class _Replicator:
    def __init__(self, session: Session) -> None:
        self._session = session
        self._targets = {target.name: target for target in session.context.targets}
        self.failed: dict[str, str] = {}
        self.unavailable: list[str] = []
        self.copies_made = 0
        self.bytes_copied = 0

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
            if have < wanted and without:
                yield chunk_id, without[: wanted - have]

    async def _work(self, pending: Iterator[tuple[bytes, list[str]]]) -> None:
        sealer = self._session.context.sealer

        def checked(chunk_id: bytes, sealed: bytes, is_checked: bool) -> bytes:
            if not is_checked:
                sealer.check_id(chunk_id, sealed)
            return sealed

        for chunk_id, names in pending:
            try:
                sealed = await self._session.fetcher.get(
                    chunk_id,
                    lambda data, known, of=chunk_id: checked(of, data, known),  # type: ignore[misc]
                )
            except ChunkUnavailableError:
                self.unavailable.append(chunk_id.hex())
                continue
            for name in names:
                await self._put(name, chunk_id, sealed)

    async def _put(self, name: str, chunk_id: bytes, sealed: bytes) -> None:
        if name in self.failed:
            return
        try:
            await self._targets[name].put(chunk_id, sealed)
        except TargetError as error:
            self.failed[name] = error.reason
        else:
            self.copies_made += 1
            self.bytes_copied += len(sealed)


async def run_replicate(session: Session) -> ReplicateReport:
    """Copy what is missing; see :meth:`Vault.replicate <sovereign_node.vault.facade.Vault.replicate>`."""
    replicator = _Replicator(session)
    await replicator.run()
    failed = tuple(f"{name}: {reason}" for name, reason in sorted(replicator.failed.items()))
    return ReplicateReport(replicator.copies_made, replicator.bytes_copied, tuple(replicator.unavailable), failed)
