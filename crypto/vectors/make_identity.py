"""Vectors of identity ids, device certificates and identity logs."""

import hashlib

from make_common import NETWORK_ID, Cases, cbor, domain, hkdf, public_key, rand, sign, statement, u32, x25519_public

cases = Cases("identity")
ROOT, KIT = rand("root seed"), rand("recovery secret")
ID_KEY = hkdf(ROOT, domain("id/sign"))
RECOVERY_KEY = hkdf(KIT, domain("recovery/sign"))
RECOVERY_ENC = x25519_public(hkdf(KIT, domain("recovery/encrypt")))
NEW_KEY = hkdf(rand("second root seed"), domain("id/sign"))
NONCE, DEVICE, SECOND = rand("identity nonce", 16), rand("device"), rand("second device")
STRANGER = rand("stranger")
DEVICE_ENC, USER_KEY = x25519_public(rand("device encryption")), x25519_public(rand("user key"))
IDENTITY = hashlib.sha256(domain("id") + public_key(ID_KEY) + public_key(RECOVERY_KEY) + NONCE).digest()
NOW, START, END = 1_800_000_000, 1_790_000_000, 1_820_000_000

cases.add(
    "ok-root",
    "root",
    "ok",
    {"seed": ROOT, "recovery_key": public_key(RECOVERY_KEY), "nonce": NONCE},
    {"identity_key": public_key(ID_KEY), "seal_key": hkdf(ROOT, domain("id/seal")), "identity": IDENTITY},
)


def certificate(*, signer=ID_KEY, device=DEVICE, counter=None, serial=0, **changes):
    body = {
        "v": 1,
        "identity": IDENTITY,
        "identity_key": public_key(signer),
        "recovery_key": public_key(RECOVERY_KEY),
        "nonce": NONCE,
        "device_key": public_key(device),
        "device_encryption_key": DEVICE_ENC,
        "capabilities": 3,
        "not_before": START,
        "not_after": END,
        "serial": serial,
    } | changes
    raw = statement(0x02, cbor(body), signer)
    return raw + statement(0x02, cbor(body), counter or device)[-64:]


def certificate_case(name, expect, raw, now=NOW, **pins):
    outputs = {"device_key": public_key(DEVICE), "identity": IDENTITY} if expect == "ok" else None
    cases.add(f"certificate-{name}", "certificate", expect, {"raw": raw, "now": now, **pins}, outputs)


GOOD = certificate()
certificate_case("ok", "ok", GOOD)
certificate_case("ok-bound-to-connection", "ok", GOOD, device_key=public_key(DEVICE))
certificate_case("ok-300-seconds-early", "ok", GOOD, START - 300)
certificate_case("ok-300-seconds-late", "ok", GOOD, END + 300)
rotated = certificate(signer=NEW_KEY)
certificate_case("ok-pinned-key-after-rotation", "ok", rotated, identity_key=public_key(NEW_KEY))
certificate_case("not-yet-valid", "certificate:not-yet-valid", GOOD, START - 301)
certificate_case("expired", "certificate:expired", GOOD, END + 301)
certificate_case("other-device", "certificate:other-device", GOOD, device_key=public_key(SECOND))
certificate_case("old-identity-key", "certificate:old-identity-key", GOOD, identity_key=public_key(NEW_KEY))
certificate_case("identity-key-unproven", "certificate:identity-key-unproven", certificate(signer=STRANGER))
certificate_case("missing-counter-signature", "certificate:missing-counter-signature", GOOD[:-64])
certificate_case("counter-signed-by-stranger", "certificate:bad-counter-signature", certificate(counter=STRANGER))
named = certificate(identity_key=public_key(STRANGER))
certificate_case("signed-by-another-key", "certificate:bad-signature", named)
certificate_case("too-long", "certificate:lifetime-too-long", certificate(not_after=START + 400 * 86400 + 1))
certificate_case("empty-lifetime", "certificate:lifetime-too-long", certificate(not_after=START))
certificate_case("unknown-field", "certificate:malformed", certificate(extra=1))
certificate_case("unknown-capability", "certificate:malformed", certificate(capabilities=16))
certificate_case("small-order-device-key", "certificate:malformed", certificate(device_key=bytes([1]) + bytes(31)))
certificate_case("zero-encryption-key", "certificate:malformed", certificate(device_encryption_key=bytes(32)))
certificate_case("empty", "certificate:malformed", b"")


class Log:
    """Builds entries in order."""

    def __init__(self):
        self.entries = []

    def add(self, action, args, signer=ID_KEY, **changes):
        prev = hashlib.sha256(self.entries[-1]).digest() if self.entries else bytes(32)
        body = {"v": 1, "seq": len(self.entries), "prev": prev, "action": action, "args": args, "at": NOW}
        self.entries.append(statement(0x01, cbor(body | changes), signer))
        return self

    def proof(self, seed):
        prev = hashlib.sha256(self.entries[-1]).digest()
        message = domain("id/rotate") + IDENTITY + u32(len(self.entries)) + prev + public_key(seed)
        return sign(seed, message)

    def root_rotate(self, new=NEW_KEY, signer=RECOVERY_KEY, proof=None):
        args = {"identity_key": public_key(new), "proof": proof or self.proof(new)}
        return self.add("root-rotate", args, signer)


GENESIS_ARGS = {
    "identity_key": public_key(ID_KEY),
    "recovery_key": public_key(RECOVERY_KEY),
    "recovery_encryption_key": RECOVERY_ENC,
    "nonce": NONCE,
    "user_key": USER_KEY,
}


def genesis(signer=ID_KEY):
    return Log().add("genesis", GENESIS_ARGS, signer)


def two_devices():
    log = genesis().add("add-device", {"certificate": GOOD})
    return log.add("add-device", {"certificate": certificate(device=SECOND, serial=1)})


REVOKE = {"device_key": public_key(SECOND), "last_accepted": 17}
ROTATE = {"generation": 1, "user_key": x25519_public(rand("user key 1")), "boxes": [rand("box", 106)]}


def log_case(name, expect, log, *, active=(), identity_key=ID_KEY):
    outputs = None
    if expect == "ok":
        outputs = {
            "identity": IDENTITY,
            "identity_key": public_key(identity_key),
            "active": sorted(public_key(device).hex() for device in active),
            "head": hashlib.sha256(log.entries[-1]).digest(),
        }
    cases.add(f"log-{name}", "log", expect, {"entries": log.entries}, outputs)


log_case("ok-genesis", "ok", genesis())
log_case("ok-two-devices", "ok", two_devices(), active=[DEVICE, SECOND])
log_case("ok-revoked", "ok", two_devices().add("revoke-device", REVOKE), active=[DEVICE])
rotated_user = two_devices().add("revoke-device", REVOKE).add("puk-rotate", ROTATE)
log_case("ok-puk-rotate", "ok", rotated_user, active=[DEVICE])
log_case("ok-root-rotate", "ok", two_devices().root_rotate(), identity_key=NEW_KEY)
again = (
    two_devices().root_rotate().add("add-device", {"certificate": certificate(signer=NEW_KEY, serial=2)}, NEW_KEY)
)
log_case("ok-device-after-root-rotate", "ok", again, active=[DEVICE], identity_key=NEW_KEY)


def recovery_change(proof=None):
    log = two_devices()
    args = {
        "recovery_key": public_key(NEW_KIT),
        "recovery_encryption_key": x25519_public(rand("second recovery encryption")),
        "proof": proof or log.proof(NEW_KIT),
    }
    return log.add("recovery-change", args, RECOVERY_KEY)


NEW_KIT = rand("second recovery key")
log_case("ok-recovery-change", "ok", recovery_change(), active=[DEVICE, SECOND])

log_case("empty", "log", Log())
log_case("no-genesis", "log", Log().add("genesis", GENESIS_ARGS, prev=bytes([1]) * 32))
log_case("genesis-by-stranger", "log", genesis(STRANGER))
log_case("gap", "log", genesis().add("add-device", {"certificate": GOOD}, seq=2))
log_case("wrong-prev", "log", genesis().add("add-device", {"certificate": GOOD}, prev=bytes(32)))
log_case("fork", "fork", two_devices().add("revoke-device", REVOKE, seq=2))
log_case("entry-by-stranger", "log", genesis().add("add-device", {"certificate": GOOD}, STRANGER))
log_case("entry-by-device", "log", two_devices().add("revoke-device", REVOKE, DEVICE))
log_case("root-rotate-by-identity-key", "log", two_devices().root_rotate(signer=ID_KEY))
log_case("root-rotate-without-proof", "log", two_devices().root_rotate(proof=sign(NEW_KEY, b"")))
log_case("recovery-change-without-proof", "log", recovery_change(sign(NEW_KIT, b"")))
log_case("old-identity-key", "log", two_devices().root_rotate().add("revoke-device", REVOKE))
log_case("serial-not-larger", "log", two_devices().add("add-device", {"certificate": GOOD}))
log_case("revoke-unknown-device", "log", genesis().add("revoke-device", REVOKE))
log_case("generation-skipped", "log", genesis().add("puk-rotate", ROTATE | {"generation": 2}))
back = two_devices().add("revoke-device", REVOKE)
back.add("add-device", {"certificate": certificate(device=SECOND, serial=2)})
log_case("revoked-device-comes-back", "certificate:revoked", back)
bare = genesis().add("add-device", {"certificate": GOOD[:-64]})
log_case("certificate-without-counter-signature", "certificate:missing-counter-signature", bare)
log_case("unknown-action", "malformed", genesis().add("dance", {}))
log_case("unknown-argument", "malformed", two_devices().add("revoke-device", REVOKE | {"why": "lost"}))
log_case("number-4096", "malformed", genesis().add("add-device", {"certificate": GOOD}, seq=4096))
assert len(NETWORK_ID) == 32
cases.write()
