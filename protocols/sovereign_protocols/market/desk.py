"""The provider's desk: what happens to a request about contracts. Synchronous, for a worker thread.

Every decision runs inside one transaction of the contract book: two proposals that race for the last gigabyte are
judged one after the other, and nothing is answered before it is stored.

Source: protocols/specs/market.md, "Accepting".
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import ActKind, SignedAct, countersign_act, parse_act
from sovereign_protocols.market.lifecycle import (
    AMENDABLE_STATES,
    COMMITTED_STATES,
    ContractEvent,
    ContractState,
    advance,
    can_advance,
)
from sovereign_protocols.market.offer import CLOCK_SKEW_S, Offer, SignedOffer
from sovereign_protocols.market.policy import AcceptPolicy, ProviderFacts
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import (
    NO_HASH,
    Agreement,
    ContractTerms,
    SignedTerms,
    agree,
    check_revision,
    countersign,
    parse_terms,
)
from sovereign_protocols.requests.desk import Caller, Desk
from sovereign_protocols.requests.wire import Message

#: Renewed when half of its life is over, so that nobody receives an offer about to expire.
RENEW_BEFORE_S: Final = 900


@dataclass(frozen=True)
class ContractRecord:
    """One contract as the book keeps it.

    Args:
        agreement: the revision in force, with both signatures.
        state: where it is in its life.
        stored_bytes: what is stored now.
        stored_chunks: how many chunks.
    """

    agreement: Agreement
    state: ContractState
    stored_bytes: int = 0
    stored_chunks: int = 0


class ContractBook(Protocol):
    """Durable storage of contracts; every method blocks, writes are durable on return."""

    def transaction(self) -> AbstractContextManager[None]:
        """Let one decision run alone, and its writes happen together."""
        ...

    def get(self, contract_id: bytes) -> ContractRecord | None:
        """Read one contract."""
        ...

    def of_customer(self, identity: bytes) -> Sequence[ContractRecord]:
        """Read the contracts in which an identity is the customer, in the order of their ids."""
        ...

    def committed_bytes(self) -> int:
        """Sum the capacity of all contracts in which this node is the provider and that are not over."""
        ...

    def put(self, agreement: Agreement, state: ContractState, at: int) -> None:
        """Add a contract or put a revision in force; counters stay."""
        ...

    def set_state(self, contract_id: bytes, state: ContractState, at: int) -> None:
        """Move a contract."""
        ...

    def add_act(self, act: SignedAct, at: int) -> None:
        """Keep a signed act; the same one twice is kept once."""
        ...

    def vouchers(self, contract_id: bytes) -> Sequence[bytes]:
        """Read the newest voucher of each lane."""
        ...

    def statement(self, contract_id: bytes) -> bytes:
        """Read the newest statement, empty if there is none."""
        ...


class OfferShelf:
    """Makes offers when they are needed and remembers those that still bind.

    Args:
        make: builds and signs an offer that is valid from the given time on.
    """

    def __init__(self, make: Callable[[int], SignedOffer]) -> None:
        self._make = make
        self._valid: dict[bytes, SignedOffer] = {}

    def current(self, now: int) -> SignedOffer:
        """Give the newest offer, a fresh one if that is half over."""
        self._drop_expired(now)
        newest = max(self._valid.values(), key=lambda signed: signed.offer.seq, default=None)
        if newest is None or newest.offer.valid_until - now < RENEW_BEFORE_S:
            newest = self._make(now)
            self._valid[newest.hash] = newest
        return newest

    def replace(self, now: int) -> SignedOffer:
        """Make a new offer at once because the figures changed; older ones still bind until they expire."""
        self._drop_expired(now)
        newest = self._make(now)
        self._valid[newest.hash] = newest
        return newest

    def get(self, offer_hash: bytes, now: int) -> SignedOffer | None:
        """Find an offer that still binds."""
        signed = self._valid.get(offer_hash)
        return signed if signed is not None and signed.is_valid_at(now) else None

    def _drop_expired(self, now: int) -> None:
        self._valid = {key: signed for key, signed in self._valid.items() if signed.is_valid_at(now)}


class ProviderDesk(Desk[ContractBook]):
    """Answers requests about contracts for one provider.

    Args:
        device_key: signs acceptances; its public part is the provider device of every contract.
        identity: owner of the provider, 32 bytes.
        capacity: gives the bytes that all contracts together may claim now.
        book: where contracts are kept.
        offers: what the provider offers.
        policy: decides about proposals.
        clock: Unix seconds UTC.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        *,
        device_key: SigningKey,
        identity: bytes,
        capacity: Callable[[], int],
        book: ContractBook,
        offers: OfferShelf,
        policy: AcceptPolicy,
        clock: Callable[[], int],
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        super().__init__(device_key=device_key, book=book, clock=clock, network_id=network_id)
        self._identity = identity
        self._capacity = capacity
        self._offers = offers
        self._policy = policy

    def _answer(self, caller: Caller, request: Message) -> Message:
        match request:
            case m.OfferQuery():
                return m.OfferAnswer(self._offers.current(self._clock()).raw)
            case m.Propose(terms=raw):
                return m.Accept(self._propose(caller, raw).provider.raw)
            case m.Amend(terms=raw):
                return m.Accept(self._amend(caller, raw).provider.raw)
            case m.Notice(act=raw):
                return m.NoticeKept(self._notice(caller, raw))
            case m.Close(act=raw):
                return m.Closed(self._close(caller, raw))
            case m.StateQuery(contract=contract_id):
                return self._latest_state(caller, contract_id)
            case m.ListQuery(after=after, limit=limit):
                return self._list(caller, after, limit)
            case _:
                raise RefusedError(Reason.MALFORMED)

    def _signed_by_caller(self, caller: Caller, raw: bytes) -> SignedTerms:
        signed = parse_terms(raw, self._network_id)
        terms = signed.terms
        own = (terms.provider_identity, terms.provider_device)
        theirs = (terms.customer_identity, terms.customer_device, signed.signer)
        if own != (self._identity, self._key.public) or theirs != (caller.identity, caller.device, caller.device):
            raise RefusedError(Reason.WRONG_PARTY)
        return signed

    def _offer_of(self, terms: ContractTerms, now: int) -> Offer | None:
        if terms.offer == NO_HASH:
            return None
        signed = self._offers.get(terms.offer, now)
        if signed is None:
            raise RefusedError(Reason.OFFER_EXPIRED, {"peer_time": now})
        return signed.offer

    def _facts(self, now: int, caller: Caller, replaced: ContractRecord | None = None) -> ProviderFacts:
        replaced_id = replaced.agreement.contract_id if replaced else None
        replaced_bytes = replaced.agreement.terms.capacity_bytes if replaced else 0
        others = [
            record.agreement
            for record in self._book.of_customer(caller.identity)
            if record.state in COMMITTED_STATES and record.agreement.contract_id != replaced_id
        ]
        return ProviderFacts(
            now=now,
            free_bytes=self._capacity() - self._book.committed_bytes() + replaced_bytes,
            customer_bytes=sum(agreement.terms.capacity_bytes for agreement in others),
            customer_contracts=len(others),
        )

    def _propose(self, caller: Caller, raw: bytes) -> Agreement:
        signed = self._signed_by_caller(caller, raw)
        if signed.terms.revision:
            raise RefusedError(Reason.REVISION)
        with self._book.transaction():
            known = self._book.get(signed.contract_id)
            if known is not None:
                return self._repeat(known, signed)
            now = self._clock()
            self._policy.judge(signed.terms, self._offer_of(signed.terms, now), self._facts(now, caller))
            agreement = countersign(signed, self._key, self._network_id)
            self._book.put(agreement, advance(ContractState.PROPOSED, ContractEvent.ACCEPTED), now)
            return agreement

    def _repeat(self, known: ContractRecord, signed: SignedTerms) -> Agreement:
        # The answer was lost: Ed25519 signs the same bytes the same way, so the answer is the same too.
        if known.agreement.terms_hash != signed.terms_hash:
            raise RefusedError(Reason.REVISION, {"revision": known.agreement.terms.revision})
        if known.state not in COMMITTED_STATES:
            raise RefusedError(Reason.STATE)
        return agree(signed, known.agreement.provider)

    def _amend(self, caller: Caller, raw: bytes) -> Agreement:
        signed = self._signed_by_caller(caller, raw)
        with self._book.transaction():
            record = self._own_record(caller, signed.contract_id)
            current = record.agreement
            if signed.terms_hash == current.terms_hash:
                return self._repeat(record, signed)
            if record.state not in AMENDABLE_STATES:
                raise RefusedError(Reason.STATE)
            fault = check_revision(current, signed.terms)
            if fault in ("revision", "previous", "contract"):
                raise RefusedError(Reason.REVISION, {"revision": current.terms.revision})
            if fault is not None:
                raise RefusedError(Reason.FIXED_FIELD)
            now = self._clock()
            self._judge_revision(caller, record, signed.terms, now)
            agreement = countersign(signed, self._key, self._network_id)
            self._book.put(agreement, advance(record.state, ContractEvent.REVISED), now)
            return agreement

    def _judge_revision(self, caller: Caller, record: ContractRecord, terms: ContractTerms, now: int) -> None:
        if terms.capacity_bytes < record.stored_bytes:
            raise RefusedError(Reason.CAPACITY, {"stored_bytes": record.stored_bytes})
        facts = self._facts(now, caller, record)
        self._policy.judge(terms, self._offer_of(terms, now), facts)

    def _own_record(self, caller: Caller, contract_id: bytes) -> ContractRecord:
        record = self._book.get(contract_id)
        # The same answer for a foreign contract as for none: ids of others are not confirmed.
        if record is None or record.agreement.terms.customer_identity != caller.identity:
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        return record

    def _act_of(self, caller: Caller, raw: bytes) -> tuple[SignedAct, ContractRecord]:
        signed = parse_act(raw, self._network_id)
        if signed.signer != caller.device:
            raise RefusedError(Reason.WRONG_PARTY)
        record = self._own_record(caller, signed.act.contract)
        if signed.act.terms != record.agreement.terms_hash:
            raise RefusedError(Reason.REVISION, {"revision": record.agreement.terms.revision})
        now = self._clock()
        if signed.act.issued_at > now + CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        return signed, record

    def _notice(self, caller: Caller, raw: bytes) -> bytes:
        with self._book.transaction():
            signed, record = self._act_of(caller, raw)
            moves = {ActKind.EXIT: ContractEvent.EXIT_NOTICE, ActKind.RENEWAL: ContractEvent.RENEWAL_PROPOSED}
            event = moves.get(signed.act.kind)
            if event is None:
                raise RefusedError(Reason.WRONG_PARTY)
            now = self._clock()
            self._book.add_act(signed, now)
            if can_advance(record.state, event):
                self._book.set_state(signed.act.contract, advance(record.state, event), now)
            return signed.statement_hash

    def _close(self, caller: Caller, raw: bytes) -> bytes:
        with self._book.transaction():
            signed, record = self._act_of(caller, raw)
            if signed.act.kind is not ActKind.CLOSE:
                raise RefusedError(Reason.MALFORMED)
            own = countersign_act(signed, self._key, self._network_id)
            if record.state is not ContractState.CLOSED:
                self._close_record(signed, own, record)
            return own.raw

    def _close_record(self, signed: SignedAct, own: SignedAct, record: ContractRecord) -> None:
        state = record.state
        if can_advance(state, ContractEvent.EXIT_NOTICE):
            state = advance(state, ContractEvent.EXIT_NOTICE)
        if not can_advance(state, ContractEvent.CLOSED):
            raise RefusedError(Reason.STATE)
        now = self._clock()
        self._book.add_act(signed, now)
        self._book.add_act(own, now)
        self._book.set_state(signed.act.contract, advance(state, ContractEvent.CLOSED), now)

    def _latest_state(self, caller: Caller, contract_id: bytes) -> m.LatestState:
        with self._book.transaction():
            record = self._own_record(caller, contract_id)
            return m.LatestState(
                contract=contract_id,
                state=record.state.value,
                customer_terms=record.agreement.customer.raw,
                provider_terms=record.agreement.provider.raw,
                stored_bytes=record.stored_bytes,
                stored_chunks=record.stored_chunks,
                vouchers=tuple(self._book.vouchers(contract_id)),
                statement=self._book.statement(contract_id),
            )

    def _list(self, caller: Caller, after: bytes, limit: int) -> m.ContractList:
        records = [
            record for record in self._book.of_customer(caller.identity) if record.agreement.contract_id > after
        ]
        items = tuple(
            (
                record.agreement.contract_id,
                record.state.value,
                record.agreement.customer.raw,
                record.agreement.provider.raw,
            )
            for record in records[:limit]
        )
        return m.ContractList(items, more=len(records) > limit)
