"""Pieces that the vector generators share, written from the specifications and not from our package.

Only primitives of hashlib, hmac, cryptography, PyNaCl and cbor2 are used. Everything is deterministic:
what is random in use is derived here from a label, so running a generator again changes nothing.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()


def rand(label: str, length: int = 32) -> bytes:
    """Bytes that stand for random ones."""
    return hashlib.shake_256(b"vector " + label.encode()).digest(length)


def domain(name: str) -> bytes:
    return b"svrn/v1/" + name.encode("ascii") + b"\0"


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def flip(data: bytes, byte: int, bit: int = 0) -> bytes:
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]


def cbor(value) -> bytes:
    return cbor2.dumps(value, canonical=True)


# RFC 5869


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    output, block, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        output, counter = output + block, counter + 1
    return output[:length]


def hkdf(secret: bytes, info: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    return hkdf_expand(hkdf_extract(salt, secret), info, length)


# Signatures and statements


def public_key(seed: bytes) -> bytes:
    return crypto_sign_seed_keypair(seed)[0]


def sign(seed: bytes, message: bytes) -> bytes:
    return crypto_sign(message, crypto_sign_seed_keypair(seed)[1])[:64]


def statement(kind: int, body: bytes, seed: bytes, network_id: bytes = NETWORK_ID) -> bytes:
    content = b"SVS1" + bytes([1, kind, 0, 0]) + u32(len(body)) + body
    public = public_key(seed)
    return content + public + sign(seed, domain("stmt") + network_id + content + public)


# Envelopes


def envelope(
    purpose: int, key: bytes, context: bytes, plaintext: bytes, salt: bytes, commitment: bytes = b""
) -> bytes:
    """Seal; a given ``commitment`` is a lie that the tag covers."""
    header = b"SVE1" + bytes([1, 1]) + u16(purpose)
    material = hkdf(key, domain("envelope") + header + context, 76, salt)
    front = header + salt + (commitment or material[44:])
    return front + AESGCM(material[:32]).encrypt(material[32:44], plaintext, front + context)


# RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM


def x25519_public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hkdf_extract(salt, b"HPKE-v1" + suite + label + secret)


def _labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return hkdf_expand(key, u16(length) + b"HPKE-v1" + suite + label + info, length)


def hpke_key_and_nonce(ephemeral: bytes, recipient: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Run encapsulation with a given ephemeral private key and the key schedule."""
    kem, suite = b"KEM" + u16(0x20), b"HPKE" + u16(0x20) + u16(1) + u16(2)
    shared = X25519PrivateKey.from_private_bytes(ephemeral).exchange(X25519PublicKey.from_public_bytes(recipient))
    kem_context = x25519_public(ephemeral) + recipient
    secret = _labeled_extract(kem, b"", b"eae_prk", shared)
    shared_secret = _labeled_expand(kem, secret, b"shared_secret", kem_context, 32)
    psk_id_hash = _labeled_extract(suite, b"", b"psk_id_hash", b"")
    info_hash = _labeled_extract(suite, b"", b"info_hash", info)
    schedule = b"\0" + psk_id_hash + info_hash
    secret = _labeled_extract(suite, shared_secret, b"secret", b"")
    return (
        _labeled_expand(suite, secret, b"key", schedule, 32),
        _labeled_expand(suite, secret, b"base_nonce", schedule, 12),
    )


def hpke_seal(ephemeral: bytes, recipient: bytes, info: bytes, plaintext: bytes, aad: bytes = b"") -> bytes:
    key, nonce = hpke_key_and_nonce(ephemeral, recipient, info)
    return x25519_public(ephemeral) + AESGCM(key).encrypt(nonce, plaintext, aad)


def wrap(
    purpose: int, recipient: bytes, secret: bytes, context: bytes, tag_context: bytes, ephemeral: bytes
) -> bytes:
    tag = hashlib.sha256(domain("hpke/tag") + u16(purpose) + recipient + tag_context).digest()[:16]
    header = b"SVW1" + bytes([1, 1]) + u16(purpose) + tag
    return header + u16(80) + hpke_seal(ephemeral, recipient, domain("hpke/wrap") + header + context, secret)


# Writing


def jsonable(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: jsonable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [jsonable(part) for part in value]
    return value


class Cases:
    """Collects the cases of one specification and writes one file for each."""

    def __init__(self, spec: str) -> None:
        self._spec = spec
        self._cases: dict[str, dict] = {}

    def add(self, name: str, function: str, expect: str, inputs: dict, outputs: dict | None = None) -> None:
        """Add a case: ``function`` on ``inputs`` gives ``outputs``, or an error of category ``expect``."""
        assert name not in self._cases
        case = {"spec": self._spec, "function": function, "expect": expect, "input": jsonable(inputs)}
        if outputs is not None:
            case["output"] = jsonable(outputs)
        self._cases[name] = case

    def write(self) -> None:
        """Write to the folder of this script, or to the one named by the first argument."""
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
        folder = root / self._spec
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            old.unlink()
        for name, case in self._cases.items():
            text = json.dumps(case, indent=2, ensure_ascii=True) + "\n"
            (folder / f"{name}.json").write_text(text, encoding="ascii")
