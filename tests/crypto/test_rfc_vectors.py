"""Published vectors: NIST GCM, RFC 5869, RFC 7748, RFC 8032, RFC 9106, RFC 9180.

They come from the package ``cryptography_vectors`` and go through our own functions wherever those
allow it; where our limits forbid a vector (short secrets, tiny memory costs), the library call that
our function makes is checked instead.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from nacl.pwhash import argon2id as nacl_argon2id

from sovereign_crypto.aead import MessageKey, hkdf
from sovereign_crypto.errors import AuthenticationError, ParameterError
from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.signing import SigningKey, verify

VECTORS = Path(cryptography_vectors.__file__).parent


def records(path: str) -> Iterator[dict[str, str]]:
    """Read "name = value" records, each starting with "count"; a [group] line keeps its value."""
    group: dict[str, str] = {}
    record: dict[str, str] = {}
    for raw_line in (VECTORS / path).read_text().splitlines():
        line = raw_line.strip()
        name, _, value = (part.strip() for part in line.strip("[]").partition("="))
        if name.lower() == "count" and record:
            yield record
            record = {}
        if line.startswith("["):
            group[name] = value
        elif line and not line.startswith("#"):
            record = {**(record or group), name.lower(): value}
    yield record


def test_nist_gcm_decryption():
    seen = {"good": 0, "bad": 0}
    for record in records("ciphers/AES/GCM/gcmDecrypt256.rsp"):
        if (record["IVlen"], record["Taglen"]) != ("96", "128"):
            continue
        fields = {name: bytes.fromhex(record[name]) for name in ("key", "iv", "ct", "aad", "tag")}
        commitment = bytes(32)
        key = MessageKey(fields["key"] + fields["iv"] + commitment)
        if "fail" in record:
            with pytest.raises(AuthenticationError):
                key.decrypt(fields["ct"] + fields["tag"], fields["aad"], commitment)
            seen["bad"] += 1
        else:
            plaintext = bytes.fromhex(record["pt"])
            assert key.decrypt(fields["ct"] + fields["tag"], fields["aad"], commitment) == plaintext
            assert key.encrypt(plaintext, fields["aad"]) == fields["ct"] + fields["tag"]
            seen["good"] += 1
    assert min(seen.values()) > 100


def test_hkdf_rfc_5869():
    checked = 0
    for record in records("KDF/rfc-5869-HKDF-SHA256.txt"):
        secret, salt, info, expected = (bytes.fromhex(record[n]) for n in ("ikm", "salt", "info", "okm"))
        if len(secret) < 32:
            with pytest.raises(ParameterError):
                hkdf(secret, info, len(expected), salt=salt)
        else:
            assert hkdf(secret, info, len(expected), salt=salt) == expected
            checked += 1
    assert checked == 1


def test_ed25519_rfc_8032():
    lines = (VECTORS / "asymmetric/Ed25519/sign.input").read_text().splitlines()
    assert len(lines) == 1024
    for line in lines:
        secret, public, message, signed = (bytes.fromhex(part) for part in line.split(":")[:4])
        key = SigningKey.from_seed(secret[:32])
        assert key.public == public
        assert key.sign(message) == signed[:64]
        verify(public, message, signed[:64])


def test_x25519_rfc_7748():
    # Section 5.2; the base point has u = 9, so record 3 is the public key of its scalar.
    checked = 0
    for record in records("asymmetric/X25519/rfc7748.txt"):
        scalar, point = bytes.fromhex(record["input_scalar"]), bytes.fromhex(record["input_u"])
        expected = bytes.fromhex(record["output_u"])
        private = X25519PrivateKey.from_private_bytes(scalar)
        assert private.exchange(X25519PublicKey.from_public_bytes(point)) == expected
        if point == bytes([9]) + bytes(31):
            assert EncryptionKey.from_seed(scalar).public == expected
            checked += 1
    assert checked == 1


def hpke_vectors() -> list[dict]:
    suites = json.loads((VECTORS / "HPKE/test-vectors.json").read_text())
    ours = {"mode": 0, "kem_id": 0x20, "kdf_id": 1, "aead_id": 2}
    return [case for case in suites if all(case[name] == value for name, value in ours.items())]


def test_hpke_key_pairs_rfc_9180():
    cases = hpke_vectors()
    assert cases
    for case in cases:
        assert EncryptionKey.from_seed(bytes.fromhex(case["skRm"])).public.hex() == case["pkRm"]


def test_argon2id_rfc_9106():
    checked = 0
    for record in records("KDF/argon2id.txt"):
        derived = Argon2id(
            salt=bytes.fromhex(record["salt"]),
            length=int(record["length"]),
            iterations=int(record["iter"]),
            lanes=int(record["lanes"]),
            memory_cost=int(record["memcost"]),
            ad=bytes.fromhex(record["ad"]) if record.get("ad") else None,
            secret=bytes.fromhex(record["secret"]) if record.get("secret") else None,
        ).derive(bytes.fromhex(record["pass"]))
        assert derived.hex() == record["output"]
        checked += 1
    assert checked >= 3


def test_argon2id_agrees_with_libsodium():
    salt = bytes(range(16))
    ours = Argon2id(salt=salt, length=32, iterations=3, lanes=1, memory_cost=64 * 1024).derive(b"passphrase")
    assert nacl_argon2id.kdf(32, b"passphrase", salt, opslimit=3, memlimit=64 * 1024 * 1024) == ours
