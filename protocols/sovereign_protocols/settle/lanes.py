"""Voucher lanes: what a customer's device may sign, and what a provider may believe.

Source: protocols/specs/settle.md, "Lanes".
"""

from dataclasses import dataclass
from enum import Enum, unique

from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.settle.bodies import Voucher
from sovereign_protocols.settle.signed import NO_HASH, Signed


@dataclass(frozen=True)
class LaneHead:
    """The newest voucher of a lane, as either side knows it.

    Args:
        seq: its number, 0 before the first.
        cumulative: what the lane promised so far, micro-VIBE.
        content_hash: of the voucher, zero bytes before the first.
        covers_until: Unix seconds UTC.
    """

    seq: int = 0
    cumulative: int = 0
    content_hash: bytes = NO_HASH
    covers_until: int = 0

    @classmethod
    def of(cls, signed: Signed[Voucher]) -> "LaneHead":
        """Give the head that a voucher makes."""
        body = signed.body
        return cls(body.seq, body.cumulative, signed.content_hash, body.covers_until)


@dataclass(frozen=True)
class Lane:
    """A customer's own lane.

    Args:
        contract: id, 32 bytes.
        payee: device key of the provider, 32 bytes.
        device: own device key, 32 bytes.
        number: of the lane.
        head: newest voucher that was signed.
        is_current: whether the head is known to be the newest; False after a restore, until `resume`.
    """

    contract: bytes
    payee: bytes
    device: bytes
    number: int
    head: LaneHead = LaneHead()
    is_current: bool = True

    def draft(
        self, *, cumulative: int, covers_until: int, at: int, own_meter: int, report: bytes = NO_HASH
    ) -> Voucher:
        """Make the next voucher; sign it, store it durably, and only then send it.

        Args:
            cumulative: what this lane promises altogether, micro-VIBE.
            covers_until: Unix seconds UTC.
            at: now, Unix seconds UTC.
            own_meter: the most that this lane may promise: what the own meter covers, less the other lanes, and not
                above the contract's budget; micro-VIBE.
            report: content hash of the acknowledged meter report.

        Raises:
            LocalProtocolError: it would break a rule of lanes; nothing may be signed.
        """
        if not self.is_current:
            raise LocalProtocolError("a restored lane signs nothing before the provider told its newest voucher")
        if cumulative < self.head.cumulative:
            raise LocalProtocolError("a lane never promises less; a refund is a credit note")
        if cumulative > own_meter:
            raise LocalProtocolError("a voucher never exceeds what the own meter covers")
        return Voucher(
            contract=self.contract,
            payee=self.payee,
            device=self.device,
            lane=self.number,
            seq=self.head.seq + 1,
            cumulative=cumulative,
            covers_until=max(covers_until, self.head.covers_until),
            report=report,
            previous=self.head.content_hash,
            at=at,
        )

    def signed(self, voucher: Signed[Voucher]) -> "Lane":
        """Move on after a voucher was stored durably.

        Raises:
            LocalProtocolError: it is not the next one of this lane.
        """
        body = voucher.body
        mine = (self.contract, self.payee, self.device, self.number)
        if (body.contract, body.payee, body.device, body.lane) != mine or voucher.signer != self.device:
            raise LocalProtocolError("the voucher belongs to another lane")
        if body.seq != self.head.seq + 1 or body.previous != self.head.content_hash:
            raise LocalProtocolError("the voucher is not the next one of its lane")
        return Lane(*mine, LaneHead.of(voucher))

    def resume(self, newest: Signed[Voucher] | None) -> "Lane":
        """Take over what the provider holds, after a restore.

        A voucher that was sent and is still under way is known to nobody; where that can be, take a new lane, which
        is always safe.

        Args:
            newest: the newest voucher of this lane that the provider shows; None if it has none.

        Returns:
            The lane, ready to sign.

        Raises:
            LocalProtocolError: the voucher is not from this lane, or older than what this device remembers: the
                provider hides one, and a new lane must be taken.
        """
        mine = (self.contract, self.payee, self.device, self.number)
        if newest is None:
            if self.head.seq:
                raise LocalProtocolError("the provider shows less than this device remembers")
            return Lane(*mine)
        body = newest.body
        if (body.contract, body.payee, body.device, body.lane) != mine or newest.signer != self.device:
            raise LocalProtocolError("the voucher belongs to another lane")
        head = LaneHead.of(newest)
        if head.seq < self.head.seq or (head.seq == self.head.seq and head != self.head):
            raise LocalProtocolError("the provider shows less than this device remembers")
        return Lane(*mine, head)


@unique
class VoucherVerdict(Enum):
    """What a voucher means to the provider."""

    NEW = "new"
    SAME = "same"


class EquivocationError(RefusedError):
    """A device signed two vouchers with one number: a proof of cheating, to be kept.

    Args:
        known: the first.
        other: the second.
    """

    def __init__(self, known: bytes, other: bytes) -> None:
        super().__init__(Reason.EQUIVOCATION)
        self.known = known
        self.other = other


def judge_voucher(head: LaneHead, newest_raw: bytes, voucher: Signed[Voucher]) -> VoucherVerdict:
    """Tell whether a voucher is the next one of its lane. Contract, payee and signer were checked before.

    Args:
        head: newest voucher of the lane that the provider holds.
        newest_raw: that voucher as received, empty before the first.
        voucher: what came.

    Returns:
        NEW: store it, then acknowledge. SAME: acknowledge again.

    Raises:
        EquivocationError: a second voucher with the newest number.
        RefusedError: reason sequence (with seq, the newest number) or amount (with cumulative).
    """
    body = voucher.body
    if body.seq == head.seq:
        if voucher.content_hash == head.content_hash:
            return VoucherVerdict.SAME
        raise EquivocationError(newest_raw, voucher.raw)
    if body.seq != head.seq + 1 or body.previous != head.content_hash:
        raise RefusedError(Reason.SEQUENCE, {"seq": head.seq})
    if body.cumulative < head.cumulative or body.covers_until < head.covers_until:
        raise RefusedError(Reason.AMOUNT, {"cumulative": head.cumulative})
    return VoucherVerdict.NEW
