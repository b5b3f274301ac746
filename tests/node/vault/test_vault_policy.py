"""Policies: a table of snapshots every six hours for two years, and what each rule keeps."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sovereign_node.vault.policy import ForgetPlan, ForgetPolicy, plan_forget
from sovereign_protocols.vault.snapshot import ROOT_NAME, SignedSnapshot, Snapshot
from sovereign_protocols.vault.tree import Content, Entry, Kind

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
HOURS = 3600


def snapshot(number: int, created_at: int) -> SignedSnapshot:
    root = Entry(ROOT_NAME, Kind.DIRECTORY, 0o755, 0, 0, Content.NONE, b"")
    content = Snapshot(bytes(32), root, (), created_at, 0, 1, 0, 0)
    return SignedSnapshot(number.to_bytes(32, "big"), bytes(32), b"", content)


SERIES = [snapshot(number, START + number * 6 * HOURS) for number in range(4 * 731)]


def days(plan: ForgetPlan) -> list[str]:
    times = [datetime.fromtimestamp(item.content.created_at, UTC) for item, _ in plan.keep]
    return [f"{when:%Y-%m-%d %H}" for when in times]


def test_nothing_goes_without_rules() -> None:
    assert plan_forget(SERIES, ForgetPolicy()).forget == ()
    assert plan_forget([], ForgetPolicy(last=1)) == ForgetPlan((), ())


def test_last() -> None:
    assert days(plan_forget(SERIES, ForgetPolicy(last=3))) == ["2025-12-31 18", "2025-12-31 12", "2025-12-31 06"]


def test_newest_of_each_day_week_month_and_year() -> None:
    assert days(plan_forget(SERIES, ForgetPolicy(daily=2))) == ["2025-12-31 18", "2025-12-30 18"]
    # ISO weeks end on Sunday, and the last days of 2025 belong to the first week of 2026.
    assert days(plan_forget(SERIES, ForgetPolicy(weekly=3))) == ["2025-12-31 18", "2025-12-28 18", "2025-12-21 18"]
    assert days(plan_forget(SERIES, ForgetPolicy(monthly=3))) == ["2025-12-31 18", "2025-11-30 18", "2025-10-31 18"]
    assert days(plan_forget(SERIES, ForgetPolicy(yearly=5))) == ["2025-12-31 18", "2024-12-31 18"]


def test_within_counts_from_the_newest() -> None:
    assert len(plan_forget(SERIES, ForgetPolicy(within_s=24 * HOURS)).keep) == 5


def test_rules_add_up_and_say_why() -> None:
    plan = plan_forget(SERIES, ForgetPolicy(last=1, daily=7, weekly=4, monthly=12))
    assert plan.keep[0][1] == ("last", "daily", "weekly", "monthly")
    assert len(plan.keep) + len(plan.forget) == len(SERIES)
    assert len(plan.keep) == 7 + 2 + 11


@given(
    st.lists(st.integers(START, START + 10**8), max_size=30),
    st.builds(
        ForgetPolicy,
        last=st.integers(0, 5),
        daily=st.integers(0, 5),
        weekly=st.integers(0, 5),
        monthly=st.integers(0, 5),
        within_s=st.integers(0, 10**7),
    ),
)
def test_the_newest_stays_and_doing_it_twice_changes_nothing(times: list[int], policy: ForgetPolicy) -> None:
    snapshots = [snapshot(number, when) for number, when in enumerate(times)]
    plan = plan_forget(snapshots, policy)
    kept = [item for item, _ in plan.keep]
    assert len(kept) + len(plan.forget) == len(snapshots)
    if snapshots:
        assert max(times) == kept[0].content.created_at
    assert plan_forget(kept, policy).forget == ()


def test_order_of_the_input_does_not_matter() -> None:
    policy = ForgetPolicy(daily=3, monthly=3)
    assert plan_forget(SERIES[::-1], policy).forget == plan_forget(SERIES, policy).forget
    assert len(plan_forget(SERIES, policy).keep) == 5
