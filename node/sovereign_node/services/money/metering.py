"""What the chunk service and chunk clients tell about changes and transfers; by default nobody listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Change:
    """Chunks that one call to the chunk store added or marked for removal.

    Args:
        came: (chunk id, size in bytes) of chunks that are live now and were not before.
        gone: the same of chunks that were live before.
        delete_after_at: how long the latter stay recoverable, Unix seconds UTC.
    """

    came: list[tuple[bytes, int]] = field(default_factory=list)
    gone: list[tuple[bytes, int]] = field(default_factory=list)
    delete_after_at: int = 0


class ChunkMeter(Protocol):
    """Follows a provider's chunk store. Both methods may block; call them in worker threads."""

    def admit(self, contract_id: bytes, size_bytes: int) -> bool:
        """Tell whether the customer's credit covers moving so many bytes, and set that much of it aside."""
        ...

    def change(self, contract_id: bytes) -> AbstractContextManager[Change]:
        """Enclose one call to the chunk store; what changed is written into the value of the block."""
        ...


class Unmetered:
    """Counts nothing: for tests, and for stores without contracts."""

    def admit(self, contract_id: bytes, size_bytes: int) -> bool:
        """See ChunkMeter."""
        return True

    @contextmanager
    def change(self, contract_id: bytes) -> Iterator[Change]:
        """See ChunkMeter."""
        yield Change()


class TransferTally(Protocol):
    """Counts what this device moves under its contracts, from its own view."""

    async def sending(self, contract_id: bytes, size_bytes: int) -> None:
        """Count a chunk before it is sent."""
        ...

    async def received(self, contract_id: bytes, size_bytes: int) -> None:
        """Count bytes that came."""
        ...

    async def deleted(self, contract_id: bytes, chunks: int) -> None:
        """Count chunks that the provider says it marked for removal."""
        ...

    async def pay(self, contract_id: bytes) -> bool:
        """Pay at once because the provider asks for it; tells whether trying again makes sense."""
        ...


class NoTally:
    """Counts nothing."""

    async def sending(self, contract_id: bytes, size_bytes: int) -> None:
        """See TransferTally."""

    async def received(self, contract_id: bytes, size_bytes: int) -> None:
        """See TransferTally."""

    async def deleted(self, contract_id: bytes, chunks: int) -> None:
        """See TransferTally."""

    async def pay(self, contract_id: bytes) -> bool:
        """See TransferTally."""
        return False


def total(items: Iterable[tuple[bytes, int]]) -> int:
    """Sum the sizes of chunks."""
    return sum(size for _, size in items)
