"""What a provider gives back for a failed audit: the price of the chunk since it was last proven."""

from __future__ import annotations

from sovereign_node.chunkstore import ChunkStore, UnknownContractError
from sovereign_node.services.audit_book import OnFailed
from sovereign_node.services.money.notes import NoteKeeper
from sovereign_node.store import State
from sovereign_node.store.audits import FAILED
from sovereign_protocols.audit.bodies import AuditVerdict
from sovereign_protocols.chunk.limits import MAX_CHUNK_BYTES
from sovereign_protocols.market.prices import storage_price
from sovereign_protocols.settle.signed import NO_HASH, Signed


def credit_failures(state: State, chunk_store: ChunkStore, notes: NoteKeeper) -> OnFailed:
    """Make the function that signs a credit note for each failure that this provider admitted.

    Nothing is given for silence, nor for a chunk that was never stored here: an auditor could invent both.

    Args:
        state: contracts and earlier failures.
        chunk_store: knows what was stored.
        notes: signs and keeps the note; the customer fetches it with its next turn.
    """

    def credit(contract_id: bytes, verdict: Signed[AuditVerdict]) -> None:
        body = verdict.body
        contract = state.contracts.get(contract_id)
        if contract is None or body.answer == NO_HASH or not _was_stored(chunk_store, contract_id, body.chunk):
            return
        # This failure is in the table already; an earlier one was credited up to its own time.
        earlier = state.audits.records(contract_id, outcome=FAILED, chunk_id=body.chunk)[1:]
        since_at = max(body.since_at, contract.started_at, *(item.audited_at for item in earlier))
        byte_seconds = min(body.size, MAX_CHUNK_BYTES) * max(0, body.at - since_at)
        amount = storage_price(byte_seconds, contract.price_micro_vibe_per_gb_month)
        if amount:
            notes.draft(contract, amount, evidence=verdict.content_hash)

    return credit


def _was_stored(chunk_store: ChunkStore, contract_id: bytes, chunk_id: bytes) -> bool:
    try:
        return chunk_store.has(contract_id, [chunk_id])[0] or chunk_id in chunk_store.quarantined(contract_id)
    except UnknownContractError:
        return False
