"""Heads, recovery records and identity logs: small rows that live in the index itself."""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from sovereign_node.chunkstore.errors import HeadConflictError, RecoveryConflictError, TooManyRecordsError
from sovereign_node.chunkstore.index import Index, Transaction, contract_prefix
from sovereign_node.chunkstore.interface import (
    MAX_HEAD_BYTES,
    MAX_HEADS_PER_CONTRACT,
    MAX_RECOVERY_BYTES,
    MAX_RECOVERY_PER_CONTRACT,
    MAX_RECOVERY_PER_LOCATOR,
    RecoveryRecord,
)

MAX_ANNOUNCE_KEY_BYTES: Final = 64
_RECOVERY: Final = struct.Struct(">QB")
_LENGTH: Final = struct.Struct(">I")


def check_head(head: bytes) -> None:
    """Refuse a head that is empty or too long.

    Raises:
        ValueError: it is.
    """
    if not 0 < len(head) <= MAX_HEAD_BYTES:
        raise ValueError("a head has 1 to 65536 bytes")


def check_recovery(record: RecoveryRecord) -> None:
    """Refuse a recovery record whose parts are too long.

    Raises:
        ValueError: it is not within its limits.
    """
    if not 0 < len(record.sealed) <= MAX_RECOVERY_BYTES or len(record.announce_key) > MAX_ANNOUNCE_KEY_BYTES:
        raise ValueError("a recovery record has at most 4 MiB and an announce key of at most 64 bytes")


def check_previous_head(stored: bytes | None, head: bytes, previous_hash: bytes | None) -> bool:
    """Return whether `head` must be written, False if it is stored already.

    Raises:
        HeadConflictError: `stored` is neither `head` nor the head with `previous_hash`.
    """
    if stored == head:
        return False
    current_hash = hashlib.sha256(stored).digest() if stored is not None else None
    if current_hash != previous_hash:
        raise HeadConflictError(current_hash)
    return True


def read_heads(
    index: Index, transaction: Transaction, contract_id: bytes, locator: bytes
) -> list[tuple[bytes, bytes]]:
    """Return (device public key, head) of every device under `locator`."""
    prefix = contract_prefix(index.contract(transaction, contract_id).number) + locator
    return [(key[len(prefix) :], row) for key, row in index.scan(transaction, "heads", prefix)]


def write_head(
    index: Index, transaction: Transaction, contract_id: bytes, slot: tuple[bytes, bytes], head: bytes,
    previous_hash: bytes | None,
) -> None:  # fmt: skip
    """Compare and swap the head of `slot` = (locator, device public key)."""
    contract = index.contract(transaction, contract_id)
    key = contract_prefix(contract.number) + slot[0] + slot[1]
    stored = index.get(transaction, "heads", key)
    if not check_previous_head(stored, head, previous_hash):
        return
    if stored is None:
        if contract.heads >= MAX_HEADS_PER_CONTRACT:
            raise TooManyRecordsError("heads of this contract")
        contract.heads += 1
        index.put_contract(transaction, contract_id, contract)
    index.put(transaction, "heads", key, head)


def encode_recovery(record: RecoveryRecord) -> bytes:
    """Return the row of a recovery record."""
    return _RECOVERY.pack(record.revision, len(record.announce_key)) + record.announce_key + record.sealed


def decode_recovery(key: bytes, row: bytes) -> RecoveryRecord:
    """Return the recovery record of a row."""
    revision, announce_bytes = _RECOVERY.unpack_from(row)
    sealed_at = _RECOVERY.size + announce_bytes
    return RecoveryRecord(key[32:], key[:32], revision, row[_RECOVERY.size : sealed_at], row[sealed_at:])


def read_recovery(index: Index, transaction: Transaction, locator: bytes) -> list[RecoveryRecord]:
    """Return the records under `locator`, highest revision first."""
    records = [decode_recovery(key, row) for key, row in index.scan(transaction, "recovery", locator)]
    return sorted(records, key=lambda record: -record.revision)


def write_recovery(index: Index, transaction: Transaction, record: RecoveryRecord) -> None:
    """Store a record whose revision is higher than the stored one."""
    contract = index.contract(transaction, record.contract_id)
    others = read_recovery(index, transaction, record.locator)
    stored = next((other for other in others if other.contract_id == record.contract_id), None)
    if stored == record:
        return
    if stored is not None and stored.revision >= record.revision:
        raise RecoveryConflictError(stored.revision)
    if stored is None:
        if contract.recoveries >= MAX_RECOVERY_PER_CONTRACT or len(others) >= MAX_RECOVERY_PER_LOCATOR:
            raise TooManyRecordsError("recovery records")
        contract.recoveries += 1
        index.put_contract(transaction, record.contract_id, contract)
    index.put(transaction, "recovery", record.locator + record.contract_id, encode_recovery(record))


def read_announce_keys(index: Index, transaction: Transaction) -> Iterator[bytes]:
    """Yield the announce key of every recovery record."""
    for key, row in index.scan(transaction, "recovery", b""):
        yield decode_recovery(key, row).announce_key


def encode_entries(entries: Sequence[bytes]) -> bytes:
    """Return the row of an identity log."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def decode_entries(row: bytes) -> list[bytes]:
    """Return the entries of an identity log."""
    entries = []
    position = 0
    while position < len(row):
        (length,) = _LENGTH.unpack_from(row, position)
        position += _LENGTH.size
        entries.append(row[position : position + length])
        position += length
    return entries
