"""Which snapshots stay: a pure function of times and a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sovereign_protocols.vault.snapshot import SignedSnapshot


@dataclass(frozen=True)
class ForgetPolicy:
    """What to keep; a snapshot stays if any rule keeps it. A policy without rules keeps everything.

    Args:
        last: number of newest snapshots.
        daily: days for which the newest snapshot of the day stays; days without snapshots do not count.
        weekly: the same for ISO weeks.
        monthly: the same for months.
        yearly: the same for years.
        within_s: everything younger than this, counted from the newest snapshot.
    """

    last: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within_s: int = 0

    @property
    def empty(self) -> bool:
        """Whether no rule is given."""
        return not any((self.last, self.daily, self.weekly, self.monthly, self.yearly, self.within_s))


@dataclass(frozen=True)
class ForgetPlan:
    """What a policy says.

    Args:
        keep: snapshots that stay with the rules that keep them, newest first.
        forget: snapshots that go, newest first.
    """

    keep: tuple[tuple[SignedSnapshot, tuple[str, ...]], ...]
    forget: tuple[SignedSnapshot, ...]


_Period = Callable[[datetime], tuple[int, ...]]


def _day(when: datetime) -> tuple[int, ...]:
    return when.year, when.month, when.day


def _week(when: datetime) -> tuple[int, ...]:
    return tuple(when.isocalendar()[:2])


def _month(when: datetime) -> tuple[int, ...]:
    return when.year, when.month


def _year(when: datetime) -> tuple[int, ...]:
    return (when.year,)


def plan_forget(snapshots: Sequence[SignedSnapshot], policy: ForgetPolicy) -> ForgetPlan:
    """Apply a policy.

    Args:
        snapshots: any order.
        policy: the rules; days begin at midnight UTC.

    Returns:
        What stays and what goes. The newest snapshot always stays.
    """
    newest_first = sorted(
        enumerate(snapshots), key=lambda item: (item[1].content.created_at, item[0]), reverse=True
    )
    ordered = [snapshot for _, snapshot in newest_first]
    reasons: dict[bytes, list[str]] = {snapshot.snapshot_id: [] for snapshot in ordered}
    if policy.empty:
        for snapshot in ordered:
            reasons[snapshot.snapshot_id].append("no rules")
    for snapshot in ordered[: policy.last]:
        reasons[snapshot.snapshot_id].append("last")
    rules: tuple[tuple[str, int, _Period], ...] = (
        ("daily", policy.daily, _day),
        ("weekly", policy.weekly, _week),
        ("monthly", policy.monthly, _month),
        ("yearly", policy.yearly, _year),
    )
    for name, count, period in rules:
        _keep_newest_per_period(ordered, reasons, name, count, period)
    if ordered:
        limit = ordered[0].content.created_at - policy.within_s
        for snapshot in ordered:
            if policy.within_s and snapshot.content.created_at >= limit:
                reasons[snapshot.snapshot_id].append("within")
        if not reasons[ordered[0].snapshot_id]:
            reasons[ordered[0].snapshot_id].append("newest")
    keep = tuple(
        (snapshot, tuple(reasons[snapshot.snapshot_id])) for snapshot in ordered if reasons[snapshot.snapshot_id]
    )
    return ForgetPlan(keep, tuple(snapshot for snapshot in ordered if not reasons[snapshot.snapshot_id]))


def _keep_newest_per_period(
    ordered: Sequence[SignedSnapshot], reasons: dict[bytes, list[str]], name: str, count: int, period: _Period
) -> None:
    periods: set[tuple[int, ...]] = set()
    for snapshot in ordered:
        key = period(datetime.fromtimestamp(snapshot.content.created_at, UTC))
        if key not in periods and len(periods) < count:
            periods.add(key)
            reasons[snapshot.snapshot_id].append(name)
