"""What people see of money: balances per peer, the running bill, statements, forecasts. Reads only; blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.notes import NoteKeeper
from sovereign_node.services.money.sponsored import SponsoredContracts
from sovereign_node.store import State
from sovereign_node.store.contracts import LIVE_STATES, Contract
from sovereign_protocols.market.prices import MONTH_S, quote
from sovereign_protocols.settle.bodies import PeriodStatement
from sovereign_protocols.settle.signed import Signed

SHOWN_STATES = (*LIVE_STATES, "closed")
#: Lines of a statement that a provider earns; a sponsor's part counts when it is signed.
_EARNED: Final = ("storage", "transfer", "bonus", "sponsor_paid")


class Wallet:
    """Read models over both sides' books.

    Args:
        state: this node's state.
        books: by role.
        notes: credit notes.
        sponsored: what sponsors owe and pay.
        clock: wall time.
    """

    def __init__(
        self,
        state: State,
        books: dict[str, MoneyBook],
        notes: NoteKeeper,
        sponsored: SponsoredContracts,
        clock: Callable[[], int],
    ) -> None:
        self._state = state
        self._books = books
        self._notes = notes
        self._sponsored = sponsored
        self._clock = clock

    def contracts(self, role: str | None = None) -> list[Contract]:
        """Return the contracts that have, or had, to do with money."""
        return self._state.contracts.all(role=role, states=SHOWN_STATES)

    def balance(self, contract: Contract) -> dict[str, Any]:
        """Return how one contract stands."""
        book = self._books[contract.role]
        contract_id = contract.contract_id
        now = self._clock()
        meter = book.meter(contract_id, now if contract.state != "closed" else 0)
        accrued = book.accrued(contract_id, meter)
        promised, settled = book.vouchered(contract_id), self._notes.settled(contract)
        exposure = book.exposure(contract_id, now)
        unpaid_since = book.unpaid_since(contract_id)
        peer = contract.provider_device if contract.role == "customer" else contract.customer_device
        other = contract.provider_identity if contract.role == "customer" else contract.customer_identity
        device = self._state.devices.get(peer)
        return {
            "contract": contract_id.hex(),
            "role": contract.role,
            "identity": other.hex(),
            "peer_id": peer_id_from_public_key(peer),
            "name": device.device_name if device else "",
            "state": contract.state,
            "stored_bytes": meter.stored_bytes,
            "accrued_micro_vibe": accrued,
            "promised_micro_vibe": promised,
            "settled_micro_vibe": settled,
            "open_micro_vibe": promised - settled,
            "exposed_micro_vibe": accrued - promised,
            "credit_limit_micro_vibe": exposure.limit,
            "level": exposure.level.name.lower(),
            "unpaid_since": unpaid_since,
            "per_month_micro_vibe": self.per_month(contract),
            "waiting": [self.note(note) for note in self._notes.waiting(contract_id)],
        }

    def note(self, note: Signed[Any]) -> dict[str, Any]:
        """Return a credit note as JSON."""
        return {
            "note": note.content_hash.hex(),
            "amount_micro_vibe": note.body.amount,
            "payer": note.body.payer.hex(),
            "payee": note.body.payee.hex(),
            "at": note.body.at,
        }

    def per_month(self, contract: Contract) -> int:
        """Return what a month of the bytes stored now costs, micro-VIBE."""
        if contract.state == "closed":
            return 0
        agreement = self._books[contract.role].agreement(contract.contract_id)
        assert agreement is not None
        meter = self._state.meters.get(contract.contract_id)
        stored = meter.stored_bytes if meter else 0
        return quote(agreement.terms.prices, stored_bytes=stored, duration_s=MONTH_S).price

    def summary(self) -> dict[str, Any]:
        """Return balances per contract, totals and a forecast."""
        peers = [self.balance(contract) for contract in self.contracts()]
        paying = [row for row in peers if row["role"] == "customer"]
        earning = [row for row in peers if row["role"] == "provider"]

        def total(rows: list[dict[str, Any]], name: str) -> int:
            return sum(row[f"{name}_micro_vibe"] for row in rows)

        return {
            "peers": peers,
            "spent_micro_vibe": total(paying, "accrued"),
            "earned_micro_vibe": total(earning, "accrued"),
            "owed_micro_vibe": total(paying, "accrued") - total(paying, "settled"),
            "due_to_you_micro_vibe": total(earning, "accrued") - total(earning, "settled"),
            "exposed_micro_vibe": total(earning, "exposed"),
            "forecast": {
                "spend_per_month_micro_vibe": total(paying, "per_month"),
                "earn_per_month_micro_vibe": total(earning, "per_month"),
            },
        }

    def bill(self, contract: Contract) -> dict[str, Any]:
        """Return the period that runs: lines so far, and what it will cost if nothing changes."""
        book, contract_id, now = self._books[contract.role], contract.contract_id, self._clock()
        agreement = book.agreement(contract_id)
        assert agreement is not None
        start, end = book.period_start(contract_id), book.period_end(contract_id)
        until = min(max(now, start), end)
        meter = book.meter(contract_id, until if contract.state != "closed" else 0)
        figures = book.figures(contract_id, meter, until)
        lines = figures.charges(with_bonus=False)
        rest = quote(agreement.terms.prices, stored_bytes=meter.stored_bytes, duration_s=max(0, end - until))
        bonus = figures.charges(with_bonus=True).bonus + rest.bonus
        return {
            "contract": contract_id.hex(),
            "role": contract.role,
            "from_at": start,
            "until_at": end,
            "storage_micro_vibe": lines.storage,
            "transfer_micro_vibe": lines.transfer,
            "so_far_micro_vibe": lines.price,
            "forecast_micro_vibe": lines.price + rest.price,
            "forecast_with_bonus_micro_vibe": lines.price + rest.price + bonus,
            "bonus_payer": str(agreement.terms.bonus_payer),
            "budget_micro_vibe": agreement.terms.budget,
            "stored_bytes": meter.stored_bytes,
            "transfer_bytes": sum(usage.transfer_bytes for _, usage in figures.segments),
        }

    def statements(self, contract: Contract) -> list[dict[str, Any]]:
        """Return the closed periods of a contract, oldest first."""
        book = self._books[contract.role]
        newest = {copy.signer for copy in book.newest(contract.contract_id, PeriodStatement)}
        rows = []
        found = book.statements(contract.contract_id)
        sponsored = self._sponsored.paid(contract.contract_id)
        for signed in found:
            body = signed.body
            is_newest = signed is found[-1]
            rows.append(
                {
                    "contract": contract.contract_id.hex(),
                    "role": contract.role,
                    "period": body.period,
                    "from_at": body.from_at,
                    "until_at": body.until_at,
                    "byte_seconds": body.byte_seconds,
                    "transfer_bytes": body.transfer_bytes,
                    "windows_good": body.windows_good,
                    "windows_observed": body.windows_observed,
                    "opening_micro_vibe": body.opening,
                    "storage_micro_vibe": body.storage,
                    "transfer_micro_vibe": body.transfer,
                    "bonus_micro_vibe": body.bonus,
                    "sponsor_bonus_micro_vibe": self._sponsored.bonus_of(contract.contract_id, body),
                    "sponsor_paid_micro_vibe": sponsored.get(signed.content_hash, 0),
                    "credits_micro_vibe": body.credits,
                    "paid_micro_vibe": body.paid,
                    "closing_micro_vibe": body.closing,
                    "hash": signed.content_hash.hex(),
                    "signed_by_both": not is_newest or len(newest) > 1,
                }
            )
        return rows

    def earnings(self, *, forecast: bool) -> dict[str, Any]:
        """Return what this provider earned by period, and what it will earn."""
        rows = []
        for contract in self.contracts("provider"):
            statements = self.statements(contract)
            bill = self.bill(contract)
            rows.append(
                {
                    "contract": contract.contract_id.hex(),
                    "customer": contract.customer_identity.hex(),
                    "state": contract.state,
                    "closed_periods": len(statements),
                    "earned_micro_vibe": sum(row[f"{line}_micro_vibe"] for row in statements for line in _EARNED),
                    "sponsor_budget_micro_vibe": self._sponsored.granted(contract.contract_id),
                    "so_far_micro_vibe": bill["so_far_micro_vibe"],
                    "forecast_micro_vibe": bill["forecast_micro_vibe"],
                    "per_month_micro_vibe": self.per_month(contract),
                    "per_month_with_bonus_micro_vibe": self._with_bonus(contract),
                }
            )
        result: dict[str, Any] = {
            "contracts": rows,
            "earned_micro_vibe": sum(row["earned_micro_vibe"] for row in rows),
            "so_far_micro_vibe": sum(row["so_far_micro_vibe"] for row in rows),
        }
        if forecast:
            result["per_month_micro_vibe"] = sum(row["per_month_micro_vibe"] for row in rows)
            result["per_month_with_bonus_micro_vibe"] = sum(row["per_month_with_bonus_micro_vibe"] for row in rows)
        return result

    def _with_bonus(self, contract: Contract) -> int:
        agreement = self._books[contract.role].agreement(contract.contract_id)
        assert agreement is not None
        meter = self._state.meters.get(contract.contract_id)
        stored = meter.stored_bytes if meter and contract.state != "closed" else 0
        terms = agreement.terms
        found = quote(terms.prices, stored_bytes=stored, duration_s=MONTH_S)
        return found.provider_earns_at_most if str(terms.bonus_payer) != "nobody" else found.price


def price_lines(
    book: MoneyBook, contract: Contract, *, stored_bytes: int, transfer_bytes: int, months: int
) -> dict[str, Any]:
    """Price a service under the terms of a contract in force. Blocks."""
    agreement = book.agreement(contract.contract_id)
    assert agreement is not None
    terms = agreement.terms
    found = quote(
        terms.prices,
        stored_bytes=stored_bytes,
        duration_s=months * MONTH_S,
        transfer_bytes=transfer_bytes,
        customer_pays_bonus=str(terms.bonus_payer) == "customer",
    )
    return {
        "contract": contract.contract_id.hex(),
        "provider": peer_id_from_public_key(contract.provider_device),
        "price_micro_vibe": found.price,
        "bonus_micro_vibe": found.bonus,
        "customer_pays_at_most_micro_vibe": found.customer_pays_at_most,
        "provider_earns_at_most_micro_vibe": found.provider_earns_at_most,
    }
