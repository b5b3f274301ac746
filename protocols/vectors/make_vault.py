"""Make vault.json from the specs, with general libraries only: container, segment, tree, snapshot, head."""

import hashlib
import json
import struct
from pathlib import Path

import cbor2
import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.signing import SigningKey

PROJECT, EPOCH_KEY, DEDUP_SECRET = b"P" * 32, b"E" * 32, b"D" * 32
DEVICE = SigningKey(b"S" * 32)
DEVICE_PUBLIC = bytes(DEVICE.verify_key)
NETWORK = hashlib.sha256(b"sovereign network 1").digest()
SALT = bytes(range(32))


def hkdf(secret, info, length=32, salt=None):
    return HKDF(SHA256(), length, salt, info).derive(secret)


def padme(length):
    exponent = length.bit_length() - 1
    step = 1 << max(0, exponent - exponent.bit_length())
    return -(-length // step) * step


def seal(purpose, name, context, plaintext):
    key = hkdf(EPOCH_KEY, name + b"\0" + PROJECT + bytes(4))
    header = b"SVE1\1\1" + struct.pack(">H", purpose)
    material = hkdf(key, b"svrn/v1/envelope\0" + header + context, 76, SALT)
    front = header + SALT + material[44:]
    return front + AESGCM(material[:32]).encrypt(material[32:44], plaintext, front + context)


def statement(kind, body):
    encoded = cbor2.dumps(body, canonical=True)
    content = b"SVS1\1" + bytes((kind, 0, 0)) + struct.pack(">I", len(encoded)) + encoded
    signature = DEVICE.sign(b"svrn/v1/stmt\0" + NETWORK + content + DEVICE_PUBLIC).signature
    return content + DEVICE_PUBLIC + signature


DEDUP_KEY = hkdf(DEDUP_SECRET, b"svrn/v1/project/dedup\0" + PROJECT)
LOCATOR = hkdf(DEDUP_SECRET, b"svrn/v1/project/locator\0" + PROJECT)


def blob_id(raw):
    return blake3(raw, key=DEDUP_KEY).digest()


def container(blobs):
    payload, directory = b"", b""
    for kind, codec, raw in blobs:
        stored = zstandard.ZstdCompressor(level=3).compress(raw) if codec else raw
        payload += stored
        directory += blob_id(raw) + bytes((kind, codec)) + struct.pack(">II", len(stored), len(raw))
    used = len(payload) + len(directory) + 16
    trailer = b"SVC1\1\0\0\0" + struct.pack(">II", len(payload), len(blobs))
    return payload + directory + bytes(padme(max(used, 4096)) - used) + trailer, directory


def entry(kind, name, content_kind, content, *, flags=0, mode=0o644, mtime=-1, size=0):
    fixed = struct.pack(">BBHqQBHI", kind, flags, mode, mtime, size, content_kind, len(name), len(content))
    return fixed + name + content


def main():
    text = b"the quick brown fox " * 50
    blobs = [(1, 0, b"raw data"), (1, 1, text), (4, 0, bytes(64)), (1, 0, b"")]
    plain, directory = container(blobs)
    sealed = seal(1, b"svrn/v1/project/chunk", PROJECT, plain)
    chunk_id = hashlib.sha256(sealed).digest()
    groups = chunk_id + struct.pack(">II", len(sealed), len(blobs)) + directory
    segment = b"SVI1\1\0\0\0" + struct.pack(">II", 1, len(groups)) + groups
    segment += bytes(padme(max(4096, len(segment))) - len(segment))
    sealed_segment = seal(2, b"svrn/v1/project/index", PROJECT, segment)
    entries = [
        entry(1, b"a", 0, b""),
        entry(1, b"b", 1, b"inline", size=6, flags=2),
        entry(1, b"c\xff\n", 2, blob_id(text), size=len(text), mtime=1_700_000_000_123_456_789),
        entry(2, b"d", 0, b"", mode=0o4755),
        entry(3, b"e", 1, b"../target", mode=0o777),
    ]
    node = b"SVT1\1\0\0\0" + struct.pack(">I", len(entries)) + b"".join(entries)
    root = entry(2, b"root", 5, blob_id(node), mode=0o755, mtime=7)
    seen = [DEVICE_PUBLIC, b"instance", 3, bytes(32)]
    snapshot = statement(
        0x11,
        {
            "v": 1, "project": PROJECT, "root": root, "parents": [bytes(32)], "time": 1_800_000_000, "files": 4,
            "dirs": 2, "bytes": 1006, "errors": 0, "sources": ["home"], "seen": [seen],
        },
    )  # fmt: skip
    body = cbor2.dumps(
        {
            "v": 1, "time": 1_800_000_001, "snapshots": [snapshot], "catalogs": [[bytes(32), 9]],
            "segments": [[hashlib.sha256(sealed_segment).digest(), len(sealed_segment), 4]], "absorbed": [seen],
            "sweep": 2,
        },
        canonical=True,
    )  # fmt: skip
    padded = struct.pack(">I", len(body)) + body
    padded += bytes(padme(max(1024, len(padded))) - len(padded))
    previous = b"H" * 32
    context = PROJECT + DEVICE_PUBLIC + b"instance" + struct.pack(">Q", 4) + previous
    head = statement(
        0x12,
        {
            "v": 1, "locator": LOCATOR, "instance": b"instance", "seq": 4, "prev": previous,
            "payload": seal(3, b"svrn/v1/project/head", context, padded),
        },
    )  # fmt: skip
    vectors = {
        "keys": {"project": PROJECT.hex(), "epoch_key": EPOCH_KEY.hex(), "dedup_secret": DEDUP_SECRET.hex()},
        "device_seed": (b"S" * 32).hex(),
        "container": {
            "plain": plain.hex(), "sealed": sealed.hex(), "chunk_id": chunk_id.hex(),
            "blobs": [{"type": kind, "raw": raw.hex()} for kind, _, raw in blobs],
        },
        "segment": {"plain": segment.hex(), "sealed": sealed_segment.hex()},
        "tree": {"node": node.hex(), "names": ["a", "b", "c\\xff\\n", "d", "e"], "blob_id": blob_id(node).hex()},
        "snapshot": {"raw": snapshot.hex(), "id": hashlib.sha256(snapshot).hexdigest()},
        "head": {"raw": head.hex(), "hash": hashlib.sha256(head).hexdigest(), "seq": 4, "sweep": 2},
        "reject": reject(plain, segment, node),
    }  # fmt: skip
    path = Path(__file__).with_name("vault.json")
    path.write_text(json.dumps(vectors, indent=1, sort_keys=True) + "\n")


def changed(data, at, value):
    altered = bytearray(data)
    altered[at] = value
    return bytes(altered).hex()


def reject(plain, segment, node):
    """One fault each; every reader must answer *content*."""
    return [
        {"format": "container", "why": "padding is not zero", "bytes": changed(plain, 2000, 1)},
        {"format": "container", "why": "another version", "bytes": changed(plain, len(plain) - 12, 2)},
        {"format": "container", "why": "one blob more than there is", "bytes": changed(plain, len(plain) - 1, 5)},
        {"format": "container", "why": "no Padmé length", "bytes": (plain + b"\0").hex()},
        {"format": "segment", "why": "padding is not zero", "bytes": changed(segment, len(segment) - 1, 1)},
        {"format": "segment", "why": "one group more than there is", "bytes": changed(segment, 11, 2)},
        {"format": "tree", "why": "one entry more than there is", "bytes": changed(node, 11, 6)},
        {"format": "tree", "why": "unknown kind", "bytes": changed(node, 12, 9)},
        {"format": "tree", "why": "a byte after the last entry", "bytes": (node + b"\0").hex()},
    ]


if __name__ == "__main__":
    main()
