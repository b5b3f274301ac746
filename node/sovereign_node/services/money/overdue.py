"""What a provider does about statements that stay unpaid: signed notices, and nothing before its day.

Source: protocols/specs/settle.md, "Exposure".
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType
from sovereign_node.chunkstore import ChunkStore, UnknownContractError
from sovereign_node.services.money.book import MoneyBook, reminded_key
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract, ContractStatement
from sovereign_protocols.market.acts import Act, ActKind, SignedAct, parse_act, sign_act
from sovereign_protocols.market.lifecycle import ContractEvent, ContractState, advance, can_advance
from sovereign_protocols.settle.exposure import DELETION_AFTER_S, OverdueStep, overdue_step

log = structlog.get_logger(__name__)

_STATES = ("active", "renewing", "limited", "grace", "ending", "defaulted")


def acts_of(state: State, contract_id: bytes, network_id: bytes) -> list[SignedAct]:
    """Read the signed acts of a contract, oldest first. Blocks."""
    return [
        parse_act(item.raw, network_id)
        for item in state.contracts.statements(contract_id)
        if item.statement_type == int(StatementType.ACCEPTANCE)
    ]


def keep_act(state: State, act: SignedAct, contract: Contract, at: int) -> None:
    """Keep a signed act; the same one twice is kept once. Blocks."""
    if act.act.kind is ActKind.OVERDUE:
        state.meta.set(reminded_key(contract.contract_id), str(act.act.issued_at))
    state.contracts.add_statement(
        ContractStatement(
            statement_hash=act.statement_hash,
            contract_id=contract.contract_id,
            statement_type=int(StatementType.ACCEPTANCE),
            signer=act.signer,
            revision=contract.revision,
            raw=act.raw,
            received_at=at,
        )
    )


class Overdue:
    """Walks the default path of every contract in which this node is the provider. All methods block.

    Args:
        state: contracts and notices.
        chunk_store: from which unpaid data goes in the end.
        book: of the provider's side.
        key: signs notices.
        clock: wall time.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        state: State,
        chunk_store: ChunkStore,
        book: MoneyBook,
        key: SigningKey,
        clock: Callable[[], int],
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._state = state
        self._store = chunk_store
        self._book = book
        self._key = key
        self._clock = clock
        self._network_id = network_id

    def run_once(self) -> None:
        """Take the next step that is due under each contract."""
        for contract in self._state.contracts.all(role="provider", states=("closed",)):
            if contract.stored_bytes and contract.state_changed_at + contract.grace_s <= self._clock():
                self._drop_chunks(contract)
        for contract in self._state.contracts.all(role="provider", states=_STATES):
            if contract.price_micro_vibe_per_gb_month or contract.price_micro_vibe_per_gb_transfer:
                self._step(contract)

    def _step(self, contract: Contract) -> None:
        since = self._book.unpaid_since(contract.contract_id)
        state = ContractState(contract.state)
        if since is None:
            if state in (ContractState.GRACE, ContractState.DEFAULTED):
                self._move(contract, ContractEvent.PAID)
            return
        step = overdue_step(self._clock() - since)
        if step >= OverdueStep.NO_UPLOADS and can_advance(state, ContractEvent.PAYMENT_OVERDUE):
            self._notify(contract, ActKind.OVERDUE, self._clock(), since)
            self._move(contract, ContractEvent.PAYMENT_OVERDUE)
        elif step >= OverdueStep.FINAL_NOTICE and state is ContractState.GRACE:
            deletion_at = max(since + DELETION_AFTER_S, self._clock())
            self._notify(contract, ActKind.FINAL, deletion_at, since)
            self._notify(contract, ActKind.DELETION, deletion_at, since)
            if step is OverdueStep.DELETION and self._may_delete(contract, since):
                self._move(contract, ContractEvent.FINAL_NOTICE_EXPIRED)
        elif state is ContractState.DEFAULTED and self._may_delete(contract, since):
            self._drop(contract)

    def _notify(self, contract: Contract, kind: ActKind, effective_at: int, since: int) -> None:
        """Sign a notice, unless one of its kind was signed since the debt began."""
        if self._notice(contract, kind, since) is not None:
            return
        agreement = self._book.agreement(contract.contract_id)
        assert agreement is not None
        evidence = self._book.statements(contract.contract_id)[-1].content_hash
        now = self._clock()
        act = Act(kind, contract.contract_id, agreement.terms_hash, now, effective_at, evidence=evidence)
        with self._state.transaction():
            keep_act(self._state, sign_act(act, self._key, self._network_id), contract, now)
            self._state.audit.record("node", f"notice_{kind.value}", contract.contract_id.hex(), "ok", at=now)
        log.info("notice_signed", contract_id=contract.contract_id.hex(), kind=kind.value)

    def _notice(self, contract: Contract, kind: ActKind, since: int) -> SignedAct | None:
        found = (
            act
            for act in acts_of(self._state, contract.contract_id, self._network_id)
            if act.act.kind is kind and act.act.issued_at >= since and act.signer == self._key.public
        )
        return next(found, None)

    def _may_delete(self, contract: Contract, since: int) -> bool:
        notice = self._notice(contract, ActKind.DELETION, since)
        return notice is not None and notice.act.effective_at <= self._clock()

    def _move(self, contract: Contract, event: ContractEvent) -> None:
        moved = advance(ContractState(contract.state), event)
        now = self._clock()
        with self._state.transaction():
            self._state.contracts.set_state(contract.contract_id, moved.value, now)
            self._state.audit.record("node", f"contract_{moved.value}", contract.contract_id.hex(), "ok", at=now)

    def _drop(self, contract: Contract) -> None:
        self._drop_chunks(contract)
        self._move(contract, ContractEvent.CLOSED)

    def _drop_chunks(self, contract: Contract) -> None:
        try:
            self._store.drop_contract(contract.contract_id)
        except UnknownContractError:
            log.info("nothing_to_drop", contract_id=contract.contract_id.hex())
        self._state.contracts.set_stored(contract.contract_id, stored_bytes=0, stored_chunks=0)
