"""Offers: what a provider has and what it asks, signed by its device and valid for half an hour.

Source: protocols/specs/market.md, "Offer".
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Final

from sovereign_crypto.schema import Check, byte_string, check_schema, integer, list_of, text
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, Statement, StatementType, sign_statement
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.prices import PERMILLE, Prices
from sovereign_protocols.statements import read_statement

VERSION: Final = 1
#: Half an hour bounds how long a price binds; the provider renews the offer well before.
VALIDITY_S: Final = 1800
#: Clocks of honest nodes may differ by this much.
CLOCK_SKEW_S: Final = 120
#: Fits a DHT record together with its certificate.
MAX_OFFER_BYTES: Final = 2048
MAX_NAME_CHARACTERS: Final = 64
MAX_LABEL_CHARACTERS: Final = 32
MAX_ADAPTERS: Final = 8

#: 4 EB: above every disk, and far enough below 2^63 that sums of a few stay inside.
MAX_BYTES: Final = 4 * 10**18
#: A million VIBE per unit: above every honest price, and products with usage stay exact anyway.
MAX_PRICE_MICRO_VIBE: Final = 10**12
MAX_DURATION_S: Final = 5 * 366 * 86400
MAX_TIME: Final = 2**53

_BYTES = integer(0, MAX_BYTES)
_PRICE = integer(0, MAX_PRICE_MICRO_VIBE)
_DURATION = integer(0, MAX_DURATION_S)
_TIME = integer(0, MAX_TIME)

_SCHEMA: Final[dict[str, Check]] = {
    "v": integer(VERSION, VERSION),
    "identity": byte_string(32),
    "device": byte_string(32),
    "name": text(MAX_NAME_CHARACTERS),
    "region": text(MAX_LABEL_CHARACTERS),
    "operator": text(MAX_LABEL_CHARACTERS),
    "seq": integer(0, MAX_TIME),
    "issued_at": _TIME,
    "valid_until": _TIME,
    "capacity_bytes": _BYTES,
    "free_bytes": _BYTES,
    "min_contract_bytes": _BYTES,
    "max_contract_bytes": _BYTES,
    "price_per_gb_month": _PRICE,
    "price_per_gb_transfer": _PRICE,
    "bonus_permille": integer(PERMILLE, 10 * PERMILLE),
    "free_allowance_bytes": _BYTES,
    "credit_limit": _PRICE,
    "max_duration_s": _DURATION,
    "period_s": _DURATION,
    "grace_s": _DURATION,
    "audits_per_day": integer(0, 100_000),
    "adapters": list_of(text(MAX_LABEL_CHARACTERS), MAX_ADAPTERS),
}


@dataclass(frozen=True)
class Offer:
    """What a provider has and what it asks.

    Args:
        identity: the operator, 32 bytes.
        device: the provider's device key, 32 bytes; it signs.
        name: of the device, for people.
        seq: grows with every offer of the device.
        issued_at: Unix seconds UTC.
        capacity_bytes: what the provider gives to the market altogether.
        free_bytes: what is left of it.
        max_contract_bytes: largest contract.
        price_per_gb_month: micro-VIBE.
        price_per_gb_transfer: micro-VIBE, either direction.
        bonus_permille: 1500 asks for half more at high uptime, 1000 for nothing.
        valid_until: Unix seconds UTC, at most half an hour after issued_at.
        min_contract_bytes: smallest contract.
        free_allowance_bytes: stored without charge for each customer.
        credit_limit: micro-VIBE that a new customer may owe.
        max_duration_s: longest contract.
        period_s: billing period.
        grace_s: how long released or unpaid data stays.
        audits_per_day: how many audits the provider answers without charge.
        adapters: ways of settlement that it accepts.
        region: label of the place, as the operator says.
        operator: label of who runs it; copies should have different ones.
    """

    identity: bytes
    device: bytes
    name: str
    seq: int
    issued_at: int
    capacity_bytes: int
    free_bytes: int
    max_contract_bytes: int
    price_per_gb_month: int
    price_per_gb_transfer: int
    bonus_permille: int = PERMILLE
    valid_until: int = -1
    min_contract_bytes: int = 0
    free_allowance_bytes: int = 0
    credit_limit: int = 0
    max_duration_s: int = 366 * 86400
    period_s: int = 720 * 3600
    grace_s: int = 30 * 86400
    audits_per_day: int = 96
    adapters: tuple[str, ...] = ("manual",)
    region: str = ""
    operator: str = ""

    def __post_init__(self) -> None:
        if self.valid_until == -1:
            object.__setattr__(self, "valid_until", self.issued_at + VALIDITY_S)

    @property
    def prices(self) -> Prices:
        """The price fields, for the arithmetic."""
        return Prices(self.price_per_gb_month, self.price_per_gb_transfer, self.bonus_permille)

    def to_body(self) -> dict[str, Any]:
        """Give the body of the statement."""
        body = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        return body | {"v": VERSION, "adapters": list(self.adapters)}


@dataclass(frozen=True)
class SignedOffer:
    """An offer whose signature was verified.

    Args:
        offer: its content.
        hash: names it in a contract, 32 bytes.
        raw: the statement.
    """

    offer: Offer
    hash: bytes
    raw: bytes = field(repr=False)

    def is_valid_at(self, now: int) -> bool:
        """Tell whether the offer binds at `now`, Unix seconds UTC, allowing for honest clocks."""
        return self.offer.issued_at - CLOCK_SKEW_S <= now <= self.offer.valid_until


def _read(statement: Statement) -> SignedOffer:
    body = dict(check_schema(statement.body, _SCHEMA))
    del body["v"]
    offer = Offer(**(body | {"adapters": tuple(body["adapters"])}))
    if offer.device != statement.signer:
        raise RemoteProtocolError(ErrorCode.SIGNATURE, "an offer is signed by the device that it names")
    if not offer.issued_at <= offer.valid_until <= offer.issued_at + VALIDITY_S:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "an offer is valid for half an hour at most")
    if not offer.min_contract_bytes <= offer.max_contract_bytes or offer.free_bytes > offer.capacity_bytes:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "the sizes of the offer contradict each other")
    return SignedOffer(offer, statement.hash, statement.raw)


def sign_offer(offer: Offer, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> SignedOffer:
    """Sign an offer.

    Args:
        offer: its `device` must be the key's public part.
        device_key: the provider's device key.
        network_id: 32 bytes.

    Raises:
        FormatError: a field is outside its bounds.
        RemoteProtocolError: the fields contradict each other.
    """
    statement = sign_statement(
        StatementType.OFFER, offer.to_body(), device_key, network_id, max_bytes=MAX_OFFER_BYTES
    )
    return _read(statement)


def parse_offer(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> SignedOffer:
    """Verify an offer; whether it is still valid is asked with `is_valid_at`.

    Args:
        raw: the statement as received.
        network_id: 32 bytes.

    Raises:
        RemoteProtocolError: code signature or malformed.
    """
    return read_statement(
        raw, _read, expected=StatementType.OFFER, network_id=network_id, max_bytes=MAX_OFFER_BYTES
    )
