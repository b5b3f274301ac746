"""How much a provider risks: used and not yet promised; and what happens when it grows.

Source: protocols/specs/settle.md, "Exposure".
"""

from dataclasses import dataclass, replace
from enum import IntEnum, unique
from typing import Final

from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.prices import GB, MICRO_VIBE, storage_price
from sovereign_protocols.market.refusals import Reason, RefusedError

WARN_PERCENT: Final = 50
DEMAND_PERCENT: Final = 75

VOUCHER_EVERY_S: Final = 86_400
VOUCHER_EVERY_MICRO_VIBE: Final = 5 * MICRO_VIBE
VOUCHER_EVERY_BYTES: Final = GB

DAY_S: Final = 86_400
NO_UPLOADS_AFTER_S: Final = 7 * DAY_S
FINAL_NOTICE_AFTER_S: Final = 30 * DAY_S
DELETION_AFTER_S: Final = 45 * DAY_S

FIRST_CREDIT_S: Final = 3 * DAY_S
LONGEST_CREDIT_S: Final = 30 * DAY_S


@unique
class ExposureLevel(IntEnum):
    """What the provider does about its exposure."""

    CALM = 0
    WARN = 1
    DEMAND = 2
    STOP = 3


@dataclass(frozen=True)
class Exposure:
    """One contract's risk, in micro-VIBE.

    Args:
        limit: credit limit of the terms.
        accrued: cost of everything metered so far.
        in_flight: reserved for grants that are not metered yet.
        vouchered: sum of the newest vouchers of all lanes, and of credit notes.
    """

    limit: int
    accrued: int = 0
    in_flight: int = 0
    vouchered: int = 0

    @property
    def exposed(self) -> int:
        """What is at risk; negative if the customer paid ahead."""
        return self.accrued + self.in_flight - self.vouchered

    @property
    def level(self) -> ExposureLevel:
        """What to do; a contract without cost is always calm."""
        if self.exposed <= 0:
            return ExposureLevel.CALM
        if self.exposed >= self.limit:
            return ExposureLevel.STOP
        share = self.exposed * 100
        if share >= self.limit * DEMAND_PERCENT:
            return ExposureLevel.DEMAND
        return ExposureLevel.WARN if share >= self.limit * WARN_PERCENT else ExposureLevel.CALM

    def reserve(self, amount: int) -> "Exposure":
        """Set an amount aside before a grant.

        Raises:
            RefusedError: reason credit, with the exposure and the limit.
        """
        if amount and self.exposed + amount > self.limit:
            raise RefusedError(Reason.CREDIT, {"exposed": self.exposed, "max": self.limit})
        return replace(self, in_flight=self.in_flight + amount)

    def apply(self, reserved: int, accrued: int) -> "Exposure":
        """Turn a reservation into what was really metered.

        Raises:
            LocalProtocolError: more is applied than was reserved for it, or than is in flight.
        """
        if accrued > reserved or reserved > self.in_flight:
            raise LocalProtocolError("a grant costs more than was reserved")
        return replace(self, in_flight=self.in_flight - reserved, accrued=self.accrued + accrued)

    def accrue(self, accrued: int) -> "Exposure":
        """Note the new cost of everything metered; storage accrues without a grant.

        Raises:
            LocalProtocolError: it falls.
        """
        if accrued < self.accrued:
            raise LocalProtocolError("what accrued never falls")
        return replace(self, accrued=accrued)

    def pay(self, vouchered: int) -> "Exposure":
        """Note the new sum of vouchers and credit notes.

        Raises:
            LocalProtocolError: it falls.
        """
        if vouchered < self.vouchered:
            raise LocalProtocolError("what was promised never falls")
        return replace(self, vouchered=vouchered)


def is_voucher_due(*, since_s: int, accrued_since: int, moved_since_bytes: int) -> bool:
    """Tell whether the customer should sign a voucher: after 24 hours, 5 VIBE or 1 GB, whichever comes first.

    Args:
        since_s: seconds since the last voucher.
        accrued_since: micro-VIBE since then; nothing owed needs no voucher.
        moved_since_bytes: transferred since then.
    """
    if accrued_since <= 0:
        return False
    return (
        since_s >= VOUCHER_EVERY_S
        or accrued_since >= VOUCHER_EVERY_MICRO_VIBE
        or moved_since_bytes >= VOUCHER_EVERY_BYTES
    )


def credit_limit(*, capacity_bytes: int, micro_vibe_per_gb_month: int, honoured_months: int) -> int:
    """Give a customer's credit: three days of storage, doubled with every honoured month, at most thirty.

    Args:
        capacity_bytes: of the contract.
        micro_vibe_per_gb_month: its price.
        honoured_months: periods paid without reminder.

    Returns:
        micro-VIBE, at least 1 VIBE.
    """
    # Four doublings reach the cap; a larger shift would only make large numbers.
    credit_s = min(FIRST_CREDIT_S << min(honoured_months, 4), LONGEST_CREDIT_S)
    return max(storage_price(capacity_bytes * credit_s, micro_vibe_per_gb_month), MICRO_VIBE)


@unique
class OverdueStep(IntEnum):
    """What a provider may do about an unpaid statement."""

    NOTHING = 0
    NO_UPLOADS = 1
    FINAL_NOTICE = 2
    DELETION = 3


def overdue_step(unpaid_s: int) -> OverdueStep:
    """Tell the harshest step that is allowed after `unpaid_s` seconds; deletion also needs its signed notice."""
    if unpaid_s >= DELETION_AFTER_S:
        return OverdueStep.DELETION
    if unpaid_s >= FINAL_NOTICE_AFTER_S:
        return OverdueStep.FINAL_NOTICE
    return OverdueStep.NO_UPLOADS if unpaid_s >= NO_UPLOADS_AFTER_S else OverdueStep.NOTHING
