"""A provider's settlement desk over a book in memory, with one open contract."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from market_world import CUSTOMER, GB, NOW, PROVIDER, World

from sovereign_protocols.market.prices import MONTH_S, UptimeCount
from sovereign_protocols.market.terms import BonusPayer, countersign, sign_terms
from sovereign_protocols.settle.accrual import Accrual, PeriodFigures, build_statement
from sovereign_protocols.settle.bodies import PeriodStatement, Receipt, batch_root
from sovereign_protocols.settle.desk import SettlementDesk
from sovereign_protocols.settle.lanes import LaneHead
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, sign_body


def number_of(signed) -> int:
    return {"receipt": "seq", "report": "seq", "statement": "period"}.get(signed.body.KIND, "at")


class MemoryLedgerBook:
    """Keeps one contract's money matters until the test ends."""

    def __init__(self, agreement) -> None:
        self.contract = agreement
        self.reading = Meter(agreement.terms.start_at)
        self.cost = Accrual(agreement.terms.prices, self.reading)
        self.vouchers = {}
        self.messages = {}
        self.evidence = []
        self.statements: dict[int, PeriodStatement] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        before = dict(self.vouchers), {kind: list(found) for kind, found in self.messages.items()}
        try:
            yield
        except BaseException:
            self.vouchers, self.messages = before
            raise

    def agreement(self, contract_id):
        return self.contract if contract_id == self.contract.contract_id else None

    def meter(self, contract_id, now):
        return self.reading.advance(now)

    def accrued(self, contract_id, meter):
        return self.cost.accrued(meter)

    def lane(self, contract_id, device, lane):
        known = self.vouchers.get((device, lane))
        return (LaneHead.of(known), known.raw) if known else (LaneHead(), b"")

    def vouchered(self, contract_id):
        return sum(voucher.body.cumulative for voucher in self.vouchers.values())

    def add_voucher(self, voucher, at):
        self.vouchers[voucher.body.device, voucher.body.lane] = voucher

    def add_evidence(self, contract_id, proof, at):
        self.evidence.append((contract_id, proof.known, proof.other))

    def add(self, signed, contract_id, number, at):
        found = self.messages.setdefault(signed.body.KIND, [])
        if signed not in found:
            found.append(signed)

    def newest(self, contract_id, kind):
        found = self.messages.get(kind.KIND, [])
        top = max((getattr(signed.body, number_of(signed)) for signed in found), default=None)
        return [signed for signed in found if getattr(signed.body, number_of(signed)) == top]

    def receipts(self, contract_id, after, limit):
        found = [signed for signed in self.messages.get("receipt", []) if signed.body.seq > after]
        return [signed.raw for signed in found[:limit]]

    def transfers(self, contract_id, limit):
        newest = {}
        for signed in self.messages.get("transfer", []):
            known = newest.setdefault(signed.signer, signed)
            if known.body.bytes_in + known.body.bytes_out < signed.body.bytes_in + signed.body.bytes_out:
                newest[signed.signer] = signed
        return [signed.raw for signed in newest.values()][:limit]

    def statement(self, contract_id, period):
        return self.statements.get(period)


class SettleWorld:
    """One contract at list price, bonus paid by the customer, and a clock that tests move."""

    def __init__(self) -> None:
        world = World()
        terms = dataclasses.replace(
            world.terms(), bonus_payer=BonusPayer.CUSTOMER, bonus_permille=1500, credit_limit=20_000_000
        )
        self.now = NOW
        self.agreement = countersign(sign_terms(terms, CUSTOMER.device_key), PROVIDER.device_key)
        self.book = MemoryLedgerBook(self.agreement)
        self.desk = SettlementDesk(device_key=PROVIDER.device_key, book=self.book, clock=lambda: self.now)

    @property
    def contract_id(self) -> bytes:
        return self.agreement.contract_id

    def put(self, size: int) -> None:
        """Store a chunk and give a receipt."""
        last = self.book.newest(self.contract_id, Receipt)
        chunk_id = len(self.book.messages.get("receipt", [])).to_bytes(32, "big")
        self.book.reading = self.book.reading.put(size, self.now)
        receipt = Receipt(
            contract=self.contract_id,
            seq=last[0].body.seq + 1 if last else 1,
            previous=last[0].content_hash if last else NO_HASH,
            root=batch_root([(chunk_id, size)]),
            count=1,
            batch_bytes=size,
            stored_bytes=self.book.reading.stored_bytes,
            at=self.now,
        )
        self.book.add(sign_body(receipt, PROVIDER.device_key), self.contract_id, receipt.seq, self.now)

    def use_one_month(self) -> None:
        """Store 5 GB for a month and move 1 GB."""
        self.put(5 * GB)
        self.now += MONTH_S
        self.book.reading = self.book.reading.advance(self.now).move(bytes_in=GB)

    def close_period(self, *, good: int = 4320) -> PeriodStatement:
        """Compute the first statement, as each side does on its own."""
        usage = self.book.reading.usage_since(Meter(self.agreement.terms.start_at))
        figures = PeriodFigures(
            segments=((self.agreement.terms.prices, usage),),
            uptime=UptimeCount(good, 4320, 4320),
            vouchered=self.book.vouchered(self.contract_id),
        )
        statement = build_statement(
            self.agreement, figures, previous=None, from_at=NOW, until_at=self.book.reading.at
        )
        self.book.statements[0] = statement
        return statement
