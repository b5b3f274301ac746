"""A sponsor that pays the uptime bonus: three identities, three sets of books, real databases."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from market_world import STRANGER
from money_world import CUSTOMER, GB, PROVIDER, MoneyWorld, databases

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.services.money.bundle import Judge, export_bundle
from sovereign_node.services.money.sponsored import SponsoredContracts
from sovereign_node.services.money.sponsors import ASK_AGAIN_S, Sponsors
from sovereign_node.services.money.wallet import Wallet
from sovereign_node.store import State, open_state
from sovereign_protocols.market.prices import MONTH_S, UptimeCount
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import BonusPayer
from sovereign_protocols.settle.ledger import account
from sovereign_protocols.settle.signed import sign_body
from sovereign_protocols.settle.sponsor import BonusGrant, draft_note

FULL = UptimeCount(4320, 4320, 4320)
SPONSOR = STRANGER
PROVIDER_DEVICE = PROVIDER.device_key.public


class SponsorTurns:
    """Reaches the provider of a world as the sponsor, or nobody."""

    def __init__(self, world: MoneyWorld) -> None:
        self.world = world
        self.is_away = False

    @asynccontextmanager
    async def session(self, device: bytes):
        assert device == PROVIDER_DEVICE
        if self.is_away:
            raise NodeError("unreachable", "nobody answers", "", ExitCode.UNREACHABLE)
        async with self.world.client(SPONSOR) as client:
            yield client


class SponsoredWorld(MoneyWorld):
    """A customer, a provider and a sponsor."""

    def __init__(self, provider: State, customer: State, sponsor: State) -> None:
        super().__init__(provider, customer, FULL)
        self.state = sponsor
        self.path = SponsorTurns(self)
        self.sponsors = Sponsors(sponsor, SPONSOR.identity, SPONSOR.device_key, lambda: self.now, self.path)

    def open_sponsored(self, **changes: object) -> bytes:
        return self.open(bonus_payer=BonusPayer.SPONSOR, sponsor=SPONSOR.identity, **changes)

    async def month(self, contract_id: bytes, *, size: int = 5 * GB) -> None:
        self.put(contract_id, size, chunks=bool(size), moved=GB)
        self.meter.run_once()
        self.now += MONTH_S
        self.meter.run_once()
        assert await self.turn(contract_id)

    def wallet(self, role: str) -> Wallet:
        sponsored = SponsoredContracts(self.states[role], PROVIDER.device_key, lambda: self.now)
        return Wallet(self.states[role], self.books, self.notes[role], sponsored, lambda: self.now)

    def books_balance(self) -> None:
        """No micro-VIBE appears or vanishes: each ledger sums to zero, and what one promises another holds."""
        for state in (*self.states.values(), self.state):
            assert sum(state.ledger.balances().values()) == 0
            assert state.ledger.verify() is None
        given, held = (s.ledger.balances() for s in (self.state, self.states["provider"]))
        given_total = -sum(amount for name, amount in given.items() if name.startswith("bonus-given"))
        held_total = sum(amount for name, amount in held.items() if name.startswith("bonus-held"))
        assert given_total == held_total


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SponsoredWorld]:
    (tmp_path / "sponsor").mkdir()
    provider, customer = databases(tmp_path)
    sponsor, _ = databases(tmp_path / "sponsor")
    with open_state(provider) as first, open_state(customer) as second, open_state(sponsor) as third:
        yield SponsoredWorld(first, second, third)


async def test_the_figures_of_the_prototype_with_a_sponsor(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    granted = await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    await world.month(contract_id)
    (before,) = world.wallet("provider").statements(world.row(contract_id))
    assert (before["sponsor_bonus_micro_vibe"], before["sponsor_paid_micro_vibe"]) == (5_250_000, 0)

    await world.sponsors.run_once()
    # 5 GB for a month and 1 GB moved: the customer pays 10.5, the provider earns 15.75, the sponsor the rest.
    for role in ("provider", "customer"):
        (row,) = world.wallet(role).statements(world.row(contract_id, role))
        assert (row["storage_micro_vibe"], row["transfer_micro_vibe"]) == (10_000_000, 500_000)
        assert (row["bonus_micro_vibe"], row["closing_micro_vibe"]) == (0, 10_500_000 - row["paid_micro_vibe"])
        assert row["sponsor_bonus_micro_vibe"] == 5_250_000
    earned = world.wallet("provider").earnings(forecast=True)
    assert earned["earned_micro_vibe"] == 15_750_000
    assert earned["contracts"][0]["sponsor_budget_micro_vibe"] == 20_000_000
    assert world.states["customer"].ledger.balances()[account("expense", contract_id)] == 10_500_000
    assert world.states["provider"].ledger.balances()[account("income", contract_id)] == -15_750_000
    assert world.state.ledger.balances()[account("expense", contract_id)] == 5_250_000
    (row,) = world.sponsors.rows()
    assert (row["paid_micro_vibe"], row["left_micro_vibe"], row["periods"]) == (5_250_000, 14_750_000, 1)
    assert row["grant"] == granted.grant.content_hash.hex()
    world.books_balance()


async def test_a_bundle_holds_the_papers_of_the_sponsor(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    await world.month(contract_id)
    await world.sponsors.run_once()
    bundle = export_bundle(world.states["provider"], world.row(contract_id), NETWORK_ID_MAIN, world.now)
    verdict = Judge(bundle, CUSTOMER.device_key.public, PROVIDER_DEVICE).judge().to_json()
    assert verdict["ok"], verdict
    assert (verdict["sponsored_micro_vibe"], verdict["charged_micro_vibe"]) == (5_250_000, 10_500_000)
    item = world.sponsors.get(contract_id)
    assert item is not None
    # A sponsor that grants less and promises more convicts itself.
    too_much = sign_body(draft_note(item.grant, item.statements[0], 20_000_001, world.now), SPONSOR.device_key)
    verdict = Judge(bundle | {"messages": [*bundle["messages"], too_much.raw.hex()]}).judge().to_json()
    assert [(found["who"], found["what"]) for found in verdict["findings"]] == [
        ("sponsor", "promised more than its grant allows")
    ]


async def test_the_budget_is_never_exceeded(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=6_000_000)
    for size in (5 * GB, 0, 0):
        await world.month(contract_id, size=size)
        await world.sponsors.run_once()
    (row,) = world.sponsors.rows()
    assert (row["paid_micro_vibe"], row["left_micro_vibe"], row["is_over"]) == (6_000_000, 0, True)
    world.books_balance()


async def test_without_the_uptime_the_sponsor_pays_nothing(world: SponsoredWorld) -> None:
    world.uptime = UptimeCount(4300, 4320, 4320)
    contract_id = world.open_sponsored()
    await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    await world.month(contract_id)
    await world.sponsors.run_once()
    (row,) = world.sponsors.rows()
    assert (row["paid_micro_vibe"], row["periods"]) == (0, 1)
    assert world.wallet("provider").earnings(forecast=False)["earned_micro_vibe"] == 10_500_000


async def test_a_note_that_was_lost_is_handed_in_again_and_booked_once(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    await world.month(contract_id)
    item = world.sponsors.get(contract_id)
    assert item is not None
    async with world.client(SPONSOR) as client:
        agreement, copies = await client.sponsored(contract_id, 0)
    # It is signed and kept, then the connection breaks before it is sent.
    world.sponsors._sign(item, agreement, copies, 5_250_000)
    for _ in range(2):
        await world.sponsors.run_once(is_asked=True)
    (row,) = world.sponsors.rows()
    assert (row["paid_micro_vibe"], row["periods"]) == (5_250_000, 1)
    assert world.wallet("provider").earnings(forecast=False)["earned_micro_vibe"] == 15_750_000
    world.books_balance()


async def test_a_provider_that_is_away_is_asked_again_later(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    await world.month(contract_id)
    world.path.is_away = True
    await world.sponsors.run_once()
    world.path.is_away = False
    await world.sponsors.run_once()
    assert world.sponsors.rows()[0]["paid_micro_vibe"] == 0
    world.now += ASK_AGAIN_S
    await world.sponsors.run_once()
    assert world.sponsors.rows()[0]["paid_micro_vibe"] == 5_250_000


async def test_only_the_named_sponsor_grants(world: SponsoredWorld) -> None:
    mine, other = world.open_sponsored(), world.open(bonus_payer=BonusPayer.CUSTOMER)
    with pytest.raises(RefusedError) as caught:
        await world.sponsors.grant(other, PROVIDER_DEVICE, budget=1)
    assert caught.value.reason is Reason.UNKNOWN_CONTRACT
    async with world.client(CUSTOMER) as client:
        with pytest.raises(RefusedError) as caught:
            await client.sponsored(mine, 0)
    assert caught.value.reason is Reason.UNKNOWN_CONTRACT


async def test_a_sponsor_pays_exactly_what_follows_from_the_statement(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    item = await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    await world.month(contract_id)
    async with world.client(SPONSOR) as client:
        _, copies = await client.sponsored(contract_id, 0)
        for amount in (1, 5_249_999, 5_250_001, 20_000_000):
            note = sign_body(draft_note(item.grant, copies[0], amount, world.now), SPONSOR.device_key)
            with pytest.raises(RefusedError) as caught:
                await client.credit(note)
            assert (caught.value.reason, caught.value.data) == (Reason.FIGURES, {"amount": 5_250_000})
        right = sign_body(draft_note(item.grant, copies[0], 5_250_000, world.now), SPONSOR.device_key)
        assert await client.credit(right) is not None
        # A second note for the same statement, at another second, is a second payment: refused.
        again = sign_body(draft_note(item.grant, copies[0], 5_250_000, world.now - 1), SPONSOR.device_key)
        with pytest.raises(RefusedError, match="figures"):
            await client.credit(again)
        stranger = sign_body(dataclasses.replace(right.body, nonce=bytes(32)), SPONSOR.device_key)
        with pytest.raises(RefusedError, match="wrong_party"):
            await client.credit(stranger)


async def test_grants_that_do_not_fit_are_refused(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    item = await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000)
    changes = (
        {"payee": CUSTOMER.identity},
        {"sponsor": CUSTOMER.identity},
        {"device": CUSTOMER.device_key.public},
        {"at": world.now + 121},
    )
    async with world.client(SPONSOR) as client:
        for change in changes:
            body = BonusGrant(**{name: getattr(item.grant.body, name) for name in BonusGrant.SCHEMA} | change)
            with pytest.raises(RefusedError) as caught:
                await client.hand_in_grant(sign_body(body, SPONSOR.device_key))
            assert caught.value.reason in (Reason.WRONG_PARTY, Reason.CLOCK_SKEW)


async def test_a_period_after_the_grant_is_not_paid(world: SponsoredWorld) -> None:
    contract_id = world.open_sponsored()
    await world.sponsors.grant(contract_id, PROVIDER_DEVICE, budget=20_000_000, until_at=world.now + MONTH_S)
    for size in (5 * GB, 0):
        await world.month(contract_id, size=size)
        await world.sponsors.run_once(is_asked=True)
    (row,) = world.sponsors.rows()
    assert (row["periods"], row["paid_micro_vibe"]) == (2, 5_250_000)
