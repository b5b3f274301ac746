"""The book of one side with what running by itself needs: periods, several prices in one, exposure."""

from __future__ import annotations

import json
from collections.abc import Callable

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.contract_book import load_agreement
from sovereign_node.store import State
from sovereign_node.store.settlement_book import StateSettlementBook
from sovereign_protocols.market.prices import MONTH_S, Prices, UptimeCount, Usage
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.settle.accrual import PeriodFigures
from sovereign_protocols.settle.bodies import CreditNote, PeriodStatement
from sovereign_protocols.settle.exposure import Exposure, credit_limit
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import Signed

#: Gives the windows of a contract between two times, as observers counted them.
UptimeSource = Callable[[bytes, int, int], UptimeCount]
_MAX_CACHED = 4096


def no_uptime(_contract_id: bytes, _from_at: int, _until_at: int) -> UptimeCount:
    """Say that nobody observed: neither bonus nor penalty."""
    return UptimeCount(0, 0, 0)


class MoneyBook(StateSettlementBook):
    """The money matters of one side. All methods block.

    Args:
        state: the node's state.
        is_provider: which side of its contracts this node keeps here.
        network_id: 32 bytes.
        uptime: what observers counted.
    """

    def __init__(
        self,
        state: State,
        *,
        is_provider: bool,
        network_id: bytes = NETWORK_ID_MAIN,
        uptime: UptimeSource = no_uptime,
    ) -> None:
        super().__init__(state, is_provider=is_provider, network_id=network_id)
        self.uptime = uptime
        self._agreements: dict[bytes, Agreement] = {}
        self._starts: dict[bytes, int] = {}
        self._closings: dict[bytes, list[tuple[int, int]]] = {}

    def forget(self) -> None:
        """Drop what was read in a transaction that did not happen."""
        self._agreements.clear()
        self._starts.clear()
        self._closings.clear()

    def agreement(self, contract_id: bytes) -> Agreement | None:
        """Read the terms in force; their signatures are checked once."""
        row = self._state.contracts.get(contract_id)
        if row is None or row.role != self._role:
            return None
        known = self._agreements.get(contract_id)
        if known is None or known.terms.revision != row.revision:
            known = load_agreement(self._state, row, self._network_id)
            if len(self._agreements) >= _MAX_CACHED:
                self._agreements.pop(next(iter(self._agreements)), None)
            self._agreements[contract_id] = known
        return known

    def begin(self, contract_id: bytes) -> None:
        """Fix the prices of a new contract; nothing is written for a known one."""
        if self._state.accruals.get(contract_id) is None:
            super().begin(contract_id)

    # --- periods ---------------------------------------------------------------------------------------------

    def statements(self, contract_id: bytes) -> list[Signed[PeriodStatement]]:
        """Read the statements of a contract, one for each period, oldest first."""
        found = self._state.settlement.all(contract_id, PeriodStatement, self._network_id)
        return list({signed.body.period: signed for signed in found}.values())

    def period_start(self, contract_id: bytes) -> int:
        """Give the first second of the period that runs."""
        known = self._starts.get(contract_id)
        if known is None:
            previous = next(iter(self.newest(contract_id, PeriodStatement)), None)
            known = previous.body.until_at if previous else self._known(contract_id).terms.start_at
            self._starts[contract_id] = known
        return known

    def period_end(self, contract_id: bytes) -> int:
        """Give the first second after the period that runs."""
        return self.period_start(contract_id) + self._known(contract_id).terms.period_s

    def close(
        self,
        contract_id: bytes,
        key: SigningKey,
        *,
        until_at: int,
        at: int,
        paid: int | None = None,
        credits: int | None = None,
        uptime: UptimeCount | None = None,
    ) -> Signed[PeriodStatement]:
        """Close the period that runs.

        Args:
            contract_id: 32 bytes.
            key: of this side.
            until_at: first second after it; the meter must not be further.
            at: now.
            paid: growth of the vouchers that the other side counted in; all that are known here without it.
            credits: credit notes that the other side counted in; all that are known here without it.
            uptime: windows that the other side counted; the own ones without it.
        """
        with self._state.transaction():
            meter = self.advance(contract_id, until_at)
            figures = self.figures(contract_id, meter, until_at, paid=paid, credits=credits, uptime=uptime)
            signed = self.close_period(contract_id, figures, key, until_at=until_at, at=at)
            self._state.meta.delete(_segments_key(contract_id))
            self._starts.pop(contract_id, None)
            self._closings.pop(contract_id, None)
        return signed

    def figures(
        self,
        contract_id: bytes,
        meter: Meter,
        until_at: int,
        *,
        paid: int | None = None,
        credits: int | None = None,
        uptime: UptimeCount | None = None,
    ) -> PeriodFigures:
        """Collect the figures of the period that ends at a reading of the meter."""
        accrual = self._accrual(contract_id)
        segments = (*self._segments(contract_id), (accrual.prices, meter.usage_since(accrual.since)))
        before = self.statements(contract_id)
        paid_before = sum(signed.body.paid for signed in before)
        credits_before = sum(signed.body.credits for signed in before)
        from_at = before[-1].body.until_at if before else self._known(contract_id).terms.start_at
        vouchered = self._state.vouchers.total(contract_id) if paid is None else paid_before + paid
        return PeriodFigures(
            segments=segments,
            uptime=uptime or self.uptime(contract_id, from_at, until_at),
            credits=self.credits(contract_id) - credits_before if credits is None else credits,
            vouchered=vouchered,
            vouchered_before=paid_before,
        )

    def advance(self, contract_id: bytes, at: int) -> Meter:
        """Count up to a time and keep the result."""
        start = self._known(contract_id).terms.start_at
        return self._state.meters.update(contract_id, lambda meter: meter.advance(at), at=start)

    # --- prices ----------------------------------------------------------------------------------------------

    def revise(self, contract_id: bytes, at: int) -> None:
        """Close the lines under the old prices, right after a new revision came into force."""
        with self._state.transaction():
            accrual = self._accrual(contract_id)
            usage = self.meter(contract_id, at).usage_since(accrual.since)
            self._keep_segments(contract_id, [*self._segments(contract_id), (accrual.prices, usage)])
            super().revise(contract_id, at)

    def has_new_prices(self, contract_id: bytes) -> bool:
        """Tell whether the terms in force have other prices than the open lines."""
        return self._accrual(contract_id).prices != self._known(contract_id).terms.prices

    def _segments(self, contract_id: bytes) -> tuple[tuple[Prices, Usage], ...]:
        kept = json.loads(self._state.meta.get(_segments_key(contract_id)) or "[]")
        return tuple((Prices(*row[:3]), Usage(*row[3:])) for row in kept)

    def _keep_segments(self, contract_id: bytes, segments: list[tuple[Prices, Usage]]) -> None:
        rows = [
            [
                prices.micro_vibe_per_gb_month,
                prices.micro_vibe_per_gb_transfer,
                prices.bonus_permille,
                usage.byte_seconds,
                usage.transfer_bytes,
            ]
            for prices, usage in segments
        ]
        self._state.meta.set(_segments_key(contract_id), json.dumps(rows))

    # --- what is owed ----------------------------------------------------------------------------------------

    def credits(self, contract_id: bytes) -> int:
        """Sum what the provider gave back by credit notes that both signed, micro-VIBE."""
        provider = self._known(contract_id).terms.provider_identity
        return sum(note.body.amount for note in self.notes(contract_id) if note.body.payer == provider)

    def notes(self, contract_id: bytes) -> list[Signed[CreditNote]]:
        """Read the credit notes that both parties signed, each once."""
        signers: dict[bytes, set[bytes]] = {}
        notes: dict[bytes, Signed[CreditNote]] = {}
        for note in self._state.settlement.all(contract_id, CreditNote, self._network_id):
            signers.setdefault(note.content_hash, set()).add(note.signer)
            notes[note.content_hash] = note
        return [note for key, note in notes.items() if len(signers[key]) > 1]

    def vouchered(self, contract_id: bytes) -> int:
        """Sum the newest vouchers of all lanes and what the provider gave back, micro-VIBE."""
        return self._state.vouchers.total(contract_id) + self.credits(contract_id)

    def credit_limit(self, contract_id: bytes) -> int:
        """Give the customer's credit now, micro-VIBE; every honoured month raises it, up to that of the terms."""
        terms = self._known(contract_id).terms
        grown = credit_limit(
            capacity_bytes=terms.capacity_bytes,
            micro_vibe_per_gb_month=terms.price_per_gb_month,
            honoured_months=self._honoured_periods(contract_id) * terms.period_s // MONTH_S,
        )
        return min(terms.credit_limit, grown)

    def _honoured_periods(self, contract_id: bytes) -> int:
        """Count the periods that were paid since the last reminder."""
        closings = self._closings_of(contract_id)
        if not closings:
            return 0
        promised = self.vouchered(contract_id)
        reminded_at = int(self._state.meta.get(reminded_key(contract_id)) or 0)
        return sum(charged <= promised and until_at > reminded_at for until_at, charged in closings)

    def exposure(self, contract_id: bytes, now: int) -> Exposure:
        """Tell what is used and not yet promised."""
        terms = self._known(contract_id).terms
        if terms.is_free:
            return Exposure(terms.credit_limit)
        accrued = self.accrued(contract_id, self.meter(contract_id, now))
        return Exposure(self.credit_limit(contract_id), accrued=accrued, vouchered=self.vouchered(contract_id))

    def unpaid_since(self, contract_id: bytes) -> int | None:
        """Give the end of the oldest period whose closing balance is still not promised, None if all are."""
        closings = self._closings_of(contract_id)
        if not closings or not closings[-1][1]:
            return None
        promised = self.vouchered(contract_id)
        return next((until_at for until_at, charged in closings if charged > promised), None)

    def charged(self, contract_id: bytes) -> int:
        """Sum what all statements charge, micro-VIBE."""
        closings = self._closings_of(contract_id)
        return closings[-1][1] if closings else 0

    def _closings_of(self, contract_id: bytes) -> list[tuple[int, int]]:
        """Give the end of each period with the sum of all charges until then."""
        known = self._closings.get(contract_id)
        if known is None:
            known, total = [], 0
            for signed in self.statements(contract_id):
                body = signed.body
                total += body.storage + body.transfer + body.bonus
                known.append((body.until_at, total))
            self._closings[contract_id] = known
        return known


def reminded_key(contract_id: bytes) -> str:
    """Name the note of when a provider reminded its customer of a debt last."""
    return f"reminded_at:{contract_id.hex()}"


def _segments_key(contract_id: bytes) -> str:
    return f"segments:{contract_id.hex()}"
