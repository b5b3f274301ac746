"""A provider and a customer for the tests of the market, with a contract book in memory."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from sovereign_crypto.certificate import Capability, IdentityAnchor, issue_certificate
from sovereign_crypto.signing import SigningKey
from sovereign_protocols.market.desk import ContractRecord, OfferShelf, ProviderDesk
from sovereign_protocols.market.draft import draft_terms
from sovereign_protocols.market.offer import Offer, SignedOffer, sign_offer
from sovereign_protocols.market.policy import ListPricePolicy
from sovereign_protocols.market.terms import ContractTerms
from sovereign_protocols.requests.desk import Caller

NOW = 1_800_000_000
GB = 10**9


class MemoryBook:
    """A contract book that forgets at the end of the test."""

    def __init__(self) -> None:
        self.records: dict[bytes, ContractRecord] = {}
        self.acts: dict[bytes, object] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = dict(self.records)
        try:
            yield
        except BaseException:
            self.records = before
            raise

    def get(self, contract_id):
        return self.records.get(contract_id)

    def of_customer(self, identity):
        found = [r for r in self.records.values() if r.agreement.terms.customer_identity == identity]
        return sorted(found, key=lambda record: record.agreement.contract_id)

    def committed_bytes(self):
        live = [r for r in self.records.values() if r.state.value not in ("proposed", "closed")]
        return sum(record.agreement.terms.capacity_bytes for record in live)

    def put(self, agreement, state, at):
        known = self.records.get(agreement.contract_id)
        counters = (known.stored_bytes, known.stored_chunks) if known else (0, 0)
        self.records[agreement.contract_id] = ContractRecord(agreement, state, *counters)

    def set_state(self, contract_id, state, at):
        self.records[contract_id] = dataclasses.replace(self.records[contract_id], state=state)

    def add_act(self, act, at):
        self.acts[act.statement_hash] = act

    def vouchers(self, contract_id):
        return ()

    def statement(self, contract_id):
        return b""


@dataclasses.dataclass
class Node:
    """A person with one device."""

    device_key: SigningKey
    identity: bytes
    certificate: bytes

    @property
    def caller(self) -> Caller:
        return Caller(self.identity, self.device_key.public)


def make_node(number: int, *, identity_number: int | None = None) -> Node:
    """Make a device; give the same identity number for two devices of one person."""
    person = number if identity_number is None else identity_number
    identity_key = SigningKey.from_seed(person.to_bytes(32, "big"))
    recovery_key = SigningKey.from_seed((1000 + person).to_bytes(32, "big"))
    device_key = SigningKey.from_seed((2000 + number).to_bytes(32, "big"))
    anchor = IdentityAnchor(identity_key.public, recovery_key.public, bytes(16))
    certificate = issue_certificate(
        identity_key,
        anchor,
        device_key,
        device_enc_pk=bytes((9, *bytes(31))),
        caps=Capability.READ | Capability.WRITE | Capability.PROVIDER,
        not_before=NOW - 86_400,
        not_after=NOW + 86_400 * 300,
        serial=number,
    )
    return Node(device_key, anchor.identity_id, certificate)


PROVIDER = make_node(1)
CUSTOMER = make_node(2)
STRANGER = make_node(3)
CUSTOMER_LAPTOP = make_node(4, identity_number=2)
OWN_LAPTOP = make_node(5, identity_number=1)


class World:
    """One provider with 50 GB and a clock that tests move."""

    def __init__(self, book=None, **offer_changes) -> None:
        self.now = NOW
        self.capacity = 50 * GB
        self.book = MemoryBook() if book is None else book
        self.offer_changes = offer_changes
        self.made = 0
        self.offers = OfferShelf(self.make_offer)
        self.desk = ProviderDesk(
            device_key=PROVIDER.device_key,
            identity=PROVIDER.identity,
            capacity=lambda: self.capacity,
            book=self.book,
            offers=self.offers,
            policy=ListPricePolicy(PROVIDER.identity),
            clock=lambda: self.now,
        )

    def make_offer(self, now: int) -> SignedOffer:
        self.made += 1
        offer = Offer(
            identity=PROVIDER.identity,
            device=PROVIDER.device_key.public,
            name="Attic",
            seq=self.made,
            issued_at=now,
            capacity_bytes=self.capacity,
            free_bytes=self.capacity - self.book.committed_bytes(),
            max_contract_bytes=20 * GB,
            min_contract_bytes=GB,
            price_per_gb_month=2_000_000,
            price_per_gb_transfer=500_000,
            bonus_permille=1500,
            credit_limit=1_000_000,
        )
        return sign_offer(dataclasses.replace(offer, **self.offer_changes), PROVIDER.device_key)

    def terms(self, node: Node = CUSTOMER, *, nonce: int = 0, **changes) -> ContractTerms:
        terms = draft_terms(
            self.offers.current(self.now),
            node.caller,
            capacity_bytes=changes.pop("capacity_bytes", 5 * GB),
            now=self.now,
            nonce=nonce.to_bytes(16, "big"),
            is_own=node.identity == PROVIDER.identity,
        )
        return dataclasses.replace(terms, **changes)


def altered(raw: bytes) -> bytes:
    """Change one bit at the end, where the signature is."""
    return raw[:-1] + bytes([raw[-1] ^ 1])
