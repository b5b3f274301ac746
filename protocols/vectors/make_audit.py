"""Writes audit.json: challenges, answers, verdicts and judgements; with blake3, cbor2 and PyNaCl alone."""

import hashlib
import json
from pathlib import Path

import blake3
import cbor2
from nacl.signing import SigningKey

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
PROVIDER = SigningKey(b"\x01" * 32)
AUDITOR = SigningKey(b"\x02" * 32)
NOW = 1_800_000_000
CHALLENGE, ANSWER = 0x27, 0x28
ZERO = bytes(32)
NONCE = b"\x77" * 32
#: Three leaves, the last one short.
CHUNK = bytes(number % 251 for number in range(2 * 4096 + 100))
CHUNK_ID = hashlib.sha256(CHUNK).digest()


def statement(kind: int, body: dict, key: SigningKey) -> bytes:
    """SVS1: magic, version, type, two zero bytes, length, body, public key, signature."""
    encoded = cbor2.dumps({"v": 1} | body, canonical=True)
    content = b"SVS1\x01" + bytes([kind, 0, 0]) + len(encoded).to_bytes(4, "big") + encoded
    public = bytes(key.verify_key)
    return content + public + key.sign(b"svrn/v1/stmt\0" + NETWORK_ID + content + public).signature


def content_hash(raw: bytes) -> bytes:
    """Header and body without signer and signature."""
    return hashlib.sha256(raw[:-96]).digest()


def leaf(number: int) -> bytes:
    """Bytes of a leaf."""
    return CHUNK[number * 4096 : (number + 1) * 4096]


def leaf_hash(data: bytes) -> bytes:
    """Leaf of the tree."""
    return hashlib.sha256(b"\0" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Inner node of the tree."""
    return hashlib.sha256(b"\1" + left + right).digest()


LEAVES = [leaf_hash(leaf(number)) for number in range(3)]
ROOT = node(node(LEAVES[0], LEAVES[1]), LEAVES[2])
PATHS = [[LEAVES[1], LEAVES[2]], [LEAVES[0], LEAVES[2]], [node(LEAVES[0], LEAVES[1])]]
KEYED = blake3.blake3(CHUNK, key=NONCE).digest()

ASKED = {"kind": "challenge", "contract": b"\x11" * 32, "provider": bytes(PROVIDER.verify_key)}
ASKED |= {"auditor": bytes(AUDITOR.verify_key), "chunk": CHUNK_ID, "method": "hash", "leaf": 0}
ASKED |= {"nonce": NONCE, "at": NOW}
ASKED_RAW = statement(CHALLENGE, ASKED, AUDITOR)
HELD = {"kind": "answer", "challenge": content_hash(ASKED_RAW), "result": "held", "size": len(CHUNK)}
HELD |= {"proof": KEYED, "at": NOW}
MISSING = HELD | {"result": "missing", "size": 0, "proof": ZERO}
VERDICT = {"kind": "verdict", "contract": b"\x11" * 32, "provider": bytes(PROVIDER.verify_key), "chunk": CHUNK_ID}
VERDICT |= {"challenge": content_hash(ASKED_RAW), "answer": ZERO, "outcome": "failed", "size": len(CHUNK)}
VERDICT |= {"since_at": NOW - 1000, "at": NOW}


def signed(number: int, body: dict, key: SigningKey) -> dict:
    """One message."""
    raw = statement(number, body, key)
    return {"kind": body["kind"], "raw": raw.hex(), "content_hash": content_hash(raw).hex()}


def judged(
    name: str, expect: str, method: str, number: int, answer: dict, data: bytes = b"", path: tuple = ()
) -> dict:
    """One judgement: challenge, answer, proof, and what they say."""
    asked = statement(CHALLENGE, ASKED | {"method": method, "leaf": number}, AUDITOR)
    body = HELD | {"challenge": content_hash(asked)} | answer
    return {
        "name": name,
        "challenge": asked.hex(),
        "answer": statement(ANSWER, body, PROVIDER).hex(),
        "leaf": data.hex(),
        "path": [item.hex() for item in path],
        "expect": expect,
    }


def bad(name: str, number: int, body: dict) -> dict:
    """One failure."""
    raw = statement(number, body, AUDITOR)
    return {"name": name, "kind": body["kind"], "raw": raw.hex(), "expect": "malformed"}


def frame(kind: int, name: str, fields: dict) -> dict:
    """A message without payload, as request 1."""
    header = cbor2.dumps([kind, 1, fields], canonical=True)
    return {"name": name, "request": 1, "raw": (len(header).to_bytes(4, "big") + bytes(4) + header).hex()}


HELD_RAW = statement(ANSWER, HELD, PROVIDER)
VERDICT_RAW = statement(CHALLENGE, VERDICT, AUDITOR)
DOCUMENT = {
    "spec": "protocols/specs/audit.md",
    "chunk": CHUNK.hex(),
    "root": ROOT.hex(),
    "messages": [
        signed(CHALLENGE, ASKED, AUDITOR),
        signed(CHALLENGE, ASKED | {"method": "leaf", "leaf": 2}, AUDITOR),
        signed(ANSWER, HELD, PROVIDER),
        signed(ANSWER, MISSING, PROVIDER),
        signed(CHALLENGE, VERDICT, AUDITOR),
    ],
    "frames": [
        frame(80, "Challenge", {"challenge": ASKED_RAW}),
        frame(81, "Answer", {"answer": HELD_RAW, "leaf": leaf(2), "path": PATHS[2]}),
        frame(82, "VerdictNote", {"verdict": VERDICT_RAW, "challenge": ASKED_RAW, "answer": b""}),
        frame(83, "VerdictKept", {"hash": hashlib.sha256(VERDICT_RAW).digest()}),
    ],
    "judged": [
        judged("the right hash", "passed", "hash", 0, {}),
        judged("a hash with another key", "failed", "hash", 0, {"proof": blake3.blake3(CHUNK, key=ZERO).digest()}),
        judged("the chunk is missing", "failed", "hash", 0, MISSING),
        judged("another size", "failed", "hash", 0, {"size": 4096}),
        judged("the first leaf", "passed", "leaf", 0, {"proof": LEAVES[0]}, leaf(0), PATHS[0]),
        judged("the short last leaf", "passed", "leaf", 2, {"proof": LEAVES[2]}, leaf(2), PATHS[2]),
        judged("another leaf", "failed", "leaf", 1, {"proof": LEAVES[0]}, leaf(0), PATHS[0]),
        judged("a path too short", "failed", "leaf", 1, {"proof": LEAVES[1]}, leaf(1), PATHS[1][:1]),
        judged("a leaf that was not signed", "failed", "leaf", 1, {"proof": LEAVES[0]}, leaf(1), PATHS[1]),
    ],
    "refused": [
        bad("a leaf of a hash", CHALLENGE, ASKED | {"leaf": 1}),
        bad("another method", CHALLENGE, ASKED | {"method": "guess"}),
        bad("a short nonce", CHALLENGE, ASKED | {"nonce": bytes(16)}),
        bad("a proof of a missing chunk", ANSWER, MISSING | {"proof": KEYED}),
        bad("a failure that reaches into the future", CHALLENGE, VERDICT | {"since_at": NOW + 1}),
        bad("no outcome", CHALLENGE, VERDICT | {"outcome": ""}),
    ],
    "samples": [[99, 10, 459], [99, 100, 44], [95, 10, 299], [90, 1, 2302], [99, 1, 4603]],
}

if __name__ == "__main__":
    text = json.dumps(DOCUMENT, indent=1) + "\n"
    Path(__file__).with_name("audit.json").write_text(text, encoding="utf-8")
