"""What a provider knows of its auditors, and keeps of their verdicts."""

from __future__ import annotations

from collections.abc import Callable

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.chunkstore import ChunkStore, UnknownContractError
from sovereign_node.services.contract_book import load_agreement
from sovereign_node.store import State
from sovereign_node.store.audits import FAILED, AuditRecord
from sovereign_node.store.contracts import LIVE_STATES
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict
from sovereign_protocols.requests.desk import Caller
from sovereign_protocols.settle.signed import Signed

#: Told a contract and a verdict that this provider failed.
OnFailed = Callable[[bytes, Signed[AuditVerdict]], None]


class StateAuditBook:
    """The book of a provider; it fits `sovereign_protocols.audit.desk.AuditBook`. All methods block.

    Args:
        state: contracts and audits.
        chunk_store: what is stored.
        network_id: 32 bytes.
        on_failed: told of each failure once; runs in the transaction that keeps it.
    """

    def __init__(
        self,
        state: State,
        chunk_store: ChunkStore,
        network_id: bytes,
        on_failed: OnFailed = lambda _contract_id, _verdict: None,
    ) -> None:
        self._state = state
        self._chunk_store = chunk_store
        self._network_id = network_id
        self._on_failed = on_failed

    def may_audit(self, caller: Caller, contract_id: bytes) -> bool:
        """See AuditBook."""
        contract = self._state.contracts.get(contract_id)
        if contract is None or contract.role != "provider" or contract.state not in LIVE_STATES:
            return False
        if caller.identity == contract.customer_identity:
            return True
        return caller.device in load_agreement(self._state, contract, self._network_id).terms.observers

    def chunk(self, contract_id: bytes, chunk_id: bytes) -> bytes | None:
        """See AuditBook."""
        try:
            return self._chunk_store.get(contract_id, chunk_id)
        except UnknownContractError:
            return None

    def keep_verdict(
        self,
        verdict: Signed[AuditVerdict],
        challenge: Signed[AuditChallenge],
        answer: Signed[AuditAnswer] | None,
        at: int,
    ) -> None:
        """See AuditBook."""
        body = verdict.body
        with self._state.transaction():
            known = self._state.audits.records(body.contract, outcome=FAILED, chunk_id=body.chunk)
            if any(item.verdict == verdict.raw for item in known):
                return
            self._state.audits.add(
                AuditRecord(
                    contract_id=body.contract,
                    provider_device=body.provider,
                    chunk_id=body.chunk,
                    method=challenge.body.method,
                    outcome=FAILED,
                    is_sample=False,
                    size_bytes=body.size,
                    moved_bytes=0,
                    passed_before_at=body.since_at,
                    audited_at=at,
                    challenge=challenge.raw,
                    answer=answer.raw if answer else b"",
                    verdict=verdict.raw,
                )
            )
            note_failure(self._state, peer_id_from_public_key(verdict.signer), body, at=at)
            self._on_failed(body.contract, verdict)


def note_failure(state: State, actor: str, verdict: AuditVerdict, *, at: int) -> None:
    """Write a failed audit into the audit log, where alerts are read from."""
    state.audit.record(
        actor,
        "audit_failed",
        f"{verdict.contract.hex()}/{verdict.chunk.hex()}",
        f"critical: {verdict.size} bytes are not proven since {verdict.since_at}",
        at=at,
    )
