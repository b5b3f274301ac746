"""Messages of `/sovereign/settle/1.0.0`.

Source: protocols/specs/settle.md, "Messages".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sovereign_crypto.schema import bounded_bytes, byte_string, integer, list_of
from sovereign_protocols.market.acts import MAX_ACT_BYTES
from sovereign_protocols.market.offer import MAX_TIME
from sovereign_protocols.market.terms import MAX_TERMS_BYTES
from sovereign_protocols.requests.wire import Hello, Message, Refuse, RequestProtocol, fields_schema
from sovereign_protocols.settle.bodies import MAX_AMOUNT
from sovereign_protocols.settle.signed import MAX_SIGNED_BYTES

PROTOCOL_ID: Final = "/sovereign/settle/1.0.0"
#: Receipts of 1024 bytes at most: 32 fit one frame.
MAX_RECEIPTS: Final = 32
#: The acts of one contract that a party still has to know: the newest ones.
MAX_NOTICES: Final = 16

#: Devices of one identity whose transfer receipts are shown: those that signed last.
MAX_DEVICES: Final = 40

#: Credit notes in one answer; the rest follows when these are signed.
MAX_CREDITS: Final = 32

_SIGNED = bounded_bytes(MAX_SIGNED_BYTES)
_ID = byte_string(32)


@dataclass(frozen=True)
class VoucherNote(Message):
    """A voucher of the caller."""

    TYPE = 32
    SCHEMA = fields_schema(voucher=_SIGNED)
    voucher: bytes


@dataclass(frozen=True)
class VoucherKept(Message):
    """The voucher is stored durably; what is at risk now, and the limit, in micro-VIBE."""

    TYPE = 33
    SCHEMA = fields_schema(hash=_ID, exposed=integer(-MAX_AMOUNT, MAX_AMOUNT), limit=integer(0, MAX_AMOUNT))
    hash: bytes
    exposed: int
    limit: int


@dataclass(frozen=True)
class TransferNote(Message):
    """A transfer receipt of the caller."""

    TYPE = 34
    SCHEMA = fields_schema(receipt=_SIGNED)
    receipt: bytes


@dataclass(frozen=True)
class Kept(Message):
    """The message with this statement hash is stored durably."""

    TYPE = 35
    SCHEMA = fields_schema(hash=_ID)
    hash: bytes


@dataclass(frozen=True)
class ReportQuery(Message):
    """Ask for a meter report up to now."""

    TYPE = 36
    SCHEMA = fields_schema(contract=_ID)
    contract: bytes


@dataclass(frozen=True)
class ReportAnswer(Message):
    """A meter report, signed by the provider."""

    TYPE = 37
    SCHEMA = fields_schema(report=_SIGNED)
    report: bytes


@dataclass(frozen=True)
class DisputeNote(Message):
    """The caller's own figures against a report."""

    TYPE = 38
    SCHEMA = fields_schema(dispute=_SIGNED)
    dispute: bytes


@dataclass(frozen=True)
class ReceiptQuery(Message):
    """Ask for the receipts of a contract with numbers above `after`."""

    TYPE = 39
    SCHEMA = fields_schema(contract=_ID, after=integer(0, MAX_TIME))
    contract: bytes
    after: int = 0


@dataclass(frozen=True)
class ReceiptList(Message):
    """Receipts in order, signed by the provider."""

    TYPE = 40
    SCHEMA = fields_schema(receipts=list_of(_SIGNED, MAX_RECEIPTS))
    receipts: tuple[bytes, ...]


@dataclass(frozen=True)
class StatementQuery(Message):
    """Ask for the statement of a closed period."""

    TYPE = 41
    SCHEMA = fields_schema(contract=_ID, period=integer(0, 65_535))
    contract: bytes
    period: int


@dataclass(frozen=True)
class StatementAnswer(Message):
    """The statement, signed by the provider."""

    TYPE = 42
    SCHEMA = fields_schema(statement=_SIGNED)
    statement: bytes


@dataclass(frozen=True)
class StatementCosign(Message):
    """The same statement, signed by the caller."""

    TYPE = 43
    SCHEMA = fields_schema(statement=_SIGNED)
    statement: bytes


@dataclass(frozen=True)
class CreditOffer(Message):
    """A credit note, signed by the caller."""

    TYPE = 44
    SCHEMA = fields_schema(note=_SIGNED)
    note: bytes


@dataclass(frozen=True)
class CreditAnswer(Message):
    """The same note, signed by the answerer; empty while a person still has to confirm it."""

    TYPE = 45
    SCHEMA = fields_schema(note=_SIGNED)
    note: bytes


@dataclass(frozen=True)
class NoticeQuery(Message):
    """Ask for the signed acts of the answerer on a contract."""

    TYPE = 46
    SCHEMA = fields_schema(contract=_ID)
    contract: bytes


@dataclass(frozen=True)
class NoticeList(Message):
    """The newest acts, oldest first."""

    TYPE = 47
    SCHEMA = fields_schema(acts=list_of(bounded_bytes(MAX_ACT_BYTES), MAX_NOTICES))
    acts: tuple[bytes, ...]


@dataclass(frozen=True)
class GrantNote(Message):
    """A bonus grant, signed by the caller."""

    TYPE = 48
    SCHEMA = fields_schema(grant=_SIGNED)
    grant: bytes


@dataclass(frozen=True)
class SponsorQuery(Message):
    """Ask, as the sponsor that the terms name, what a period is owed."""

    TYPE = 49
    SCHEMA = fields_schema(contract=_ID, period=integer(0, 65_535))
    contract: bytes
    period: int


@dataclass(frozen=True)
class SponsorAnswer(Message):
    """The terms as both parties signed them, and the statement signed by both, or nothing while the period runs."""

    TYPE = 50
    SCHEMA = fields_schema(
        customer_terms=bounded_bytes(MAX_TERMS_BYTES),
        provider_terms=bounded_bytes(MAX_TERMS_BYTES),
        statements=list_of(_SIGNED, 2),
    )
    customer_terms: bytes
    provider_terms: bytes
    statements: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class TransferQuery(Message):
    """Ask for the transfer receipts of the caller's identity."""

    TYPE = 51
    SCHEMA = fields_schema(contract=_ID)
    contract: bytes


@dataclass(frozen=True)
class TransferList(Message):
    """The newest transfer receipt of each device."""

    TYPE = 52
    SCHEMA = fields_schema(receipts=list_of(_SIGNED, MAX_DEVICES))
    receipts: tuple[bytes, ...]


@dataclass(frozen=True)
class CreditQuery(Message):
    """Ask for what the answerer gives back and the caller has not signed yet."""

    TYPE = 53
    SCHEMA = fields_schema(contract=_ID)
    contract: bytes


@dataclass(frozen=True)
class CreditList(Message):
    """Credit notes, signed by the answerer, oldest first."""

    TYPE = 54
    SCHEMA = fields_schema(notes=list_of(_SIGNED, MAX_CREDITS))
    notes: tuple[bytes, ...]


KINDS: Final[tuple[type[Message], ...]] = (
    Hello,
    Refuse,
    VoucherNote,
    VoucherKept,
    TransferNote,
    Kept,
    ReportQuery,
    ReportAnswer,
    DisputeNote,
    ReceiptQuery,
    ReceiptList,
    StatementQuery,
    StatementAnswer,
    StatementCosign,
    CreditOffer,
    CreditAnswer,
    NoticeQuery,
    NoticeList,
    GrantNote,
    SponsorQuery,
    SponsorAnswer,
    TransferQuery,
    TransferList,
    CreditQuery,
    CreditList,
)

ANSWERS: Final[Mapping[type[Message], type[Message]]] = {
    VoucherNote: VoucherKept,
    TransferNote: Kept,
    ReportQuery: ReportAnswer,
    DisputeNote: Kept,
    ReceiptQuery: ReceiptList,
    StatementQuery: StatementAnswer,
    StatementCosign: Kept,
    CreditOffer: CreditAnswer,
    NoticeQuery: NoticeList,
    GrantNote: Kept,
    SponsorQuery: SponsorAnswer,
    TransferQuery: TransferList,
    CreditQuery: CreditList,
}
PROTOCOL: Final = RequestProtocol.of(KINDS, ANSWERS)
