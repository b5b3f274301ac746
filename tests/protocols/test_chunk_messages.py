"""Messages of the chunk protocol: vectors, limits and hostile headers."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sovereign_protocols
from sovereign_crypto import cbor
from sovereign_crypto.signing import SigningKey
from sovereign_protocols.chunk import PROTOCOL_ID, limits, messages
from sovereign_protocols.chunk.client import core as client_core
from sovereign_protocols.chunk.deletion import parse_deletion, sign_deletion
from sovereign_protocols.chunk.messages import (
    CLIENT_MESSAGES,
    MAX_PAYLOAD_BYTES,
    SERVER_MESSAGES,
    decode_message,
    encode_message,
    is_chunk_size,
)
from sovereign_protocols.chunk.server import core as server_core
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.framing import FrameDecoder

PROTOCOLS = Path(sovereign_protocols.__file__).parents[1]
VECTORS = json.loads((PROTOCOLS / "vectors" / "chunk.json").read_text())
SPEC = (PROTOCOLS / "specs" / "chunk.md").read_text()


def decode(data: bytes) -> tuple[messages.Message, bytes] | None:
    decoder = FrameDecoder(decode_message, max_payload_bytes=MAX_PAYLOAD_BYTES)
    decoder.receive_data(data)
    frame = decoder.next_frame()
    return None if frame is None else (frame[0], frame[1].to_bytes())


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda case: case["name"])
def test_good_frames(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["frame"])
    message, payload = decode(data) or pytest.fail("incomplete")
    assert type(message).__name__ == case["name"].split()[0]
    assert len(payload) == case["payload_bytes"]
    assert encode_message(message, len(payload)) + payload == data


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda case: case["name"])
def test_bad_frames(case: dict[str, str]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(bytes.fromhex(case["frame"]))
    assert caught.value.code.value == case["expect"]


def test_every_message_has_a_vector() -> None:
    named = {case["name"].split()[0] for case in VECTORS["good"]}
    assert named == {kind.__name__ for kind in CLIENT_MESSAGES | SERVER_MESSAGES}


@pytest.mark.parametrize("case", VECTORS["good"][:10], ids=lambda case: case["name"])
def test_every_split(case: dict[str, str]) -> None:
    data = bytes.fromhex(case["frame"])[:400]
    whole = decode(data)
    for cut in range(len(data)):
        decoder = FrameDecoder(decode_message, max_payload_bytes=MAX_PAYLOAD_BYTES)
        decoder.receive_data(data[:cut])
        decoder.receive_data(data[cut:])
        frame = decoder.next_frame()
        assert (frame is None) == (whole is None)
        assert frame is None or whole is None or frame[0] == whole[0]


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_noise_has_two_ends(header: bytes, payload_bytes: int) -> None:
    try:
        decode_message(header, payload_bytes)
    except RemoteProtocolError as error:
        assert error.code in (ErrorCode.MALFORMED, ErrorCode.TOO_LARGE, ErrorCode.SIZE_CLASS)  # noqa: PT017


_VALUES = st.none() | st.booleans() | st.integers(-5, 2**63 - 1) | st.binary(max_size=40) | st.text(max_size=5)


@given(st.integers(0, 50), st.lists(_VALUES | st.lists(_VALUES, max_size=3), max_size=8), st.integers(0, 5_000))
def test_wrong_fields_have_two_ends(number: int, values: list[object], payload_bytes: int) -> None:
    try:
        header = cbor.encode([number, *values])
    except cbor.MalformedError:
        return
    try:
        message = decode_message(header, payload_bytes)
    except RemoteProtocolError:
        return
    assert len(fields(message)) == len(values)
    assert encode_message(message, payload_bytes)[8:] == header


@given(st.data())
def test_a_flipped_bit_never_escapes(data: st.DataObject) -> None:
    case = data.draw(st.sampled_from(VECTORS["good"]))
    frame = bytearray.fromhex(case["frame"])[:2_000]
    position = data.draw(st.integers(0, len(frame) - 1))
    frame[position] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decode(bytes(frame))
    except RemoteProtocolError:
        return


@pytest.mark.parametrize(
    ("size", "expected"),
    [(4_183, False), (4_184, True), (4_185, False), (4_184 + 128, False), (4_184 + 256, True),
     (4 * 1024**2 + 88, True), (4 * 1024**2 + 89, False), (0, False)],
)  # fmt: skip
def test_chunk_sizes(size: int, expected: bool) -> None:
    assert is_chunk_size(size) is expected


def test_deletion_vector() -> None:
    case = VECTORS["deletion"]
    raw = bytes.fromhex(case["statement"])
    key = SigningKey.from_seed(bytes.fromhex(case["device_seed"]))
    ids = tuple(map(bytes.fromhex, case["ids"]))
    contract_id = bytes.fromhex(case["contract"])
    made = sign_deletion(key, contract_id, ids, signed_at=case["signed_at"], nonce=bytes.fromhex(case["nonce"]))
    assert made == raw
    deletion = parse_deletion(raw)
    assert (deletion.contract_id, deletion.chunk_ids, deletion.signer) == (contract_id, ids, key.public)
    assert sign_deletion(key, contract_id, ids, signed_at=1) != sign_deletion(key, contract_id, ids, signed_at=1)


@given(st.integers(0, 10_000))
def test_bent_deletions(position: int) -> None:
    raw = bytearray.fromhex(VECTORS["deletion"]["statement"])
    raw[position % len(raw)] ^= 1
    with pytest.raises(RemoteProtocolError) as caught:
        parse_deletion(bytes(raw))
    assert caught.value.code in (ErrorCode.MALFORMED, ErrorCode.SIGNATURE)


def test_spec_states_the_limits() -> None:
    assert PROTOCOL_ID in SPEC
    table = SPEC.split("## Limits")[1].split("\n\n")[0]
    stated = {
        name.strip(): int(value)
        for name, value in (line.strip("| ").split("|") for line in table.strip().splitlines()[2:])
    }
    assert stated == {name: value for name, value in vars(limits).items() if name.isupper()}


def test_spec_states_the_messages() -> None:
    stated = {
        name.replace("-", ""): int(number) for name, number in re.findall(r"^([a-z-]+) += \[(\d+), ", SPEC, re.M)
    }
    assert stated == {kind.__name__.lower(): number for kind, (number, _) in messages._NUMBER.items()}


def test_spec_states_the_transitions() -> None:
    states = SPEC.split("## States")[1].split("## Limits")[0]
    server, client = states.split("Client:")
    for table, transitions in ((server, server_core.TRANSITIONS), (client, client_core.TRANSITIONS)):
        stated = set()
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split("|")]
            if len(cells) == 3 and cells[2].isupper():
                stated |= {(state.strip(), cells[1], cells[2]) for state in cells[0].split(",")}
        assert stated == {(state.name, event, target.name) for (state, event), target in transitions.items()}


def test_spec_states_the_codes() -> None:
    conventions = (PROTOCOLS / "specs" / "conventions.md").read_text()
    assert all(f"| `{code.value}` |" in conventions for code in ErrorCode)
