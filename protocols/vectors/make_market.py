"""Writes market.json: signed offers, terms and acts, and frames, made with cbor2 and PyNaCl alone."""

import hashlib
import json
from pathlib import Path

import cbor2
from nacl.signing import SigningKey

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
PROVIDER = SigningKey(b"\x01" * 32)
CUSTOMER = SigningKey(b"\x02" * 32)
NOW = 1_800_000_000
GB = 10**9


def statement(kind: int, body: dict, key: SigningKey) -> bytes:
    """SVS1: magic, version, type, two zero bytes, length, body, public key, signature."""
    encoded = cbor2.dumps(body, canonical=True)
    content = b"SVS1\x01" + bytes([kind, 0, 0]) + len(encoded).to_bytes(4, "big") + encoded
    public = bytes(key.verify_key)
    signature = key.sign(b"svrn/v1/stmt\0" + NETWORK_ID + content + public).signature
    return content + public + signature


def frame(kind: int, request_id: int, fields: dict) -> bytes:
    """Header length, payload length 0, header."""
    header = cbor2.dumps([kind, request_id, fields], canonical=True)
    return len(header).to_bytes(4, "big") + bytes(4) + header


OFFER = {
    "v": 1,
    "identity": b"\x11" * 32,
    "device": bytes(PROVIDER.verify_key),
    "name": "Attic",
    "region": "Oslo",
    "operator": "Kari",
    "seq": 7,
    "issued_at": NOW,
    "valid_until": NOW + 1800,
    "capacity_bytes": 50 * GB,
    "free_bytes": 40 * GB,
    "min_contract_bytes": GB,
    "max_contract_bytes": 20 * GB,
    "price_per_gb_month": 2_000_000,
    "price_per_gb_transfer": 500_000,
    "bonus_permille": 1500,
    "free_allowance_bytes": 0,
    "credit_limit": 1_000_000,
    "max_duration_s": 366 * 86400,
    "period_s": 720 * 3600,
    "grace_s": 30 * 86400,
    "audits_per_day": 96,
    "adapters": ["manual"],
}
RAW_OFFER = statement(0x20, OFFER, PROVIDER)

TERMS = {
    "v": 1,
    "contract": bytes(32),
    "revision": 0,
    "previous": bytes(32),
    "nonce": b"\x44" * 16,
    "customer_identity": b"\x22" * 32,
    "customer_device": bytes(CUSTOMER.verify_key),
    "provider_identity": b"\x11" * 32,
    "provider_device": bytes(PROVIDER.verify_key),
    "offer": hashlib.sha256(RAW_OFFER).digest(),
    "capacity_bytes": 5 * GB,
    "start_at": NOW,
    "end_at": NOW + 12 * 720 * 3600,
    "period_s": 720 * 3600,
    "grace_s": 30 * 86400,
    "price_per_gb_month": 2_000_000,
    "price_per_gb_transfer": 500_000,
    "bonus_permille": 1500,
    "bonus_payer": "customer",
    "sponsor": bytes(32),
    "observers": [b"\x33" * 32],
    "credit_limit": 1_000_000,
    "budget": 20_000_000,
    "adapter": "manual",
}
BY_CUSTOMER = statement(0x21, TERMS, CUSTOMER)
CONTRACT_ID = hashlib.sha256(BY_CUSTOMER[:-96]).digest()
REVISION = TERMS | {"contract": CONTRACT_ID, "revision": 1, "previous": CONTRACT_ID, "capacity_bytes": 6 * GB}
ACT = {
    "v": 1,
    "kind": "exit",
    "contract": CONTRACT_ID,
    "terms": CONTRACT_ID,
    "issued_at": NOW,
    "effective_at": NOW + 86400,
    "until_at": 0,
    "evidence": bytes(32),
}


def bad(name: str, parser: str, raw: bytes, expect: str) -> dict:
    """One failure."""
    return {"name": name, "parser": parser, "raw": raw.hex(), "expect": expect}


STATE = {"contract": CONTRACT_ID, "state": "limited", "customer_terms": b"c", "provider_terms": b"p"}
STATE |= {"stored_bytes": 5 * GB, "stored_chunks": 300, "vouchers": [b"v"], "statement": b""}
flipped = bytearray(BY_CUSTOMER)
flipped[-1] ^= 1
DOCUMENT = {
    "spec": "protocols/specs/market.md",
    "network_id": NETWORK_ID.hex(),
    "seeds": {"provider": bytes(PROVIDER).hex(), "customer": bytes(CUSTOMER).hex()},
    "offer": {"raw": RAW_OFFER.hex(), "hash": hashlib.sha256(RAW_OFFER).hexdigest(), "name": "Attic", "seq": 7},
    "terms": {
        "by_customer": BY_CUSTOMER.hex(),
        "by_provider": statement(0x21, TERMS, PROVIDER).hex(),
        "contract": CONTRACT_ID.hex(),
        "revision_by_customer": statement(0x21, REVISION, CUSTOMER).hex(),
        "revision_hash": hashlib.sha256(statement(0x21, REVISION, CUSTOMER)[:-96]).hexdigest(),
    },
    "act": {"raw": statement(0x22, ACT, CUSTOMER).hex(), "kind": "exit"},
    "frames": [
        {"type": "Hello", "id": 0, "frame": frame(1, 0, {"version": 1, "time": NOW, "certificate": b"cert"}).hex()},
        {"type": "OfferQuery", "id": 1, "frame": frame(2, 1, {}).hex()},
        {"type": "Propose", "id": 2, "frame": frame(4, 2, {"terms": BY_CUSTOMER}).hex()},
        {"type": "StateQuery", "id": 3, "frame": frame(11, 3, {"contract": CONTRACT_ID}).hex()},
        {"type": "ListQuery", "id": 4, "frame": frame(13, 4, {"after": bytes(32), "limit": 13}).hex()},
        {"type": "OfferAnswer", "id": 1, "frame": frame(3, 1, {"offer": RAW_OFFER}).hex()},
        {"type": "Accept", "id": 2, "frame": frame(5, 2, {"terms": statement(0x21, TERMS, PROVIDER)}).hex()},
        {"type": "Amend", "id": 3, "frame": frame(6, 3, {"terms": statement(0x21, REVISION, CUSTOMER)}).hex()},
        {"type": "Notice", "id": 4, "frame": frame(7, 4, {"act": statement(0x22, ACT, CUSTOMER)}).hex()},
        {"type": "NoticeKept", "id": 4, "frame": frame(8, 4, {"hash": CONTRACT_ID}).hex()},
        {
            "type": "Close",
            "id": 5,
            "frame": frame(9, 5, {"act": statement(0x22, ACT | {"kind": "close"}, CUSTOMER)}).hex(),
        },
        {
            "type": "Closed",
            "id": 5,
            "frame": frame(10, 5, {"act": statement(0x22, ACT | {"kind": "close"}, PROVIDER)}).hex(),
        },
        {"type": "LatestState", "id": 6, "frame": frame(12, 6, STATE).hex()},
        {
            "type": "ContractList",
            "id": 7,
            "frame": frame(14, 7, {"items": [[CONTRACT_ID, "active", b"c", b"p"]], "more": False}).hex(),
        },
        {
            "type": "Refuse",
            "id": 5,
            "frame": frame(15, 5, {"reason": "capacity", "figures": {"free_bytes": 5}}).hex(),
        },
    ],
    "refused": [
        bad("signature of the customer flipped", "terms", bytes(flipped), "signature"),
        bad("offer presented as terms", "terms", RAW_OFFER, "malformed"),
        bad("unknown field", "terms", statement(0x21, TERMS | {"extra": 0}, CUSTOMER), "malformed"),
        bad(
            "price as text", "terms", statement(0x21, TERMS | {"price_per_gb_month": "2.0"}, CUSTOMER), "malformed"
        ),
        bad("negative capacity", "terms", statement(0x21, TERMS | {"capacity_bytes": -1}, CUSTOMER), "malformed"),
        bad("ends before it starts", "terms", statement(0x21, TERMS | {"end_at": NOW}, CUSTOMER), "malformed"),
        bad(
            "revision 1 without a contract",
            "terms",
            statement(0x21, TERMS | {"revision": 1}, CUSTOMER),
            "malformed",
        ),
        bad("signed by neither party", "terms", statement(0x21, TERMS, SigningKey(b"\x03" * 32)), "signature"),
        bad(
            "offer for an hour",
            "offer",
            statement(0x20, OFFER | {"valid_until": NOW + 3600}, PROVIDER),
            "malformed",
        ),
        bad("offer of another device", "offer", statement(0x20, OFFER, CUSTOMER), "signature"),
        bad(
            "more free than there is",
            "offer",
            statement(0x20, OFFER | {"free_bytes": 51 * GB}, PROVIDER),
            "malformed",
        ),
        bad("exit with an end", "act", statement(0x22, ACT | {"until_at": NOW}, CUSTOMER), "malformed"),
        bad("unknown kind", "act", statement(0x22, ACT | {"kind": "gift"}, CUSTOMER), "malformed"),
    ],
}

if __name__ == "__main__":
    text = json.dumps(DOCUMENT, indent=1) + "\n"
    Path(__file__).with_name("market.json").write_text(text, encoding="utf-8")
