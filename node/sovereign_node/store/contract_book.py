"""The contract book of the market protocol, kept in the state database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType
from sovereign_node.store.contracts import Contract, ContractStatement
from sovereign_node.store.errors import StateCorruptError
from sovereign_node.store.state import State
from sovereign_protocols.market.acts import SignedAct
from sovereign_protocols.market.desk import ContractRecord
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.terms import Agreement, SignedTerms, agree, parse_terms


class StateContractBook:
    """Reads and writes agreements of one role; fits `sovereign_protocols.market.desk.ContractBook`.

    Args:
        state: the node's state.
        role: provider or customer, this node's side in every contract that is put here.
        network_id: 32 bytes.
    """

    def __init__(self, state: State, *, role: str = "provider", network_id: bytes = NETWORK_ID_MAIN) -> None:
        self._state = state
        self._role = role
        self._network_id = network_id

    def transaction(self) -> AbstractContextManager[None]:
        """Let one decision run alone, and its writes happen together."""
        return self._state.transaction()

    def get(self, contract_id: bytes) -> ContractRecord | None:
        """Read one contract of this role."""
        row = self._state.contracts.get(contract_id)
        return None if row is None or row.role != self._role else self._record(row)

    def of_customer(self, identity: bytes) -> Sequence[ContractRecord]:
        """Read the contracts in which an identity is the customer, in the order of their ids."""
        rows = self._state.contracts.all(role=self._role, customer_identity=identity)
        return [self._record(row) for row in sorted(rows, key=lambda row: row.contract_id)]

    def all(self) -> Sequence[ContractRecord]:
        """Read every contract of this role."""
        return [self._record(row) for row in self._state.contracts.all(role=self._role)]

    def committed_bytes(self) -> int:
        """Sum the capacity of all contracts in which this node is the provider and that are not over."""
        return self._state.contracts.committed_bytes()

    def put(self, agreement: Agreement, state: ContractState, at: int) -> None:
        """Add a contract or put a revision in force; counters stay."""
        terms = agreement.terms
        row = Contract(
            contract_id=agreement.contract_id,
            role=self._role,
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
        signatures = [self._terms_statement(signed, at) for signed in (agreement.customer, agreement.provider)]
        self._state.contracts.save(row, signatures)

    def _terms_statement(self, signed: SignedTerms, at: int) -> ContractStatement:
        return ContractStatement(
            statement_hash=signed.statement_hash,
            contract_id=signed.contract_id,
            statement_type=StatementType.CONTRACT,
            signer=signed.signer,
            revision=signed.terms.revision,
            raw=signed.raw,
            received_at=at,
        )

    def set_state(self, contract_id: bytes, state: ContractState, at: int) -> None:
        """Move a contract."""
        self._state.contracts.set_state(contract_id, state.value, at)

    def add_act(self, act: SignedAct, at: int) -> None:
        """Keep a signed act; the same one twice is kept once."""
        row = self._state.contracts.get(act.act.contract)
        self._state.contracts.add_statement(
            ContractStatement(
                statement_hash=act.statement_hash,
                contract_id=act.act.contract,
                statement_type=StatementType.ACCEPTANCE,
                signer=act.signer,
                revision=0 if row is None else row.revision,
                raw=act.raw,
                received_at=at,
            )
        )

    def vouchers(self, contract_id: bytes) -> Sequence[bytes]:
        """Read the newest voucher of each lane."""
        return ()

    def statement(self, contract_id: bytes) -> bytes:
        """Read the newest statement, empty if there is none."""
        return b""

    def _record(self, row: Contract) -> ContractRecord:
        signed = [
            parse_terms(statement.raw, self._network_id)
            for statement in self._state.contracts.statements(row.contract_id)
            if statement.statement_type == StatementType.CONTRACT and statement.revision == row.revision
        ]
        if len(signed) != 2:
            detail = f"contract {row.contract_id.hex()} lacks its signed terms"
            raise StateCorruptError(self._state.path, detail)
        return ContractRecord(agree(*signed), ContractState(row.state), row.stored_bytes, row.stored_chunks)
