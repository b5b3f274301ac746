"""Several devices under one contract: what each signs bounds the provider, wherever the devices are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from market_world import CUSTOMER_LAPTOP, OWN_LAPTOP, STRANGER
from money_world import CUSTOMER, GB, PROVIDER, MoneyWorld, databases

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_node.services.money.bounds import FORGIVE_S, WAIT_S, OtherDevices
from sovereign_node.services.money.tally import Tallies, Tally
from sovereign_node.store import open_state
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.settle.bodies import MeterDispute, TransferReceipt
from sovereign_protocols.settle.signed import sign_body

LAPTOP = CUSTOMER_LAPTOP.device_key.public
HOUR_S = 3600
MB = 10**6


@pytest.fixture
def world(tmp_path: Path) -> Iterator[MoneyWorld]:
    provider, customer = databases(tmp_path)
    with open_state(provider) as first, open_state(customer) as second:
        made = MoneyWorld(first, second)
        made.others = OtherDevices(active=frozenset({LAPTOP}))
        yield made


def receipt(world: MoneyWorld, contract_id: bytes, bytes_in: int, bytes_out: int = 0, node=CUSTOMER_LAPTOP):
    body = TransferReceipt(contract_id, node.device_key.public, bytes_in, bytes_out, world.now)
    return sign_body(body, node.device_key)


async def laptop_signs(world: MoneyWorld, contract_id: bytes, bytes_in: int, bytes_out: int = 0) -> None:
    async with world.client(CUSTOMER_LAPTOP) as client:
        await client.send_transfer(receipt(world, contract_id, bytes_in, bytes_out))


def meter(world: MoneyWorld) -> None:
    world.now += HOUR_S
    world.meter.run_once()


def disputes(world: MoneyWorld, contract_id: bytes) -> int:
    return len(world.states["provider"].settlement.all(contract_id, MeterDispute, NETWORK_ID_MAIN))


async def test_two_devices_store_and_one_pays(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB)
    world.store.add(contract_id, live=2 * GB, chunks=2, received=2 * GB)
    await laptop_signs(world, contract_id, 2 * GB)
    meter(world)
    assert await world.turn(contract_id, is_asked=True)
    assert world.row(contract_id, "customer").stored_bytes == 3 * GB
    assert world.states["customer"].vouchers.total(contract_id) > 0


async def test_bytes_that_no_device_signed_for_are_waited_for_and_then_disputed(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB)
    world.store.add(contract_id, live=500 * MB, chunks=1, received=500 * MB)
    meter(world)
    assert not await world.turn(contract_id, is_asked=True)
    assert disputes(world, contract_id) == 0
    world.now += WAIT_S
    world.meter.run_once()
    assert not await world.turn(contract_id, is_asked=True)
    assert disputes(world, contract_id) == 1
    # Nothing was promised for what nobody stored.
    assert world.states["customer"].vouchers.total(contract_id) == 0


async def test_a_device_that_was_off_line_signs_later(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB)
    world.store.add(contract_id, live=500 * MB, chunks=1, received=500 * MB)
    meter(world)
    assert not await world.turn(contract_id)
    await laptop_signs(world, contract_id, 500 * MB)
    assert await world.turn(contract_id)
    assert disputes(world, contract_id) == 0
    # The time of waiting begins anew with the next gap.
    world.store.add(contract_id, live=MB, chunks=1, received=MB)
    world.now += WAIT_S
    world.meter.run_once()
    assert not await world.turn(contract_id)
    assert disputes(world, contract_id) == 0


async def test_more_moved_than_all_devices_signed_is_not_paid(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB)
    world.store.add(contract_id, sent=300 * MB)
    await laptop_signs(world, contract_id, 0, 200 * MB)
    meter(world)
    assert not await world.turn(contract_id, is_asked=True)
    await laptop_signs(world, contract_id, 0, 300 * MB)
    assert await world.turn(contract_id, is_asked=True)


async def test_what_a_lost_device_left_unsigned_is_accepted_once(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.put(contract_id, GB)
    world.store.add(contract_id, live=500 * MB, chunks=1, received=500 * MB)
    meter(world)
    assert not await world.turn(contract_id)
    world.others = OtherDevices(revoked=frozenset({LAPTOP}))
    assert await world.turn(contract_id)
    assert world.row(contract_id, "customer").stored_bytes == GB + 500 * MB
    world.now += FORGIVE_S
    world.store.add(contract_id, live=MB, chunks=1, received=MB)
    world.meter.run_once()
    assert not await world.turn(contract_id)
    assert disputes(world, contract_id) == 1


async def test_a_device_that_was_lost_long_ago_excuses_nothing(world: MoneyWorld) -> None:
    contract_id = world.open()
    world.others = OtherDevices(revoked=frozenset({LAPTOP}))
    world.put(contract_id, GB)
    meter(world)
    assert await world.turn(contract_id)
    world.now += FORGIVE_S
    world.store.add(contract_id, live=500 * MB, chunks=1, received=500 * MB)
    world.meter.run_once()
    assert not await world.turn(contract_id)
    assert disputes(world, contract_id) == 1


async def test_a_provider_cannot_invent_or_swap_receipts(world: MoneyWorld) -> None:
    contract_id, other = world.open(), world.open()
    nodes = (PROVIDER, STRANGER, OWN_LAPTOP, CUSTOMER)
    forged = [receipt(world, contract_id, 10 * GB, node=node) for node in nodes]
    body = dataclasses.replace(forged[0].body, device=LAPTOP)
    forged += [sign_body(body, PROVIDER.device_key), receipt(world, other, 10 * GB)]
    world.customer.bounds.take(contract_id, forged)
    assert world.customer.bounds.of(contract_id) == Tally()
    world.customer.bounds.take(contract_id, [receipt(world, contract_id, GB)])
    # An older receipt, which a provider might show again, takes nothing away from a newer one.
    world.customer.bounds.take(contract_id, [receipt(world, contract_id, MB)])
    assert world.customer.bounds.of(contract_id).sent_bytes == GB


async def test_receipts_are_shown_to_the_own_identity_only(world: MoneyWorld) -> None:
    contract_id = world.open()
    await laptop_signs(world, contract_id, 5, 6)
    await laptop_signs(world, contract_id, 7, 8)
    async with world.client(CUSTOMER) as client:
        (shown,) = await client.transfers(contract_id)
    assert (shown.signer, shown.body.bytes_in, shown.body.bytes_out) == (LAPTOP, 7, 8)
    async with world.client(STRANGER) as client:
        with pytest.raises(RefusedError, match="unknown_contract"):
            await client.transfers(contract_id)
        with pytest.raises(RefusedError, match="unknown_contract"):
            await client.send_transfer(receipt(world, contract_id, 1, node=STRANGER))


async def test_own_devices_that_pay_nothing_sign_nothing(world: MoneyWorld) -> None:
    contract_id = world.open(price_per_gb_month=0, price_per_gb_transfer=0, credit_limit=0)
    world.store.add(contract_id, live=GB, chunks=1, received=GB)
    meter(world)
    assert await world.turn(contract_id)


async def test_a_tally_is_signed_once_it_is_quiet(world: MoneyWorld) -> None:
    contract_id = world.open()

    async def pay(_contract_id: bytes) -> bool:
        return False

    tallies = Tallies(world.states["customer"], pay_now=pay)
    await tallies.sending(contract_id, MB)
    assert tallies.quiet() == {}
    await tallies.sending(contract_id, MB)
    assert tallies.quiet() == {}
    (found,) = tallies.quiet().values()
    assert found.sent_bytes == 2 * MB
    tallies.note_signed(contract_id, found)
    assert tallies.quiet() == {}
    await tallies.save_all()
    again = Tallies(world.states["customer"], pay_now=pay)
    await again.load(contract_id)
    again.quiet()
    assert again.quiet() == {contract_id: found}
