"""The clock is judged by what most providers say."""

import pytest

from sovereign_node.services.clock_skew import MAX_PEERS, ClockSkew

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("theirs", "level", "words"),
    [
        ([], "ok", "no provider was asked"),
        ([NOW], "ok", "agrees with 1 provider to within 1 s"),
        ([NOW - 119, NOW + 119, NOW + 3], "ok", "3 providers to within 3 s"),
        ([NOW - 3600, NOW - 3600, NOW], "error", "1 h 00 min ahead of 3 providers"),
        ([NOW + 200], "warning", "3 min 20 s behind 1 provider"),
        # One with a wrong clock among three does not count.
        ([NOW, NOW + 1, NOW + 90_000], "ok", "agrees"),
    ],
)
def test_the_clock_is_judged_by_the_median(theirs, level, words):
    skew = ClockSkew(lambda: NOW)
    for number, clock_at in enumerate(theirs):
        skew.note(f"peer {number}", clock_at)
    finding = skew.examine()
    assert (finding.check, finding.level) == ("clock", level)
    assert words in finding.message
    assert bool(finding.next_step) == (level != "ok")


def test_the_newest_word_of_each_peer_counts_and_only_so_many_are_kept():
    skew = ClockSkew(lambda: NOW)
    skew.note("peer", NOW - 5000)
    skew.note("peer", NOW)
    assert "1 provider " in skew.examine().message
    for number in range(2 * MAX_PEERS):
        skew.note(str(number), NOW)
    assert f"{MAX_PEERS} providers" in skew.examine().message


def test_a_clock_before_the_program_was_written_is_wrong():
    assert ClockSkew(lambda: 0).examine().level == "error"
