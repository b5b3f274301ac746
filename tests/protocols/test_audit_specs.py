"""The audit specification and its vectors say what the code does."""

import json
import re
from pathlib import Path

import pytest

from sovereign_crypto.merkle import LEAF_BYTES, MAX_PATH_NODES, leaf_root
from sovereign_protocols.audit import bodies, desk, messages, proof
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.framing import FrameDecoder
from sovereign_protocols.requests.wire import encode_message
from sovereign_protocols.settle.signed import Body, parse_signed

FOLDER = Path(__file__).parents[2] / "protocols"
SPEC = (FOLDER / "specs" / "audit.md").read_text(encoding="utf-8")
VECTORS = json.loads((FOLDER / "vectors" / "audit.json").read_text(encoding="utf-8"))
KINDS: dict[str, type[Body]] = {
    kind.KIND: kind for kind in (bodies.AuditChallenge, bodies.AuditAnswer, bodies.AuditVerdict)
}
HEADINGS = ("Terms", "Messages", "States", "Limits", "Errors", "Security", "Versioning", "Vectors", "Changes")


def section(title: str) -> str:
    return SPEC.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_headings_id_messages_and_limits() -> None:
    assert messages.PROTOCOL_ID in SPEC.splitlines()[0]
    for heading in HEADINGS:
        assert f"\n## {heading}\n" in SPEC
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section("Messages"), flags=re.MULTILINE)
    assert {name: int(number) for number, name in rows} == {
        kind.__name__: kind.TYPE for kind in messages.KINDS if kind.TYPE >= 80
    }
    assert f"leaf (<= {LEAF_BYTES} bytes), path [*{MAX_PATH_NODES} id]" in section("Messages")
    assert f"{desk.MAX_CHALLENGES_PER_HOUR} challenges" in section("Limits")
    assert f"{proof.SAMPLES_FOR_99_PERCENT} samples" in section("Statistics")


def test_bodies_have_the_fields_and_types_of_the_specification() -> None:
    blocks = re.findall(
        r"^(\w+) = \{(.*?)\}\s*; (0x\d\d)", section("Signed messages"), flags=re.MULTILINE | re.DOTALL
    )
    assert {name for name, _, _ in blocks} == set(KINDS)
    for name, fields, number in blocks:
        assert set(re.findall(r'"(\w+)": ', fields)) == set(KINDS[name].SCHEMA)
        assert int(number, 16) == KINDS[name].TYPE


@pytest.mark.parametrize("case", VECTORS["messages"], ids=lambda case: case["kind"])
def test_messages(case) -> None:
    signed = parse_signed(bytes.fromhex(case["raw"]), KINDS[case["kind"]])
    assert signed.content_hash.hex() == case["content_hash"]


def test_every_message_has_a_frame() -> None:
    for case in VECTORS["frames"]:
        decoder = FrameDecoder(lambda header, _payload: messages.PROTOCOL.decode(header))
        decoder.receive_data(bytes.fromhex(case["raw"]))
        (request, message), _ = decoder.next_frame()
        assert (request, type(message).__name__) == (case["request"], case["name"])
        assert encode_message(request, message).hex() == case["raw"]
    own = {kind.__name__ for kind in messages.KINDS if kind.TYPE >= 80}
    assert {case["name"] for case in VECTORS["frames"]} == own


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused(case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_signed(bytes.fromhex(case["raw"]), KINDS[case["kind"]])
    assert caught.value.code.value == case["expect"]


@pytest.mark.parametrize("case", VECTORS["judged"], ids=lambda case: case["name"])
def test_judgements(case) -> None:
    chunk = bytes.fromhex(VECTORS["chunk"])
    challenge = parse_signed(bytes.fromhex(case["challenge"]), bodies.AuditChallenge).body
    answer = parse_signed(bytes.fromhex(case["answer"]), bodies.AuditAnswer).body
    shown = proof.Proof(bytes.fromhex(case["leaf"]), tuple(map(bytes.fromhex, case["path"])))
    if challenge.method == "leaf":
        root = bytes.fromhex(VECTORS["root"])
        assert root == leaf_root(chunk)
        assert proof.judge_leaf(challenge, answer, shown, root=root, size_bytes=len(chunk)) == case["expect"]
    else:
        assert proof.judge_hash(challenge, answer, chunk) == case["expect"]


@pytest.mark.parametrize(("percent", "permille", "samples"), VECTORS["samples"])
def test_samples(percent: int, permille: int, samples: int) -> None:
    assert proof.samples_needed(percent, permille) == samples
