"""The probe specification and its vectors say what the code does."""

import json
import re
from pathlib import Path

import pytest

from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.framing import FrameDecoder
from sovereign_protocols.probe import bodies, desk, messages, windows
from sovereign_protocols.settle.signed import Body, parse_signed

FOLDER = Path(__file__).parents[2] / "protocols"
SPEC = (FOLDER / "specs" / "probe.md").read_text(encoding="utf-8")
VECTORS = json.loads((FOLDER / "vectors" / "probe.json").read_text(encoding="utf-8"))
KINDS: dict[str, type[Body]] = {kind.KIND: kind for kind in (bodies.ProbeReceipt, bodies.UptimeReport)}
HEADINGS = ("Terms", "Messages", "States", "Limits", "Errors", "Security", "Versioning", "Vectors", "Changes")


def section(title: str) -> str:
    return SPEC.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_headings_id_messages_and_limits() -> None:
    assert messages.PROTOCOL_ID in SPEC.splitlines()[0]
    for heading in HEADINGS:
        assert f"\n## {heading}\n" in SPEC
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section("Messages"), flags=re.MULTILINE)
    assert {name: int(number) for number, name in rows} == {
        kind.__name__: kind.TYPE for kind in messages.KINDS if kind.TYPE >= 64
    }
    assert f"{desk.MAX_PROBES_PER_WINDOW} probes" in section("Limits")
    assert f"1..{bodies.MAX_WINDOWS}" in section("Messages")
    assert f"notices [*{messages.MAX_NOTICES}]" in section("Messages")
    assert f"first {windows.MAINTENANCE_S} seconds" in section("Windows")
    assert f"at most {windows.MAINTENANCE_WINDOWS} windows" in section("Windows")
    assert f"seconds div {windows.WINDOW_S}" in section("Terms")


def test_bodies_have_the_fields_of_the_specification() -> None:
    blocks = dict(re.findall(r"^(\w+) = \{(.*?)\}$", section("Signed messages"), flags=re.MULTILINE))
    assert set(blocks) == set(KINDS)
    for name, fields in blocks.items():
        assert set(re.findall(r'"(\w+)": ', fields)) == set(KINDS[name].SCHEMA)


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["kind"])
def test_messages(case) -> None:
    signed = parse_signed(bytes.fromhex(case["raw"]), KINDS[case["kind"]])
    assert signed.content_hash.hex() == case["content_hash"]


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["name"])
def test_frames(case) -> None:
    decoder = FrameDecoder(lambda header, _payload: messages.PROTOCOL.decode(header))
    decoder.receive_data(bytes.fromhex(case["raw"]))
    (request, message), _ = decoder.next_frame()
    assert (request, type(message).__name__) == (case["request"], case["name"])


def test_every_message_has_a_frame() -> None:
    own = {kind.__name__ for kind in messages.KINDS if kind.TYPE >= 64}
    assert {case["name"] for case in VECTORS["frames"]} == own


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused(case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_signed(bytes.fromhex(case["raw"]), KINDS[case["kind"]])
    assert caught.value.code.value == case["expect"]


@pytest.mark.parametrize("case", VECTORS["maintenance"], ids=lambda case: case["name"])
def test_maintenance(case) -> None:
    notices = [windows.Maintenance(*notice) for notice in case["notices"]]
    assert sorted(windows.excluded_windows(notices, contract_start_at=case["start"])) == case["excluded"]
