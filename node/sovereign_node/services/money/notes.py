"""Credit notes: what a provider gives back, and payments between identities, counted with both signatures.

A provider's gift is signed by the customer at once. A payment of a customer is a claim that money arrived outside
of the protocol; the provider's operator confirms it (the manual adapter).

Source: protocols/specs/settle.md, "Answering".
"""

from __future__ import annotations

import os
from collections.abc import Callable

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.store import State
from sovereign_node.store.contracts import Contract
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.desk import Caller
from sovereign_protocols.settle.bodies import CreditNote
from sovereign_protocols.settle.ledger import credit_postings, settlement_postings
from sovereign_protocols.settle.messages import MAX_CREDITS
from sovereign_protocols.settle.signed import NO_HASH, Signed, countersign, parse_signed, sign_body


class NoteKeeper:
    """Signs, keeps and books credit notes. All methods block.

    Args:
        state: this node's state.
        identity: own, 32 bytes.
        key: of this device.
        clock: wall time.
        books: of both sides, by role.
        on_counted: told the contract whose balance a note changed.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        state: State,
        identity: bytes,
        key: SigningKey,
        clock: Callable[[], int],
        books: dict[str, MoneyBook],
        *,
        on_counted: Callable[[bytes], None] = lambda _contract_id: None,
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        self._state = state
        self._identity = identity
        self._key = key
        self._clock = clock
        self._books = books
        self._on_counted = on_counted
        self._network_id = network_id

    def draft(self, contract: Contract, amount: int, *, evidence: bytes = NO_HASH) -> Signed[CreditNote]:
        """Sign and keep a note that gives an amount to the other party of a contract."""
        other = contract.provider_identity if contract.role == "customer" else contract.customer_identity
        note = CreditNote(
            contract=contract.contract_id,
            payer=self._identity,
            payee=other,
            amount=amount,
            nonce=os.urandom(32),
            evidence=evidence,
            at=self._clock(),
        )
        signed = sign_body(note, self._key, self._network_id)
        self._state.settlement.add(signed, contract.contract_id, note.at, at=self._clock())
        return signed

    def take(self, caller: Caller, note: Signed[CreditNote]) -> bytes:
        """Keep a note of another identity.

        Returns:
            The own signature under it, or nothing while the operator has to confirm it.

        Raises:
            RefusedError: it is not between the caller and this identity, or the contract is unknown.
        """
        body = note.body
        contract = self._state.contracts.get(body.contract)
        if contract is None or caller.identity not in (contract.customer_identity, contract.provider_identity):
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        if (body.payer, body.payee) == (self._identity, caller.identity):
            return self._take_back(caller, note)
        if (body.payer, body.payee, note.signer) != (caller.identity, self._identity, caller.device):
            raise RefusedError(Reason.WRONG_PARTY)
        self._state.settlement.add(note, body.contract, body.at, at=self._clock())
        signed_before = self._own_copy(note)
        if signed_before is not None:
            return signed_before
        if body.payer != contract.provider_identity:
            return b""
        return self.confirm(note).raw

    def _take_back(self, caller: Caller, note: Signed[CreditNote]) -> bytes:
        """Book an own note that the other party has signed too, once; returns the own copy."""
        own = self._own_copy(note)
        if own is None or note.signer != caller.device:
            raise RefusedError(Reason.WRONG_PARTY)
        self.count(parse_signed(own, CreditNote, self._network_id), note)
        return own

    def offered(self, caller: Caller, contract_id: bytes) -> tuple[bytes, ...]:
        """Give the notes of this identity that a contract's other party has not signed yet.

        Raises:
            RefusedError: the contract is not the caller's.
        """
        contract = self._state.contracts.get(contract_id)
        if contract is None or caller.identity not in (contract.customer_identity, contract.provider_identity):
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        own = [note for note in self.waiting(contract_id) if note.signer == self._key.public]
        return tuple(note.raw for note in own if note.body.payee == caller.identity)[:MAX_CREDITS]

    def accept(self, contract: Contract, note: Signed[CreditNote]) -> Signed[CreditNote]:
        """Sign and book what a provider gives back; the same note again is only signed again.

        Raises:
            RefusedError: it is no gift of the provider to this identity.
        """
        body = note.body
        parties = (contract.contract_id, contract.provider_identity, self._identity, contract.provider_device)
        if (body.contract, body.payer, body.payee, note.signer) != parties:
            raise RefusedError(Reason.WRONG_PARTY)
        known = self._own_copy(note)
        return self.confirm(note) if known is None else parse_signed(known, CreditNote, self._network_id)

    def confirm(self, note: Signed[CreditNote]) -> Signed[CreditNote]:
        """Sign a note of the other party: what it says has happened."""
        own = countersign(note, self._key, self._network_id)
        self.count(note, own)
        return own

    def count(self, *copies: Signed[CreditNote]) -> None:
        """Keep both copies of a note and book it, once."""
        body = copies[0].body
        contract = self._state.contracts.get(body.contract)
        assert contract is not None
        is_provider = contract.role == "provider"
        if body.payer == contract.provider_identity:
            kind, postings = "credit", credit_postings(body.contract, body.amount, is_provider=is_provider)
        else:
            kind, postings = "settlement", settlement_postings(body.contract, body.amount, is_provider=is_provider)
        with self._state.transaction():
            for copy in copies:
                self._state.settlement.add(copy, body.contract, body.at, at=self._clock())
            self._state.ledger.post(at=self._clock(), kind=kind, cause=copies[0].content_hash, postings=postings)
        self._on_counted(body.contract)

    def waiting(self, contract_id: bytes) -> list[Signed[CreditNote]]:
        """Read the notes that only one party signed."""
        copies: dict[bytes, list[Signed[CreditNote]]] = {}
        for note in self._state.settlement.all(contract_id, CreditNote, self._network_id):
            copies.setdefault(note.content_hash, []).append(note)
        return [found[0] for found in copies.values() if len(found) == 1]

    def settled(self, contract: Contract) -> int:
        """Sum what the customer paid outside of the protocol, micro-VIBE."""
        notes = self._books[contract.role].notes(contract.contract_id)
        return sum(note.body.amount for note in notes if note.body.payer == contract.customer_identity)

    def _own_copy(self, note: Signed[CreditNote]) -> bytes | None:
        for known in self._state.settlement.all(note.body.contract, CreditNote, self._network_id):
            if known.content_hash == note.content_hash and known.signer == self._key.public:
                return known.raw
        return None


def credit_due_key(contract_id: bytes) -> str:
    """Name the note that an own audit failed, so that the provider is asked what it gives back."""
    return f"credit_due:{contract_id.hex()}"
