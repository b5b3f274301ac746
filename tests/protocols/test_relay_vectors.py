import json
from pathlib import Path

import pytest

import sovereign_protocols
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.relay import credentials, subjects, tunnel_frames
from sovereign_protocols.relay.tunnel import Tunnel, TunnelError
from sovereign_protocols.relay.tunnel_frames import FrameType, Opening

_PATH = Path(sovereign_protocols.__file__).parents[1] / "vectors" / "relay.json"
VECTORS = json.loads(_PATH.read_text())


def _raw(case: dict) -> bytes:
    return bytes.fromhex(case["hex"]) + bytes(case["zeros"])


@pytest.mark.parametrize("case", VECTORS["rendezvous"], ids=lambda case: str(case["day"]))
def test_a_rendezvous_subject_is_the_one_of_the_vectors(case):
    key, secret = bytes.fromhex(case["public_key"]), bytes.fromhex(case["secret"])
    assert subjects.rendezvous_subject(key, case["day"], secret=secret) == case["subject"]


@pytest.mark.parametrize("case", VECTORS["inboxes"], ids=lambda case: case["token"])
def test_an_inbox_subject_is_the_one_of_the_vectors(case):
    assert subjects.inbox_subject(bytes.fromhex(case["token"])) == case["subject"]


def _decode(frame: bytes) -> None:
    kind, _ = tunnel_frames.decode_head(frame)
    if kind in (FrameType.REQUEST, FrameType.ACCEPT):
        tunnel_frames.decode_opening(frame)


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["name"])
def test_a_frame_is_read_or_refused_as_the_vectors_say(case):
    if case["expect"] == "ok":
        _decode(_raw(case))
        return
    with pytest.raises(RemoteProtocolError) as caught:
        _decode(_raw(case))
    assert caught.value.code.value == case["expect"]


@pytest.mark.parametrize("case", VECTORS["faults"], ids=lambda case: case["name"])
def test_a_tunnel_answers_a_fault_with_the_code_of_the_vectors(case):
    opening = Opening(bytes(16), VECTORS["local"]["window_bytes"], VECTORS["local"]["max_frame_bytes"])
    tunnel = Tunnel(opening, opening, max_payload_bytes=1 << 20, now=0.0)
    *before, fault = map(_raw, case["received"])
    for frame in before:
        tunnel.receive_frame(frame, 0.0)
    with pytest.raises(TunnelError) as caught:
        tunnel.receive_frame(fault, 0.0)
    assert caught.value.close_code == case["close_code"]


@pytest.mark.parametrize("case", VECTORS["nkeys"], ids=lambda case: case["expect"])
def test_an_nkey_seed_is_read_or_refused_as_the_vectors_say(case):
    if case["expect"] == "ok":
        assert credentials.decode_seed(case["text"]) == (credentials.USER_PREFIX, bytes.fromhex(case["seed"]))
        assert credentials.NatsCredentials.from_file_text(case["text"] + "\n").seed.hex() == case["seed"]
    else:
        with pytest.raises(credentials.CredentialsError):
            credentials.NatsCredentials.from_file_text(case["text"])


_SPEC = (_PATH.parents[1] / "specs" / "relay.md").read_text()


@pytest.mark.parametrize("kind", FrameType, ids=lambda kind: kind.name)
def test_the_specification_numbers_the_frames_as_the_code_does(kind):
    assert f"| {kind.value} | {kind.name} |" in _SPEC


@pytest.mark.parametrize("code", tunnel_frames.CloseCode, ids=lambda code: code.name)
def test_the_specification_numbers_the_codes_as_the_code_does(code):
    assert f"| {code.value} | {code.name.lower()} |" in _SPEC


def test_the_specification_states_the_limits_of_the_code():
    assert tunnel_frames.MIN_FRAME_BYTES == 1_024
    assert tunnel_frames.MAX_FRAME_BYTES == 65_536
    assert "| frame | 1,024 to 65,536 bytes |" in _SPEC
    assert tunnel_frames.MIN_WINDOW_BYTES == 65_536
    assert tunnel_frames.MAX_WINDOW_BYTES == 16 << 20
    assert "| window in an opening | 65,536 bytes to 16 MiB; ours begins at 256 KiB |" in _SPEC
