import pytest
import structlog

from sovereign_node.log import MAX_LINES_PER_MINUTE, MAX_VALUE_CHARACTERS, LineBudget, configure_logging, redact


@pytest.fixture(autouse=True)
def _restore() -> object:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_secrets_are_hidden_and_long_values_cut(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    structlog.get_logger("x").warning(
        "unlocked", passphrase="hunter2", peer_id="12D3", note="x" * 1000, raw=b"\xab"
    )
    shown = capsys.readouterr().err
    assert "hunter2" not in shown
    assert "[hidden]" in shown
    assert "12D3" in shown
    assert "x" * 400 not in shown
    assert "ab" in shown


def test_events_below_the_level_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("warning")
    structlog.get_logger("x").info("dial_failed")
    assert capsys.readouterr().err == ""


def test_what_peers_made_is_cut_and_spelled() -> None:
    event = redact(
        None, "info", {"event": "x", "reason": "\x1b[2J\nforged line", "long": "a" * 999, "raw": b"\0" * 99}
    )
    assert event["reason"] == "\\x1b[2J\\nforged line"
    assert len(event["long"]) == MAX_VALUE_CHARACTERS + 1
    assert event["raw"] == "00" * 32


def test_a_flood_of_one_event_is_dropped_and_counted() -> None:
    now = 0.0
    budget = LineBudget(lambda: now)

    def passes(name: str) -> bool:
        try:
            budget(None, "info", {"event": name})
        except structlog.DropEvent:
            return False
        return True

    assert sum(passes("refused") for _ in range(1000)) == MAX_LINES_PER_MINUTE
    assert passes("other")
    now = 60.0
    assert budget(None, "info", {"event": "refused"}) == {"event": "refused", "left_out_before": 900}
    assert budget(None, "info", {"event": "refused"}) == {"event": "refused"}


@pytest.mark.parametrize("event", [{}, {"event": None}])
def test_events_without_a_name_count_as_one(event: dict[str, object]) -> None:
    assert LineBudget(lambda: 0.0)(None, "info", event) == event
