"""Contracts of a provider in the state database, with their quota in the chunk store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from sovereign_crypto.statement import StatementType
from sovereign_node.chunkstore import ChunkStore
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract, ContractStatement
from sovereign_node.store.settlement_book import StateSettlementBook
from sovereign_protocols.market.acts import SignedAct
from sovereign_protocols.market.desk import ContractRecord
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.terms import Agreement, SignedTerms, agree, parse_terms
from sovereign_protocols.settle.bodies import PeriodStatement

STATEMENT_TYPE = int(StatementType.CONTRACT)


def contract_row(agreement: Agreement, role: str, state: ContractState, *, at: int) -> Contract:
    """Return the row of ``storage_contracts`` for an agreement.

    Args:
        agreement: the revision in force.
        role: this node's side, customer or provider.
        state: where it is in its life.
        at: Unix seconds UTC, when it came into this state.
    """
    terms = agreement.terms
    return Contract(
        contract_id=agreement.contract_id,
        role=role,
        state=state.value,
        provider_identity=terms.provider_identity,
        provider_device=terms.provider_device,
        customer_identity=terms.customer_identity,
        customer_device=terms.customer_device,
        capacity_bytes=terms.capacity_bytes,
        price_micro_vibe_per_gb_month=terms.price_per_gb_month,
        price_micro_vibe_per_gb_transfer=terms.price_per_gb_transfer,
        started_at=terms.start_at,
        ends_at=terms.end_at,
        period_s=terms.period_s,
        grace_s=terms.grace_s,
        state_changed_at=at,
        budget_micro_vibe=terms.budget,
        credit_limit_micro_vibe=terms.credit_limit,
        revision=terms.revision,
    )


def agreement_statements(agreement: Agreement, *, at: int) -> list[ContractStatement]:
    """Return both signed copies of the terms as rows of ``contract_statements``."""
    import hashlib

    return [
        ContractStatement(
            statement_hash=hashlib.sha256(signed.raw).digest(),
            contract_id=agreement.contract_id,
            statement_type=STATEMENT_TYPE,
            signer=signed.signer,
            revision=agreement.terms.revision,
            raw=signed.raw,
            received_at=at,
        )
        for signed in (agreement.customer, agreement.provider)
    ]


def load_agreement(state: State, contract: Contract, network_id: bytes) -> Agreement:
    """Read the signed terms of the revision in force."""
    raws = [
        item.raw
        for item in state.contracts.statements(contract.contract_id)
        if item.statement_type == STATEMENT_TYPE and item.revision == contract.revision
    ]
    first, second = (parse_terms(raw, network_id) for raw in raws)
    return agree(first, second)


def agreements_of(state: State, contract_id: bytes, network_id: bytes) -> list[Agreement]:
    """Read the signed terms of every revision, the newest last."""
    copies: dict[int, list[SignedTerms]] = {}
    for item in state.contracts.statements(contract_id):
        if item.statement_type == STATEMENT_TYPE:
            copies.setdefault(item.revision, []).append(parse_terms(item.raw, network_id))
    return [agree(found[0], found[-1]) for _, found in sorted(copies.items())]


def begin_accrual(state: State, agreement: Agreement, *, is_provider: bool, network_id: bytes) -> None:
    """Fix the prices of a new contract before a revision can change them. Blocks."""
    if agreement.terms.revision == 0:
        book = StateSettlementBook(state, is_provider=is_provider, network_id=network_id)
        book.begin(agreement.contract_id)


class StateContractBook:
    """The contract book of a provider.

    Args:
        state: keeps rows and signed messages.
        chunk_store: keeps the quota.
        network_id: 32 bytes.
    """

    def __init__(self, state: State, chunk_store: ChunkStore, network_id: bytes) -> None:
        self._state = state
        self._chunk_store = chunk_store
        self._network_id = network_id

    def transaction(self) -> AbstractContextManager[None]:
        """See ContractBook."""
        return self._state.transaction()

    def get(self, contract_id: bytes) -> ContractRecord | None:
        """See ContractBook."""
        contract = self._state.contracts.get(contract_id)
        return None if contract is None or contract.role != "provider" else self._record(contract)

    def of_customer(self, identity: bytes) -> Sequence[ContractRecord]:
        """See ContractBook."""
        found = self._state.contracts.all(role="provider", customer_identity=identity)
        return [self._record(contract) for contract in sorted(found, key=lambda item: item.contract_id)]

    def committed_bytes(self) -> int:
        """See ContractBook."""
        return self._state.contracts.committed_bytes()

    def put(self, agreement: Agreement, state: ContractState, at: int) -> None:
        """See ContractBook."""
        # The quota first: a crash between the two leaves an empty namespace, never a contract without one.
        self._chunk_store.set_quota(agreement.contract_id, agreement.terms.capacity_bytes)
        row = contract_row(agreement, "provider", state, at=at)
        with self._state.transaction():
            self._state.contracts.save(row, agreement_statements(agreement, at=at))
            begin_accrual(self._state, agreement, is_provider=True, network_id=self._network_id)

    def set_state(self, contract_id: bytes, state: ContractState, at: int) -> None:
        """See ContractBook."""
        self._state.contracts.set_state(contract_id, state.value, at)

    def add_act(self, act: SignedAct, at: int) -> None:
        """See ContractBook."""
        contract = self._state.contracts.get(act.act.contract)
        assert contract is not None, "the desk looks the contract up first"
        self._state.contracts.add_statement(
            ContractStatement(
                statement_hash=act.statement_hash,
                contract_id=act.act.contract,
                statement_type=int(StatementType.ACCEPTANCE),
                signer=act.signer,
                revision=contract.revision,
                raw=act.raw,
                received_at=at,
            )
        )

    def vouchers(self, contract_id: bytes) -> Sequence[bytes]:
        """See ContractBook."""
        return self._state.vouchers.newest(contract_id)

    def statement(self, contract_id: bytes) -> bytes:
        """See ContractBook."""
        newest = self._state.settlement.newest(contract_id, PeriodStatement, self._network_id)
        return newest[0].raw if newest else b""

    def _record(self, contract: Contract) -> ContractRecord:
        usage = self._chunk_store.usage(contract.contract_id)
        return ContractRecord(
            load_agreement(self._state, contract, self._network_id),
            ContractState(contract.state),
            usage.size_bytes,
            usage.chunks,
        )
