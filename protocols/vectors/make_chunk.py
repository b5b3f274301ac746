"""Writes chunk.json: frames of the chunk protocol and a deletion, made with cbor2 and PyNaCl alone."""

import hashlib
import json
from pathlib import Path

import cbor2
from nacl.signing import SigningKey

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
DEVICE = SigningKey(b"\x01" * 32)
CONTRACT, LOCATOR = b"\x11" * 32, b"\x22" * 32
NOW = 1_800_000_000
CHUNK = bytes(range(256)) * 16 + bytes(88)
CHUNK_ID = hashlib.sha256(CHUNK).digest()


def frame(items: object, payload: bytes = b"") -> bytes:
    """Both lengths, header, payload."""
    header = cbor2.dumps(items, canonical=True)
    return len(header).to_bytes(4, "big") + len(payload).to_bytes(4, "big") + header + payload


def deletion() -> bytes:
    """SVS1 of type 0x26."""
    body = cbor2.dumps(
        {
            "v": 1,
            "contract": CONTRACT,
            "ids": [CHUNK_ID],
            "delete_after": 0,
            "signed_at": NOW,
            "nonce": b"\x33" * 16,
        },
        canonical=True,
    )
    content = b"SVS1\x01\x26\x00\x00" + len(body).to_bytes(4, "big") + body
    public = bytes(DEVICE.verify_key)
    return content + public + DEVICE.sign(b"svrn/v1/stmt\0" + NETWORK_ID + content + public).signature


GOOD = {
    "Hello": ([0, 1, NOW, 16 * 1024**2, b"certificate", 2, b"\x44" * 32], b""),
    "Hello of a stranger": ([0, 1, NOW, 16 * 1024**2, None, 0, None], b""),
    "LogEntry": ([1, 0], b"entry"),
    "LogGet": ([2, 1, 0], b""),
    "Ping": ([3, 2], b""),
    "Have": ([4, 3, CONTRACT, [CHUNK_ID, bytes(32)]], b""),
    "List": ([5, 4, CONTRACT, None], b""),
    "Put": ([6, 5, CONTRACT, CHUNK_ID], CHUNK),
    "Get": ([7, 6, CONTRACT, [CHUNK_ID]], b""),
    "Cancel": ([8, 6], b""),
    "Credit": ([9, 4184], b""),
    "Delete": ([10, 7, CONTRACT], deletion()),
    "Undelete": ([11, 8, CONTRACT, [CHUNK_ID]], b""),
    "HeadSet": ([12, 9, CONTRACT, LOCATOR, None], b"head"),
    "HeadGet": ([13, 10, CONTRACT, LOCATOR], b""),
    "UsageGet": ([14, 11, CONTRACT], b""),
    "RecoverySet": ([15, 12, CONTRACT, LOCATOR, 3, b"announce"], b"sealed"),
    "RecoveryGet": ([16, 13, LOCATOR], b""),
    "HelloReply": ([32, 1, NOW, 16 * 1024**2, 0], b""),
    "LogAccepted": ([33, 2], b""),
    "LogReply": ([34, 1, 0], b"entry"),
    "LogReply without entry": ([34, 1, 0], b""),
    "HaveReply": ([35, 3, b"\x01\x00"], b""),
    "ListReply": ([36, 4, [CHUNK_ID]], b""),
    "Stored": ([37, [5, 14]], b""),
    "Chunk": ([38, 6, CHUNK_ID], CHUNK),
    "Missing": ([39, 6, [bytes(32)]], b""),
    "Done": ([40, 6, 1], b""),
    "Head": ([41, 10, bytes(DEVICE.verify_key)], b"head"),
    "UsageReply": ([42, 11, 10**9, 2, 9000, 1, 4184, 9000, 0], b""),
    "Recovery": ([43, 13, 3, b"announce"], b"sealed"),
    "Failure": ([44, 7, "grace", {"earliest": NOW}], b""),
    "Failure of the session": ([44, None, "clock_skew", {"clock_at": NOW, "your_clock_at": NOW + 301}], b""),
}
BAD = {
    "no array": (frame({}), "malformed"),
    "empty array": (frame([]), "malformed"),
    "unknown number": (frame([17, 1]), "malformed"),
    "field missing": (frame([3]), "malformed"),
    "field too many": (frame([3, 1, 1]), "malformed"),
    "negative request": (frame([3, -1]), "malformed"),
    "boolean as number": (frame([3, True]), "malformed"),
    "short id": (frame([14, 1, CONTRACT[1:]]), "malformed"),
    "1001 ids": (frame([7, 1, CONTRACT, [bytes(32)] * 1001]), "malformed"),
    "unknown code": (frame([44, 1, "no such code", {}]), "malformed"),
    "number in two bytes": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x82\x03\x18\x01", "malformed"),
    "indefinite array": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x9f\x03\x01\xff", "malformed"),
    "trailing byte": (b"\x00\x00\x00\x04\x00\x00\x00\x00\x82\x03\x01\x00", "malformed"),
    "float": (frame([3, 1.5]), "malformed"),
    "tag": (frame([3, cbor2.CBORTag(35, "a")]), "malformed"),
    "empty header": (bytes(8), "too_large"),
    "long header": (b"\x00\x01\x00\x01" + bytes(4), "too_large"),
    "long payload": (b"\x00\x00\x00\x01\xff\xff\xff\xff", "too_large"),
    "payload of a ping": (frame([3, 1], b"x"), "too_large"),
    "put without payload": (frame([6, 1, CONTRACT, CHUNK_ID]), "size_class"),
    "put of an unpadded size": (frame([6, 1, CONTRACT, CHUNK_ID], bytes(4185)), "size_class"),
    "put above the largest size": (frame([6, 1, CONTRACT, CHUNK_ID], bytes(4_194_393))[:200], "too_large"),
    "head without payload": (frame([12, 1, CONTRACT, LOCATOR, None]), "size_class"),
}


def main() -> None:
    good = [
        {"name": name, "frame": frame(items, payload).hex(), "payload_bytes": len(payload)}
        for name, (items, payload) in GOOD.items()
    ]
    bad = [{"name": name, "frame": data.hex(), "expect": code} for name, (data, code) in BAD.items()]
    signed = {
        "device_seed": "01" * 32,
        "contract": CONTRACT.hex(),
        "ids": [CHUNK_ID.hex()],
        "signed_at": NOW,
        "nonce": "33" * 16,
        "statement": deletion().hex(),
    }
    text = json.dumps({"good": good, "bad": bad, "deletion": signed}, indent=1) + "\n"
    Path(__file__).with_name("chunk.json").write_text(text)


if __name__ == "__main__":
    main()
