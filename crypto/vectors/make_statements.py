"""Vectors of the CBOR subset and of signed statements."""

from make_common import NETWORK_ID, Cases, cbor, flip, public_key, rand, sign, statement

cases = Cases("statements")


def cbor_case(name, expect, encoded):
    cases.add(f"cbor-{name}", "cbor", expect, {"encoded": bytes.fromhex(encoded)})


GOOD = {
    "null": "f6",
    "false": "f4",
    "true": "f5",
    "zero": "00",
    "largest-integer": "1b7fffffffffffffff",
    "smallest-integer": "3b7fffffffffffffff",
    "bytes": "43010203",
    "text": "63c3a461",
    "list": "8301820203f6",
    "text-keys": "a3616101616202626161" + "03",
    "integer-keys": "a3010018180019ffff00",
    "depth-16": "81" * 16 + "00",
}
BAD = {
    "empty": "",
    "trailing-byte": "0000",
    "non-minimal-integer": "1800",
    "non-minimal-length": "580100",
    "indefinite-list": "9fff",
    "indefinite-bytes": "5f4100ff",
    "duplicate-key": "a201000100",
    "keys-out-of-order": "a2616200616100",
    "keys-of-two-kinds": "a20000616100",
    "negative-key": "a12000",
    "key-too-large": "a11a0001000000",
    "bytes-key": "a1410000",
    "float": "f93c00",
    "nan": "f97e00",
    "undefined": "f7",
    "simple-16": "f0",
    "tag-regular-expression": "d8236161",
    "tag-shared-cycle": "d81c81d81d00",
    "bignum": "c249010000000000000000",
    "unsigned-2-to-63": "1b8000000000000000",
    "negative-below-64-bits": "3b8000000000000000",
    "invalid-utf8": "61ff",
    "text-not-nfc": "6361cc88",
    "depth-17": "81" * 17 + "00",
    "huge-list": "9bffffffffffffffff",
    "huge-text": "7bffffffffffffffff",
}
for name, encoded in GOOD.items():
    cbor_case(name, "ok", encoded)
for name, encoded in BAD.items():
    cbor_case(name, "malformed", encoded)

SEED, OTHER = rand("statement signer"), rand("second signer")
BODY = cbor({"v": 1, "amount": 5, "to": rand("receiver")})
RAW = statement(0x25, BODY, SEED)


def case(name, expect, *, raw=RAW, kind=0x25, network_id=NETWORK_ID, signer=None, body=None):
    outputs = None if signer is None else {"signer": signer, "body": body}
    cases.add(name, "parse", expect, {"type": kind, "network_id": network_id, "raw": raw}, outputs)


case("ok", "ok", signer=public_key(SEED), body=BODY)
case("ok-same-content-second-signer", "ok", raw=statement(0x25, BODY, OTHER), signer=public_key(OTHER), body=BODY)
case("ok-empty-body", "ok", raw=statement(0x25, cbor({}), SEED), signer=public_key(SEED), body=cbor({}))
test_network = rand("test network")
case(
    "ok-other-network",
    "ok",
    raw=statement(0x25, BODY, SEED, test_network),
    network_id=test_network,
    signer=public_key(SEED),
    body=BODY,
)
case("wrong-network", "signature", network_id=test_network)
case("other-type-expected", "format", kind=0x20)
case("relabelled-type", "signature", raw=RAW[:5] + b"\x20" + RAW[6:], kind=0x20)
case("flipped-body", "signature", raw=flip(RAW, 12 + len(BODY) - 1))
case("flipped-signature", "signature", raw=flip(RAW, len(RAW) - 40))
case("signer-replaced", "signature", raw=RAW[:-96] + public_key(OTHER) + RAW[-64:])
order = 2**252 + 27742317777372353535851937790883648493
s_plus_order = (int.from_bytes(RAW[-32:], "little") + order).to_bytes(32, "little")
case("s-plus-order", "signature", raw=RAW[:-32] + s_plus_order)
identity_point = bytes([1]) + bytes(31)
case("small-order-signer", "format", raw=RAW[:-96] + identity_point + identity_point + bytes(32))
case("non-canonical-signer", "format", raw=RAW[:-96] + bytes([0xEE]) + bytes([255]) * 30 + b"\x7f" + RAW[-64:])
case("other-magic", "format", raw=b"SVS2" + RAW[4:])
case("version-2", "format", raw=RAW[:4] + b"\x02" + RAW[5:])
case("reserved-not-zero", "format", raw=RAW[:7] + b"\x01" + RAW[8:])
case("trailing-byte", "format", raw=RAW + b"\0")
case("truncated", "format", raw=RAW[:-1])
case("empty", "format", raw=b"")
case("body-not-a-map", "malformed", raw=statement(0x25, cbor([]), SEED))
case("body-not-canonical", "malformed", raw=statement(0x25, bytes.fromhex("a1180101"), SEED))
case("body-with-trailing-byte", "malformed", raw=statement(0x25, BODY + b"\0", SEED))

message = rand("raw message", 50)
for name, signature, expect in [
    ("ed25519-ok", sign(SEED, message), "ok"),
    ("ed25519-short-signature", sign(SEED, message)[:-1], "signature"),
]:
    inputs = {"public": public_key(SEED), "message": message, "signature": signature}
    cases.add(name, "verify", expect, inputs)
cases.write()
