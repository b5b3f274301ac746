"""Uptime over real nodes in one process, and the book over a database."""

import time

import keyring
import keyring.backends.null
import pytest
import trio
from market_world import CUSTOMER, NOW, PROVIDER, STRANGER, World
from node_world import open_world

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_devnet.market.deeds import open_contract
from sovereign_node.errors import NodeError
from sovereign_node.services.contract_book import agreement_statements, contract_row
from sovereign_node.services.uptime import Uptime
from sovereign_node.services.uptime_book import MAX_APPOINTMENTS, UptimeBook
from sovereign_node.store import open_state
from sovereign_protocols.market.acts import Act, ActKind, sign_act
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.market.terms import countersign, sign_terms
from sovereign_protocols.probe.windows import WINDOW_S, window_of


class Time:
    """A clock that tests move."""

    def __init__(self, now: int = NOW) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def agreement_with(observers=(), nonce: int = 0):
    terms = World().terms(nonce=nonce)
    terms = terms.__class__(**{**vars(terms), "observers": tuple(observers)})
    return countersign(sign_terms(terms, CUSTOMER.device_key), PROVIDER.device_key)


@pytest.fixture
def state(tmp_path):
    with open_state(tmp_path / "state.sqlite") as opened:
        yield opened


def book_of(node, state, role: str = "", observers=(), clock=None) -> UptimeBook:
    agreement = agreement_with(observers)
    if role:
        row = contract_row(agreement, role, ContractState.ACTIVE, at=NOW)
        state.contracts.save(row, agreement_statements(agreement, at=NOW))
    return UptimeBook(state, node.identity, node.device_key.public, clock or Time(), NETWORK_ID_MAIN)


def test_who_may_probe_a_provider(state) -> None:
    book = book_of(PROVIDER, state, "provider", [STRANGER.device_key.public])
    assert book.may_probe(CUSTOMER.caller)
    assert book.may_probe(STRANGER.caller)
    state.contracts.set_state(agreement_with([STRANGER.device_key.public]).contract_id, "closed", NOW)
    assert not book.may_probe(STRANGER.caller)


def test_whom_a_device_observes(state) -> None:
    book = book_of(CUSTOMER, state, "customer")
    assert book.providers(also_unnamed=True) == {PROVIDER.device_key.public}
    assert book.providers(also_unnamed=False) == set()
    assert book.may_read(CUSTOMER.caller, PROVIDER.device_key.public)
    assert book.may_read(PROVIDER.caller, PROVIDER.device_key.public)
    assert not book.may_read(STRANGER.caller, PROVIDER.device_key.public)


def test_an_appointed_observer(state) -> None:
    book = book_of(STRANGER, state)
    agreement = agreement_with([STRANGER.device_key.public])
    assert not book.may_read(CUSTOMER.caller, PROVIDER.device_key.public)
    book.appoint(agreement)
    assert book.providers(also_unnamed=False) == {PROVIDER.device_key.public}
    assert book.may_read(CUSTOMER.caller, PROVIDER.device_key.public)
    assert book.may_read(PROVIDER.caller, PROVIDER.device_key.public)
    assert not book.may_read(STRANGER.caller, PROVIDER.device_key.public)


def test_a_device_does_not_observe_without_end(state) -> None:
    book = book_of(STRANGER, state)
    for number in range(MAX_APPOINTMENTS):
        book.appoint(agreement_with([STRANGER.device_key.public], nonce=number))
    book.appoint(agreement_with([STRANGER.device_key.public], nonce=0))
    with pytest.raises(RefusedError, match="too_many"):
        book.appoint(agreement_with([STRANGER.device_key.public], nonce=MAX_APPOINTMENTS))


def test_only_named_observers_count_in_a_statement(state) -> None:
    clock = Time()
    book = book_of(CUSTOMER, state, "customer", [STRANGER.device_key.public], clock)
    contract = book.live("customer")[0]
    first = window_of(NOW) + 1
    for number in range(first, first + 10):
        book.observe(contract.provider_device, number, is_good=True)
    state.uptime.observe_many(
        contract.provider_device, STRANGER.device_key.public, {first + n: n != 3 for n in range(8)}
    )
    clock.now = NOW + 11 * WINDOW_S
    counted = book.count(contract.contract_id, NOW, clock.now)
    assert (counted.good, counted.observed, counted.total) == (7, 8, 11)
    view = book.view(contract, NOW, clock.now)
    assert (view.seen.good, view.seen.observed) == (10, 10)
    assert view.counted == counted
    book.write_metrics()
    newest = state.metrics.newest(contract.contract_id)
    assert (newest.windows_good, newest.windows_observed) == (10, 10)
    assert book.count(bytes(32), NOW, clock.now).total == 0


def test_maintenance_must_be_announced_before_it_begins(state) -> None:
    clock = Time()
    book = book_of(CUSTOMER, state, "customer", clock=clock)
    contract_id = agreement_with().contract_id

    def notice(kind: ActKind, issued_at: int, from_at: int, until_at: int):
        return sign_act(Act(kind, contract_id, bytes(32), issued_at, from_at, until_at), PROVIDER.device_key)

    start = (window_of(NOW) + 2) * WINDOW_S
    good = notice(ActKind.MAINTENANCE, NOW, start, start + 1200)
    late = notice(ActKind.MAINTENANCE, start, start, start + 600)
    other = notice(ActKind.EXIT, NOW, start, 0)
    book.adopt_notices([good, late, other])
    assert [item.raw for item in state.uptime.notices(contract_id)] == [good.raw]
    clock.now = start
    book.adopt_notices([notice(ActKind.MAINTENANCE, NOW, start, start + 600)])
    assert len(state.uptime.notices(contract_id)) == 1
    total = book.count(contract_id, start - WINDOW_S, start + 4 * WINDOW_S).total
    assert total == 3
    assert list(book.notices_of(PROVIDER.device_key.public, CUSTOMER.caller)) == [good.raw]


@pytest.fixture
def _no_keyring():
    before = keyring.get_keyring()
    keyring.set_keyring(keyring.backends.null.Keyring())
    yield
    keyring.set_keyring(before)


async def _no_sleep(_seconds: float) -> None:
    await trio.lowlevel.checkpoint()


@pytest.mark.slow
@pytest.mark.usefixtures("_no_keyring")
async def test_probes_between_real_nodes(tmp_path) -> None:
    clock = Time(int(time.time()))
    async with open_world(tmp_path, clock) as world:
        world.make("disk", "provider")
        world.make("studio", "server")
        provider = await world.start("disk")
        studio = await world.start("studio", provider.address)
        await studio.node.discovery.joined.wait()
        opened = await studio.ask("contract_open", provider=provider.node.network.peer_id, capacity_bytes=5_000_000)
        contract_id = bytes.fromhex(opened["id"])
        # A device that is always on is named as an observer of its owner's contracts.
        terms = studio.node.uptime.book.agreement(studio.node.state.contracts.get(contract_id)).terms
        assert terms.observers == (studio.node.keys.public,)
        begin = clock.now = (window_of(clock.now) + 1) * WINDOW_S
        device = provider.node.keys.public
        for _ in range(5):
            assert await studio.node.uptime.probe(device)
            clock.now += WINDOW_S
        for node in (studio.node, provider.node):
            view = node.uptime.book.view(node.state.contracts.get(contract_id), begin, clock.now)
            assert (view.seen.good, view.seen.observed, view.seen.total) == (5, 5, 5)
            await node.uptime.collect()
            assert node.state.metrics.newest(contract_id).windows_good == 5
        assert len(provider.node.state.uptime.receipts(device, 0, 2**40)) == 5

        notices = provider.node.uptime.announce(clock.now + 600, clock.now + 1800)
        assert await studio.node.uptime.probe(device)
        assert [item.raw for item in studio.node.state.uptime.notices(contract_id)] == [notices[0].raw]
        with pytest.raises(NodeError, match="before it begins"):
            provider.node.uptime.announce(clock.now, clock.now + 60)

        # Without another connection silence proves nothing; with one it is the provider's.
        await world.stop("disk")
        clock.now += WINDOW_S
        assert not await studio.node.uptime.probe(device)
        now = window_of(clock.now)
        assert now not in studio.node.uptime.book.observations(device, range(now, now + 1))
        lonely = studio.node.uptime
        observer = Uptime(
            studio.node.identity,
            studio.node.keys,
            studio.node.state,
            studio.node.finder,
            clock,
            is_online=lambda _peer_id: True,
            sleep=_no_sleep,
            jitter=lambda: 0.0,
        )
        await observer.observe_window(now)
        assert lonely.book.observations(device, range(now, now + 1)) == {now: False}


@pytest.mark.slow
@pytest.mark.usefixtures("_no_keyring")
async def test_both_parties_learn_bad_windows_from_the_observer(tmp_path) -> None:
    clock = Time(int(time.time()))
    async with open_world(tmp_path, clock) as world:
        world.make("disk", "provider")
        world.make("tower", "server")
        world.make("laptop", "mobile")
        provider = (await world.start("disk")).node
        address = provider.network.addresses()[0]
        observer = (await world.start("tower", address)).node
        laptop = (await world.start("laptop", address, observer.network.addresses()[0])).node
        await laptop.discovery.joined.wait()
        await observer.discovery.joined.wait()
        contract = await open_contract(laptop, provider, capacity_bytes=5_000_000, observer=observer, sponsor=None)
        await laptop.uptime.collect()
        device = provider.keys.public
        assert observer.uptime.book.providers(also_unnamed=False) == {device}
        begin = clock.now = (window_of(clock.now) + 1) * WINDOW_S
        for number in range(4):
            if number == 1:
                observer.uptime.book.observe(device, window_of(clock.now), is_good=False)
            else:
                assert await observer.uptime.probe(device)
            clock.now += WINDOW_S
        for node in (laptop, provider):
            await node.uptime.collect()
            counted = node.uptime.book.count(contract.contract_id, begin, clock.now)
            assert (counted.good, counted.observed, counted.total) == (3, 4, 4)
            await node.uptime.collect()
            assert node.uptime.book.count(contract.contract_id, begin, clock.now) == counted
