"""Group commit: batches that come while the disk is busy with another one are stored together.

Every batch costs a sync of the data and one of the index. Several streams that store at once share them, and none
waits longer than it would behind the others.
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from sovereign_node.chunkstore.interface import PutOutcome
from sovereign_protocols.framing import Payload

# Of batches that are stored together, so that the first does not wait for too many others.
MAX_GROUP_BYTES: Final = 32 * 1024 * 1024


class Batch:
    """Chunks of one contract that one caller waits for.

    Args:
        contract_id: 32 bytes.
        payloads: chunk id and sealed bytes of each.
    """

    def __init__(self, contract_id: bytes, payloads: Sequence[tuple[bytes, Payload]]) -> None:
        self.contract_id = contract_id
        self.payloads = payloads
        self.size_bytes = sum(len(payload) for _, payload in payloads)
        self.outcomes: list[PutOutcome] = []
        self.error: Exception | None = None
        self.is_done = False


class BatchQueue:
    """Brings batches of several threads together; whichever gets the lock stores for all that wait.

    Args:
        lock: of the one writer.
        store: stores batches durably in one go and sets their outcomes, or raises and stores nothing.
    """

    def __init__(self, lock: AbstractContextManager[bool], store: Callable[[Sequence[Batch]], None]) -> None:
        self._lock = lock
        self._store = store
        self._waiting: deque[Batch] = deque()

    def put(self, batch: Batch) -> list[PutOutcome]:
        """Store a batch; returns when it is durable.

        Raises:
            Exception: what storing it alone raises.
        """
        self._waiting.append(batch)
        with self._lock:
            while not batch.is_done:
                self._store_group(self._next_group())
        if batch.error is not None:
            raise batch.error
        return batch.outcomes

    def _next_group(self) -> list[Batch]:
        """Take what has waited longest; only the holder of the lock takes anything."""
        group = [self._waiting.popleft()]
        size_bytes = group[0].size_bytes
        while self._waiting and size_bytes + self._waiting[0].size_bytes <= MAX_GROUP_BYTES:
            group.append(self._waiting.popleft())
            size_bytes += group[-1].size_bytes
        return group

    def _store_group(self, group: Sequence[Batch]) -> None:
        try:
            self._store(group)
        except Exception as error:  # noqa: BLE001 - raised in the thread whose batch it is
            if len(group) > 1:
                # Whose fault it was does not matter: each is tried alone, and gets its own error.
                for batch in group:
                    self._store_group([batch])
                return
            group[0].error = error
        for batch in group:
            batch.is_done = True
