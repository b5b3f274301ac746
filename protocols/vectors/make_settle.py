"""Writes settle.json: a signed message of each kind, a batch root, a ledger entry; with cbor2 and PyNaCl alone."""

import hashlib
import json
from pathlib import Path

import cbor2
from nacl.signing import SigningKey

NETWORK_ID = hashlib.sha256(b"sovereign network 1").digest()
PROVIDER = SigningKey(b"\x01" * 32)
CUSTOMER = SigningKey(b"\x02" * 32)
SPONSOR = SigningKey(b"\x03" * 32)
NOW = 1_800_000_000
GB = 10**9
ID = b"\x11" * 32
ZERO = bytes(32)


def statement(kind: int, body: dict, key: SigningKey) -> bytes:
    """SVS1: magic, version, type, two zero bytes, length, body, public key, signature."""
    encoded = cbor2.dumps(body, canonical=True)
    content = b"SVS1\x01" + bytes([kind, 0, 0]) + len(encoded).to_bytes(4, "big") + encoded
    public = bytes(key.verify_key)
    return content + public + key.sign(b"svrn/v1/stmt\0" + NETWORK_ID + content + public).signature


def frame(kind: int, name: str, fields: dict) -> dict:
    """A message without payload, as request 1."""
    header = cbor2.dumps([kind, 1, fields], canonical=True)
    return {
        "name": name,
        "request": 1,
        "raw": (len(header).to_bytes(4, "big") + bytes(4) + header).hex(),
    }


def content_hash(raw: bytes) -> bytes:
    """Header and body without signer and signature."""
    return hashlib.sha256(raw[:-96]).digest()


def leaf(chunk_id: bytes, size: int) -> bytes:
    """Leaf of a batch."""
    return hashlib.sha256(b"\0" + chunk_id + size.to_bytes(8, "big")).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Inner node of a batch."""
    return hashlib.sha256(b"\1" + left + right).digest()


BATCH = [(bytes([n]) * 32, 4096 * n) for n in (1, 2, 3)]
ROOT = node(node(leaf(*BATCH[0]), leaf(*BATCH[1])), leaf(*BATCH[2]))

RECEIPT = {"contract": ID, "seq": 1, "previous": ZERO, "root": ROOT, "count": 3, "batch_bytes": 24_576}
RECEIPT |= {"stored_bytes": 24_576, "at": NOW, "delete_after_at": 0}
TRANSFER = {"contract": ID, "device": bytes(CUSTOMER.verify_key), "bytes_in": GB, "bytes_out": 5, "at": NOW}
REPORT = {"contract": ID, "terms": b"\x22" * 32, "seq": 1, "until_at": NOW, "byte_seconds": [12_960_000, 7]}
REPORT |= {"bytes_in": GB, "bytes_out": 0, "accrued": 10_500_000, "inputs": b"\x33" * 32}
DISPUTE = {"contract": ID, "report": b"\x44" * 32, "byte_seconds": [12_000_000, 0], "bytes_in": GB, "bytes_out": 0}
DISPUTE |= {"accrued": 9_759_259, "at": NOW}
VOUCHER = {"contract": ID, "payee": bytes(PROVIDER.verify_key), "device": bytes(CUSTOMER.verify_key), "lane": 0}
VOUCHER |= {
    "seq": 1,
    "cumulative": 5_000_000,
    "covers_until": NOW,
    "report": b"\x44" * 32,
    "previous": ZERO,
    "at": NOW,
}
STATEMENT = {"contract": ID, "terms": b"\x22" * 32, "period": 0, "previous": ZERO, "from_at": NOW - 2_592_000}
STATEMENT |= {"until_at": NOW, "byte_seconds": [12_960_000, 0], "transfer_bytes": GB, "windows_good": 4320}
STATEMENT |= {"windows_observed": 4320, "opening": 0, "storage": 10_000_000, "transfer": 500_000}
STATEMENT |= {"bonus": 5_250_000, "credits": 0, "paid": 5_000_000, "closing": 10_750_000}
CREDIT = {"contract": ID, "payer": b"\x55" * 32, "payee": b"\x66" * 32, "amount": 100_000, "nonce": b"\x77" * 32}
CREDIT |= {"evidence": ZERO, "at": NOW}
GRANT = {"contract": ID, "sponsor": b"\x55" * 32, "device": bytes(SPONSOR.verify_key), "payee": b"\x66" * 32}
GRANT |= {"budget": 20_000_000, "until_at": NOW + 31_104_000, "at": NOW}

KINDS = [
    ("receipt", 0x23, RECEIPT, PROVIDER),
    ("transfer", 0x24, TRANSFER, CUSTOMER),
    ("report", 0x24, REPORT, PROVIDER),
    ("dispute", 0x24, DISPUTE, CUSTOMER),
    ("voucher", 0x25, VOUCHER, CUSTOMER),
    ("statement", 0x25, STATEMENT, PROVIDER),
    ("credit", 0x25, CREDIT, PROVIDER),
    ("grant", 0x25, GRANT, SPONSOR),
]


def signed(kind: str, number: int, body: dict, key: SigningKey) -> dict:
    """One message."""
    raw = statement(number, body | {"v": 1, "kind": kind}, key)
    return {"kind": kind, "raw": raw.hex(), "content_hash": content_hash(raw).hex()}


def bad(name: str, kind: str, number: int, body: dict) -> dict:
    """One failure."""
    return {
        "name": name,
        "kind": kind,
        "raw": statement(number, {"v": 1} | body, CUSTOMER).hex(),
        "expect": "malformed",
    }


RAW = {kind: statement(number, body | {"v": 1, "kind": kind}, key) for kind, number, body, key in KINDS}
ACT = {"v": 1, "kind": "overdue", "contract": ID, "terms": b"\x22" * 32, "issued_at": NOW, "effective_at": NOW}
ACT |= {"until_at": 0, "evidence": b"\x44" * 32}
RAW["act"] = statement(0x22, ACT, PROVIDER)
FRAMES = [
    frame(32, "VoucherNote", {"voucher": RAW["voucher"]}),
    frame(33, "VoucherKept", {"hash": ID, "exposed": -5, "limit": 1_000_000}),
    frame(34, "TransferNote", {"receipt": RAW["transfer"]}),
    frame(35, "Kept", {"hash": ID}),
    frame(36, "ReportQuery", {"contract": ID}),
    frame(37, "ReportAnswer", {"report": RAW["report"]}),
    frame(38, "DisputeNote", {"dispute": RAW["dispute"]}),
    frame(39, "ReceiptQuery", {"contract": ID, "after": 7}),
    frame(40, "ReceiptList", {"receipts": [RAW["receipt"]]}),
    frame(41, "StatementQuery", {"contract": ID, "period": 2}),
    frame(42, "StatementAnswer", {"statement": RAW["statement"]}),
    frame(43, "StatementCosign", {"statement": RAW["statement"]}),
    frame(44, "CreditOffer", {"note": RAW["credit"]}),
    frame(45, "CreditAnswer", {"note": b""}),
    frame(46, "NoticeQuery", {"contract": ID}),
    frame(47, "NoticeList", {"acts": [RAW["act"]]}),
    frame(48, "GrantNote", {"grant": RAW["grant"]}),
    frame(49, "SponsorQuery", {"contract": ID, "period": 0}),
    frame(50, "SponsorAnswer", {"customer_terms": b"c", "provider_terms": b"p", "statements": [RAW["statement"]]}),
    frame(51, "TransferQuery", {"contract": ID}),
    frame(52, "TransferList", {"receipts": [RAW["transfer"]]}),
    frame(53, "CreditQuery", {"contract": ID}),
    frame(54, "CreditList", {"notes": [RAW["credit"]]}),
]
BAD_FRAMES = [
    frame(99, "unknown type", {}),
    frame(46, "missing field", {}),
    frame(46, "a field too many", {"contract": ID, "after": 1}),
    frame(47, "17 notices", {"acts": [RAW["act"]] * 17}),
    frame(45, "a note of 1025 bytes", {"note": bytes(1025)}),
    frame(33, "an exposure of 2^62", {"hash": ID, "exposed": 2**62, "limit": 0}),
    frame(50, "three statements", {"customer_terms": b"", "provider_terms": b"", "statements": [b""] * 3}),
]

POSTINGS = [["receivable:" + ID.hex(), 100], ["income:" + ID.hex(), -100]]
ENTRY = ["ledger", 1, ZERO, NOW, "charge", b"\x88" * 32, POSTINGS]
DOCUMENT = {
    "spec": "protocols/specs/settle.md",
    "messages": [signed(*case) for case in KINDS],
    "frames": FRAMES,
    "bad_frames": BAD_FRAMES,
    "batch": {"items": [[chunk_id.hex(), size] for chunk_id, size in BATCH], "root": ROOT.hex()},
    "ledger": {
        "at": NOW,
        "kind": "charge",
        "cause": (b"\x88" * 32).hex(),
        "postings": POSTINGS,
        "hash": hashlib.sha256(b"svrn/v1/audit\0" + cbor2.dumps(ENTRY, canonical=True)).hexdigest(),
    },
    "refused": [
        bad("negative amount", "voucher", 0x25, VOUCHER | {"kind": "voucher", "cumulative": -1}),
        bad("2^63 micro-VIBE", "voucher", 0x25, VOUCHER | {"kind": "voucher", "cumulative": 2**63 - 1}),
        bad("amount as text", "voucher", 0x25, VOUCHER | {"kind": "voucher", "cumulative": "1.0"}),
        bad("a credit note as a voucher", "voucher", 0x25, CREDIT | {"kind": "credit"}),
        bad("second voucher without a first", "voucher", 0x25, VOUCHER | {"kind": "voucher", "seq": 2}),
        bad("lines that do not add up", "statement", 0x25, STATEMENT | {"kind": "statement", "closing": 1}),
        bad(
            "byte-seconds in another spelling", "report", 0x24, REPORT | {"kind": "report", "byte_seconds": [0, GB]}
        ),
        bad("a grant of nothing", "grant", 0x25, GRANT | {"kind": "grant", "budget": 0}),
        bad("a grant to itself", "grant", 0x25, GRANT | {"kind": "grant", "payee": b"\x55" * 32}),
        bad("a grant for the past", "grant", 0x25, GRANT | {"kind": "grant", "until_at": NOW}),
        bad("a receipt as a report", "report", 0x23, RECEIPT | {"kind": "receipt"}),
    ],
}

if __name__ == "__main__":
    text = json.dumps(DOCUMENT, indent=1) + "\n"
    Path(__file__).with_name("settle.json").write_text(text, encoding="utf-8")
