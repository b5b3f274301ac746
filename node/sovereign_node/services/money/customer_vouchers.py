"""The customer's lanes: when a voucher is due, how much it may promise, and how lanes go on after a restore.

Source: protocols/specs/settle.md, "Lanes".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.bounds import Bounds, OtherDevices
from sovereign_node.services.money.tally import Tally, raise_tally
from sovereign_node.store import State
from sovereign_protocols.settle.bodies import MeterReport, Voucher
from sovereign_protocols.settle.exposure import DAY_S, DEMAND_PERCENT, is_voucher_due
from sovereign_protocols.settle.lanes import Lane
from sovereign_protocols.settle.ledger import voucher_postings
from sovereign_protocols.settle.signed import NO_HASH, Signed, parse_signed, sign_body

#: How soon after a change the figures of a contract are asked for.
REFRESH_S: Final = 60
#: How long to wait after a turn in which both sides did not agree.
RETRY_S: Final = 3600


class VoucherSigner:
    """Signs and keeps vouchers of this device. All methods block.

    Args:
        state: this node's state.
        book: of the customer's side.
        key: of this device.
        clock: wall time.
        tally: what this device moved itself, by contract.
        others: the other devices of the identity; they may use the same contracts.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        state: State,
        book: MoneyBook,
        key: SigningKey,
        clock: Callable[[], int],
        *,
        tally: Callable[[bytes], Tally],
        others: Callable[[], OtherDevices] = OtherDevices,
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._state = state
        self.book = book
        self._key = key
        self._clock = clock
        self._tally = tally
        self.bounds = Bounds(state, book, clock, tally, others, network_id)
        self._network_id = network_id

    # --- vouchers --------------------------------------------------------------------------------------------

    def is_turn_due(self, contract_id: bytes, now: int) -> bool:
        """Tell whether the provider should be asked for its figures now."""
        turned_at, agreed, was_moving, *counted = self._last_turn(contract_id)
        if not agreed and now - turned_at < RETRY_S:
            return False
        reported_at = int(self._state.meta.get(f"reported_at:{contract_id.hex()}") or 0)
        if now - reported_at >= DAY_S or self.book.period_end(contract_id) <= now:
            return True
        if self._state.meta.get(_unacknowledged_key(contract_id)):
            return True
        tally, meter = self._tally(contract_id), self.book.meter(contract_id, now)
        moved = tally.sent_bytes + tally.received_bytes
        # What was under way during a turn was counted here and not yet there: the next turn finds it.
        if now - reported_at >= REFRESH_S and (was_moving or tally != Tally(*counted)):
            return True
        accrued = self.book.accrued(contract_id, meter.move(bytes_in=max(0, moved - meter.bytes_in)))
        return self._is_due(contract_id, accrued, moved, now)

    def tally(self, contract_id: bytes) -> Tally:
        """Give what this device moved so far."""
        return self._tally(contract_id)

    def note_turn(self, contract_id: bytes, tally: Tally, *, agreed: bool, acknowledged: bool = False) -> None:
        """Remember what was counted when the provider was asked last, and whether both sides agreed.

        Args:
            contract_id: 32 bytes.
            tally: at the beginning of the turn; what was moved since is for the next one.
            agreed: whether they did; if not, the next try waits.
            acknowledged: the provider keeps the newest voucher. A crash before this only sends it again.
        """
        kept = [tally.sent_bytes, tally.sent_chunks, tally.received_bytes, tally.deleted_chunks]
        was_moving = kept != (self._last_turn(contract_id)[3:] or [0, 0, 0, 0])
        document = json.dumps([self._clock(), agreed, was_moving, *kept])

        def note() -> None:
            self._state.meta.set(f"turn:{contract_id.hex()}", document)
            if acknowledged:
                self._state.meta.delete(_unacknowledged_key(contract_id))

        self._state.grouped(note)

    def _last_turn(self, contract_id: bytes) -> list[int]:
        """Read time and success of the last turn, whether the tally had changed before it, and the tally then."""
        found: list[int] = json.loads(self._state.meta.get(f"turn:{contract_id.hex()}") or "[0, true, false]")
        return found

    def _is_due(self, contract_id: bytes, accrued: int, moved: int, now: int) -> bool:
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        owed = accrued - self.promised(contract_id)
        if owed <= 0:
            return False
        if owed * 100 >= self.book.credit_limit(contract_id) * DEMAND_PERCENT or self.book.unpaid_since(
            contract_id
        ):
            return True
        kept = self._state.meta.get(_voucher_key(contract_id))
        at, moved_then = json.loads(kept) if kept else (agreement.terms.start_at, 0)
        return is_voucher_due(since_s=now - at, accrued_since=owed, moved_since_bytes=moved - moved_then)

    def promised(self, contract_id: bytes) -> int:
        """Sum all that was promised or given back, also on lanes that this device has forgotten; micro-VIBE."""
        return self.book.vouchered(contract_id) + self._recovered(contract_id)

    def unacknowledged(self, contract_id: bytes) -> Signed[Voucher] | None:
        """Read a voucher of which nobody knows whether it arrived."""
        if not self._state.meta.get(_unacknowledged_key(contract_id)):
            return None
        _, raw = self._state.vouchers.head(contract_id, self._key.public, self._lane_number(contract_id))
        return parse_signed(raw, Voucher, self._network_id)

    def next_voucher(self, contract_id: bytes, *, is_asked: bool = False) -> Signed[Voucher] | None:
        """Sign and keep the voucher that is due by the newest report that both agree on.

        Args:
            contract_id: 32 bytes.
            is_asked: sign for whatever is owed, because the provider or the user asks.

        Returns:
            The voucher, or None if none is due or the budget of the period is used up.
        """
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        now = self._clock()
        meter = self.book.meter(contract_id, 0)
        own = self.book.accrued(contract_id, meter)
        amount = self._within_budget(contract_id, own) - self.promised(contract_id)
        is_due = is_asked or self._is_due(contract_id, own, meter.bytes_in, now)
        if amount <= 0 or not is_due:
            return None
        with self._state.transaction():
            lane = self._lane(contract_id, agreement.terms.provider_device)
            cumulative = lane.head.cumulative + amount
            report = self.book.newest(contract_id, MeterReport)
            draft = lane.draft(
                cumulative=cumulative,
                covers_until=meter.at,
                at=now,
                own_meter=cumulative,
                report=report[0].content_hash if report else NO_HASH,
            )
            voucher = sign_body(draft, self._key, self._network_id)
            self.book.add_voucher(voucher, now)
            self._state.meta.set(_unacknowledged_key(contract_id), "1")
            self._state.meta.set(_voucher_key(contract_id), json.dumps([now, meter.bytes_in]))
        return voucher

    def _within_budget(self, contract_id: bytes, accrued: int) -> int:
        """Cap what may be promised altogether by the budget of the period that runs."""
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        if not agreement.terms.budget:
            return accrued
        return min(accrued, self.book.charged(contract_id) + agreement.terms.budget)

    def _lane(self, contract_id: bytes, payee: bytes) -> Lane:
        number = self._lane_number(contract_id)
        head, _ = self._state.vouchers.head(contract_id, self._key.public, number)
        return Lane(contract_id, payee, self._key.public, number, head)

    def _lane_number(self, contract_id: bytes) -> int:
        return int(self._state.meta.get(_lane_key(contract_id)) or 0)

    # --- after a restore -------------------------------------------------------------------------------------

    def lose_lanes(self, contract_ids: Sequence[bytes]) -> None:
        """Remember that the newest vouchers are not known any more: nothing is signed before `recover`."""
        with self._state.transaction():
            for contract_id in contract_ids:
                agreement = self.book.agreement(contract_id)
                assert agreement is not None
                self._state.meta.set(_lost_key(contract_id), "1")
                # What was moved since the backup is not known any more: only the capacity bounds it.
                raise_tally(self._state, contract_id, agreement.terms.capacity_bytes)

    def has_lost_lane(self, contract_id: bytes) -> bool:
        """Tell whether the provider must be asked for its vouchers first."""
        return self._state.meta.get(_lost_key(contract_id)) is not None

    def recover(self, contract_id: bytes, shown: Sequence[bytes], new_lane: int) -> None:
        """Take over what the provider holds, and go on with a new lane, on which nothing can be signed twice.

        Args:
            contract_id: 32 bytes.
            shown: the newest voucher of each lane, as the provider shows them.
            new_lane: a number that this device has never used.
        """
        agreement = self.book.agreement(contract_id)
        assert agreement is not None
        vouchers = [parse_signed(raw, Voucher, self._network_id) for raw in shown]
        known = self._state.vouchers.total(contract_id)
        total = sum(
            voucher.body.cumulative
            for voucher in vouchers
            if voucher.body.contract == contract_id and voucher.signer == voucher.body.device
        )
        with self._state.transaction():
            for voucher in vouchers:
                self._book_forgotten(contract_id, voucher)
            self._state.meta.set(_recovered_key(contract_id), str(max(0, total - known)))
            self._state.meta.set(_lane_key(contract_id), str(new_lane))
            self._state.meta.delete(_unacknowledged_key(contract_id))
            self._state.meta.delete(_lost_key(contract_id))

    def _book_forgotten(self, contract_id: bytes, voucher: Signed[Voucher]) -> None:
        """Book what this device promised and has forgotten, so that the ledgers of both sides agree again."""
        body = voucher.body
        if (body.contract, body.device, voucher.signer) != (contract_id, self._key.public, self._key.public):
            return
        head, _ = self._state.vouchers.head(contract_id, body.device, body.lane)
        growth = body.cumulative - head.cumulative
        if growth > 0:
            postings = voucher_postings(contract_id, growth, is_provider=False)
            self._state.ledger.post(at=self._clock(), kind="voucher", cause=voucher.content_hash, postings=postings)

    def _recovered(self, contract_id: bytes) -> int:
        return int(self._state.meta.get(_recovered_key(contract_id)) or 0)


def _unacknowledged_key(contract_id: bytes) -> str:
    return f"voucher_sent:{contract_id.hex()}"


def _voucher_key(contract_id: bytes) -> str:
    return f"voucher_at:{contract_id.hex()}"


def _lane_key(contract_id: bytes) -> str:
    return f"lane:{contract_id.hex()}"


def _lost_key(contract_id: bytes) -> str:
    return f"lane_lost:{contract_id.hex()}"


def _recovered_key(contract_id: bytes) -> str:
    return f"recovered:{contract_id.hex()}"
