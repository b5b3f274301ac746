"""Make identity-record.json from primitives alone. Run: python protocols/vectors/make_identity_record.py"""

import hashlib
import json
import os
from pathlib import Path

import cbor2
import nacl.signing
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
LOCATOR = hashlib.sha256(b"locator").digest()
KIT = X25519PrivateKey.from_private_bytes(hashlib.sha256(b"kit").digest())
WRITER = nacl.signing.SigningKey(hashlib.sha256(b"writer").digest())
RECORD_KEY = hashlib.sha256(b"record key").digest()
PREFIX = b"svrn/v1/"


def wrap() -> bytes:
    public = KIT.public_key()
    raw = public.public_bytes_raw()
    purpose = (4).to_bytes(2, "big")
    tag = hashlib.sha256(PREFIX + b"hpke/tag\0" + purpose + raw + LOCATOR).digest()[:16]
    header = b"SVW1\x01\x01" + purpose + tag
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    box = suite.encrypt(RECORD_KEY, public, PREFIX + b"hpke/wrap\0" + header + LOCATOR)
    return header + len(box).to_bytes(2, "big") + box


def envelope(context: bytes, plaintext: bytes) -> bytes:
    header = b"SVE1\x01\x01" + (5).to_bytes(2, "big")
    salt = os.urandom(32)
    material = HKDF(hashes.SHA256(), 76, salt, PREFIX + b"envelope\0" + header + context).derive(RECORD_KEY)
    key, nonce, commitment = material[:32], material[32:44], material[44:]
    front = header + salt + commitment
    return front + AESGCM(key).encrypt(nonce, plaintext, front + context)


def statement(content: bytes) -> bytes:
    body = cbor2.dumps(
        {"v": 1, "locator": LOCATOR, "revision": 7, "content": hashlib.sha256(content).digest()}, canonical=True
    )
    head = b"SVS1\x01\x32\0\0" + len(body).to_bytes(4, "big") + body
    public = bytes(WRITER.verify_key)
    signature = WRITER.sign(PREFIX + b"stmt\0" + NETWORK_ID + head + public).signature
    return head + public + signature


content = cbor2.dumps(
    {
        "v": 1,
        "identity_id": hashlib.sha256(b"identity").digest(),
        "revision": 7,
        "root_box": b"opaque",
        "log": [b"entry"],
        "user_keys": [bytes(32)],
        "projects": [[hashlib.sha256(b"project").digest(), "photos", b"keys", 2]],
        "contracts": [],
        "devices": [[bytes(WRITER.verify_key), "laptop", ["mobile"]]],
    },
    canonical=True,
)
signed = statement(content)
header = b"SIR1\x01\x01\0\0"
record = header + wrap() + envelope(LOCATOR + header, len(signed).to_bytes(4, "big") + signed + content)
Path(__file__).with_name("identity-record.json").write_text(
    json.dumps(
        {
            "comment": "one identity record, sealed to the recovery kit",
            "network_id": NETWORK_ID.hex(),
            "locator": LOCATOR.hex(),
            "kit_private_key": KIT.private_bytes_raw().hex(),
            "writer": bytes(WRITER.verify_key).hex(),
            "identity_id": hashlib.sha256(b"identity").hexdigest(),
            "revision": 7,
            "project_names": ["photos"],
            "record": record.hex(),
        },
        indent=1,
    )
    + "\n"
)
