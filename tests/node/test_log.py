import pytest
import structlog

from sovereign_node.log import configure_logging


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
