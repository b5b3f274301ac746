"""Known errors become sentences, whatever nurseries have wrapped around them."""

import pytest

from sovereign_node.chunkstore import StoreFullError
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.store.errors import StateFullError
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


def test_a_bug_stays_a_bug() -> None:
    assert translate_error(ExceptionGroup("", [ZeroDivisionError()])) is None
    with pytest.raises(ZeroDivisionError), translated():
        raise ZeroDivisionError
