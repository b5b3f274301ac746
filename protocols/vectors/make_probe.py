"""Writes probe.json: receipt, report, maintenance and counts; with cbor2 and PyNaCl alone."""

import hashlib
import json
from pathlib import Path

import cbor2
from nacl.signing import SigningKey

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
PROVIDER = SigningKey(b"\x01" * 32)
OBSERVER = SigningKey(b"\x02" * 32)
NOW = 1_800_000_000
USAGE = 0x24
BOTH = {"observer": bytes(OBSERVER.verify_key), "provider": bytes(PROVIDER.verify_key)}
PROBE = BOTH | {"kind": "probe", "nonce": b"\x33" * 16, "sent_at": NOW, "answered_at": NOW + 1}
UPTIME = BOTH | {"kind": "uptime", "first": 3_000_000, "count": 10, "observed": b"\xff\x80", "good": b"\xfe\x80"}


def statement(body: dict, key: SigningKey, kind: int = USAGE) -> bytes:
    """SVS1: magic, version, type, two zero bytes, length, body, public key, signature."""
    encoded = cbor2.dumps({"v": 1} | body, canonical=True)
    content = b"SVS1\x01" + bytes([kind, 0, 0]) + len(encoded).to_bytes(4, "big") + encoded
    public = bytes(key.verify_key)
    return content + public + key.sign(b"svrn/v1/stmt\0" + NETWORK_ID + content + public).signature


def message(kind: int, number: int, fields: dict) -> str:
    """A frame without payload."""
    header = cbor2.dumps([kind, number, fields], canonical=True)
    return (len(header).to_bytes(4, "big") + bytes(4) + header).hex()


def bad(name: str, kind: str, body: dict) -> dict:
    """One failure."""
    return {"name": name, "kind": kind, "raw": statement(body, OBSERVER).hex(), "expect": "malformed"}


RECEIPT = statement(PROBE, PROVIDER)
DOCUMENT = {
    "spec": "protocols/specs/probe.md",
    "messages": [
        {"kind": "probe", "raw": RECEIPT.hex(), "content_hash": hashlib.sha256(RECEIPT[:-96]).hexdigest()},
        {
            "kind": "uptime",
            "raw": statement(UPTIME, OBSERVER).hex(),
            "content_hash": hashlib.sha256(statement(UPTIME, OBSERVER)[:-96]).hexdigest(),
        },
    ],
    "frames": [
        {"name": "Probe", "request": 1, "raw": message(64, 1, {"nonce": b"\x33" * 16, "sent_at": NOW})},
        {"name": "ProbeAnswer", "request": 1, "raw": message(65, 1, {"receipt": RECEIPT, "notices": []})},
        {
            "name": "WindowsQuery",
            "request": 2,
            "raw": message(68, 2, {"provider": b"\x44" * 32, "first": 7, "count": 9}),
        },
        {"name": "ProbeRecord", "request": 2, "raw": message(66, 2, {"receipt": statement(PROBE, OBSERVER)})},
        {"name": "ProbeKept", "request": 2, "raw": message(67, 2, {"hash": b"\x55" * 32})},
        {
            "name": "WindowsAnswer",
            "request": 2,
            "raw": message(69, 2, {"report": statement(UPTIME, OBSERVER), "notices": [b"act"]}),
        },
        {"name": "Appoint", "request": 3, "raw": message(70, 3, {"customer": b"terms", "provider": b"terms"})},
        {"name": "Appointed", "request": 3, "raw": message(71, 3, {"contract": b"\x66" * 32})},
    ],
    "maintenance": [
        {
            "name": "half an hour of a window and more",
            "start": 0,
            "notices": [[0, 1200, 3000]],
            "excluded": [2, 3, 4],
        },
        {"name": "an hour counts half", "start": 0, "notices": [[0, 600, 4200]], "excluded": [1, 2, 3]},
        {"name": "announced too late", "start": 0, "notices": [[600, 600, 1200]], "excluded": []},
        {
            "name": "twice and overlapping",
            "start": 0,
            "notices": [[0, 600, 1200], [1, 600, 1200], [2, 900, 1800]],
            "excluded": [1, 2],
        },
        {
            "name": "each month anew",
            "start": 0,
            "notices": [[0, 600, 2400], [5, 6000, 6600], [9, 2_592_000, 2_592_600]],
            "excluded": [1, 2, 3, 4320],
        },
    ],
    "refused": [
        bad("a nonce of 15 bytes", "probe", PROBE | {"nonce": bytes(15)}),
        bad("an observer of himself", "probe", PROBE | {"provider": BOTH["observer"]}),
        bad("good without being observed", "uptime", UPTIME | {"good": b"\xff\xc0"}),
        bad("a bit behind the end", "uptime", UPTIME | {"observed": b"\xff\x81"}),
        bad("a bitmap that is too short", "uptime", UPTIME | {"good": b"\xff"}),
        bad("no windows", "uptime", UPTIME | {"count": 0, "good": b"", "observed": b""}),
        bad("a report as a receipt", "probe", UPTIME),
    ],
}

if __name__ == "__main__":
    text = json.dumps(DOCUMENT, indent=1) + "\n"
    Path(__file__).with_name("probe.json").write_text(text, encoding="utf-8")
