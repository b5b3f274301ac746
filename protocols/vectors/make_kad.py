"""Make kad.json with Google's protobuf runtime. Run: python protocols/vectors/make_kad.py"""

import base64
import hashlib
import json
from pathlib import Path

import base58
import nacl.signing
from libp2p.kad_dht.pb.kademlia_pb2 import Message


def peer(number: int) -> bytes:
    public = bytes(nacl.signing.SigningKey(bytes([number]) * 32).verify_key)
    return bytes.fromhex("002408011220") + public


def ip4(last: int, port: int) -> bytes:
    return bytes([4, 127, 0, 0, last, 6]) + port.to_bytes(2, "big")


def frame(body: bytes) -> bytes:
    size, out = len(body), b""
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size]) + body


def message(
    kind: str, key: bytes = b"", record: tuple | None = None, closer: tuple = (), providers: tuple = ()
) -> dict:
    built = Message(type=Message.MessageType.Value(kind))
    if key:
        built.key = key
    if record:
        built.record.key, built.record.value = record[0], record[1]
        if record[2]:
            built.record.timeReceived = record[2]
    for target, peers in ((built.closerPeers, closer), (built.providerPeers, providers)):
        for identity, addresses in peers:
            target.add(id=identity, addrs=list(addresses))

    def show(peers: tuple) -> list:
        return [
            {"peer_id": identity.hex(), "addresses": [item.hex() for item in found]} for identity, found in peers
        ]

    return {
        "type": kind,
        "key": key.hex(),
        "record": record and {"key": record[0].hex(), "value": record[1].hex(), "time_received": record[2]},
        "closer_peers": show(closer),
        "provider_peers": show(providers),
        "frame": frame(built.SerializeToString()).hex(),
    }


KEY = hashlib.sha256(b"a key").digest()
RECORD_KEY = b"/sov/" + base64.urlsafe_b64encode(KEY).rstrip(b"=")
PROVIDER_KEY = b"\x12\x20" + KEY
PEERS = ((peer(1), (ip4(1, 4001), ip4(2, 4002))), (peer(2), ()))

VALID = {
    "ping": message("PING"),
    "find_node": message("FIND_NODE", peer(1)),
    "find_node_answer": message("FIND_NODE", closer=PEERS),
    "get_value": message("GET_VALUE", RECORD_KEY),
    "get_value_answer": message(
        "GET_VALUE", RECORD_KEY, (RECORD_KEY, b"value", "2026-01-02T03:04:05.000000000Z"), closer=PEERS
    ),
    "put_value": message("PUT_VALUE", RECORD_KEY, (RECORD_KEY, b"v" * 300, "")),
    "add_provider": message("ADD_PROVIDER", PROVIDER_KEY, providers=PEERS[:1]),
    "get_providers": message("GET_PROVIDERS", PROVIDER_KEY),
    "get_providers_answer": message("GET_PROVIDERS", PROVIDER_KEY, closer=PEERS[1:], providers=PEERS[:1]),
}

# What other implementations may send in good faith: understood, with the stated parts left out.
ODD_PEERS = Message(type=4)
ODD_PEERS.closerPeers.add(id=bytes.fromhex("1220") + bytes(32), addrs=[ip4(1, 1)])
ODD_PEERS.closerPeers.add(id=peer(1), addrs=[b"\x04" * 129, ip4(1, 1), ip4(1, 1)], connection=1)
MANY = Message(type=4)
for number in range(1, 31):
    MANY.closerPeers.add(id=peer(number), addrs=[ip4(1, port) for port in range(1, 21)])

TOLERATED = {
    "unknown_fields": {"body": (b"\x08\x05\x50\x0a\xf8\x07\x01\xfa\x07\x02hi\x8d\x08abcd").hex(), "type": "PING"},
    "odd_peers": {"body": ODD_PEERS.SerializeToString().hex(), "type": "FIND_NODE", "closer": [[peer(1).hex(), 1]]},
    "many_peers": {
        "body": MANY.SerializeToString().hex(),
        "type": "FIND_NODE",
        "closer": [[peer(number).hex(), 16] for number in range(1, 21)],
    },
}

REFUSED = {
    "unknown_type": b"\x08\x06",
    "type_as_bytes": b"\x0a\x01\x04",
    "type_twice": b"\x08\x04\x08\x04",
    "key_as_number": b"\x08\x04\x10\x01",
    "key_too_long": b"\x08\x04\x12\x81\x01" + bytes(129),
    "cut_in_tag": b"\x08\x04\x92",
    "cut_in_length": b"\x08\x04\x12\x80",
    "cut_in_value": b"\x08\x04\x12\x05abcd",
    "varint_of_eleven_bytes": b"\x08" + b"\x80" * 10 + b"\x01",
    "varint_above_64_bits": b"\x08" + b"\xff" * 9 + b"\x02",
    "length_2_63": b"\x08\x04\x12" + b"\x80" * 9 + b"\x01",
    "field_number_zero": b"\x08\x04\x02\x00",
    "group": b"\x08\x04\x0b\x0c",
    "fixed32_cut": b"\x08\x04\x0d\x00",
    "record_key_twice": b"\x08\x00\x1a\x06\x0a\x01a\x0a\x01a",
    "record_time_not_ascii": b"\x08\x00\x1a\x03\x2a\x01\xff",
    "record_time_too_long": b"\x08\x00\x1a\x43\x2a\x41" + b"1" * 65,
    "peer_as_number": b"\x08\x04\x40\x01",
    "peer_id_as_number": b"\x08\x04\x42\x02\x08\x01",
    "address_as_number": b"\x08\x04\x42\x02\x10\x01",
}


def main() -> None:
    vectors = {
        "comment": "DHT messages; frames begin with the varint of their length, bodies do not",
        "keys": {
            "key": KEY.hex(),
            "record_wire_key": RECORD_KEY.decode(),
            "record_kad_id": hashlib.sha256(RECORD_KEY).hexdigest(),
            "provider_wire_key": PROVIDER_KEY.hex(),
            "provider_kad_id": hashlib.sha256(PROVIDER_KEY).hexdigest(),
            "peer_id": base58.b58encode(peer(1)).decode(),
            "peer_id_bytes": peer(1).hex(),
            "peer_kad_id": hashlib.sha256(peer(1)).hexdigest(),
        },
        "valid": VALID,
        "tolerated": TOLERATED,
        "refused": {name: body.hex() for name, body in REFUSED.items()},
        "refused_frames": {
            "length_65537": "818004",
            "length_of_four_bytes": "80808001",
            "length_2_63": "ff" * 9 + "01",
        },
    }
    Path(__file__).with_name("kad.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
