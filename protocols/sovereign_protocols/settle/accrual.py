"""What a contract costs so far, and the lines of a period, each rounded once under the prices then in force.

Source: protocols/specs/settle.md, "Accrual".
"""

from dataclasses import dataclass, replace

from sovereign_protocols.market.prices import Charges, Prices, UptimeCount, Usage, charge
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement, BonusPayer
from sovereign_protocols.settle.bodies import PeriodStatement
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, Signed


@dataclass(frozen=True)
class Accrual:
    """The running cost of one contract, in micro-VIBE.

    Args:
        prices: in force now.
        since: reading of the meter when they came into force, or when the last period closed.
        closed: cost of everything before.
    """

    prices: Prices
    since: Meter
    closed: int = 0

    def accrued(self, meter: Meter) -> int:
        """Give the cost of everything up to a reading; the bonus is not known before the period ends."""
        return self.closed + charge(self.prices, meter.usage_since(self.since), with_bonus=False).price

    def rebase(self, meter: Meter, prices: Prices) -> "Accrual":
        """Close the lines at a reading: new terms came into force, or a period ended."""
        return replace(self, prices=prices, since=meter, closed=self.accrued(meter))


@dataclass(frozen=True)
class PeriodFigures:
    """What both sides count on their own for one period.

    Args:
        segments: prices and usage of each revision that was in force, in order; at least one.
        uptime: windows of the period.
        credits: credit notes of the period, micro-VIBE.
        vouchered: sum of all lanes at the end, micro-VIBE.
        vouchered_before: the same at the end of the period before.
    """

    segments: tuple[tuple[Prices, Usage], ...]
    uptime: UptimeCount
    credits: int = 0
    vouchered: int = 0
    vouchered_before: int = 0

    def charges(self, *, with_bonus: bool) -> Charges:
        """Sum the lines of all revisions."""
        lines = [charge(prices, usage, with_bonus=with_bonus) for prices, usage in self.segments]
        return Charges(
            storage=sum(line.storage for line in lines),
            transfer=sum(line.transfer for line in lines),
            bonus=sum(line.bonus for line in lines),
        )


def build_statement(
    agreement: Agreement,
    figures: PeriodFigures,
    *,
    previous: Signed[PeriodStatement] | None,
    from_at: int,
    until_at: int,
) -> PeriodStatement:
    """Make the statement of a period; both sides run this and sign only if their results are equal.

    Args:
        agreement: in force at the end.
        figures: own count.
        previous: statement before, with both signatures.
        from_at: first second of the period, Unix seconds UTC.
        until_at: first second after.
    """
    pays_bonus = agreement.terms.bonus_payer is BonusPayer.CUSTOMER and figures.uptime.earns_bonus
    charges = figures.charges(with_bonus=pays_bonus)
    opening = previous.body.closing if previous else 0
    paid = figures.vouchered - figures.vouchered_before
    return PeriodStatement(
        contract=agreement.contract_id,
        terms=agreement.terms_hash,
        period=previous.body.period + 1 if previous else 0,
        previous=previous.content_hash if previous else NO_HASH,
        from_at=from_at,
        until_at=until_at,
        byte_seconds=sum(usage.byte_seconds for _, usage in figures.segments),
        transfer_bytes=sum(usage.transfer_bytes for _, usage in figures.segments),
        windows_good=figures.uptime.good,
        windows_observed=figures.uptime.observed,
        opening=opening,
        storage=charges.storage,
        transfer=charges.transfer,
        bonus=charges.bonus,
        credits=figures.credits,
        paid=paid,
        closing=opening + charges.earnings - figures.credits - paid,
    )


def check_statement(theirs: PeriodStatement, own: PeriodStatement) -> None:
    """Agree with the other side's statement, or say where it differs.

    Raises:
        RefusedError: reason figures, with the own closing balance and price.
    """
    if theirs != own:
        price = own.storage + own.transfer + own.bonus
        raise RefusedError(Reason.FIGURES, {"closing": own.closing, "price": price})
