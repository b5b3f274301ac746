"""Double-entry bookkeeping, hash-chained: every entry adds up to zero and names the signed message behind it.

Source: protocols/specs/settle.md, "Ledger".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sovereign_crypto import cbor
from sovereign_crypto.domains import Domain
from sovereign_protocols.errors import LocalProtocolError

FIRST_PREVIOUS: Final = bytes(32)
#: Separates the chain of the ledger from that of the audit log, whose first item is a number.
_TAG: Final = "ledger"

#: Accounts have a name and, after a colon, what they are about: a contract or an identity in hexadecimal.
RECEIVABLE: Final = "receivable"
PAYABLE: Final = "payable"
INCOME: Final = "income"
EXPENSE: Final = "expense"
VOUCHERS_HELD: Final = "vouchers-held"
VOUCHERS_GIVEN: Final = "vouchers-given"
SETTLED: Final = "settled"
BONUS_HELD: Final = "bonus-held"
BONUS_GIVEN: Final = "bonus-given"


@dataclass(frozen=True)
class Posting:
    """One line: an account grows or, with a negative amount, shrinks; micro-VIBE."""

    account: str
    amount: int


@dataclass(frozen=True)
class LedgerEntry:
    """One event in the books.

    Args:
        seq: position, from 1 without a gap.
        previous: hash of the entry before, zero bytes for the first.
        at: Unix seconds UTC.
        kind: charge, voucher, credit, settlement, transfer or bonus.
        cause: hash of the signed message that caused it, 32 bytes.
        postings: add up to zero.
        hash: over all of the above.
    """

    seq: int
    previous: bytes
    at: int
    kind: str
    cause: bytes
    postings: tuple[Posting, ...]
    hash: bytes


def account(name: str, about: bytes) -> str:
    """Give an account's full name."""
    return f"{name}:{about.hex()}"


def make_entry(
    last: LedgerEntry | None, *, at: int, kind: str, cause: bytes, postings: Iterable[Posting]
) -> LedgerEntry:
    """Make the entry that follows.

    Args:
        last: newest entry, None for the first.
        at: Unix seconds UTC.
        kind: of the event.
        cause: hash of the signed message, 32 bytes.
        postings: at least two.

    Raises:
        LocalProtocolError: they do not add up to zero, or the cause is missing.
    """
    lines = tuple(postings)
    if sum(line.amount for line in lines) != 0 or len(lines) < 2:
        raise LocalProtocolError("the postings of an entry add up to zero")
    if len(cause) != 32 or not any(cause):
        raise LocalProtocolError("every entry names the signed message that caused it")
    seq = 1 if last is None else last.seq + 1
    previous = FIRST_PREVIOUS if last is None else last.hash
    return LedgerEntry(seq, previous, at, kind, cause, lines, entry_hash(seq, previous, at, kind, cause, lines))


def entry_hash(seq: int, previous: bytes, at: int, kind: str, cause: bytes, postings: tuple[Posting, ...]) -> bytes:
    """Compute an entry's hash: SHA-256(domain || canonical CBOR of ["ledger", fields in order])."""
    lines = [[line.account, line.amount] for line in postings]
    body = cbor.encode([_TAG, seq, previous, at, kind, cause, lines])
    return hashlib.sha256(Domain.AUDIT.prefix + body).digest()


def first_fault(entries: Iterable[LedgerEntry]) -> int | None:
    """Check a whole ledger.

    Args:
        entries: in order, from the first.

    Returns:
        The number of the first entry that does not hold, None if all do.
    """
    previous = FIRST_PREVIOUS
    for seq, entry in enumerate(entries, start=1):
        fields = (entry.at, entry.kind, entry.cause, entry.postings)
        if (entry.seq, entry.previous) != (seq, previous) or sum(line.amount for line in entry.postings) != 0:
            return seq
        if entry.hash != entry_hash(seq, previous, *fields):
            return seq
        previous = entry.hash
    return None


def charge_postings(contract: bytes, amount: int, *, is_provider: bool) -> tuple[Posting, ...]:
    """Book what a statement charges."""
    if is_provider:
        return Posting(account(RECEIVABLE, contract), amount), Posting(account(INCOME, contract), -amount)
    return Posting(account(EXPENSE, contract), amount), Posting(account(PAYABLE, contract), -amount)


def voucher_postings(contract: bytes, amount: int, *, is_provider: bool) -> tuple[Posting, ...]:
    """Book the growth of a lane: the open debt becomes a signed promise."""
    if is_provider:
        return (
            Posting(account(VOUCHERS_HELD, contract), amount),
            Posting(account(RECEIVABLE, contract), -amount),
        )
    return Posting(account(PAYABLE, contract), amount), Posting(account(VOUCHERS_GIVEN, contract), -amount)


def credit_postings(contract: bytes, amount: int, *, is_provider: bool) -> tuple[Posting, ...]:
    """Book a credit note: the reverse of a charge."""
    lines = charge_postings(contract, amount, is_provider=is_provider)
    return tuple(Posting(line.account, -line.amount) for line in lines)


def settlement_postings(contract: bytes, amount: int, *, is_provider: bool) -> tuple[Posting, ...]:
    """Book that promises were paid outside of the protocol."""
    if is_provider:
        return Posting(account(SETTLED, contract), amount), Posting(account(VOUCHERS_HELD, contract), -amount)
    return Posting(account(VOUCHERS_GIVEN, contract), amount), Posting(account(SETTLED, contract), -amount)


def bonus_postings(contract: bytes, amount: int, *, is_provider: bool) -> tuple[Posting, ...]:
    """Book what a sponsor promises for uptime; the side that is not the provider is the sponsor."""
    if is_provider:
        return Posting(account(BONUS_HELD, contract), amount), Posting(account(INCOME, contract), -amount)
    return Posting(account(EXPENSE, contract), amount), Posting(account(BONUS_GIVEN, contract), -amount)
