"""The money matters of one side, kept in the state database; a provider's desk answers from it.

It fits `sovereign_protocols.settle.desk.SettlementBook`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType
from sovereign_node.store.evidence import Evidence
from sovereign_node.store.state import State
from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.terms import Agreement, agree, parse_terms
from sovereign_protocols.settle.accrual import Accrual, PeriodFigures, build_statement
from sovereign_protocols.settle.bodies import CreditNote, PeriodStatement, Receipt, TransferReceipt, Voucher
from sovereign_protocols.settle.lanes import EquivocationError, LaneHead
from sovereign_protocols.settle.ledger import charge_postings, voucher_postings
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import Body, Signed, sign_body

Kind = TypeVar("Kind", bound=Body)


class StateSettlementBook:
    """Reads and writes meters, vouchers, statements and the ledger of one side.

    Args:
        state: the node's state.
        is_provider: which side of its contracts this node keeps here.
        network_id: 32 bytes.
    """

    def __init__(self, state: State, *, is_provider: bool, network_id: bytes = NETWORK_ID_MAIN) -> None:
        self._state = state
        self._is_provider = is_provider
        self._role = "provider" if is_provider else "customer"
        self._network_id = network_id

    def transaction(self) -> AbstractContextManager[None]:
        """Let one decision run alone, and its writes happen together."""
        return self._state.transaction()

    def agreement(self, contract_id: bytes) -> Agreement | None:
        """Read the terms in force."""
        row = self._state.contracts.get(contract_id)
        if row is None or row.role != self._role:
            return None
        first, second = (
            parse_terms(statement.raw, self._network_id)
            for statement in self._state.contracts.statements(contract_id)
            if statement.statement_type == StatementType.CONTRACT and statement.revision == row.revision
        )
        return agree(first, second)

    def _known(self, contract_id: bytes) -> Agreement:
        agreement = self.agreement(contract_id)
        if agreement is None:
            raise LocalProtocolError("the contract is unknown")
        return agreement

    def meter(self, contract_id: bytes, now: int) -> Meter:
        """Read the counters, advanced to now."""
        known = self._state.meters.get(contract_id)
        return (known or Meter(self._known(contract_id).terms.start_at)).advance(now)

    def accrued(self, contract_id: bytes, meter: Meter) -> int:
        """Give the cost of everything up to a reading, micro-VIBE."""
        return self._accrual(contract_id).accrued(meter)

    def _accrual(self, contract_id: bytes) -> Accrual:
        known = self._state.accruals.get(contract_id)
        if known is not None:
            return known
        terms = self._known(contract_id).terms
        return Accrual(terms.prices, Meter(terms.start_at))

    def begin(self, contract_id: bytes) -> None:
        """Fix the prices of a new contract, before any revision can change them."""
        with self._state.transaction():
            if self._state.accruals.get(contract_id) is None:
                self._state.accruals.put(contract_id, self._accrual(contract_id))

    def revise(self, contract_id: bytes, at: int) -> None:
        """Close the lines under the old prices, right after a new revision came into force."""
        with self._state.transaction():
            accrual = self._accrual(contract_id).rebase(
                self.meter(contract_id, at), self._known(contract_id).terms.prices
            )
            self._state.accruals.put(contract_id, accrual)

    def lane(self, contract_id: bytes, device: bytes, lane: int) -> tuple[LaneHead, bytes]:
        """Read the newest voucher of a lane: its head, and itself as signed."""
        return self._state.vouchers.head(contract_id, device, lane)

    def vouchered(self, contract_id: bytes) -> int:
        """Sum the newest vouchers of all lanes and the credit notes, micro-VIBE."""
        notes = self._state.settlement.all(contract_id, CreditNote, self._network_id)
        # Each note is kept in the copies of both signers; it counts once.
        credits = {note.content_hash: note.body.amount for note in notes}
        return self._state.vouchers.total(contract_id) + sum(credits.values())

    def add_voucher(self, voucher: Signed[Voucher], at: int) -> None:
        """Keep the next voucher of a lane and book its growth."""
        body = voucher.body
        with self._state.transaction():
            head, _ = self.lane(body.contract, body.device, body.lane)
            self._state.vouchers.add(voucher, at=at)
            growth = body.cumulative - head.cumulative
            if growth:
                postings = voucher_postings(body.contract, growth, is_provider=self._is_provider)
                self._state.ledger.post(at=at, kind="voucher", cause=voucher.content_hash, postings=postings)

    def add_evidence(self, contract_id: bytes, proof: EquivocationError, at: int) -> None:
        """Keep two vouchers with one number."""
        self._state.evidence.add(Evidence("voucher_fork", contract_id.hex(), proof.known, proof.other, at))

    def add(self, signed: Signed[Kind], contract_id: bytes, number: int, at: int) -> None:
        """Keep a signed message; the same one twice is kept once."""
        self._state.settlement.add(signed, contract_id, number, at=at)

    def newest(self, contract_id: bytes, kind: type[Kind]) -> Sequence[Signed[Kind]]:
        """Read the messages of one kind with the highest number: one, or both copies if both parties signed."""
        return self._state.settlement.newest(contract_id, kind, self._network_id)

    def receipts(self, contract_id: bytes, after: int, limit: int) -> Sequence[bytes]:
        """Read receipts with numbers above `after`, in order."""
        return self._state.settlement.page(contract_id, Receipt.KIND, after=after, limit=limit)

    def transfers(self, contract_id: bytes, limit: int) -> Sequence[bytes]:
        """Read the transfer receipt with the highest counters of each device."""
        return self._state.settlement.newest_of_each(contract_id, TransferReceipt.KIND, limit=limit)

    def statement(self, contract_id: bytes, period: int) -> PeriodStatement | None:
        """Give the statement of a period as this side computed it, None while the period runs."""
        for signed in self._state.settlement.all(contract_id, PeriodStatement, self._network_id):
            if signed.body.period == period:
                return signed.body
        return None

    def close_period(
        self, contract_id: bytes, figures: PeriodFigures, device_key: SigningKey, *, until_at: int, at: int
    ) -> Signed[PeriodStatement]:
        """Compute, sign, keep and book the statement of the period that ends.

        Args:
            contract_id: 32 bytes.
            figures: own count of the period.
            device_key: of this side.
            until_at: first second after the period, Unix seconds UTC.
            at: now, Unix seconds UTC.

        Returns:
            The statement with the own signature.
        """
        with self._state.transaction():
            agreement = self._known(contract_id)
            previous = next(iter(self.newest(contract_id, PeriodStatement)), None)
            from_at = previous.body.until_at if previous else agreement.terms.start_at
            body = build_statement(agreement, figures, previous=previous, from_at=from_at, until_at=until_at)
            signed = sign_body(body, device_key, self._network_id)
            self.add(signed, contract_id, body.period, at)
            charged = body.storage + body.transfer + body.bonus
            if charged:
                postings = charge_postings(contract_id, charged, is_provider=self._is_provider)
                self._state.ledger.post(at=at, kind="charge", cause=signed.content_hash, postings=postings)
            self._close_lines(contract_id, body)
            return signed

    def _close_lines(self, contract_id: bytes, body: PeriodStatement) -> None:
        prices = self._known(contract_id).terms.prices
        closed = self._accrual(contract_id).rebase(self.meter(contract_id, body.until_at), prices)
        # Only the end of a period tells whether the bonus was earned; from then on it is owed like the rest.
        self._state.accruals.put(contract_id, replace(closed, closed=closed.closed + body.bonus))
