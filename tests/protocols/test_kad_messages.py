"""The DHT messages against frames made by Google's protobuf runtime, and against hostile bytes."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.kad import keys
from sovereign_protocols.kad.errors import InvalidRecordError, KadMessageError
from sovereign_protocols.kad.messages import (
    MAX_MESSAGE_BYTES,
    Contact,
    FrameDecoder,
    Message,
    MessageType,
    Record,
    decode_message,
    encode_frame,
    encode_message,
)
from sovereign_protocols.kad.wire import decode_varint, encode_varint

VECTORS = json.loads((Path(__file__).parents[2] / "protocols/vectors/kad.json").read_text())
PEER_PREFIX = bytes.fromhex("002408011220")


def contacts_of(items: list) -> tuple[Contact, ...]:
    return tuple(
        Contact(bytes.fromhex(item["peer_id"]), tuple(map(bytes.fromhex, item["addresses"]))) for item in items
    )


def message_of(case: dict) -> Message:
    record = case["record"]
    return Message(
        MessageType[case["type"]],
        bytes.fromhex(case["key"]),
        record and Record(bytes.fromhex(record["key"]), bytes.fromhex(record["value"]), record["time_received"]),
        contacts_of(case["closer_peers"]),
        contacts_of(case["provider_peers"]),
    )


@pytest.mark.parametrize("name", VECTORS["valid"])
def test_valid_frames_in_both_directions(name):
    case = VECTORS["valid"][name]
    frame = bytes.fromhex(case["frame"])
    assert FrameDecoder().receive_data(frame) == [message_of(case)]
    # Google's runtime leaves out a type of 0, we write it: both are the same message.
    ours = encode_frame(message_of(case))
    assert FrameDecoder().receive_data(ours) == [message_of(case)]
    assert ours == frame or case["type"] == "PUT_VALUE"


@pytest.mark.parametrize("name", VECTORS["tolerated"])
def test_what_others_send_in_good_faith(name):
    case = VECTORS["tolerated"][name]
    message = decode_message(bytes.fromhex(case["body"]))
    assert message.type.name == case["type"]
    found = [[peer.peer_id.hex(), len(peer.addresses)] for peer in message.closer_peers]
    assert found == case.get("closer", [])


@pytest.mark.parametrize("name", VECTORS["refused"])
def test_refused_bodies(name):
    with pytest.raises(KadMessageError):
        decode_message(bytes.fromhex(VECTORS["refused"][name]))


@pytest.mark.parametrize("name", VECTORS["refused_frames"])
def test_a_length_above_the_limit_is_refused_before_the_body(name):
    with pytest.raises(KadMessageError):
        FrameDecoder().receive_data(bytes.fromhex(VECTORS["refused_frames"][name]))


def test_a_message_above_the_limit_is_refused():
    with pytest.raises(KadMessageError):
        decode_message(bytes(MAX_MESSAGE_BYTES + 1))


def test_a_missing_type_is_put_value():
    assert decode_message(b"").type is MessageType.PUT_VALUE


def test_keys():
    case = VECTORS["keys"]
    key = bytes.fromhex(case["key"])
    record_key, provider_key = keys.record_wire_key(key), keys.provider_wire_key(key)
    assert record_key == case["record_wire_key"].encode()
    assert len(record_key) == 48
    assert keys.parse_record_key(record_key) == key
    assert f"{keys.kad_id(record_key):064x}" == case["record_kad_id"]
    assert provider_key.hex() == case["provider_wire_key"]
    assert keys.parse_provider_key(provider_key) == key
    assert f"{keys.kad_id(provider_key):064x}" == case["provider_kad_id"]
    peer_id = bytes.fromhex(case["peer_id_bytes"])
    assert keys.peer_id_bytes(case["peer_id"]) == peer_id
    assert keys.peer_id_text(peer_id) == case["peer_id"]
    assert f"{keys.kad_id(peer_id):064x}" == case["peer_kad_id"]
    assert keys.is_peer_id(peer_id)
    assert not keys.is_peer_id(peer_id[:-1])
    assert not keys.is_peer_id(b"\x12\x20" + peer_id[2:])


@pytest.mark.parametrize("write", [keys.record_wire_key, keys.provider_wire_key])
def test_keys_have_32_bytes(write):
    with pytest.raises(ValueError, match="32 bytes"):
        write(bytes(31))


@pytest.mark.parametrize(
    ("wire_key", "reason"),
    [
        (b"/pk/" + bytes(34), "namespace"),
        (b"", "namespace"),
        (b"/sov/" + b"A" * 42, "key"),
        (b"/sov/" + b"A" * 44, "key"),
        (b"/sov/" + b"A" * 42 + b"B", "key"),
        (b"/sov/" + b"A" * 42 + b"/", "key"),
        (b"/sov/" + b"A" * 41 + b"==", "key"),
        (b"/sov/" + b"\xff" * 43, "key"),
    ],
)
def test_record_keys_have_one_form(wire_key, reason):
    with pytest.raises(InvalidRecordError) as caught:
        keys.parse_record_key(wire_key)
    assert caught.value.reason == reason


@pytest.mark.parametrize("wire_key", [b"", bytes(34), b"\x12\x20" + bytes(31), b"\x12\x20" + bytes(33)])
def test_provider_keys_are_sha256_multihashes(wire_key):
    with pytest.raises(KadMessageError):
        keys.parse_provider_key(wire_key)


peer_ids = st.binary(min_size=32, max_size=32).map(lambda tail: PEER_PREFIX + tail)
addresses = st.lists(st.binary(min_size=1, max_size=128), max_size=16, unique=True).map(tuple)
contacts = st.lists(
    st.builds(Contact, peer_ids, addresses), max_size=20, unique_by=lambda contact: contact.peer_id
).map(tuple)
records = st.builds(
    Record,
    st.binary(max_size=128),
    st.binary(max_size=5000),
    st.text(st.characters(max_codepoint=127), max_size=64),
)
messages = st.builds(
    Message,
    st.sampled_from(MessageType),
    st.binary(max_size=128),
    st.none() | records,
    contacts.map(lambda found: found[:3]),
    contacts.map(lambda found: found[:3]),
)


@given(messages)
def test_round_trip(message):
    assert decode_message(encode_message(message)) == message


@given(st.lists(messages, min_size=1, max_size=3), st.data())
def test_a_stream_may_be_split_anywhere(sent, data):
    stream = b"".join(map(encode_frame, sent))
    cut = data.draw(st.integers(0, len(stream)))
    decoder = FrameDecoder()
    received = decoder.receive_data(stream[:cut]) + decoder.receive_data(stream[cut:])
    assert received == sent
    assert not decoder.pending


def test_one_byte_at_a_time():
    frame = bytes.fromhex(VECTORS["valid"]["put_value"]["frame"])
    decoder = FrameDecoder()
    for byte in frame[:-1]:
        assert decoder.receive_data(bytes([byte])) == []
        assert decoder.pending
    assert len(decoder.receive_data(frame[-1:])) == 1


@given(st.binary(max_size=400))
def test_any_bytes_give_a_message_or_the_documented_error(data):
    try:
        message = decode_message(data)
    except KadMessageError:
        return
    assert isinstance(message, Message)
    assert len(message.closer_peers) <= 20


@given(messages, st.data())
def test_damage_gives_a_message_or_the_documented_error(message, data):
    body = bytearray(encode_message(message))
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(0, len(body)))
    try:
        decode_message(bytes(body[:cut]))
    except KadMessageError:
        return


@given(st.integers(0, 2**64 - 1), st.binary(max_size=4))
def test_varints(value, rest):
    encoded = encode_varint(value)
    assert decode_varint(encoded + rest, 0) == (value, len(encoded))
