"""Market streams over memory: hello, requests, clocks, silence and nonsense."""

import dataclasses

import pytest
import trio
import trio.testing
from market_world import CUSTOMER, GB, NOW, OWN_LAPTOP, PROVIDER, STRANGER, World

from sovereign_protocols.errors import ConnectionLostError, RemoteProtocolError
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import Act, ActKind, sign_act
from sovereign_protocols.market.draft import draft_revision, draft_terms
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.shell import MarketClient
from sovereign_protocols.market.terms import sign_terms
from sovereign_protocols.requests.shell import Introduction, open_client, serve_requests


@pytest.fixture
def world() -> World:
    return World()


class Pair:
    """A customer's stream and a provider that answers on the other end."""

    def __init__(self, world: World, nursery: trio.Nursery, node=CUSTOMER, *, skew_s: int = 0, desk=None) -> None:
        self.stream, self.far = trio.testing.memory_stream_pair()
        self.world, self.node, self.skew_s = world, node, skew_s
        self.desk = desk or world.desk
        self.errors: list[Exception] = []
        nursery.start_soon(self.serve)

    async def serve(self) -> None:
        try:
            await serve_requests(
                self.far,
                self.desk,
                m.PROTOCOL,
                Introduction(PROVIDER.certificate, lambda: self.world.now),
                self.node.device_key.public,
            )
        except (RemoteProtocolError, ConnectionLostError) as error:
            self.errors.append(error)
        await self.far.aclose()

    def open(self, *, certificate: bytes | None = None, provider_device: bytes | None = None):
        return open_client(
            MarketClient,
            self.stream,
            Introduction(
                self.node.certificate if certificate is None else certificate, lambda: self.world.now + self.skew_s
            ),
            provider_device or PROVIDER.device_key.public,
        )


async def test_the_whole_life_of_a_contract(world: World, nursery: trio.Nursery) -> None:
    async with Pair(world, nursery).open() as client:
        assert client.peer == PROVIDER.caller
        offer = await client.offer()
        terms = draft_terms(offer, CUSTOMER.caller, capacity_bytes=5 * GB, now=NOW, nonce=bytes(16))
        signed = sign_terms(terms, CUSTOMER.device_key)
        agreement = await client.propose(signed)
        assert await client.propose(signed) == agreement

        larger = draft_revision(agreement, nonce=bytes(16), capacity_bytes=6 * GB, offer=offer.hash)
        revised = await client.amend(sign_terms(larger, CUSTOMER.device_key))
        assert revised.terms.capacity_bytes == 6 * GB

        assert await client.contracts() == [("active", revised)]
        state = await client.latest_state(agreement.contract_id)
        assert state.provider_terms == revised.provider.raw

        act = Act(ActKind.EXIT, agreement.contract_id, revised.terms_hash, NOW, NOW)
        await client.notice(sign_act(act, CUSTOMER.device_key))
        close = sign_act(dataclasses.replace(act, kind=ActKind.CLOSE), CUSTOMER.device_key)
        closed = await client.close(close)
        assert closed.signer == PROVIDER.device_key.public
    assert world.book.get(agreement.contract_id).state is ContractState.CLOSED


async def test_more_contracts_than_fit_one_frame(world: World, nursery: trio.Nursery) -> None:
    world.capacity = 100 * GB
    async with Pair(world, nursery, OWN_LAPTOP).open() as client:
        for number in range(30):
            terms = world.terms(OWN_LAPTOP, nonce=number, capacity_bytes=GB)
            await client.propose(sign_terms(terms, OWN_LAPTOP.device_key))
        found = await client.contracts()
    assert len({agreement.contract_id for _, agreement in found}) == 30


async def test_a_refusal_carries_its_figures(world: World, nursery: trio.Nursery) -> None:
    world.capacity = 2 * GB
    async with Pair(world, nursery).open() as client:
        with pytest.raises(RefusedError) as caught:
            await client.propose(sign_terms(world.terms(), CUSTOMER.device_key))
        assert caught.value.reason is Reason.CAPACITY
        assert caught.value.data == {"free_bytes": 2 * GB}
        assert str(caught.value) == "refused: capacity, free_bytes 2000000000"
        assert (await client.offer()).offer.name == "Attic"


@pytest.mark.parametrize("skew_s", [-121, 121])
async def test_a_wrong_clock_is_named_with_the_peers_time(world: World, nursery: trio.Nursery, skew_s: int) -> None:
    pair = Pair(world, nursery, skew_s=skew_s)
    with pytest.raises(RefusedError) as caught:
        await pair.open().__aenter__()
    assert caught.value.reason is Reason.CLOCK_SKEW
    assert caught.value.data == {"peer_time": NOW}


async def test_an_honest_clock_may_differ_a_little(world: World, nursery: trio.Nursery) -> None:
    async with Pair(world, nursery, skew_s=119).open() as client:
        await client.offer()


async def test_a_certificate_of_another_device_is_refused(world: World, nursery: trio.Nursery) -> None:
    with pytest.raises(RefusedError) as caught:
        await Pair(world, nursery).open(certificate=STRANGER.certificate).__aenter__()
    assert caught.value.reason is Reason.IDENTITY


async def test_a_provider_that_is_somebody_else_is_refused(world: World, nursery: trio.Nursery) -> None:
    with pytest.raises(RefusedError) as caught:
        await Pair(world, nursery).open(provider_device=STRANGER.device_key.public).__aenter__()
    assert caught.value.reason is Reason.IDENTITY


class Liar:
    """A provider whose desk gives prepared answers."""

    def __init__(self, answer: m.Message) -> None:
        self.answer = answer

    def handle(self, caller, request):
        return self.answer


async def test_a_provider_cannot_sign_other_terms(world: World, nursery: trio.Nursery) -> None:
    other = sign_terms(world.terms(nonce=5), PROVIDER.device_key)
    async with Pair(world, nursery, desk=Liar(m.Accept(other.raw))).open() as client:
        with pytest.raises(RemoteProtocolError, match="different terms"):
            await client.propose(sign_terms(world.terms(), CUSTOMER.device_key))


async def test_a_provider_cannot_echo_the_customers_signature(world: World, nursery: trio.Nursery) -> None:
    signed = sign_terms(world.terms(), CUSTOMER.device_key)
    async with Pair(world, nursery, desk=Liar(m.Accept(signed.raw))).open() as client:
        with pytest.raises(RemoteProtocolError, match="missing"):
            await client.propose(signed)


async def test_a_provider_cannot_show_anothers_offer(world: World, nursery: trio.Nursery) -> None:
    raw = world.offers.current(NOW).raw
    pair = Pair(world, nursery, desk=Liar(m.OfferAnswer(raw)))

    async def trust(certificate: bytes, device_key: bytes, now: int) -> bytes:
        return STRANGER.identity

    async with open_client(
        MarketClient,
        pair.stream,
        Introduction(CUSTOMER.certificate, lambda: NOW, check=trust),
        PROVIDER.device_key.public,
    ) as client:
        with pytest.raises(RemoteProtocolError, match="another provider"):
            await client.offer()


async def test_a_provider_cannot_confirm_another_notice(world: World, nursery: trio.Nursery) -> None:
    act = sign_act(Act(ActKind.EXIT, bytes(32), bytes(32), NOW, NOW), CUSTOMER.device_key)
    async with Pair(world, nursery, desk=Liar(m.NoticeKept(bytes(32)))).open() as client:
        with pytest.raises(RemoteProtocolError, match="another notice"):
            await client.notice(act)


async def test_a_provider_cannot_close_something_else(world: World, nursery: trio.Nursery) -> None:
    act = Act(ActKind.CLOSE, bytes(32), bytes(32), NOW, NOW)
    other = sign_act(dataclasses.replace(act, issued_at=NOW + 1), PROVIDER.device_key)
    async with Pair(world, nursery, desk=Liar(m.Closed(other.raw))).open() as client:
        with pytest.raises(RemoteProtocolError, match="something else"):
            await client.close(sign_act(act, CUSTOMER.device_key))


async def test_a_list_out_of_order_is_refused(world: World, nursery: trio.Nursery) -> None:
    signed = sign_terms(world.terms(), CUSTOMER.device_key)
    world.desk.handle(CUSTOMER.caller, m.Propose(signed.raw))
    page = world.desk.handle(CUSTOMER.caller, m.ListQuery())
    doubled = m.ContractList(page.items * 2, more=False)
    async with Pair(world, nursery, desk=Liar(doubled)).open() as client:
        with pytest.raises(RemoteProtocolError, match="out of order"):
            await client.contracts()


async def test_an_empty_page_ends_the_list(world: World, nursery: trio.Nursery) -> None:
    async with Pair(world, nursery, desk=Liar(m.ContractList((), more=True))).open() as client:
        assert await client.contracts() == []


async def test_a_silent_provider_times_out(world: World, autojump_clock) -> None:
    stream, far = trio.testing.memory_stream_pair()
    with pytest.raises(ConnectionLostError, match="no answer within 10 s"):
        await open_client(
            MarketClient, stream, Introduction(CUSTOMER.certificate, lambda: NOW), bytes(32)
        ).__aenter__()
    await far.aclose()


async def test_a_silent_caller_is_cut_off(world: World, autojump_clock) -> None:
    async with trio.open_nursery() as nursery:
        pair = Pair(world, nursery)
        async with pair.open():
            await trio.sleep(61)
    assert [str(error) for error in pair.errors] == ["no answer within 60 s"]


async def test_a_caller_that_leaves_before_hello_is_no_error(world: World) -> None:
    async with trio.open_nursery() as nursery:
        pair = Pair(world, nursery)
        await pair.stream.aclose()
    assert pair.errors == []


async def test_a_provider_that_leaves_is_an_error(world: World) -> None:
    stream, far = trio.testing.memory_stream_pair()
    await far.send_eof()
    with pytest.raises(ConnectionLostError, match="before the answer"):
        await open_client(
            MarketClient, stream, Introduction(CUSTOMER.certificate, lambda: NOW), bytes(32)
        ).__aenter__()
    await far.aclose()


async def test_a_broken_connection_is_one_documented_error(world: World) -> None:
    stream, far = trio.testing.memory_stream_pair()
    await far.aclose()
    with pytest.raises(ConnectionLostError, match="broke"):
        await open_client(
            MarketClient, stream, Introduction(CUSTOMER.certificate, lambda: NOW), bytes(32)
        ).__aenter__()


async def test_nonsense_ends_the_stream(world: World) -> None:
    async with trio.open_nursery() as nursery:
        pair = Pair(world, nursery)
        await pair.stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
    assert [type(error) for error in pair.errors] == [RemoteProtocolError]
