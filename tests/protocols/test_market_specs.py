"""The specifications of the market say what the code does."""

import re
from pathlib import Path

from sovereign_protocols.market import messages, offer, terms
from sovereign_protocols.market.acts import MAX_ACT_BYTES
from sovereign_protocols.market.lifecycle import READ_STATES, TRANSITIONS, UPLOAD_STATES, ContractState
from sovereign_protocols.market.refusals import Reason
from sovereign_protocols.requests import core, shell

SPEC = (Path(__file__).parents[2] / "protocols" / "specs" / "market.md").read_text(encoding="utf-8")
HEADINGS = ("Terms", "Messages", "States", "Limits", "Errors", "Security", "Versioning", "Vectors", "Changes")


def section(title: str) -> str:
    return SPEC.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_headings_and_id() -> None:
    assert messages.PROTOCOL_ID in SPEC.splitlines()[0]
    for heading in HEADINGS:
        assert f"\n## {heading}\n" in SPEC


def test_messages_have_the_numbers_of_the_specification() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section("Messages"), flags=re.MULTILINE)
    assert {name: int(number) for number, name in rows} == {kind.__name__: kind.TYPE for kind in messages.KINDS}


def test_the_state_table_is_the_one_in_the_code() -> None:
    found = {}
    for name, uploads, reads, moves in re.findall(
        r"^\| (\w+) \| (yes|no) \| (yes|no) \| (.*?) ?\|$", section("States"), flags=re.MULTILINE
    ):
        state = ContractState(name)
        assert (state in UPLOAD_STATES) == (uploads == "yes")
        assert (state in READ_STATES) == (reads == "yes")
        for move in filter(None, moves.split("; ")):
            events, after = move.split(" -> ")
            for event in events.split(", "):
                found[name, event] = after
    assert found == {(s.value, e.value): after.value for (s, e), after in TRANSITIONS.items()}


def test_every_reason_is_listed() -> None:
    listed = set(re.findall(r"[a-z_]+", section("Errors")))
    assert {reason.value for reason in Reason} <= listed


def test_limits() -> None:
    limits = section("Limits")
    assert f"{core.MAX_IN_FLIGHT} requests in flight" in limits
    assert f"{shell.GREETING_TIMEOUT_S:g} s for hello" in limits
    assert f"{shell.ANSWER_TIMEOUT_S:g} s for an answer" in limits
    assert f"{shell.IDLE_TIMEOUT_S:g} s idle" in limits
    assert f"differ by {offer.CLOCK_SKEW_S} s" in limits
    assert f"At most {offer.MAX_OFFER_BYTES} bytes" in section("Offer")
    assert f"At most {terms.MAX_TERMS_BYTES} bytes" in section("Contract terms")
    assert f"At most {MAX_ACT_BYTES} bytes" in section("Acts")
    for schema, title in ((offer._SCHEMA, "Offer"), (terms._SCHEMA, "Contract terms")):
        assert set(re.findall(r'"(\w+)": ', section(title))) == set(schema)
