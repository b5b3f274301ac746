"""Contract terms: one body that customer and provider both sign; the hash of the first is the contract's id.

Source: protocols/specs/market.md, "Terms".
"""

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Any, Final

from sovereign_crypto.schema import Check, byte_string, check_schema, integer, list_of, text
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    Statement,
    StatementType,
    sign_same_content,
    sign_statement,
)
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.offer import (
    MAX_BYTES,
    MAX_DURATION_S,
    MAX_LABEL_CHARACTERS,
    MAX_PRICE_MICRO_VIBE,
    MAX_TIME,
)
from sovereign_protocols.market.prices import PERMILLE, Prices
from sovereign_protocols.statements import read_statement

VERSION: Final = 1
MAX_TERMS_BYTES: Final = 2048
MAX_OBSERVERS: Final = 8
MAX_REVISION: Final = 65_535
NONCE_BYTES: Final = 16
NO_HASH: Final = bytes(32)


@unique
class BonusPayer(StrEnum):
    """Who pays what high uptime adds; it is never minted."""

    NOBODY = "nobody"
    CUSTOMER = "customer"
    SPONSOR = "sponsor"


_ID = byte_string(32)
_SIZE = integer(0, MAX_BYTES)
_MONEY = integer(0, MAX_PRICE_MICRO_VIBE)
_TIME = integer(0, MAX_TIME)
_DURATION = integer(0, MAX_DURATION_S)

_SCHEMA: Final[dict[str, Check]] = {
    "v": integer(VERSION, VERSION),
    "contract": _ID,
    "revision": integer(0, MAX_REVISION),
    "previous": _ID,
    "nonce": byte_string(NONCE_BYTES),
    "customer_identity": _ID,
    "customer_device": _ID,
    "provider_identity": _ID,
    "provider_device": _ID,
    "offer": _ID,
    "capacity_bytes": _SIZE,
    "start_at": _TIME,
    "end_at": _TIME,
    "period_s": integer(3600, MAX_DURATION_S),
    "grace_s": _DURATION,
    "price_per_gb_month": _MONEY,
    "price_per_gb_transfer": _MONEY,
    "bonus_permille": integer(PERMILLE, 10 * PERMILLE),
    "bonus_payer": lambda value: value in {str(payer) for payer in BonusPayer},
    "sponsor": _ID,
    "observers": list_of(_ID, MAX_OBSERVERS),
    "credit_limit": _MONEY,
    "budget": integer(0, MAX_PRICE_MICRO_VIBE * 1000),
    "adapter": text(MAX_LABEL_CHARACTERS),
}

#: A revision may not change whom the contract binds, nor when it began.
FIXED_FIELDS: Final = ("customer_identity", "provider_identity", "provider_device", "start_at", "adapter")


@dataclass(frozen=True)
class ContractTerms:
    """One revision of a contract; sizes in bytes, money in micro-VIBE, times in Unix seconds UTC.

    Args:
        customer_identity: who owns the data, 32 bytes.
        customer_device: signs for the customer, 32 bytes.
        provider_identity: who stores it, 32 bytes.
        provider_device: stores it and signs, 32 bytes.
        capacity_bytes: kept free for the customer.
        start_at: first second.
        end_at: first second after the end.
        price_per_gb_month: for storage.
        price_per_gb_transfer: for either direction.
        nonce: 16 random bytes, so that equal terms make different contracts.
        contract: id of the contract; zero bytes in revision 0, whose hash it is.
        revision: counts up by one.
        previous: content hash of the revision before; zero bytes in revision 0.
        offer: hash of the signed offer it rests on; zero bytes between own devices.
        period_s: length of a billing period.
        grace_s: how long released or unpaid data stays.
        bonus_permille: what high uptime earns, of 1000.
        bonus_payer: who pays it.
        sponsor: the identity that pays, zero bytes unless the payer is a sponsor.
        observers: device keys of those who measure uptime.
        credit_limit: what the customer may owe.
        budget: the most that one period may cost the customer, 0 for no limit.
        adapter: way of settlement.
    """

    customer_identity: bytes
    customer_device: bytes
    provider_identity: bytes
    provider_device: bytes
    capacity_bytes: int
    start_at: int
    end_at: int
    price_per_gb_month: int
    price_per_gb_transfer: int
    nonce: bytes
    contract: bytes = NO_HASH
    revision: int = 0
    previous: bytes = NO_HASH
    offer: bytes = NO_HASH
    period_s: int = 720 * 3600
    grace_s: int = 30 * 86400
    bonus_permille: int = PERMILLE
    bonus_payer: BonusPayer = BonusPayer.NOBODY
    sponsor: bytes = NO_HASH
    observers: tuple[bytes, ...] = ()
    credit_limit: int = 0
    budget: int = 0
    adapter: str = "manual"

    @property
    def prices(self) -> Prices:
        """The price fields, for the arithmetic."""
        return Prices(self.price_per_gb_month, self.price_per_gb_transfer, self.bonus_permille)

    @property
    def is_free(self) -> bool:
        """Whether nothing is ever owed."""
        return self.price_per_gb_month == 0 and self.price_per_gb_transfer == 0

    def to_body(self) -> dict[str, Any]:
        """Give the body of the statement."""
        body = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        return body | {"v": VERSION, "bonus_payer": str(self.bonus_payer), "observers": list(self.observers)}


@dataclass(frozen=True)
class SignedTerms:
    """Terms with one verified signature of a party.

    Args:
        terms: the content.
        terms_hash: the same for both signatures, 32 bytes.
        statement_hash: of this signed copy, 32 bytes.
        signer: device key of the party, 32 bytes.
        raw: the statement.
    """

    terms: ContractTerms
    terms_hash: bytes
    statement_hash: bytes
    signer: bytes
    raw: bytes = field(repr=False)

    @property
    def contract_id(self) -> bytes:
        """The contract's id: the hash of revision 0."""
        return self.terms.contract if self.terms.revision else self.terms_hash

    @property
    def by_customer(self) -> bool:
        """Whether the customer's device signed."""
        return self.signer == self.terms.customer_device


@dataclass(frozen=True)
class Agreement:
    """Terms with both signatures: what either side can prove.

    Args:
        customer: the terms as the customer signed them.
        provider: the same terms as the provider signed them.
    """

    customer: SignedTerms
    provider: SignedTerms

    def __post_init__(self) -> None:
        if self.customer.terms_hash != self.provider.terms_hash:
            raise RemoteProtocolError(ErrorCode.MALFORMED, "the parties signed different terms")
        if not self.customer.by_customer or self.provider.by_customer:
            raise RemoteProtocolError(ErrorCode.SIGNATURE, "a signature of a party is missing")

    @property
    def terms(self) -> ContractTerms:
        """What was agreed."""
        return self.customer.terms

    @property
    def contract_id(self) -> bytes:
        """The contract's id, 32 bytes."""
        return self.customer.contract_id

    @property
    def terms_hash(self) -> bytes:
        """Hash of this revision, 32 bytes."""
        return self.customer.terms_hash


def _check_consistent(terms: ContractTerms) -> None:
    is_first = terms.revision == 0
    faults = (
        (not terms.start_at < terms.end_at <= terms.start_at + MAX_DURATION_S, "the time span is impossible"),
        (is_first != (terms.contract == NO_HASH), "only the first revision has no contract id"),
        (is_first != (terms.previous == NO_HASH), "only the first revision has no predecessor"),
        (terms.customer_device == terms.provider_device, "a device makes no contract with itself"),
        ((terms.bonus_payer is BonusPayer.SPONSOR) != (terms.sponsor != NO_HASH), "the sponsor is unclear"),
        (len(set(terms.observers)) != len(terms.observers), "an observer is named twice"),
    )
    for is_fault, detail in faults:
        if is_fault:
            raise RemoteProtocolError(ErrorCode.MALFORMED, detail)


def _read(statement: Statement) -> SignedTerms:
    body = dict(check_schema(statement.body, _SCHEMA))
    del body["v"]
    body["bonus_payer"] = BonusPayer(body["bonus_payer"])
    body["observers"] = tuple(body["observers"])
    terms = ContractTerms(**body)
    _check_consistent(terms)
    if statement.signer not in (terms.customer_device, terms.provider_device):
        raise RemoteProtocolError(ErrorCode.SIGNATURE, "only the two parties sign the terms")
    return SignedTerms(terms, statement.content_hash, statement.hash, statement.signer, statement.raw)


def sign_terms(terms: ContractTerms, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> SignedTerms:
    """Sign terms as the first party.

    Args:
        terms: the device key's public part is one of its two devices.
        device_key: of that party.
        network_id: 32 bytes.

    Raises:
        FormatError: a field is outside its bounds.
        RemoteProtocolError: the fields contradict each other.
    """
    return _read(
        sign_statement(StatementType.CONTRACT, terms.to_body(), device_key, network_id, max_bytes=MAX_TERMS_BYTES)
    )


def parse_terms(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> SignedTerms:
    """Verify terms that one party signed.

    Args:
        raw: the statement as received.
        network_id: 32 bytes.

    Raises:
        RemoteProtocolError: code signature or malformed.
    """
    return read_statement(
        raw, _read, expected=StatementType.CONTRACT, network_id=network_id, max_bytes=MAX_TERMS_BYTES
    )


def countersign(signed: SignedTerms, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> Agreement:
    """Sign the terms of the other party and so put them in force.

    Args:
        signed: what the other party signed; the caller agrees with it.
        device_key: of this party.
        network_id: 32 bytes.

    Raises:
        RemoteProtocolError: the key belongs to neither party, or the same party signed twice.
    """
    own = parse_terms(sign_same_content(signed.raw, device_key, network_id), network_id)
    return agree(signed, own)


def agree(first: SignedTerms, second: SignedTerms) -> Agreement:
    """Put both signatures together, in any order.

    Raises:
        RemoteProtocolError: they do not make an agreement.
    """
    return Agreement(first, second) if first.by_customer else Agreement(second, first)


def check_revision(current: Agreement, proposed: ContractTerms) -> str | None:
    """Tell whether terms can follow those in force.

    Args:
        current: in force.
        proposed: the next revision.

    Returns:
        None if they can, else the name of the field that forbids it.
    """
    if proposed.contract != current.contract_id:
        return "contract"
    if proposed.revision != current.terms.revision + 1:
        return "revision"
    if proposed.previous != current.terms_hash:
        return "previous"
    for name in FIXED_FIELDS:
        if getattr(proposed, name) != getattr(current.terms, name):
            return name
    return None
