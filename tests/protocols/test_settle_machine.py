"""Customer and provider play vouchers with loss, duplication, reordering, restarts and cheating.

After every step the invariants hold: vouchers of a lane never fall and count up by one; a device signs at most one
for each number and none above its own meter; a lane belongs to one device; a restored device signs nothing before
it knows its newest voucher; exposure stays within the limit; no micro-VIBE appears or vanishes in the books.
"""

import dataclasses

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from sovereign_crypto.signing import SigningKey
from sovereign_protocols.errors import LocalProtocolError
from sovereign_protocols.market.prices import LIST_PRICES, charge
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.settle.bodies import Voucher
from sovereign_protocols.settle.exposure import Exposure
from sovereign_protocols.settle.lanes import EquivocationError, Lane, LaneHead, VoucherVerdict, judge_voucher
from sovereign_protocols.settle.ledger import charge_postings, first_fault, make_entry, voucher_postings
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import Signed, parse_signed, sign_body

PROVIDER = SigningKey.from_seed(b"\x01" * 32)
DEVICES = [SigningKey.from_seed(bytes([number]) * 32) for number in (2, 3)]
CONTRACT = b"\x11" * 32
LIMIT = 2_000_000
GB = 10**9


class Books:
    """One side's ledger and balances."""

    def __init__(self, *, is_provider: bool) -> None:
        self.is_provider = is_provider
        self.entries = []
        self.balances: dict[str, int] = {}

    def post(self, make, amount: int, cause: bytes) -> None:
        last = self.entries[-1] if self.entries else None
        postings = make(CONTRACT, amount, is_provider=self.is_provider)
        self.entries.append(make_entry(last, at=0, kind="test", cause=cause, postings=postings))
        for line in postings:
            name = line.account.split(":")[0]
            self.balances[name] = self.balances.get(name, 0) + line.amount

    def balance(self, name: str) -> int:
        return self.balances.get(name, 0)


class VoucherMachine(RuleBasedStateMachine):
    """Two laptops of one customer, one provider, and a network that does what it likes."""

    wire = Bundle("wire")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1
        self.meter = Meter(1)
        self.charged = 0
        self.exposure = Exposure(LIMIT)
        self.lanes = [Lane(CONTRACT, PROVIDER.public, key.public, 0) for key in DEVICES]
        self.backups = list(self.lanes)
        self.signed: dict[tuple[bytes, int, int], set[bytes]] = {}
        self.held: dict[tuple[bytes, int], Signed[Voucher]] = {}
        self.history: dict[tuple[bytes, int], list[Voucher]] = {}
        self.cheated = False
        self.evidence: list[EquivocationError] = []
        self.provider_books = Books(is_provider=True)
        self.customer_books = Books(is_provider=False)

    def price(self) -> int:
        return charge(LIST_PRICES, self.meter.usage_since(Meter(1)), with_bonus=False).price

    def charge_both(self) -> None:
        price = self.price()
        if price > self.charged:
            cause = price.to_bytes(32, "big")
            for books in (self.provider_books, self.customer_books):
                books.post(charge_postings, price - self.charged, cause)
            self.charged = price
        self.exposure = self.exposure.accrue(price)

    @rule(size=st.integers(1, GB))
    def put(self, size: int) -> None:
        cost = charge(LIST_PRICES, self.meter.move(bytes_in=size).usage_since(Meter(1)), with_bonus=False).price
        grant = cost - self.price()
        try:
            reserved = self.exposure.reserve(grant)
        except RefusedError:
            return
        self.exposure = reserved.apply(grant, grant)
        self.meter = self.meter.put(size, self.now).move(bytes_in=size)
        self.charge_both()

    @rule(days=st.integers(1, 10))
    def wait(self, days: int) -> None:
        self.now += days * 86_400
        self.meter = self.meter.advance(self.now)
        self.charge_both()

    @rule(target=wire, device=st.integers(0, 1), share=st.integers(0, 100))
    def sign(self, device: int, share: int) -> bytes:
        lane = self.lanes[device]
        # Each laptop answers for what the other's lane does not cover, as far as it knows.
        others = sum(other.head.cumulative for other in self.lanes if other is not lane)
        own_meter = max(0, self.charged - others)
        wanted = own_meter * share // 100
        try:
            draft = lane.draft(cumulative=wanted, covers_until=self.now, at=self.now, own_meter=own_meter)
        except LocalProtocolError:
            assert not lane.is_current or wanted < lane.head.cumulative
            return b""
        voucher = sign_body(draft, DEVICES[device])
        self.lanes[device] = lane.signed(voucher)
        key = (draft.device, draft.lane, draft.seq)
        self.signed.setdefault(key, set()).add(voucher.content_hash)
        if draft.cumulative > lane.head.cumulative:
            growth = draft.cumulative - lane.head.cumulative
            self.customer_books.post(voucher_postings, growth, voucher.content_hash)
        return voucher.raw

    @rule(device=st.integers(0, 1))
    def back_up(self, device: int) -> None:
        self.backups[device] = self.lanes[device]

    @rule(device=st.integers(0, 1))
    def restore(self, device: int) -> None:
        self.lanes[device] = dataclasses.replace(self.backups[device], is_current=False)

    @rule(device=st.integers(0, 1))
    def resume(self, device: int) -> None:
        lane = self.lanes[device]
        newest = self.held.get((lane.device, lane.number))
        if self.has_unsent(lane) and not lane.is_current:
            # What it signed and never sent is lost, so its number is taken: only a new lane is safe.
            self.lanes[device] = Lane(CONTRACT, lane.payee, lane.device, lane.number + 1)
            self.backups[device] = self.lanes[device]
            return
        try:
            self.lanes[device] = lane.resume(newest)
        except LocalProtocolError:
            assert lane.head.seq > (newest.body.seq if newest else 0)

    def has_unsent(self, lane: Lane) -> bool:
        newest = self.held.get((lane.device, lane.number))
        signed = [seq for device, number, seq in self.signed if (device, number) == (lane.device, lane.number)]
        return max(signed, default=0) > (newest.body.seq if newest else 0)

    @rule(target=wire, raw=wire)
    def duplicate(self, raw: bytes) -> bytes:
        return raw

    @rule(raw=consumes(wire))
    def lose(self, raw: bytes) -> None:
        pass

    @precondition(lambda self: self.held)
    @rule(target=wire, more=st.integers(1, 1000))
    def cheat_with_a_second_voucher(self, more: int) -> bytes:
        newest = next(iter(self.held.values())).body
        key = next(key for key in DEVICES if key.public == newest.device)
        self.cheated = True
        return sign_body(dataclasses.replace(newest, cumulative=newest.cumulative + more), key).raw

    @rule(raw=consumes(wire))
    def deliver(self, raw: bytes) -> None:
        if not raw:
            return
        voucher = parse_signed(raw, Voucher)
        key = (voucher.body.device, voucher.body.lane)
        known = self.held.get(key)
        head = LaneHead.of(known) if known else LaneHead()
        try:
            verdict = judge_voucher(head, known.raw if known else b"", voucher)
        except EquivocationError as proof:
            assert self.cheated
            self.evidence.append(proof)
            return
        except RefusedError:
            return
        if verdict is VoucherVerdict.NEW:
            self.held[key] = voucher
            self.history.setdefault(key, []).append(voucher.body)
            growth = voucher.body.cumulative - head.cumulative
            if growth:
                self.provider_books.post(voucher_postings, growth, voucher.content_hash)
            self.exposure = self.exposure.pay(self.exposure.vouchered + growth)

    @invariant()
    def lanes_count_up_and_never_fall(self) -> None:
        for (device, number), vouchers in self.history.items():
            assert [voucher.seq for voucher in vouchers] == list(range(1, len(vouchers) + 1))
            amounts = [voucher.cumulative for voucher in vouchers]
            assert amounts == sorted(amounts)
            assert all((voucher.device, voucher.lane) == (device, number) for voucher in vouchers)

    @invariant()
    def an_honest_device_signs_each_number_once(self) -> None:
        assert all(len(hashes) == 1 for hashes in self.signed.values())

    @invariant()
    def evidence_needs_a_cheat(self) -> None:
        for proof in self.evidence:
            first, second = (parse_signed(raw, Voucher) for raw in (proof.known, proof.other))
            assert (first.body.lane, first.body.seq, first.signer) == (
                second.body.lane,
                second.body.seq,
                second.signer,
            )
            assert first.content_hash != second.content_hash

    @invariant()
    def transfers_never_exceed_the_credit(self) -> None:
        assert self.exposure.in_flight == 0
        held = sum(voucher.body.cumulative for voucher in self.held.values())
        assert self.exposure.vouchered == held

    @invariant()
    def no_micro_vibe_appears_or_vanishes(self) -> None:
        for books in (self.provider_books, self.customer_books):
            assert first_fault(books.entries) is None
            assert sum(books.balances.values()) == 0
        assert self.provider_books.balance("income") == -self.customer_books.balance("expense") == -self.charged
        held = self.provider_books.balance("vouchers-held")
        assert self.provider_books.balance("receivable") == self.charged - held


VoucherMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestVoucherMachine = VoucherMachine.TestCase
