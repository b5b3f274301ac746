"""What doctor says of the disk."""

from __future__ import annotations

import pytest

from sovereign_node.services.doctor import examine_disk

GB = 10**9


@pytest.mark.parametrize(
    ("free", "unfilled", "level", "message"),
    [
        (10 * GB, 0, "ok", "10.0 GB are free"),
        (10 * GB, 8 * GB, "ok", "10.0 GB are free"),
        (10 * GB, 8 * GB + 1, "warning", "the disk has room for 8.00 GB, this provider offers 8.00 GB more"),
        (2 * GB - 1, 0, "error", "only 2.00 GB are free below /data"),
    ],
)
def test_a_disk_must_hold_what_is_offered(free: int, unfilled: int, level: str, message: str) -> None:
    finding = examine_disk(free_bytes=free, reserve_bytes=2 * GB, unfilled_bytes=unfilled, place="/data")
    assert (finding.check, finding.level, finding.message) == ("disk", level, message)
    assert bool(finding.next_step) == (level != "ok")
