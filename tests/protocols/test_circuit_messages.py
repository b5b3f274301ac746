"""Messages of relays, hole punching and dial-back against vectors made by other encoders, and against any bytes."""

import json
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from sovereign_protocols.circuit import messages as m
from sovereign_protocols.circuit import reach
from sovereign_protocols.circuit.errors import CircuitMessageError
from sovereign_protocols.circuit.shell import receive_message

VECTORS = json.loads((Path(__file__).parents[2] / "protocols/vectors/circuit.json").read_text())
DECODERS = {"hop": m.decode_hop, "stop": m.decode_stop, "punch": m.decode_punch}
REACH_DECODERS = {"request": reach.decode_request, "answer": reach.decode_answer}


def limit_of(case: dict) -> m.Limit | None:
    return m.Limit(*case["limit"]) if "limit" in case else None


def status_of(case: dict) -> m.Status | None:
    return m.Status[case["status"]] if "status" in case else None


def hop_of(case: dict) -> m.HopMessage:
    reservation = None
    if "expires_at" in case:
        addresses = tuple(map(bytes.fromhex, case["addresses"]))
        reservation = m.Reservation(case["expires_at"], addresses, bytes.fromhex(case["voucher"]))
    peer = bytes.fromhex(case.get("peer", ""))
    return m.HopMessage(m.HopType[case["type"]], peer, reservation, limit_of(case), status_of(case))


@pytest.mark.parametrize("name", VECTORS["hop"])
def test_hop_messages_both_ways(name):
    case = VECTORS["hop"][name]
    assert m.decode_hop(bytes.fromhex(case["body"])) == hop_of(case)
    assert m.decode_hop(m.encode_hop(hop_of(case))) == hop_of(case)


@pytest.mark.parametrize("name", VECTORS["stop"])
def test_stop_messages_both_ways(name):
    case = VECTORS["stop"][name]
    peer = bytes.fromhex(case.get("peer", ""))
    message = m.StopMessage(m.StopType[case["type"]], peer, limit_of(case), status_of(case))
    assert m.decode_stop(bytes.fromhex(case["body"])) == message
    assert m.decode_stop(m.encode_stop(message)) == message


@pytest.mark.parametrize("name", VECTORS["punch"])
def test_punch_messages_both_ways(name):
    case = VECTORS["punch"][name]
    message = m.PunchMessage(m.PunchType[case["type"]], tuple(map(bytes.fromhex, case["addresses"])))
    assert m.decode_punch(bytes.fromhex(case["body"])) == message
    assert m.encode_punch(message).hex() == case["body"]


@pytest.mark.parametrize("name", VECTORS["tolerated"])
def test_what_others_may_send_in_good_faith(name):
    case = VECTORS["tolerated"][name]
    assert DECODERS[case["kind"]](bytes.fromhex(case["body"])).type.name == case["type"]


@pytest.mark.parametrize("name", VECTORS["refused"])
def test_what_is_no_message(name):
    case = VECTORS["refused"][name]
    with pytest.raises(CircuitMessageError):
        DECODERS[case["kind"]](bytes.fromhex(case["body"]))


def test_an_unknown_status_is_not_ok():
    assert m.decode_hop(bytes.fromhex(VECTORS["tolerated"]["unknown_status"]["body"])).status is m.Status.UNUSED


@pytest.mark.parametrize("name", [name for name in VECTORS["reach"] if name.startswith("request")])
def test_reach_requests_both_ways(name):
    case = VECTORS["reach"][name]
    message = reach.ReachRequest(tuple(case["ports"]), tuple(map(bytes.fromhex, case["tokens"])))
    assert reach.encode_request(message).hex() == case["body"]
    assert reach.decode_request(bytes.fromhex(case["body"])) == message


@pytest.mark.parametrize("name", [name for name in VECTORS["reach"] if name.startswith("answer")])
def test_reach_answers_both_ways(name):
    case = VECTORS["reach"][name]
    message = reach.ReachAnswer(case["ip"], case["port"], tuple(case["reached"]))
    assert reach.encode_answer(message).hex() == case["body"]
    assert reach.decode_answer(bytes.fromhex(case["body"])) == message


@pytest.mark.parametrize("name", VECTORS["reach_refused"])
def test_what_is_no_message_of_a_dial_back(name):
    case = VECTORS["reach_refused"][name]
    with pytest.raises(CircuitMessageError):
        REACH_DECODERS[case["kind"]](bytes.fromhex(case["body"]))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_an_error(data):
    for decode in (*DECODERS.values(), *REACH_DECODERS.values()):
        try:
            decode(data)
        except CircuitMessageError as error:
            assert error.detail  # noqa: PT017


@given(
    st.builds(
        m.HopMessage,
        st.sampled_from(m.HopType),
        st.binary(max_size=64),
        st.none() | st.builds(m.Reservation, st.integers(0, 2**63), st.just((b"\x04",)), st.binary(max_size=99)),
        st.none() | st.builds(m.Limit, st.integers(0, 2**32), st.integers(0, 2**63)),
        st.none() | st.sampled_from(m.Status),
    )
)
def test_hop_round_trip(message):
    assert m.decode_hop(m.encode_hop(message)) == message


async def test_a_message_is_read_and_not_a_byte_more():
    one, other = memory_stream_pair()
    body = bytes(300)
    await one.send_all(m.encode_frame(body) + b"rest")
    assert await receive_message(other) == body
    assert await other.receive_some() == b"rest"


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (m.encode_frame(bytes(m.MAX_MESSAGE_BYTES + 1))[:2], CircuitMessageError),
        (b"\x80\x80\x01", CircuitMessageError),
        (b"\x05abc", trio.BrokenResourceError),
        (b"", trio.BrokenResourceError),
    ],
)
async def test_lengths_and_ends_are_checked(data, error):
    one, other = memory_stream_pair()
    await one.send_all(data)
    await one.send_eof()
    with pytest.raises(error):
        await receive_message(other)
