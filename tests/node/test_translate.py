"""Known errors become sentences, whatever nurseries have wrapped around them."""

from pathlib import Path

import pytest

from sovereign_node.chunkstore import StoreFullError
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.store.errors import StateCorruptError, StateFullError
from sovereign_node.translate import translate_error, translated


@pytest.mark.parametrize("known", [StateFullError("full"), StoreFullError("full")])
def test_a_full_disk_in_a_group_of_groups(known: Exception) -> None:
    wrapped = ExceptionGroup("", [ExceptionGroup("", [known])])
    found = translate_error(wrapped)
    assert found is not None
    assert (found.code, found.exit_code) == ("disk_full", ExitCode.STORAGE_FULL)
    with pytest.raises(NodeError, match="disk is full"), translated():
        raise wrapped


def test_an_error_with_a_sentence_keeps_it() -> None:
    said = NodeError("busy", "busy now", "wait")
    assert translate_error(ExceptionGroup("", [said])) is said
    with pytest.raises(NodeError, match="busy now"), translated():
        raise ExceptionGroup("", [said])


def test_a_damaged_database_points_to_the_kit() -> None:
    found = translate_error(StateCorruptError(Path("state.sqlite"), "*** in database main ***\nPage 3: bad"))
    assert found is not None
    assert "\n" not in found.message
    assert "recovery kit" in found.hint
    assert found.exit_code == ExitCode.DAMAGE_FOUND


def test_a_bug_stays_a_bug() -> None:
    assert translate_error(ExceptionGroup("", [ZeroDivisionError()])) is None
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError
