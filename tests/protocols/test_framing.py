"""Frames: split anywhere, bounded, and payloads that stay in the pieces in which they came."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.framing import FrameDecoder, Payload, encode_frame
from sovereign_protocols.ids import check_id, id_from_hex


def decoder(**limits: int) -> FrameDecoder[bytes]:
    return FrameDecoder(lambda header, _size: header, **{"max_payload_bytes": 100_000} | limits)


def take(source: FrameDecoder[bytes]) -> list[tuple[bytes, bytes]]:
    frames = []
    while (frame := source.next_frame()) is not None:
        frames.append((frame[0], frame[1].to_bytes()))
    return frames


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=200)), max_size=5),
    st.lists(st.integers(0, 1_500), max_size=20),
)
def test_frames_survive_any_split(frames: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    data = b"".join(encode_frame(header, len(payload)) + payload for header, payload in frames)
    source = decoder()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, end in pairwise(edges):
        source.receive_data(data[start:end])
    assert take(source) == frames
    assert not source.mid_frame
    assert source.frames == len(frames)


def test_byte_by_byte_with_a_large_payload() -> None:
    payload = bytes(range(256)) * 40
    source = decoder()
    data = encode_frame(b"header", len(payload)) + payload
    for position in range(len(data) - 1):
        source.receive_data(data[position : position + 1])
        assert source.mid_frame
        assert source.frame_bytes == (8 if position < 7 else len(data))
    assert source.payload_received_bytes == len(payload) - 1
    source.receive_data(data[-1:])
    header, received = source.next_frame() or (b"", Payload())
    assert (header, received.to_bytes()) == (b"header", payload)
    assert len(received.pieces) < 5
    assert source.frame_bytes == 0


def test_large_pieces_are_not_copied() -> None:
    body = bytes(50_000)
    source = decoder()
    data = encode_frame(b"h", len(body)) + body
    source.receive_data(data)
    _, payload = source.next_frame() or (b"", Payload())
    (piece,) = payload.pieces
    assert isinstance(piece, memoryview)
    assert piece.obj is data


@pytest.mark.parametrize(
    ("header_bytes", "payload_bytes"), [(0, 0), (11, 0), (2**32 - 1, 0), (1, 101), (1, 2**32 - 1)]
)
def test_lengths_are_checked_first(header_bytes: int, payload_bytes: int) -> None:
    source = decoder(max_header_bytes=10, max_payload_bytes=100)
    with pytest.raises(RemoteProtocolError) as caught:
        source.receive_data(header_bytes.to_bytes(4, "big") + payload_bytes.to_bytes(4, "big"))
    assert caught.value.code is ErrorCode.TOO_LARGE


def test_the_parser_sees_the_length_before_the_payload_comes() -> None:
    seen: list[tuple[bytes, int]] = []
    source: FrameDecoder[None] = FrameDecoder(lambda *seen_: seen.append(seen_), max_payload_bytes=10)
    source.receive_data(encode_frame(b"x", 10))
    assert seen == [(b"x", 10)]


@given(st.lists(st.binary(max_size=6_000), max_size=8))
def test_payloads_hash_and_join(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    kept, grown = Payload(pieces), Payload()
    for piece in pieces:
        grown.append(memoryview(piece))
    for payload in (kept, grown):
        assert len(payload) == len(whole)
        assert payload.to_bytes() == whole
        assert payload.sha256() == hashlib.sha256(whole).digest()


def test_ids() -> None:
    assert check_id(bytes(32)) == bytes(32)
    assert id_from_hex("AB" * 32) == b"\xab" * 32
    for wrong in (bytes(31), "x" * 32, None):
        with pytest.raises(RemoteProtocolError):
            check_id(wrong)
    for text in ("", "ab", "zz" * 32, "ab" * 31 + " a"):
        with pytest.raises(ValueError):
            id_from_hex(text)
