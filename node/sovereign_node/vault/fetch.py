"""Fetching chunks: from the target that is likely to be fastest, from another one when that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from sovereign_crypto.errors import CryptoError
from sovereign_node.vault.errors import ChunkUnavailableError, TargetError
from sovereign_node.vault.target import ChunkTarget, Unpack
from sovereign_protocols.framing import Payload
from sovereign_protocols.vault.container import Container
from sovereign_protocols.vault.sealing import ProjectSealer

_Result = TypeVar("_Result")
# A target that has not been measured yet is taken for this fast, so that every one gets its chance.
_FIRST_GUESS_S = 0.02
_SMOOTHING = 0.2
# After this time a second target is asked as well; the first answer counts.
_STALL_S = 10.0


@dataclass
class _Pace:
    """How a target has been doing."""

    target: ChunkTarget
    seconds: float = _FIRST_GUESS_S
    under_way: int = 0
    failures: int = 0

    @property
    def expected_s(self) -> float:
        """Time that one more chunk would probably take."""
        return self.seconds * (self.under_way + 1) * (1 + self.failures) ** 2


@dataclass
class _Hunt(Generic[_Result]):
    """One chunk that is being looked for."""

    tried: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    results: list[_Result] = field(default_factory=list)
    failed: trio.Event = field(default_factory=trio.Event)


@dataclass(frozen=True)
class BadCopy:
    """A target gave something else than the chunk it was asked for.

    Args:
        target: its name.
        chunk_id: 32 bytes.
        reason: missing, or what was wrong.
    """

    target: str
    chunk_id: bytes
    reason: str


class Fetcher:
    """Gets chunks and opens them.

    Args:
        targets: where to look.
        sealer: the project's sealer.
    """

    def __init__(self, targets: list[ChunkTarget], sealer: ProjectSealer) -> None:
        self._paces = [_Pace(target) for target in targets]
        self._sealer = sealer
        self.bad: list[BadCopy] = []
        self.fetched_bytes = 0

    async def container(self, chunk_id: bytes) -> Container:
        """Return the opened and parsed container of a chunk.

        Raises:
            ChunkUnavailableError: no target has a good copy.
        """

        def unpack(sealed: Payload, id_checked: bool) -> Container:
            return Container(self._sealer.open_arrived(chunk_id, sealed, id_checked=id_checked))

        return await self.get(chunk_id, unpack)

    async def segment(self, segment_id: bytes) -> bytes:
        """Return the plaintext of an index segment; errors as :meth:`container`."""
        return await self.get(
            segment_id, lambda sealed, _: self._sealer.open_segment(segment_id, sealed.to_bytes())
        )

    async def get(self, chunk_id: bytes, unpack: Unpack[_Result]) -> _Result:
        """Fetch a chunk and unpack it in a thread.

        Args:
            chunk_id: 32 bytes.
            unpack: gets the sealed bytes, and whether their id has been checked; its ``CryptoError`` means that the
                copy is bad. When a target stalls, it may be called for the copies of two targets at once.

        Raises:
            ChunkUnavailableError: no target has a good copy.
        """
        hunt: _Hunt[_Result] = _Hunt()
        async with trio.open_nursery() as nursery:
            while (pace := self._best(hunt.tried)) is not None:
                hunt.tried.add(pace.target.name)
                hunt.failed = trio.Event()
                nursery.start_soon(self._attempt, pace, chunk_id, unpack, hunt, nursery.cancel_scope)
                with trio.move_on_after(_STALL_S):
                    await hunt.failed.wait()
        if not hunt.results:
            raise ChunkUnavailableError(chunk_id, hunt.reasons)
        return hunt.results[0]

    def _best(self, tried: set[str]) -> _Pace | None:
        untried = (pace for pace in self._paces if pace.target.name not in tried)
        return min(untried, key=lambda pace: pace.expected_s, default=None)

    async def _attempt(
        self,
        pace: _Pace,
        chunk_id: bytes,
        unpack: Unpack[_Result],
        hunt: _Hunt[_Result],
        scope: trio.CancelScope,
    ) -> None:
        """Try one target; on success end the hunt."""
        try:
            hunt.results.append(await self._fetch(pace, chunk_id, unpack))
            scope.cancel()
            return
        except TargetError as error:
            hunt.reasons.append(str(error))
        except CryptoError as error:
            hunt.reasons.append(f"{pace.target.name}: {error}")
            self.bad.append(BadCopy(pace.target.name, chunk_id, str(error)))
        pace.failures += 1
        hunt.failed.set()

    async def _fetch(self, pace: _Pace, chunk_id: bytes, unpack: Unpack[_Result]) -> _Result:
        pace.under_way += 1
        started = trio.current_time()
        try:
            found = await pace.target.fetch(
                chunk_id, lambda sealed, id_checked: (len(sealed), unpack(sealed, id_checked))
            )
            taken = trio.current_time() - started
            pace.seconds += _SMOOTHING * (taken / pace.under_way - pace.seconds)
        finally:
            pace.under_way -= 1
        if found is None:
            self.bad.append(BadCopy(pace.target.name, chunk_id, "missing"))
            raise TargetError(pace.target.name, "does not have the chunk")
        self.fetched_bytes += found[0]
        return found[1]
