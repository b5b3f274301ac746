"""Failed audits and money, and the papers of audits and probes in a bundle."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from market_world import STRANGER
from money_world import CUSTOMER, GB, PROVIDER, MoneyWorld, databases

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.audit_book import StateAuditBook
from sovereign_node.services.audit_credit import credit_failures
from sovereign_node.services.money.bundle import Judge, export_bundle
from sovereign_node.store import open_state
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict, Method, Outcome, Result
from sovereign_protocols.chunk.limits import MAX_CHUNK_BYTES
from sovereign_protocols.market.prices import MONTH_S, storage_price
from sovereign_protocols.probe.bodies import ProbeReceipt
from sovereign_protocols.settle.signed import NO_HASH, sign_body

DAY_S = 86_400
CHUNK = b"\x21" * 32
PROVIDER_DEVICE, OBSERVER = PROVIDER.device_key.public, STRANGER.device_key.public
PRICE = 2_000_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[MoneyWorld]:
    provider, customer = databases(tmp_path)
    with open_state(provider) as first, open_state(customer) as second:
        yield MoneyWorld(first, second)


class Auditor:
    """The customer's papers about one chunk, and the provider's book that keeps them."""

    def __init__(self, world: MoneyWorld, contract_id: bytes) -> None:
        self.world, self.contract_id = world, contract_id
        store = SimpleNamespace(has=lambda *_: [False], quarantined=lambda _contract: [CHUNK])
        credit = credit_failures(world.states["provider"], store, world.notes["provider"])  # type: ignore[arg-type]
        self.book = StateAuditBook(world.states["provider"], store, NETWORK_ID_MAIN, credit)  # type: ignore[arg-type]

    def fail(self, *, size: int, since_at: int, is_answered: bool = True) -> None:
        """Hand in a failed verdict, twice."""
        now, key = self.world.now, CUSTOMER.device_key
        asked = AuditChallenge(
            self.contract_id, PROVIDER_DEVICE, key.public, CHUNK, Method.HASH, 0, os.urandom(32), now
        )
        challenge = sign_body(asked, key)
        missing = AuditAnswer(challenge.content_hash, Result.MISSING, 0, NO_HASH, now)
        answer = sign_body(missing, PROVIDER.device_key) if is_answered else None
        verdict = AuditVerdict(
            contract=self.contract_id,
            provider=PROVIDER_DEVICE,
            chunk=CHUNK,
            challenge=challenge.content_hash,
            answer=answer.content_hash if answer else NO_HASH,
            outcome=Outcome.FAILED,
            size=size,
            since_at=since_at,
            at=now,
        )
        for _ in range(2):
            self.book.keep_verdict(sign_body(verdict, key), challenge, answer, self.world.now)


async def test_a_lost_chunk_costs_nothing_from_its_last_proof_on(world: MoneyWorld) -> None:
    contract_id = world.open()
    size = 500_000_000
    world.put(contract_id, size, moved=0)
    world.put(contract_id, GB, moved=0)
    world.meter.run_once()
    started = world.now
    assert await world.wait(10 * DAY_S, contract_id)
    proven_at = started + 6 * DAY_S

    # The quarantine of the chunk store takes the chunk out of the meter; the audit gives back what was before.
    world.store.add(contract_id, live=-size, chunks=-1)
    Auditor(world, contract_id).fail(size=MAX_CHUNK_BYTES, since_at=proven_at)
    world.meter.run_once()
    assert await world.turn(contract_id, is_asked=True)
    lost_at = world.now
    assert await world.wait(MONTH_S, contract_id)

    book = world.books["provider"]
    accrued = book.accrued(contract_id, book.meter(contract_id, world.now))
    credits = {role: found.credits(contract_id) for role, found in world.books.items()}
    given = storage_price(MAX_CHUNK_BYTES * (lost_at - proven_at), PRICE)
    assert credits["provider"] == credits["customer"] == given > 0
    # From the failure on nothing is metered for it.
    metered = storage_price(GB * (world.now - started) + size * (lost_at - started), PRICE)
    assert abs(accrued - metered) <= 3


async def test_silence_and_a_second_verdict_give_nothing_back(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB, moved=0)
    assert await world.wait(10 * DAY_S, contract_id)
    auditor = Auditor(world, contract_id)
    auditor.fail(size=MAX_CHUNK_BYTES, since_at=world.now - 9 * DAY_S, is_answered=False)
    assert await world.turn(contract_id, is_asked=True)
    assert world.books["provider"].credits(contract_id) == 0
    world.now += DAY_S
    world.meter.run_once()
    auditor.fail(size=MAX_CHUNK_BYTES, since_at=world.now - 3 * DAY_S)
    assert await world.turn(contract_id, is_asked=True)
    once = world.books["provider"].credits(contract_id)
    assert once > 0
    # The same time cannot be claimed again by another challenge.
    auditor.fail(size=MAX_CHUNK_BYTES, since_at=world.now - 3 * DAY_S)
    assert await world.turn(contract_id, is_asked=True)
    assert world.books["provider"].credits(contract_id) == once


async def test_a_bundle_proves_lost_chunks_and_good_windows(world: MoneyWorld) -> None:
    contract_id = world.open(observers=(OBSERVER,))
    world.put(contract_id, GB, moved=0)
    first = world.now // 600 + 1
    assert await world.wait(2 * DAY_S, contract_id)
    Auditor(world, contract_id).fail(size=4096, since_at=world.now - DAY_S)
    keys = (PROVIDER.device_key, STRANGER.device_key)
    for number in range(first, first + 5):
        body = ProbeReceipt(OBSERVER, PROVIDER_DEVICE, os.urandom(16), number * 600, number * 600)
        raw = sign_body(body, keys[number % 2]).raw
        world.states["provider"].uptime.observe(PROVIDER_DEVICE, OBSERVER, number, is_good=True, receipt=raw)
    bundle = export_bundle(world.states["provider"], world.row(contract_id), NETWORK_ID_MAIN, world.now)
    bundle = json.loads(json.dumps(bundle))
    judged = Judge(bundle, CUSTOMER.device_key.public, PROVIDER_DEVICE).judge().to_json()
    assert [(found["who"], found["what"]) for found in judged["findings"]] == [
        ("provider", f"signed that it lost the chunk {CHUNK.hex()}")
    ]
    assert judged["windows_proven"] == 5

    stranger = sign_body(dataclasses.replace(body, observer=CUSTOMER.device_key.public), CUSTOMER.device_key)
    foreign = sign_body(dataclasses.replace(body, provider=bytes(32)), STRANGER.device_key)
    damaged = bundle["probes"][0][:-2] + "00"
    changed = bundle | {"audits": [], "probes": [stranger.raw.hex(), foreign.raw.hex(), damaged]}
    judged = Judge(changed).judge().to_json()
    assert judged["windows_proven"] == 0
    assert [found["what"] for found in judged["findings"]] == [
        "a probe receipt of another party",
        "a probe receipt cannot be verified",
    ]


async def test_a_gift_is_fetched_within_a_week_and_survives_a_broken_turn(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB, moved=0)
    assert await world.wait(2 * DAY_S, contract_id)
    note = world.notes["provider"].draft(world.row(contract_id), 5)
    # The customer signs and books, and the connection breaks before the provider has the signature.
    world.notes["customer"].accept(world.row(contract_id, "customer"), note)
    assert (world.books["customer"].credits(contract_id), world.books["provider"].credits(contract_id)) == (5, 0)
    assert await world.wait(MONTH_S, contract_id)
    for role, book in world.books.items():
        assert book.credits(contract_id) == 5, role
        (statement,) = book.statements(contract_id)
        assert statement.body.credits == 5
        assert sum(world.states[role].ledger.balances().values()) == 0
