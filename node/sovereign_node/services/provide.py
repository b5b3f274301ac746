"""The provider's service: the chunk protocol in front of a chunk store, closed to all but its customers."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
import trio

from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.chunkstore import ChunkStore, ChunkStoreError
from sovereign_node.services.chunk_admission import Admission
from sovereign_node.services.chunk_grants import Authorizer, ContractGrant, ContractState, Right
from sovereign_node.services.chunk_identities import IdentityDirectory
from sovereign_node.services.chunk_session import ChunkSession
from sovereign_node.services.money.metering import ChunkMeter, Unmetered
from sovereign_protocols.chunk import limits
from sovereign_protocols.chunk.deletion import Deletion
from sovereign_protocols.chunk.messages import Failure, encode_message
from sovereign_protocols.chunk.server import serve
from sovereign_protocols.errors import ErrorCode

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from sovereign_node.net.streams import PeerStream

__all__ = ["Authorizer", "ChunkService", "ContractGrant", "ContractState", "Right"]

_log = structlog.get_logger()

MAINTENANCE_INTERVAL_S: Final = 60.0
#: All chunks are read and hashed once in this time, but at least this much at each turn.
SCRUB_CYCLE_S: Final = 30 * 86_400
_SCRUB_STEP_BYTES: Final = 16 * 1024**2
_PURGE_STEP: Final = 10_000


class ChunkService:
    """Serves `/sovereign/chunk/1.0.0`.

    Args:
        store: where chunks are.
        authorizer: who may what.
        clock: seconds UTC.
        on_recovery_set: called with the announce key after a recovery record was stored.
        network_id: 32 bytes.
        window_bytes: payload bytes that a client may have unanswered on one stream.
        meter: follows every change of the store, and knows whether a customer's credit is used up.
    """

    def __init__(
        self,
        store: ChunkStore,
        authorizer: Authorizer,
        *,
        clock: Callable[[], int],
        on_recovery_set: Callable[[bytes], None] = lambda _key: None,
        network_id: bytes = NETWORK_ID_MAIN,
        window_bytes: int = limits.DEFAULT_WINDOW_BYTES,
        meter: ChunkMeter | None = None,
    ) -> None:
        self.store = store
        self.meter: ChunkMeter = meter or Unmetered()
        self.authorizer = authorizer
        self.clock = clock
        self.on_recovery_set = on_recovery_set
        self.network_id = network_id
        self.identities = IdentityDirectory(store, network_id)
        self.admission = Admission()
        self._window_bytes = window_bytes
        self._scrub_cursor: bytes | None = None
        self._quotas: dict[bytes, int] = {}
        self._deletions: dict[bytes, tuple[int, int]] = {}
        self._deletion_lock = threading.Lock()

    async def handle(self, stream: "PeerStream") -> None:
        """Serve one stream until the client leaves; a client that breaks the protocol is reset."""
        peer_id = stream.peer_id
        if not self.admission.open_stream(peer_id):
            await _refuse(stream, ErrorCode.BUSY)
            return
        session = ChunkSession(self, peer_id, public_key_from_peer_id(peer_id))
        try:
            fault = await serve(stream, session, clock_at=self.clock(), window_bytes=self._window_bytes)
            if fault is not None:
                _log.info("chunk_session_ended", peer_id=peer_id, code=fault.code.value, reason=fault.detail)
        finally:
            self.admission.close_stream(peer_id, session)
            with trio.move_on_after(2) as scope:
                scope.shield = True
                await stream.aclose()

    def has_quota(self, contract_id: bytes, quota_bytes: int) -> bool:
        """Tell whether the store knows this quota already."""
        return self._quotas.get(contract_id) == quota_bytes

    def apply_quota(self, contract_id: bytes, quota_bytes: int) -> None:
        """Let the store know a contract's quota."""
        self.store.set_quota(contract_id, quota_bytes)
        self._quotas[contract_id] = quota_bytes

    def delete_once(self, deletion: Deletion, delete_after_at: int) -> int:
        """Mark chunks, unless this very statement was carried out before; return how many it marked then."""
        with self._deletion_lock:
            now = self.clock()
            self._deletions = {key: known for key, known in self._deletions.items() if known[1] >= now}
            if deletion.statement_hash in self._deletions:
                return self._deletions[deletion.statement_hash][0]
            count = self._mark(deletion, delete_after_at)
            expires_at = now + limits.DELETE_VALIDITY_S + 2 * limits.CLOCK_SKEW_S
            self._deletions[deletion.statement_hash] = (count, expires_at)
            return count

    def _mark(self, deletion: Deletion, delete_after_at: int) -> int:
        contract_id, chunk_ids = deletion.contract_id, deletion.chunk_ids
        with self.meter.change(contract_id) as change:
            present = self.store.has(contract_id, chunk_ids)
            live = list(dict.fromkeys(key for key, there in zip(chunk_ids, present, strict=True) if there))
            sizes = self.store.sizes(contract_id, live)
            count = self.store.mark_deleted(contract_id, chunk_ids, delete_after_at)
            change.gone = [(key, size) for key, size in zip(live, sizes, strict=True) if size is not None]
            change.delete_after_at = delete_after_at
        return count

    def undelete(self, contract_id: bytes, chunk_ids: Sequence[bytes]) -> int:
        """Make marked chunks live again; they are metered again too."""
        with self.meter.change(contract_id):
            return self.store.undelete(contract_id, chunk_ids)

    async def run(
        self,
        *,
        interval_s: float = MAINTENANCE_INTERVAL_S,
        task_status: "TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Purge, compact and scrub in the background until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(interval_s)
            try:
                await trio.to_thread.run_sync(self._maintain, interval_s)
            except ChunkStoreError as error:
                # A full or failing disk is the operator's to mend; the next turn tries again.
                _log.warning("chunk_maintenance_failed", error=str(error))

    def _maintain(self, interval_s: float) -> None:
        self.store.flush_counters()
        removed = 0
        while (report := self.store.purge(self.clock(), limit=_PURGE_STEP)).chunks:
            removed += report.chunks
        freed_bytes = self.store.compact()
        if removed or freed_bytes:
            _log.info("chunks_purged", chunks=removed, freed_bytes=freed_bytes)
        share = int(self.store.statistics().size_bytes * interval_s / SCRUB_CYCLE_S)
        scrub = self.store.scrub(cursor=self._scrub_cursor, max_bytes=max(share, _SCRUB_STEP_BYTES))
        self._scrub_cursor = scrub.cursor
        for contract_id, chunk_id in scrub.corrupt:
            _log.warning("chunk_quarantined", contract_id=contract_id.hex(), chunk_id=chunk_id.hex())


async def _refuse(stream: "PeerStream", code: ErrorCode) -> None:
    with trio.move_on_after(2):
        try:
            await stream.send_all(encode_message(Failure(None, code, {})))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            _log.debug("chunk_refusal_not_delivered")
        await stream.aclose()
