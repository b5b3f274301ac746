"""Sponsors of the uptime bonus: what one grants and pays, and what a provider keeps and claims of it.

The sponsor asks, because the provider does not know where it is: after each period it reads the statement that both
parties signed, computes the bonus itself, and signs a credit note for it.

Source: protocols/specs/settle.md, "Sponsors".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.services.money.turns import Turns
from sovereign_node.store import State
from sovereign_protocols.market.terms import Agreement, agree, parse_terms
from sovereign_protocols.settle.bodies import CreditNote, PeriodStatement
from sovereign_protocols.settle.ledger import bonus_postings
from sovereign_protocols.settle.shell import SettlementClient
from sovereign_protocols.settle.signed import Signed, parse_signed, sign_body
from sovereign_protocols.settle.sponsor import BonusGrant, check_grant, draft_note, is_note_of, judge_claim

log = structlog.get_logger(__name__)

#: How soon a provider is asked again for a statement that was not signed by both yet.
ASK_AGAIN_S: Final = 3600
#: How long after a grant ended its last statement is still asked for.
LINGER_S: Final = 90 * 86_400
_INDEX_KEY: Final = "sponsorships"


@dataclass(frozen=True)
class Sponsorship:
    """One contract that this identity sponsors.

    Args:
        grant: signed by this device.
        provider_device: whom to ask and to pay, 32 bytes.
        agreement: the terms that were seen last, with both signatures.
        notes: what was paid so far, in the order of the periods.
        statements: the papers behind the notes, as both parties signed them.
        period: number of the next statement.
        next_at: when to ask for it, Unix seconds UTC.
    """

    grant: Signed[BonusGrant]
    provider_device: bytes
    agreement: Agreement
    notes: tuple[Signed[CreditNote], ...]
    statements: tuple[Signed[PeriodStatement], ...]
    period: int
    next_at: int

    @property
    def paid(self) -> int:
        """What the grant paid so far, micro-VIBE."""
        return sum(note.body.amount for note in self.notes if is_note_of(self.grant, note.body))

    def is_over(self, now: int) -> bool:
        """Tell whether nothing can be owed any more."""
        return self.paid >= self.grant.body.budget or now > self.grant.body.until_at + LINGER_S


class Sponsors:
    """The sponsor's side.

    Args:
        state: this node's state.
        identity: own, 32 bytes.
        key: of this device.
        clock: wall time.
        turns: reaches providers.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        state: State,
        identity: bytes,
        key: SigningKey,
        clock: Callable[[], int],
        turns: Turns,
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._state = state
        self._identity = identity
        self._key = key
        self._clock = clock
        self._turns = turns
        self._network_id = network_id

    async def grant(
        self, contract_id: bytes, provider_device: bytes, *, budget: int, until_at: int | None = None
    ) -> Sponsorship:
        """Promise the uptime bonus of a contract that names this identity as its sponsor.

        Args:
            contract_id: 32 bytes.
            provider_device: public key of the provider's device, 32 bytes.
            budget: the most that all periods together may cost, micro-VIBE.
            until_at: last second that is paid for; the end of the contract without it.

        Raises:
            NodeError: unreachable, or the contract names another sponsor.
        """
        async with self._turns.session(provider_device) as client:
            agreement, _ = await client.sponsored(contract_id, 0)
            terms = agreement.terms
            if terms.sponsor != self._identity:
                raise NodeError(
                    "not_the_sponsor",
                    "the contract names another sponsor",
                    "the customer names you with: sovereign contract open --bonus sponsor --sponsor IDENTITY",
                    ExitCode.USAGE,
                )
            body = BonusGrant(
                contract=contract_id,
                sponsor=self._identity,
                device=self._key.public,
                payee=terms.provider_identity,
                budget=budget,
                until_at=until_at or terms.end_at,
                at=self._clock(),
            )
            signed = sign_body(body, self._key, self._network_id)
            check_grant(signed, terms, contract_id)
            known = await trio.to_thread.run_sync(self.get, contract_id)
            first_end = terms.start_at + terms.period_s
            sponsorship = Sponsorship(
                signed,
                provider_device,
                agreement,
                known.notes if known else (),
                known.statements if known else (),
                known.period if known else 0,
                known.next_at if known else first_end,
            )
            await trio.to_thread.run_sync(self._keep, sponsorship, "bonus_granted")
            await client.hand_in_grant(signed)
        return sponsorship

    async def run_once(self, *, is_asked: bool = False) -> None:
        """Pay for every period that is over; what cannot be reached is tried again later."""
        now = self._clock()
        for item in await trio.to_thread.run_sync(self.all):
            if item.is_over(now) or (now < item.next_at and not is_asked):
                continue
            try:
                async with self._turns.session(item.provider_device) as client:
                    await self._pay_all(client, item)
            except NodeError as error:
                log.info("sponsor_failed", contract_id=item.grant.body.contract.hex(), reason=error.message)
                await trio.to_thread.run_sync(self._keep, _later(item, now))

    async def _pay_all(self, client: SettlementClient, item: Sponsorship) -> None:
        """Go through the periods that are over, one statement and one note each."""
        await client.hand_in_grant(item.grant)
        # A note that was kept and perhaps never arrived is the same note again.
        for note in item.notes[-1:]:
            await self._hand_in(client, note)
        while True:
            agreement, copies = await client.sponsored(item.grant.body.contract, item.period)
            if len(copies) < 2:
                await trio.to_thread.run_sync(self._keep, _later(item, self._clock()))
                return
            paid = [note.body for note in item.notes]
            amount = judge_claim(item.grant, agreement, copies, paid)
            before = len(item.notes)
            item = await trio.to_thread.run_sync(self._sign, item, agreement, copies, amount)
            for note in item.notes[before:]:
                await self._hand_in(client, note)

    async def _hand_in(self, client: SettlementClient, note: Signed[CreditNote]) -> None:
        copy = await client.credit(note)
        if copy is None:
            raise NodeError("sponsor_refused", "the provider did not sign the note", "sovereign wallet")

    def _sign(
        self, item: Sponsorship, agreement: Agreement, copies: list[Signed[PeriodStatement]], amount: int
    ) -> Sponsorship:
        """Sign, keep and book the note of one period, if anything is owed for it, before it is sent."""
        note = None
        if amount:
            note = sign_body(draft_note(item.grant, copies[0], amount, self._clock()), self._key, self._network_id)
        terms = agreement.terms
        moved = Sponsorship(
            item.grant,
            item.provider_device,
            agreement,
            (*item.notes, note) if note else item.notes,
            (*item.statements, *copies) if note else item.statements,
            item.period + 1,
            copies[0].body.until_at + terms.period_s,
        )
        with self._state.transaction():
            self._keep(moved)
            if note is not None:
                self._state.ledger.post(
                    at=self._clock(),
                    kind="bonus",
                    cause=note.content_hash,
                    postings=bonus_postings(note.body.contract, amount, is_provider=False),
                )
        return moved

    # --- keeping ---------------------------------------------------------------------------------------------

    def all(self) -> list[Sponsorship]:
        """Read everything that this identity sponsors. Blocks."""
        found = (self.get(bytes.fromhex(text)) for text in json.loads(self._state.meta.get(_INDEX_KEY) or "[]"))
        return [item for item in found if item is not None]

    def get(self, contract_id: bytes) -> Sponsorship | None:
        """Read what is sponsored of one contract. Blocks."""
        kept = self._state.meta.get(_key(contract_id))
        if kept is None:
            return None
        row = json.loads(kept)
        terms = [parse_terms(bytes.fromhex(raw), self._network_id) for raw in row["terms"]]
        return Sponsorship(
            parse_signed(bytes.fromhex(row["grant"]), BonusGrant, self._network_id),
            bytes.fromhex(row["provider_device"]),
            agree(*terms),
            tuple(parse_signed(bytes.fromhex(raw), CreditNote, self._network_id) for raw in row["notes"]),
            tuple(parse_signed(bytes.fromhex(raw), PeriodStatement, self._network_id) for raw in row["statements"]),
            row["period"],
            row["next_at"],
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return what this identity sponsors, for people. Blocks."""
        return [sponsorship_row(item, self._clock()) for item in self.all()]

    def _keep(self, item: Sponsorship, action: str | None = None) -> None:
        contract_id = item.grant.body.contract
        row = {
            "grant": item.grant.raw.hex(),
            "provider_device": item.provider_device.hex(),
            "terms": [item.agreement.customer.raw.hex(), item.agreement.provider.raw.hex()],
            "notes": [note.raw.hex() for note in item.notes],
            "statements": [copy.raw.hex() for copy in item.statements],
            "period": item.period,
            "next_at": item.next_at,
        }
        with self._state.transaction():
            known = json.loads(self._state.meta.get(_INDEX_KEY) or "[]")
            if contract_id.hex() not in known:
                self._state.meta.set(_INDEX_KEY, json.dumps([*known, contract_id.hex()]))
            self._state.meta.set(_key(contract_id), json.dumps(row))
            if action is not None:
                self._state.audit.record("user", action, contract_id.hex(), "ok", at=self._clock())


def sponsorship_row(item: Sponsorship, now: int) -> dict[str, Any]:
    """Return one sponsorship, for people."""
    body = item.grant.body
    return {
        "contract": body.contract.hex(),
        "provider": peer_id_from_public_key(item.provider_device),
        "identity": body.payee.hex(),
        "budget_micro_vibe": body.budget,
        "paid_micro_vibe": item.paid,
        "left_micro_vibe": body.budget - item.paid,
        "periods": item.period,
        "until_at": body.until_at,
        "is_over": item.is_over(now),
        "grant": item.grant.content_hash.hex(),
    }


def _later(item: Sponsorship, now: int) -> Sponsorship:
    """Ask again in a while."""
    return Sponsorship(
        item.grant,
        item.provider_device,
        item.agreement,
        item.notes,
        item.statements,
        item.period,
        max(item.next_at, now + ASK_AGAIN_S),
    )


def _key(contract_id: bytes) -> str:
    return f"sponsorship:{contract_id.hex()}"
