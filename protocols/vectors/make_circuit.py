"""Make circuit.json with Google's protobuf runtime and cbor2. Run: python protocols/vectors/make_circuit.py"""

import json
from pathlib import Path

import cbor2
import nacl.signing
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage, Limit, PeerId, Reservation, Status, StopMessage
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch


def peer(number: int) -> bytes:
    public = bytes(nacl.signing.SigningKey(bytes([number]) * 32).verify_key)
    return bytes.fromhex("002408011220") + public


def ip4(last: int, port: int) -> bytes:
    return bytes([4, 127, 0, 0, last, 6]) + port.to_bytes(2, "big")


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


LIMIT = Limit(duration=120, data=1 << 17)
RESERVATION = Reservation(expire=1_800_000_000, addrs=[ip4(1, 4001), ip4(2, 4002)], voucher=b"voucher")
HOP = {
    "reserve": (HopMessage(type=HopMessage.RESERVE), {"type": "RESERVE"}),
    "connect": (
        HopMessage(type=HopMessage.CONNECT, peer=PeerId(id=peer(1))),
        {"type": "CONNECT", "peer": peer(1).hex()},
    ),
    "reserved": (
        HopMessage(type=HopMessage.STATUS, reservation=RESERVATION, limit=LIMIT, status=Status.OK),
        {
            "type": "STATUS",
            "status": "OK",
            "expires_at": 1_800_000_000,
            "addresses": [ip4(1, 4001).hex(), ip4(2, 4002).hex()],
            "voucher": b"voucher".hex(),
            "limit": [120, 1 << 17],
        },
    ),
    "refused": (
        HopMessage(type=HopMessage.STATUS, status=Status.NO_RESERVATION),
        {"type": "STATUS", "status": "NO_RESERVATION"},
    ),
    "without_limit": (
        HopMessage(type=HopMessage.STATUS, limit=Limit(), status=Status.OK),
        {"type": "STATUS", "limit": [0, 0], "status": "OK"},
    ),
}
STOP = {
    "connect": (
        StopMessage(type=StopMessage.CONNECT, peer=PeerId(id=peer(2)), limit=LIMIT),
        {"type": "CONNECT", "peer": peer(2).hex(), "limit": [120, 1 << 17]},
    ),
    "accepted": (
        StopMessage(type=StopMessage.STATUS, status=Status.OK),
        {"type": "STATUS", "status": "OK"},
    ),
}
TOLERATED = {
    "no_type": {"kind": "hop", "body": "", "type": "RESERVE"},
    "unknown_field": {
        "kind": "hop",
        "body": (number(1, 1) + number(9, 5) + chunk(10, b"x")).hex(),
        "type": "CONNECT",
    },
    "unknown_status": {"kind": "hop", "body": (number(1, 2) + number(5, 999)).hex(), "type": "STATUS"},
    "long_address": {"kind": "punch", "body": (number(1, 100) + chunk(2, bytes(129))).hex(), "type": "CONNECT"},
}
REFUSED = {
    "hop_unknown_type": ("hop", number(1, 3)),
    "hop_type_as_bytes": ("hop", chunk(1, b"\x01")),
    "hop_peer_too_long": ("hop", number(1, 1) + chunk(2, chunk(1, bytes(65)))),
    "hop_reservation_without_end": ("hop", number(1, 2) + chunk(3, b"")),
    "hop_cut": ("hop", number(1, 1) + b"\x12\x05ab"),
    "hop_group": ("hop", b"\x0b\x0c"),
    "stop_unknown_type": ("stop", number(1, 2)),
    "stop_limit_as_number": ("stop", number(1, 0) + number(3, 1)),
    "punch_without_type": ("punch", b""),
    "punch_unknown_type": ("punch", number(1, 200)),
}


PUNCH = {
    "connect": (
        HolePunch(type=HolePunch.CONNECT, ObsAddrs=[ip4(1, 4001), ip4(2, 4002)]),
        {"type": "CONNECT", "addresses": [ip4(1, 4001).hex(), ip4(2, 4002).hex()]},
    ),
    "sync": (HolePunch(type=HolePunch.SYNC), {"type": "SYNC", "addresses": []}),
}


def bodies(cases: dict) -> dict:
    return {
        name: {"body": message.SerializeToString().hex(), **expect} for name, (message, expect) in cases.items()
    }


def canonical(value: object) -> str:
    return cbor2.dumps(value, canonical=True).hex()


TOKENS = [bytes([1]) * 16, bytes([2]) * 16]
REACH = {
    "request": {
        "ports": [4001, 65535],
        "tokens": [token.hex() for token in TOKENS],
        "body": canonical({"ports": [4001, 65535], "tokens": TOKENS}),
    },
    "request_without_ports": {"ports": [], "tokens": [], "body": canonical({"ports": [], "tokens": []})},
    "answer": {
        "ip": "192.0.2.1",
        "port": 50000,
        "reached": [True, False],
        "body": canonical({"ip": "192.0.2.1", "port": 50000, "reached": [True, False]}),
    },
    "answer_ipv6": {
        "ip": "2001:db8::1",
        "port": 0,
        "reached": [],
        "body": canonical({"ip": "2001:db8::1", "port": 0, "reached": []}),
    },
}
REACH_REFUSED = {
    "not_cbor": ["request", "ff"],
    "request_without_tokens": ["request", canonical({"ports": [1], "tokens": []})],
    "request_with_port_0": ["request", canonical({"ports": [0], "tokens": TOKENS[:1]})],
    "request_with_five_ports": ["request", canonical({"ports": [1, 2, 3, 4, 5], "tokens": TOKENS[:1] * 5})],
    "request_with_a_port_twice": ["request", canonical({"ports": [1, 1], "tokens": TOKENS})],
    "request_with_short_token": ["request", canonical({"ports": [1], "tokens": [bytes(15)]})],
    "answer_with_a_name": ["answer", canonical({"ip": "localhost", "port": 1, "reached": []})],
    "answer_with_a_number": ["answer", canonical({"ip": "192.0.2.1", "port": 1, "reached": [1]})],
    "answer_without_port": ["answer", canonical({"ip": "192.0.2.1", "reached": []})],
}


def main() -> None:
    vectors = {
        "comment": "bodies of messages, without the varint of their length",
        "hop": bodies(HOP),
        "stop": bodies(STOP),
        "punch": bodies(PUNCH),
        "tolerated": TOLERATED,
        "refused": {name: {"kind": kind, "body": body.hex()} for name, (kind, body) in REFUSED.items()},
        "reach": REACH,
        "reach_refused": {name: {"kind": kind, "body": body} for name, (kind, body) in REACH_REFUSED.items()},
    }
    Path(__file__).with_name("circuit.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
