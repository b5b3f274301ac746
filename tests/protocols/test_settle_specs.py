"""The settlement specification and its vectors say what the code does."""

import json
import re
from pathlib import Path

import pytest

from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.framing import FrameDecoder
from sovereign_protocols.requests.wire import encode_message
from sovereign_protocols.settle import bodies, messages, sponsor
from sovereign_protocols.settle.ledger import Posting, make_entry
from sovereign_protocols.settle.signed import Body, parse_signed

FOLDER = Path(__file__).parents[2] / "protocols"
SPEC = (FOLDER / "specs" / "settle.md").read_text(encoding="utf-8")
VECTORS = json.loads((FOLDER / "vectors" / "settle.json").read_text(encoding="utf-8"))
KINDS: dict[str, type[Body]] = {
    kind.KIND: kind for kind in Body.__subclasses__() if kind.__module__ in (bodies.__name__, sponsor.__name__)
}
HEADINGS = ("Terms", "Messages", "States", "Limits", "Errors", "Security", "Versioning", "Vectors", "Changes")


def section(title: str) -> str:
    return SPEC.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_headings_id_and_messages() -> None:
    assert messages.PROTOCOL_ID in SPEC.splitlines()[0]
    for heading in HEADINGS:
        assert f"\n## {heading}\n" in SPEC
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", section("Messages"), flags=re.MULTILINE)
    own = {kind.__name__: kind.TYPE for kind in messages.KINDS if kind.TYPE >= 32}
    assert {name: int(number) for number, name in rows} == own
    assert f"receipts [*{messages.MAX_RECEIPTS}]" in SPEC


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


def decode_frame(raw: bytes):
    decoder = FrameDecoder(lambda header, _payload: messages.PROTOCOL.decode(header))
    decoder.receive_data(raw)
    return decoder.next_frame()[0]


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["name"])
def test_frames(case) -> None:
    request, message = decode_frame(bytes.fromhex(case["raw"]))
    assert (request, type(message).__name__) == (case["request"], case["name"])
    assert encode_message(request, message).hex() == case["raw"]


def test_every_message_has_a_frame() -> None:
    assert [case["name"] for case in VECTORS["frames"]] == [
        kind.__name__ for kind in sorted(messages.KINDS, key=lambda kind: kind.TYPE) if kind.TYPE >= 32
    ]


@pytest.mark.parametrize("case", VECTORS["bad_frames"], ids=lambda case: case["name"])
def test_bad_frames(case) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed"):
        decode_frame(bytes.fromhex(case["raw"]))


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused(case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_signed(bytes.fromhex(case["raw"]), KINDS[case["kind"]])
    assert caught.value.code.value == case["expect"]


def test_batch_and_ledger() -> None:
    items = [(bytes.fromhex(chunk_id), size) for chunk_id, size in VECTORS["batch"]["items"]]
    assert bodies.batch_root(items).hex() == VECTORS["batch"]["root"]
    case = VECTORS["ledger"]
    entry = make_entry(
        None,
        at=case["at"],
        kind=case["kind"],
        cause=bytes.fromhex(case["cause"]),
        postings=[Posting(account, amount) for account, amount in case["postings"]],
    )
    assert entry.hash.hex() == case["hash"]
