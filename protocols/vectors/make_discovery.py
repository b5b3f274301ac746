"""Make discovery.json from primitives alone. Run: python protocols/vectors/make_discovery.py"""

import hashlib
import json
from pathlib import Path

import base58
import cbor2
import nacl.signing

PREFIX = b"svrn/v1/"
NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
OTHER_NETWORK_ID = hashlib.sha256(b"another network").digest()
NOW = 1_800_000_000
IDENTITY = nacl.signing.SigningKey(hashlib.sha256(b"identity").digest())
RECOVERY = nacl.signing.SigningKey(hashlib.sha256(b"recovery").digest())
DEVICE = nacl.signing.SigningKey(hashlib.sha256(b"device").digest())
STRANGER = nacl.signing.SigningKey(hashlib.sha256(b"stranger").digest())
NONCE = bytes(range(16))


def public(key: nacl.signing.SigningKey) -> bytes:
    return bytes(key.verify_key)


def statement(kind: int, body: dict, key: nacl.signing.SigningKey, network_id: bytes = NETWORK_ID) -> bytes:
    encoded = cbor2.dumps(body, canonical=True)
    content = b"SVS1\x01" + bytes([kind, 0, 0]) + len(encoded).to_bytes(4, "big") + encoded
    signature = key.sign(PREFIX + b"stmt\0" + network_id + content + public(key)).signature
    return content + public(key) + signature


def certificate(device: nacl.signing.SigningKey, not_after: int = NOW + 86400) -> bytes:
    identity_id = hashlib.sha256(PREFIX + b"id\0" + public(IDENTITY) + public(RECOVERY) + NONCE).digest()
    body = {
        "v": 1,
        "identity": identity_id,
        "identity_key": public(IDENTITY),
        "recovery_key": public(RECOVERY),
        "nonce": NONCE,
        "device_key": public(device),
        "device_encryption_key": bytes([9]) + bytes(31),
        "capabilities": 3,
        "not_before": NOW - 1000,
        "not_after": not_after,
        "serial": 1,
    }
    draft = statement(0x02, body, IDENTITY)
    content = draft[:-96]
    return draft + device.sign(PREFIX + b"stmt\0" + NETWORK_ID + content + public(device)).signature


PEER_ID = base58.b58encode(bytes.fromhex("002408011220") + public(DEVICE)).decode()


def peer_record(**changes: object) -> dict:
    return {
        "v": 1,
        "device": public(DEVICE),
        "certificate": certificate(DEVICE),
        "addresses": [f"/ip4/192.0.2.7/tcp/4001/p2p/{PEER_ID}"],
        "roles": ["provider"],
        "name": "attic",
        "seq": 7,
        "issued_at": NOW,
        "expires_at": NOW + 3600,
    } | changes


def offer(**changes: object) -> dict:
    return {
        "v": 1,
        "identity": bytes(32),
        "device": public(DEVICE),
        "name": "attic",
        "region": "",
        "operator": "",
        "seq": 7,
        "issued_at": NOW,
        "valid_until": NOW + 1800,
        "capacity_bytes": 10**12,
        "free_bytes": 10**11,
        "min_contract_bytes": 0,
        "max_contract_bytes": 10**11,
        "price_per_gb_month": 2_000_000,
        "price_per_gb_transfer": 500_000,
        "bonus_permille": 1500,
        "free_allowance_bytes": 0,
        "credit_limit": 0,
        "max_duration_s": 366 * 86400,
        "period_s": 720 * 3600,
        "grace_s": 30 * 86400,
        "audits_per_day": 96,
        "adapters": ["manual"],
    } | changes


DEVICE_KEY = hashlib.sha256(PREFIX + b"dht/device\0" + public(DEVICE)).digest()
OFFER_KEY = hashlib.sha256(PREFIX + b"dht/offer\0" + public(DEVICE)).digest()


def case(reason: str | None, key: bytes, value: bytes, now: int = NOW) -> dict:
    return {"reason": reason, "key": key.hex(), "value": value.hex(), "now": now}


GOOD = statement(0x30, peer_record(), DEVICE)
GOOD_OFFER = statement(0x20, offer(), DEVICE)
SHORT_CERTIFICATE = certificate(DEVICE, NOW - 400)

CASES = {
    "peer_record": case(None, DEVICE_KEY, GOOD),
    "peer_record_in_its_last_second": case(None, DEVICE_KEY, GOOD, NOW + 3599),
    "peer_record_within_clock_skew": case(None, DEVICE_KEY, GOOD, NOW - 300),
    "offer": case(None, OFFER_KEY, GOOD_OFFER),
    "peer_record_expired": case("expired", DEVICE_KEY, GOOD, NOW + 3600),
    "peer_record_from_the_future": case("expired", DEVICE_KEY, GOOD, NOW - 301),
    "peer_record_with_expired_certificate": case(
        "expired", DEVICE_KEY, statement(0x30, peer_record(certificate=SHORT_CERTIFICATE), DEVICE)
    ),
    "offer_expired": case("expired", OFFER_KEY, GOOD_OFFER, NOW + 1801),
    "peer_record_under_the_offer_key": case("key", OFFER_KEY, GOOD),
    "offer_under_the_device_key": case("key", DEVICE_KEY, GOOD_OFFER),
    "peer_record_under_a_foreign_key": case("key", bytes(32), GOOD),
    "peer_record_signed_by_another": case("signature", DEVICE_KEY, statement(0x30, peer_record(), STRANGER)),
    "peer_record_with_a_foreign_certificate": case(
        "signature", DEVICE_KEY, statement(0x30, peer_record(certificate=certificate(STRANGER)), DEVICE)
    ),
    "peer_record_of_another_network": case(
        "signature", DEVICE_KEY, statement(0x30, peer_record(), DEVICE, OTHER_NETWORK_ID)
    ),
    "peer_record_altered": case("signature", DEVICE_KEY, GOOD[:-1] + bytes([GOOD[-1] ^ 1])),
    "peer_record_for_two_days": case(
        "malformed", DEVICE_KEY, statement(0x30, peer_record(expires_at=NOW + 86401), DEVICE)
    ),
    "peer_record_for_no_time": case("malformed", DEVICE_KEY, statement(0x30, peer_record(expires_at=NOW), DEVICE)),
    "peer_record_with_17_addresses": case(
        "malformed", DEVICE_KEY, statement(0x30, peer_record(addresses=["/ip4/1.2.3.4/tcp/1"] * 17), DEVICE)
    ),
    "peer_record_without_certificate": case(
        "malformed", DEVICE_KEY, statement(0x30, peer_record(certificate=b""), DEVICE)
    ),
    "peer_record_with_unknown_field": case("malformed", DEVICE_KEY, statement(0x30, peer_record(x=1), DEVICE)),
    "peer_record_cut": case("malformed", DEVICE_KEY, GOOD[:-1]),
    "statement_of_another_type": case("type", DEVICE_KEY, statement(0x12, peer_record(), DEVICE)),
    "no_statement": case("type", DEVICE_KEY, b"hello"),
    "five_kibibytes": case("size", DEVICE_KEY, GOOD[:6] + bytes(5114)),
}


def main() -> None:
    vectors = {
        "comment": "records under their DHT keys; reason null: stored and returned, else the reason of refusal",
        "network_id": NETWORK_ID.hex(),
        "device": public(DEVICE).hex(),
        "peer_record_key": DEVICE_KEY.hex(),
        "offer_key": OFFER_KEY.hex(),
        "offers_rendezvous": hashlib.sha256(PREFIX + b"rendezvous\0offers").hexdigest(),
        "cases": CASES,
        "select": [
            {
                "name": "higher sequence number, in spite of an earlier expiry",
                "key": DEVICE_KEY.hex(),
                "values": [
                    statement(0x30, peer_record(seq=8, expires_at=NOW + 60), DEVICE).hex(),
                    statement(0x30, peer_record(seq=7, expires_at=NOW + 86400), DEVICE).hex(),
                ],
                "best": 0,
            },
            {
                "name": "same sequence number, later expiry",
                "key": OFFER_KEY.hex(),
                "values": [
                    statement(0x20, offer(valid_until=NOW + 900), DEVICE).hex(),
                    statement(0x20, offer(), DEVICE).hex(),
                ],
                "best": 1,
            },
        ],
    }
    Path(__file__).with_name("discovery.json").write_text(json.dumps(vectors, indent=1) + "\n")


if __name__ == "__main__":
    main()
