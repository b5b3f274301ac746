"""Writes relay.json from the layouts of the specification, without the code under test.

BLAKE2b comes from hashlib and Base32 from base64; the CRC-16, the frames and the state of a tunnel are written
out here once more.
"""

import base64
import hashlib
import json
import struct
from pathlib import Path

DAY = 20780
KEY = bytes(range(32))
TOKEN_A = bytes(range(0x10, 0x20))
TOKEN_B = bytes(range(0x20, 0x30))


def base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=").lower()


def rendezvous(key: bytes, day: int, secret: bytes) -> str:
    state = hashlib.blake2b(digest_size=20, key=secret, person=b"svrn-rendezvous1")
    state.update(key)
    state.update(struct.pack(">I", day))
    return "svrn.r." + base32(state.digest())


def frame(kind: int, sequence: int, body: bytes = b"") -> bytes:
    return bytes([kind]) + sequence.to_bytes(8, "big") + body


def opening(token: bytes, window: int, max_frame: int, magic: bytes = b"SVT1") -> bytes:
    return magic + token + window.to_bytes(4, "big") + max_frame.to_bytes(4, "big")


def crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021) & 0xFFFF if value & 0x8000 else value << 1 & 0xFFFF
    return value


def nkey(raw: bytes) -> str:
    return base64.b32encode(raw + struct.pack("<H", crc16(raw))).decode().rstrip("=")


def compact(raw: bytes) -> dict[str, object]:
    """Write a frame as hex and the number of zero bytes that follow, so that long ones stay readable."""
    zeros = len(raw) - len(raw.rstrip(b"\0"))
    zeros = zeros if zeros > 64 else 0
    return {"hex": raw[: len(raw) - zeros].hex(), "zeros": zeros}


SUBJECTS = [
    {"public_key": KEY.hex(), "day": day, "secret": secret.hex(), "subject": rendezvous(KEY, day, secret)}
    for day, secret in ((0, b""), (DAY, b""), (DAY + 1, b""), (DAY, b"sixteen byte key"), (2**32 - 1, bytes(64)))
]
INBOXES = [{"token": token.hex(), "subject": "svrn.i." + base32(token)} for token in (TOKEN_A, TOKEN_B, bytes(16))]

W, F = 262144, 65536
FRAMES = [
    ("request", frame(0, 0, opening(TOKEN_A, W, F)), "ok"),
    ("accept", frame(1, 0, opening(TOKEN_B, W, 1024)), "ok"),
    ("data of one byte", frame(2, 1, b"x"), "ok"),
    ("largest data", frame(2, 2**64 - 1, bytes(65527)), "ok"),
    ("credit", frame(3, 7, (1 << 40).to_bytes(8, "big")), "ok"),
    ("end", frame(4, 8), "ok"),
    ("close", frame(5, 9, b"\x00"), "ok"),
    ("ping", frame(6, 10), "ok"),
    ("pong", frame(7, 11), "ok"),
    ("empty", b"", "malformed"),
    ("head cut short", frame(4, 8)[:-1], "malformed"),
    ("one byte too long", frame(2, 1, bytes(65528)), "malformed"),
    ("unknown type", frame(8, 1), "malformed"),
    ("end with a body", frame(4, 8, b"x"), "malformed"),
    ("credit cut short", frame(3, 7, bytes(7)), "malformed"),
    ("close without a code", frame(5, 9), "malformed"),
    ("request of another version", frame(0, 0, opening(TOKEN_A, W, F, b"SVT2")), "unsupported_version"),
    ("request with a small window", frame(0, 0, opening(TOKEN_A, 65535, F)), "malformed"),
    ("request with a large window", frame(0, 0, opening(TOKEN_A, 16 * 2**20 + 1, F)), "malformed"),
    ("request with small frames", frame(0, 0, opening(TOKEN_A, W, 1023)), "malformed"),
    ("request with large frames", frame(0, 0, opening(TOKEN_A, W, 65537)), "malformed"),
]

# What one side receives, in order; the last frame is the fault, and the code is what it answers in CLOSE.
LOCAL = {"window_bytes": W, "max_frame_bytes": F}
FAULTS = [
    ("a frame is lost", [frame(2, 1, b"a"), frame(2, 3, b"c")], 2),
    ("a frame is doubled", [frame(2, 1, b"a"), frame(2, 1, b"a")], 2),
    ("two frames change places", [frame(2, 2, b"b")], 2),
    ("data without credit", [frame(2, n, bytes(65527)) for n in (1, 2, 3, 4)] + [frame(2, 5, bytes(37))], 3),
    ("data after the end", [frame(4, 1), frame(2, 2, b"a")], 1),
    ("a second end", [frame(4, 1), frame(4, 2)], 1),
    ("data without a byte", [frame(2, 1)], 1),
    ("a request in an open tunnel", [frame(0, 1, opening(TOKEN_A, W, F))], 1),
    ("credit goes back", [frame(3, 1, (W - 1).to_bytes(8, "big"))], 1),
    ("credit that adds nothing", [frame(3, 1, W.to_bytes(8, "big"))], 1),
    ("credit above the largest window", [frame(3, 1, (16 * 2**20 + 1).to_bytes(8, "big"))], 1),
    ("an answer to no ping", [frame(7, 1)], 1),
    ("pings in a row", [frame(6, n) for n in range(1, 10)], 3),
]

SEED = bytes(range(0x40, 0x60))
NKEYS = [
    {"text": nkey(bytes([0x90 | 160 >> 5, (160 & 31) << 3]) + SEED), "seed": SEED.hex(), "expect": "ok"},
    {"text": nkey(bytes([0x90 | 0 >> 5, 0]) + SEED), "seed": SEED.hex(), "expect": "not a user"},
    {"text": nkey(bytes([160]) + SEED), "seed": "", "expect": "not a seed"},
    {"text": nkey(bytes([0x95, 0]) + SEED)[:-1] + "A", "seed": "", "expect": "check sum"},
]

if __name__ == "__main__":
    document = {
        "rendezvous": SUBJECTS,
        "inboxes": INBOXES,
        "frames": [{"name": name, **compact(raw), "expect": expect} for name, raw, expect in FRAMES],
        "local": LOCAL,
        "faults": [
            {"name": name, "received": [compact(raw) for raw in received], "close_code": code}
            for name, received, code in FAULTS
        ],
        "nkeys": NKEYS,
    }
    Path(__file__).with_name("relay.json").write_text(json.dumps(document, indent=1) + "\n")
