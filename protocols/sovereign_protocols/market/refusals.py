"""Why a party says no: a fixed list of reasons, each with the figures that help the other side.

Source: protocols/specs/market.md, "Errors".
"""

from collections.abc import Mapping
from enum import StrEnum, unique

from sovereign_protocols.errors import ProtocolError


@unique
class Reason(StrEnum):
    """What a refusal may say."""

    CAPACITY = "capacity"
    SIZE = "size"
    DURATION = "duration"
    PRICE_TOO_LOW = "price_too_low"
    BONUS = "bonus"
    CREDIT = "credit"
    GRACE = "grace"
    ADAPTER = "adapter"
    OBSERVERS = "observers"
    OFFER_UNKNOWN = "offer_unknown"
    OFFER_EXPIRED = "offer_expired"
    CLOSED_FOR_NEW = "closed_for_new"
    TOO_MANY = "too_many"
    CLOCK_SKEW = "clock_skew"
    IDENTITY = "identity"
    WRONG_PARTY = "wrong_party"
    SIGNATURE = "signature"
    MALFORMED = "malformed"
    UNKNOWN_CONTRACT = "unknown_contract"
    STATE = "state"
    REVISION = "revision"
    FIXED_FIELD = "fixed_field"
    BUDGET = "budget"
    AMOUNT = "amount"
    SEQUENCE = "sequence"
    EQUIVOCATION = "equivocation"
    FIGURES = "figures"
    STORAGE = "storage"
    BUSY = "busy"


class RefusedError(ProtocolError):
    """One party refused a request of the other.

    Args:
        reason: from the fixed list.
        data: figures that go with it, for example free_bytes or peer_time.
    """

    def __init__(self, reason: Reason, data: Mapping[str, int] | None = None) -> None:
        figures = "".join(f", {name} {value}" for name, value in (data or {}).items())
        super().__init__(f"refused: {reason.value}{figures}")
        self.reason = reason
        self.data: Mapping[str, int] = dict(data or {})
