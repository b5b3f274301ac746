"""Vectors of key slots."""

import hashlib
import unicodedata

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from make_common import Cases, domain, flip, hkdf, rand, u32

cases = Cases("keyslot")
SEED, IDENTITY, SALT, SECRET = (rand(f"keyslot {part}") for part in ("seed", "identity", "salt", "secret"))
PASSPHRASE = "correct horse battery"
FLOOR = (2, 19 * 1024, 1)


def slot(kind, kdf, cost, secret, *, identity=IDENTITY, generation=0, commitment=b""):
    header = b"SVK1" + bytes([1, kind, kdf, 0]) + b"".join(map(u32, cost)) + SALT + identity + u32(generation)
    material = hkdf(secret, domain("keyslot") + header, 76, SALT)
    front = header + (commitment or material[44:]) + u32(48)
    return front + AESGCM(material[:32]).encrypt(material[32:44], SEED, front)


def argon2(passphrase, cost):
    passes, memory, lanes = cost
    text = unicodedata.normalize("NFC", passphrase).encode()
    return Argon2id(salt=SALT, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(text)


def pbkdf2(passphrase, iterations):
    return hashlib.pbkdf2_hmac("sha256", passphrase.encode(), SALT, iterations, 32)


def case(name, expect, raw, **secrets):
    cases.add(name, "open", expect, {"slot": raw, **secrets}, {"seed": SEED} if expect == "ok" else None)


CHEAP = slot(1, 1, FLOOR, argon2(PASSPHRASE, FLOOR))
case("ok-argon2id-floor", "ok", CHEAP, passphrase=PASSPHRASE)
default = (3, 65536, 1)
case("ok-argon2id-default", "ok", slot(1, 1, default, argon2(PASSPHRASE, default)), passphrase=PASSPHRASE)
lanes = (2, 19 * 1024, 4)
case("ok-argon2id-4-lanes", "ok", slot(1, 1, lanes, argon2(PASSPHRASE, lanes)), passphrase=PASSPHRASE)
iterations = (600_000, 0, 0)
case("ok-pbkdf2", "ok", slot(1, 2, iterations, pbkdf2(PASSPHRASE, 600_000)), passphrase=PASSPHRASE)
case("ok-generation-7", "ok", slot(1, 1, FLOOR, argon2("x", FLOOR), generation=7), passphrase="x")
composed = slot(1, 1, FLOOR, argon2("pässword", FLOOR))
case("ok-decomposed-passphrase", "ok", composed, passphrase="pa\u0308ssword")
both = slot(2, 1, FLOOR, argon2(PASSPHRASE, FLOOR) + SECRET)
case("ok-with-device-secret", "ok", both, passphrase=PASSPHRASE, device_secret=SECRET)
KEYRING = slot(4, 0, (0, 0, 0), SECRET)
case("ok-keyring", "ok", KEYRING, secret=SECRET)
case("ok-recovery", "ok", slot(3, 0, (0, 0, 0), SECRET), secret=SECRET)

case("wrong-passphrase", "unlock", CHEAP, passphrase="correct horse batter")
case("untrimmed-passphrase", "unlock", CHEAP, passphrase=PASSPHRASE + " ")
case("empty-passphrase", "unlock", CHEAP, passphrase="")
case("device-secret-missing", "unlock", both, passphrase=PASSPHRASE)
case("wrong-device-secret", "unlock", both, passphrase=PASSPHRASE, device_secret=rand("other secret"))
case("wrong-secret", "unlock", KEYRING, secret=rand("other secret"))
case("passphrase-for-keyring-slot", "unlock", KEYRING, passphrase=PASSPHRASE)
for name, byte in {"salt": 20, "identity": 52, "generation": 87, "commitment": 88, "seed": 124, "tag": 171}.items():
    case(f"flipped-{name}", "unlock", flip(KEYRING, byte), secret=SECRET)
lie = slot(4, 0, (0, 0, 0), SECRET, commitment=rand("another commitment"))
case("good-tag-under-wrong-commitment", "unlock", lie, secret=SECRET)
case("relabelled-type", "unlock", KEYRING[:5] + b"\x03" + KEYRING[6:], secret=SECRET)
case("identity-of-another-slot", "unlock", KEYRING[:52] + rand("other identity") + KEYRING[84:], secret=SECRET)

for name, cost in {
    "memory-8-kib": (2, 8, 1),
    "memory-64-gib": (2, 64 * 1024 * 1024, 1),
    "one-pass": (1, 19 * 1024, 1),
    "eleven-passes": (11, 19 * 1024, 1),
    "no-lanes": (2, 19 * 1024, 0),
    "five-lanes": (2, 19 * 1024, 5),
}.items():
    case(name, "parameter", slot(1, 1, cost, bytes(32)), passphrase=PASSPHRASE)
for name, cost in {
    "1000-iterations": (1000, 0, 0),
    "ten-million-and-one-iterations": (10_000_001, 0, 0),
    "pbkdf2-with-memory": (600_000, 1, 0),
}.items():
    case(name, "parameter", slot(1, 2, cost, bytes(32)), passphrase=PASSPHRASE)
case("cost-without-kdf", "parameter", slot(4, 0, (1, 0, 0), SECRET), secret=SECRET)

case("truncated", "format", CHEAP[:-1], passphrase=PASSPHRASE)
case("extended", "format", CHEAP + b"\0", passphrase=PASSPHRASE)
case("other-magic", "format", b"SVK2" + CHEAP[4:], passphrase=PASSPHRASE)
case("version-2", "format", CHEAP[:4] + b"\x02" + CHEAP[5:], passphrase=PASSPHRASE)
case("unknown-type", "format", CHEAP[:5] + b"\x05" + CHEAP[6:], passphrase=PASSPHRASE)
case("unknown-kdf", "format", CHEAP[:6] + b"\x03" + CHEAP[7:], passphrase=PASSPHRASE)
case("passphrase-without-kdf", "format", slot(1, 0, (0, 0, 0), SECRET), passphrase=PASSPHRASE)
case("reserved-not-zero", "format", CHEAP[:7] + b"\x01" + CHEAP[8:], passphrase=PASSPHRASE)
case("wrong-length-field", "format", CHEAP[:123] + b"\x31" + CHEAP[124:], passphrase=PASSPHRASE)
cases.write()
