"""The kinds of signed messages in settlement.

Source: protocols/specs/settle.md, "Signed messages".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.schema import byte_string, integer
from sovereign_crypto.statement import StatementType
from sovereign_protocols.market.offer import MAX_BYTES, MAX_TIME
from sovereign_protocols.settle.signed import NO_HASH, Body, is_byte_seconds, malformed, schema_of

#: 10^15 uV are 10 million dollars: above every bill, and sums of thousands stay within 64 bits.
MAX_AMOUNT: Final = 10**15
MAX_LANE: Final = 65_535

_ID = byte_string(32)
_SIZE = integer(0, MAX_BYTES)
_COUNT = integer(0, 2**53)
_TIME = integer(0, MAX_TIME)
_AMOUNT = integer(0, MAX_AMOUNT)
_SIGNED_AMOUNT = integer(-MAX_AMOUNT, MAX_AMOUNT)
_WINDOWS = integer(0, 2**32)


def batch_root(items: Iterable[tuple[bytes, int]]) -> bytes:
    """Hash a batch of chunks into one value that single chunks can be proven against.

    Args:
        items: (chunk id of 32 bytes, size in bytes), in the order of the batch.

    Returns:
        Root of a binary tree: leaf SHA-256(0 || id || u64 size), node SHA-256(1 || left || right); an odd node
        moves up unchanged. Zero bytes for an empty batch.

    Source: RFC 6962 section 2.1, for the separation of leaves and nodes.
    """
    level = [hashlib.sha256(b"\0" + chunk_id + size.to_bytes(8, "big")).digest() for chunk_id, size in items]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        nodes = [hashlib.sha256(b"\1" + left + right).digest() for left, right in pairs]
        level = nodes + level[len(level) & ~1 :]
    return level[0] if level else NO_HASH


@dataclass(frozen=True)
class Receipt(Body):
    """The provider's signature under one change of what it stores.

    Args:
        contract: id.
        seq: counts up by one in the contract.
        previous: content hash of the receipt before, zero bytes for the first.
        root: batch root of the chunks that came or went.
        count: how many.
        batch_bytes: their size.
        stored_bytes: total of the contract afterwards; metered from `at` on.
        at: Unix seconds UTC.
        delete_after_at: how long released chunks stay recoverable; 0 when chunks came.
    """

    contract: bytes
    seq: int
    previous: bytes
    root: bytes
    count: int
    batch_bytes: int
    stored_bytes: int
    at: int
    delete_after_at: int = 0

    TYPE = StatementType.PUT_RECEIPT
    KIND = "receipt"
    SCHEMA = schema_of(
        contract=_ID,
        seq=integer(1, 2**53),
        previous=_ID,
        root=_ID,
        count=_COUNT,
        batch_bytes=_SIZE,
        stored_bytes=_SIZE,
        at=_TIME,
        delete_after_at=_TIME,
    )

    @property
    def is_release(self) -> bool:
        """Whether chunks went."""
        return self.delete_after_at > 0

    def check(self) -> None:
        """See Body."""
        if (self.seq == 1) != (self.previous == NO_HASH):
            raise malformed("only the first receipt has no predecessor")
        if not self.is_release and self.stored_bytes < self.batch_bytes:
            raise malformed("the total is below the batch")


@dataclass(frozen=True)
class TransferReceipt(Body):
    """The customer's signature under what was moved, cumulative over the contract's life.

    Args:
        contract: id.
        device: whose counters these are, 32 bytes; it signs.
        bytes_in: to the provider.
        bytes_out: from the provider.
        at: Unix seconds UTC.
    """

    contract: bytes
    device: bytes
    bytes_in: int
    bytes_out: int
    at: int

    TYPE = StatementType.USAGE
    KIND = "transfer"
    SCHEMA = schema_of(contract=_ID, device=_ID, bytes_in=_SIZE, bytes_out=_SIZE, at=_TIME)


@dataclass(frozen=True)
class MeterReport(Body):
    """What the provider counted, cumulative since the contract's start.

    Args:
        contract: id.
        terms: hash of the revision in force.
        seq: counts up by one in the contract.
        until_at: end of what is counted, Unix seconds UTC.
        byte_seconds: stored.
        bytes_in: to the provider.
        bytes_out: from the provider.
        accrued: what all of it costs, micro-VIBE.
        inputs: content hash of the newest receipt.
    """

    contract: bytes
    terms: bytes
    seq: int
    until_at: int
    byte_seconds: int
    bytes_in: int
    bytes_out: int
    accrued: int
    inputs: bytes

    TYPE = StatementType.USAGE
    KIND = "report"
    SCHEMA = schema_of(
        contract=_ID,
        terms=_ID,
        seq=integer(1, 2**53),
        until_at=_TIME,
        byte_seconds=is_byte_seconds,
        bytes_in=_SIZE,
        bytes_out=_SIZE,
        accrued=_AMOUNT,
        inputs=_ID,
    )


@dataclass(frozen=True)
class MeterDispute(Body):
    """The customer's own figures where it does not agree with a report.

    Args:
        contract: id.
        report: content hash of the report.
        byte_seconds: own count.
        bytes_in: own count.
        bytes_out: own count.
        accrued: own price, micro-VIBE.
        at: Unix seconds UTC.
    """

    contract: bytes
    report: bytes
    byte_seconds: int
    bytes_in: int
    bytes_out: int
    accrued: int
    at: int

    TYPE = StatementType.USAGE
    KIND = "dispute"
    SCHEMA = schema_of(
        contract=_ID,
        report=_ID,
        byte_seconds=is_byte_seconds,
        bytes_in=_SIZE,
        bytes_out=_SIZE,
        accrued=_AMOUNT,
        at=_TIME,
    )


@dataclass(frozen=True)
class Voucher(Body):
    """A promise to pay, cumulative on one lane; it names one payee, so it cannot be spent twice.

    Args:
        contract: id.
        payee: device key of the provider, 32 bytes.
        device: owner of the lane, 32 bytes; it signs.
        lane: number of the lane; a device takes a new one when it cannot know its last voucher.
        seq: counts up by one on the lane, from 1.
        cumulative: all that this lane ever promised, micro-VIBE.
        covers_until: end of the usage that it pays, Unix seconds UTC.
        report: content hash of the acknowledged meter report, zero bytes if none.
        previous: content hash of the voucher before on the lane, zero bytes for the first.
        at: Unix seconds UTC.
    """

    contract: bytes
    payee: bytes
    device: bytes
    lane: int
    seq: int
    cumulative: int
    covers_until: int
    report: bytes
    previous: bytes
    at: int

    TYPE = StatementType.PAYMENT
    KIND = "voucher"
    SCHEMA = schema_of(
        contract=_ID,
        payee=_ID,
        device=_ID,
        lane=integer(0, MAX_LANE),
        seq=integer(1, 2**53),
        cumulative=_AMOUNT,
        covers_until=_TIME,
        report=_ID,
        previous=_ID,
        at=_TIME,
    )

    def check(self) -> None:
        """See Body."""
        if (self.seq == 1) != (self.previous == NO_HASH):
            raise malformed("only the first voucher has no predecessor")


@dataclass(frozen=True)
class PeriodStatement(Body):
    """The close of a period; counts with both signatures. Amounts in micro-VIBE.

    Args:
        contract: id.
        terms: hash of the revision in force at the end.
        period: number of the period, from 0.
        previous: content hash of the statement before, zero bytes for the first.
        from_at: first second, Unix seconds UTC.
        until_at: first second after.
        byte_seconds: stored in the period.
        transfer_bytes: moved in the period.
        windows_good: ten-minute windows with an answer.
        windows_observed: ten-minute windows in which an observer asked.
        opening: owed at the start; negative if the customer paid ahead.
        storage: for byte-seconds.
        transfer: for moved bytes.
        bonus: what the customer pays for uptime; a sponsor's share is not in the statement.
        credits: sum of the credit notes in the period.
        paid: growth of the vouchers in the period.
        closing: owed at the end.
    """

    contract: bytes
    terms: bytes
    period: int
    previous: bytes
    from_at: int
    until_at: int
    byte_seconds: int
    transfer_bytes: int
    windows_good: int
    windows_observed: int
    opening: int
    storage: int
    transfer: int
    bonus: int
    credits: int
    paid: int
    closing: int

    TYPE = StatementType.PAYMENT
    KIND = "statement"
    SCHEMA = schema_of(
        contract=_ID,
        terms=_ID,
        period=integer(0, 65_535),
        previous=_ID,
        from_at=_TIME,
        until_at=_TIME,
        byte_seconds=is_byte_seconds,
        transfer_bytes=_SIZE,
        windows_good=_WINDOWS,
        windows_observed=_WINDOWS,
        opening=_SIGNED_AMOUNT,
        storage=_AMOUNT,
        transfer=_AMOUNT,
        bonus=_AMOUNT,
        credits=_AMOUNT,
        paid=_AMOUNT,
        closing=_SIGNED_AMOUNT,
    )

    def check(self) -> None:
        """See Body."""
        charged = self.storage + self.transfer + self.bonus
        if self.closing != self.opening + charged - self.credits - self.paid:
            raise malformed("the lines do not add up to the closing balance")
        if (self.period == 0) != (self.previous == NO_HASH):
            raise malformed("only the first statement has no predecessor")
        if self.from_at >= self.until_at or self.windows_good > self.windows_observed:
            raise malformed("the period is impossible")


@dataclass(frozen=True)
class CreditNote(Body):
    """What a provider gives back, for a failed audit, downtime or goodwill; also a transfer between identities.

    Args:
        contract: id, zero bytes for a transfer outside of a contract.
        payer: identity that gives, 32 bytes.
        payee: identity that receives, 32 bytes.
        amount: micro-VIBE.
        nonce: 32 random bytes; the same note counts once.
        evidence: hash of the message that it rests on, or zero bytes.
        at: Unix seconds UTC.
    """

    contract: bytes
    payer: bytes
    payee: bytes
    amount: int
    nonce: bytes
    evidence: bytes
    at: int

    TYPE = StatementType.PAYMENT
    KIND = "credit"
    SCHEMA = schema_of(
        contract=_ID,
        payer=_ID,
        payee=_ID,
        amount=integer(1, MAX_AMOUNT),
        nonce=_ID,
        evidence=_ID,
        at=_TIME,
    )

    def check(self) -> None:
        """See Body."""
        if self.payer == self.payee:
            raise malformed("nobody pays himself")
