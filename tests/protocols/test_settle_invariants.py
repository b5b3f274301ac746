"""One contract through its life, played by customer and provider with a network and people that do what they like.

Receipts, reports, revisions, statements, audits and notices are lost, doubled, held back, replayed and forged; both
sides restart from what they stored. The numbers are those of the invariants in the specification of settlement:

| invariant | here | elsewhere |
|---|---|---|
| 1 a lane never falls, counts up by one | `vouchers_follow` | VoucherMachine: lanes_count_up_and_never_fall |
| 2 within the own meter and the cap | `nothing_is_promised_beyond_meter_and_budget` | VoucherMachine: sign |
| 3 one voucher for a number | `vouchers_follow` | VoucherMachine: an_honest_device_signs_each_number_once |
| 4 a lane belongs to one device | | VoucherMachine: lanes_count_up_and_never_fall |
| 5 a restored device asks first | | VoucherMachine: restore, resume |
| 6 only what a receipt names is billed | `only_receipts_are_billed` | |
| 7 statements are a chain, sums are 0 | `statements_are_a_chain_that_adds_up` | |
| 8 exposure within the limit | `put`, `exposure_is_checked_before_each_grant` | VoucherMachine: put |
| 9 a revision counts with both signatures | `each_side_holds_whole_terms` | |
| 10 prices of the revision in force | `prices_are_those_of_the_time` | |
| 11 no deletion before its date | `nothing_is_deleted_before_its_date` | |
| 12 a failed audit stops accrual | `nothing_is_owed_for_what_was_lost` | test_money_audits |
| 13 postings name a signed message | `every_posting_names_a_signed_message` | |
| 14 integers, two minutes of clock | `amounts_are_integers`, `speak_with_a_wrong_clock` | |
| 15 renewal raises nothing by itself | `renewal_raises_nothing` | test_money_renewal |

VoucherMachine is in test_settle_machine.
"""

import dataclasses
import itertools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from market_world import CUSTOMER, NOW, PROVIDER, World
from settle_world import MemoryLedgerBook

from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.market.acts import Act, ActKind, sign_act
from sovereign_protocols.market.draft import draft_revision
from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.prices import UptimeCount, Usage, charge, storage_price
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.market.terms import agree, check_revision, countersign, parse_terms, sign_terms
from sovereign_protocols.requests.wire import Refuse
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.accrual import Accrual, PeriodFigures, build_statement, check_statement
from sovereign_protocols.settle.bodies import PeriodStatement, Receipt, batch_root
from sovereign_protocols.settle.desk import SettlementDesk
from sovereign_protocols.settle.exposure import DAY_S, DELETION_AFTER_S, Exposure, OverdueStep, overdue_step
from sovereign_protocols.settle.lanes import Lane
from sovereign_protocols.settle.ledger import charge_postings, credit_postings, first_fault, make_entry
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import NO_HASH, parse_signed, sign_body

LIMIT = 1_000_000
BUDGET = 8_000_000
MB = 10**6


class Side:
    """What one side stored durably: a restart begins with exactly this."""

    def __init__(self, agreement) -> None:
        self.agreement = agreement
        self.meter = Meter(agreement.terms.start_at)
        self.accrual = Accrual(agreement.terms.prices, self.meter)
        self.segments = []
        self.segment_since = self.meter
        self.statements = []
        self.credits = 0
        self.entries = []

    def post(self, kind: str, cause: bytes, postings) -> None:
        last = self.entries[-1] if self.entries else None
        self.entries.append(make_entry(last, at=0, kind=kind, cause=cause, postings=postings))

    def revise(self, agreement) -> None:
        self.segments.append((self.accrual.prices, self.meter.usage_since(self.segment_since)))
        self.segment_since = self.meter
        self.agreement = agreement
        self.accrual = self.accrual.rebase(self.meter, agreement.terms.prices)

    def build(self) -> PeriodStatement:
        previous = self.statements[-1] if self.statements else None
        usage = self.meter.usage_since(self.segment_since)
        paid_credits = sum(signed.body.credits for signed in self.statements)
        figures = PeriodFigures(
            segments=(*self.segments, (self.accrual.prices, usage)),
            uptime=UptimeCount(0, 0, 0),
            credits=self.credits - paid_credits,
        )
        from_at = previous.body.until_at if previous else self.agreement.terms.start_at
        return build_statement(self.agreement, figures, previous=previous, from_at=from_at, until_at=self.meter.at)

    def close(self, signed) -> None:
        self.statements.append(signed)
        self.segments, self.segment_since = [], self.meter
        self.accrual = self.accrual.rebase(self.meter, self.accrual.prices)


class ContractMachine(RuleBasedStateMachine):
    """A customer, a provider, and the wire between them."""

    receipts = Bundle("receipts")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        terms = dataclasses.replace(World().terms(), credit_limit=LIMIT, budget=BUDGET, bonus_permille=1000)
        agreement = countersign(sign_terms(terms, CUSTOMER.device_key), PROVIDER.device_key)
        self.customer, self.provider = Side(agreement), Side(agreement)
        self.desk_book = MemoryLedgerBook(agreement)
        self.desk = SettlementDesk(device_key=PROVIDER.device_key, book=self.desk_book, clock=lambda: self.now)
        self.lane = Lane(agreement.contract_id, PROVIDER.device_key.public, CUSTOMER.device_key.public, 0)
        self.exposure = Exposure(LIMIT)
        self.signed: list = []
        self.causes: set[bytes] = {agreement.terms_hash}
        self.log: list[Receipt] = []
        self.last: object | None = None
        self.chunks: dict[bytes, tuple[int, int]] = {}
        self.unproven = 0
        self.unpaid_since: int | None = None
        self.notice: Act | None = None
        self.is_deleted = False
        self.garbage = 0
        self.price_log: list[tuple[int, int]] = [(NOW, agreement.terms.price_per_gb_month)]

    @initialize(target=receipts, size=st.integers(100 * MB, 900 * MB))
    def begin(self, size: int) -> bytes:
        """A contract in use: something is stored, days passed, and a part is paid."""
        raw = self.put(size)
        self.wait(150)
        self.pay(50)
        return raw

    # --- storing (6, 8) --------------------------------------------------------------------------------------

    def receipt(self, count: int, size: int, stored: int, *, root: bytes, delete_after: int = 0):
        body = Receipt(
            contract=self.provider.agreement.contract_id,
            seq=self.last.body.seq + 1 if self.last else 1,
            previous=self.last.content_hash if self.last else NO_HASH,
            root=root,
            count=count,
            batch_bytes=size,
            stored_bytes=stored,
            at=self.now,
            delete_after_at=delete_after,
        )
        self.last = sign_body(body, PROVIDER.device_key)
        self.causes.add(self.last.content_hash)
        self.log.append(body)
        return self.last.raw

    @precondition(lambda self: not self.is_deleted)
    @rule(target=receipts, size=st.integers(1, 400 * MB))
    def put(self, size: int) -> bytes:
        """The provider grants, stores and signs."""
        cost = charge(self.provider.accrual.prices, Usage(0, size), with_bonus=False).price
        try:
            granted = self.exposure.reserve(cost)
        except RefusedError:
            assert self.exposure.exposed + cost > LIMIT
            return b""
        assert not cost or granted.exposed <= LIMIT
        chunk_id = len(self.log).to_bytes(32, "big")
        self.chunks[chunk_id] = (size, self.now)
        self.provider.meter = self.provider.meter.put(size, self.now)
        self.exposure = granted.apply(cost, 0)
        return self.receipt(1, size, self.provider.meter.stored_bytes, root=batch_root([(chunk_id, size)]))

    @rule(size=st.integers(1, 10**9))
    def leave_garbage(self, size: int) -> None:
        """Bytes lie on the provider's disk that no receipt names: a crash, a grace, an old segment."""
        self.garbage += size

    @precondition(lambda self: self.chunks)
    @rule(target=receipts, data=st.data())
    def release(self, data) -> bytes:
        chunk_id = data.draw(st.sampled_from(sorted(self.chunks)))
        return self._release(chunk_id)

    def _release(self, chunk_id: bytes) -> bytes:
        size, _ = self.chunks.pop(chunk_id)
        self.provider.meter = self.provider.meter.release(size, self.now)
        stored = self.provider.meter.stored_bytes
        root = batch_root([(chunk_id, size)])
        return self.receipt(1, size, stored, root=root, delete_after=self.now + DAY_S)

    @rule(target=receipts, raw=receipts)
    def double(self, raw: bytes) -> bytes:
        return raw

    @rule(raw=consumes(receipts))
    def lose(self, raw: bytes) -> None:
        """What is lost is asked for again: the provider keeps every receipt."""

    @rule(raw=consumes(receipts))
    def deliver(self, raw: bytes) -> None:
        """The customer takes a receipt only as the next one of its chain."""
        if raw:
            self._take(parse_signed(raw, Receipt).body)

    @rule()
    def catch_up(self) -> None:
        """The customer asks for all receipts that it has not seen."""
        for body in self.log[self.seen() :]:
            self._take(body)
        self.customer.meter = self.customer.meter.advance(self.now)

    def seen(self) -> int:
        return getattr(self, "_seen", 0)

    def _take(self, body: Receipt) -> None:
        if body.seq != self.seen() + 1:
            return
        counted = self.customer.meter.advance(body.at)
        self.customer.meter = dataclasses.replace(counted, stored_bytes=body.stored_bytes)
        self._seen = body.seq
        if body.count == 0:
            self.customer.revise(self.pending_terms[body.root])

    # --- time and money (1, 2, 3, 7, 14) ---------------------------------------------------------------------

    @rule(hours=st.integers(1, 400))
    def wait(self, hours: int) -> None:
        self.now += hours * 3600
        self.provider.meter = self.provider.meter.advance(self.now)
        self.exposure = self.exposure.accrue(self.provider.accrual.accrued(self.provider.meter))

    @rule(share=st.integers(30, 120))
    def pay(self, share: int) -> None:
        """The customer signs for a part of what it counted itself, or tries to sign for more."""
        self.catch_up()
        own = self.customer.accrual.accrued(self.customer.meter)
        charged = sum(s.body.storage + s.body.transfer for s in self.customer.statements)
        most = min(own, charged + BUDGET)
        wanted = max(self.lane.head.cumulative, own * share // 100)
        if wanted > most or wanted <= self.lane.head.cumulative:
            return
        draft = self.lane.draft(cumulative=wanted, covers_until=self.now, at=self.now, own_meter=most)
        voucher = sign_body(draft, CUSTOMER.device_key)
        self.lane = self.lane.signed(voucher)
        self.signed.append(voucher)
        for _ in range(2):
            answer = self.desk.handle(CUSTOMER.caller, m.VoucherNote(voucher.raw))
            assert isinstance(answer, m.VoucherKept)
        self.exposure = self.exposure.pay(wanted + self.provider.credits)

    @precondition(lambda self: self.signed)
    @rule(data=st.data(), change=st.sampled_from(["replay", "contract", "payee", "lane", "seq", "less", "huge"]))
    def cheat(self, data, change: str) -> None:
        """Old, foreign and contradicting vouchers are refused, and change nothing."""
        old = data.draw(st.sampled_from(self.signed))
        before = dict(self.desk_book.vouchers)
        following = {"seq": self.lane.head.seq + 1, "previous": self.lane.head.content_hash}
        following |= {"cumulative": self.lane.head.cumulative, "covers_until": self.lane.head.covers_until}
        fields = {
            "contract": {"contract": b"\x07" * 32} | following,
            "payee": {"payee": b"\x07" * 32} | following,
            "lane": {"lane": old.body.lane + 1, "seq": 5, "previous": old.content_hash},
            "seq": {"seq": old.body.seq + 2, "previous": old.content_hash},
            "less": following | {"cumulative": 0},
            "huge": {"cumulative": old.body.cumulative + 10**14},
        }.get(change, {})
        voucher = sign_body(dataclasses.replace(old.body, **fields), CUSTOMER.device_key)
        answer = self.desk.handle(CUSTOMER.caller, m.VoucherNote(voucher.raw))
        is_newest = change == "replay" and old is self.signed[-1]
        assert isinstance(answer, m.VoucherKept if is_newest else Refuse)
        assert self.desk_book.vouchers == before

    @rule(skew=st.integers(CLOCK_SKEW_S + 1, 10**6))
    def speak_with_a_wrong_clock(self, skew: int) -> None:
        """A message from the future is refused with the own time."""
        lane = dataclasses.replace(self.lane, number=9, head=type(self.lane.head)())
        draft = lane.draft(cumulative=0, covers_until=0, at=self.now + skew, own_meter=0)
        answer = self.desk.handle(CUSTOMER.caller, m.VoucherNote(sign_body(draft, CUSTOMER.device_key).raw))
        assert answer == Refuse("clock_skew", {"peer_time": self.now})

    @rule(lie=st.sampled_from([None, None, None, "storage", "closing", "paid", "previous"]))
    def close_period(self, lie: str | None) -> None:
        """Both compute the statement; a provider that writes something else gets no signature."""
        self.catch_up()
        if self.provider.meter.at <= (
            self.provider.statements[-1].body.until_at if self.provider.statements else NOW
        ):
            return
        theirs = self.provider.build()
        if lie == "previous":
            theirs = dataclasses.replace(theirs, previous=b"\x09" * 32, period=max(1, theirs.period))
        elif lie is not None:
            theirs = dataclasses.replace(theirs, **{lie: getattr(theirs, lie) + 1})
        own = self.customer.build()
        try:
            check_statement(theirs, own)
        except RefusedError:
            assert lie is not None
            return
        assert lie is None
        signed = sign_body(theirs, PROVIDER.device_key)
        assert sum(s.body.credits for s in self.provider.statements) + theirs.credits == self.provider.credits
        self.causes.add(signed.content_hash)
        amount = theirs.storage + theirs.transfer + theirs.bonus
        for side, is_provider in ((self.customer, False), (self.provider, True)):
            side.close(signed)
            postings = charge_postings(theirs.contract, amount, is_provider=is_provider)
            side.post("charge", signed.content_hash, postings)
        self.unpaid_since = self.unpaid_since or self.now

    # --- terms (9, 10, 15) -----------------------------------------------------------------------------------

    @rule(price=st.integers(0, 5_000_000), fate=st.sampled_from(["lost", "one-sided", "agreed", "agreed"]))
    def revise(self, price: int, fate: str) -> None:
        """Half a revision changes nothing; a whole one counts from its marked receipt on both sides."""
        current = self.customer.agreement
        terms = draft_revision(current, nonce=bytes(16), price_per_gb_month=price)
        assert check_revision(current, terms) is None
        proposed = sign_terms(terms, CUSTOMER.device_key)
        if fate == "lost":
            return
        if fate == "one-sided":
            try:
                agree(proposed, parse_terms(proposed.raw))
            except RemoteProtocolError:
                return
            raise AssertionError("one signature made an agreement")
        agreement = countersign(proposed, PROVIDER.device_key)
        self.causes.add(agreement.terms_hash)
        self.pending_terms = getattr(self, "pending_terms", {}) | {agreement.terms_hash: agreement}
        self.provider.meter = self.provider.meter.advance(self.now)
        self.provider.revise(agreement)
        self.price_log.append((self.now, agreement.terms.price_per_gb_month))
        self.receipt(0, 0, self.provider.meter.stored_bytes, root=agreement.terms_hash)
        # The customer holds the answer and reads the mark with its receipts, before it proposes again.
        self.catch_up()

    # --- audits (12) -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.chunks)
    @rule(data=st.data(), is_lost=st.booleans())
    def audit(self, data, is_lost: bool) -> None:
        """A chunk that is there is proven until now; one that is lost stops costing, back to its last proof."""
        chunk_id = data.draw(st.sampled_from(sorted(self.chunks)))
        size, passed_at = self.chunks[chunk_id]
        if not is_lost:
            self.chunks[chunk_id] = (size, self.now)
            return
        # The price of the time in question: the lowest counts, so that a credit never exceeds what was charged.
        prices = [price for at, price in self.price_log if at > passed_at]
        before = [price for at, price in self.price_log if at <= passed_at]
        price = min([*prices, before[-1]])
        amount = storage_price(size * (self.now - passed_at), price)
        self._release(chunk_id)
        self.catch_up()
        self.unproven += size * (self.now - passed_at) * price
        if not amount:
            return
        cause = batch_root([(chunk_id, self.now)])
        self.causes.add(cause)
        for side, is_provider in ((self.customer, False), (self.provider, True)):
            side.credits += amount
            side.post("credit", cause, credit_postings(side.agreement.contract_id, amount, is_provider=is_provider))
        self.exposure = self.exposure.accrue(self.provider.accrual.accrued(self.provider.meter))
        self.exposure = self.exposure.pay(self.exposure.vouchered + amount)

    # --- the end (11) ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.unpaid_since is not None and self.notice is None)
    @rule(days=st.sampled_from([0, 10, 45, 60]))
    def announce_deletion(self, days: int) -> None:
        """The provider signs when it will delete; a date that is too early is worth nothing."""
        effective = self.now + days * DAY_S
        agreement = self.provider.agreement
        self.notice = Act(ActKind.DELETION, agreement.contract_id, agreement.terms_hash, self.now, effective)
        assert sign_act(self.notice, PROVIDER.device_key).act == self.notice

    @precondition(lambda self: self.notice is not None)
    @rule()
    def delete(self) -> None:
        """Deletion needs the whole wait and the date of the notice."""
        assert self.unpaid_since is not None
        is_allowed = overdue_step(self.now - self.unpaid_since) is OverdueStep.DELETION
        if is_allowed and self.now >= self.notice.effective_at:
            self.deleted_at = self.now
            self.is_deleted = True

    # --- invariants ------------------------------------------------------------------------------------------

    @invariant()
    def vouchers_follow(self) -> None:
        """1, 3."""
        held = self.desk_book.vouchers.get((self.lane.device, self.lane.number))
        assert [v.body.seq for v in self.signed] == list(range(1, len(self.signed) + 1))
        amounts = [v.body.cumulative for v in self.signed]
        assert amounts == sorted(amounts)
        assert (held.content_hash if held else NO_HASH) == self.lane.head.content_hash

    @invariant()
    def nothing_is_promised_beyond_meter_and_budget(self) -> None:
        """2."""
        charged = sum(s.body.storage + s.body.transfer for s in self.customer.statements)
        promised = self.lane.head.cumulative
        assert promised <= self.customer.accrual.accrued(self.customer.meter.advance(self.now))
        assert promised <= charged + BUDGET

    @invariant()
    def only_receipts_are_billed(self) -> None:
        """6: a recount from the receipts alone gives the provider's meter; garbage costs nothing."""
        meter = Meter(NOW)
        for body in self.log:
            meter = dataclasses.replace(meter.advance(body.at), stored_bytes=body.stored_bytes)
        assert meter.advance(self.provider.meter.at).byte_seconds == self.provider.meter.byte_seconds
        assert sum(size for size, _ in self.chunks.values()) == self.provider.meter.stored_bytes

    @invariant()
    def statements_are_a_chain_that_adds_up(self) -> None:
        """7."""
        assert self.customer.statements == self.provider.statements
        previous, until = NO_HASH, NOW
        for number, signed in enumerate(self.provider.statements):
            body = signed.body
            assert (body.period, body.previous, body.from_at) == (number, previous, until)
            assert body.closing == body.opening + body.storage + body.transfer - body.credits - body.paid
            previous, until = signed.content_hash, body.until_at
        for side in (self.customer, self.provider):
            assert sum(line.amount for entry in side.entries for line in entry.postings) == 0

    @invariant()
    def exposure_is_checked_before_each_grant(self) -> None:
        """8: nothing stays reserved; only time, never a grant, moves the exposure above the limit."""
        assert self.exposure.in_flight == 0

    @invariant()
    def each_side_holds_whole_terms(self) -> None:
        """9."""
        assert self.customer.agreement.terms_hash == self.provider.agreement.terms_hash
        for side in (self.customer, self.provider):
            assert side.agreement.customer.terms_hash == side.agreement.provider.terms_hash
            assert side.agreement.customer.signer != side.agreement.provider.signer

    @invariant()
    def prices_are_those_of_the_time(self) -> None:
        """10: priced again, span by span, from receipts and revisions, it is the same within the rounding."""
        events = sorted({self.provider.meter.at, *(at for at, _ in self.price_log), *(b.at for b in self.log)})
        exact, stored, position = 0, 0, 0
        for start, end in itertools.pairwise(events):
            while position < len(self.log) and self.log[position].at <= start:
                stored = self.log[position].stored_bytes
                position += 1
            price = [price for at, price in self.price_log if at <= start][-1]
            exact += stored * (end - start) * price
        accrued = self.provider.accrual.accrued(self.provider.meter)
        lines = len(self.price_log) + len(self.provider.statements) + 1
        unit = 10**9 * 2_592_000
        assert abs(accrued * unit - exact) <= lines * unit

    @invariant()
    def nothing_is_deleted_before_its_date(self) -> None:
        """11."""
        if self.is_deleted:
            assert self.deleted_at >= self.unpaid_since + DELETION_AFTER_S
            assert self.deleted_at >= self.notice.effective_at

    @invariant()
    def nothing_is_owed_for_what_was_lost(self) -> None:
        """12: a lost chunk is not metered from its failure on, and both sides counted the same credits."""
        assert self.customer.credits == self.provider.credits
        unit = 10**9 * 2_592_000
        assert abs(self.provider.credits * unit - self.unproven) <= len(self.log) * unit

    @invariant()
    def every_posting_names_a_signed_message(self) -> None:
        """13."""
        for side in (self.customer, self.provider):
            assert first_fault(side.entries) is None
            assert all(entry.cause in self.causes for entry in side.entries)

    @invariant()
    def amounts_are_integers(self) -> None:
        """14."""
        for signed in self.provider.statements:
            figures = dataclasses.astuple(signed.body)
            assert all(type(figure) in (int, bytes) for figure in figures)
        assert type(self.provider.meter.byte_seconds) is int

    @invariant()
    def renewal_raises_nothing(self) -> None:
        """15: a revision of prices leaves capacity and budget as they were."""
        terms = self.provider.agreement.terms
        assert (terms.capacity_bytes, terms.budget) == (World().terms().capacity_bytes, BUDGET)


ContractMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestContractMachine = ContractMachine.TestCase
