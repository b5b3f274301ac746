"""Probes over memory streams, the desk's refusals, and the arithmetic of windows."""

import os
from dataclasses import replace

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from market_world import CUSTOMER, NOW, PROVIDER, STRANGER, World, altered

from sovereign_protocols.errors import ConnectionLostError, RemoteProtocolError
from sovereign_protocols.market.acts import Act, ActKind, sign_act
from sovereign_protocols.market.messages import OfferQuery
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.market.terms import countersign, sign_terms
from sovereign_protocols.probe import messages as m
from sovereign_protocols.probe.bodies import MAX_WINDOWS, ProbeReceipt, UptimeReport
from sovereign_protocols.probe.desk import MAX_PROBES_PER_WINDOW, ProbeDesk
from sovereign_protocols.probe.shell import ProbeClient
from sovereign_protocols.probe.windows import (
    WINDOW_S,
    Maintenance,
    count_windows,
    excluded_windows,
    pack_bits,
    unpack_bits,
    whole_windows,
    window_of,
)
from sovereign_protocols.requests.core import ClientStream
from sovereign_protocols.requests.shell import Introduction, open_client, serve_requests
from sovereign_protocols.requests.wire import Hello, Refuse, encode_message
from sovereign_protocols.settle.signed import sign_body

NOTICE = sign_act(Act(ActKind.MAINTENANCE, bytes(32), bytes(32), NOW, NOW + 900, NOW + 1500), PROVIDER.device_key)


class MemoryProbeBook:
    """Knows one customer; keeps receipts until the test ends."""

    def __init__(self) -> None:
        self.kept = []
        self.appointed = []
        self.seen: dict[int, bool] = {}
        self.announced: list[bytes] = [NOTICE.raw]

    def may_probe(self, caller):
        return caller.identity == CUSTOMER.identity

    def notices(self, caller, now):
        return self.announced

    def keep(self, receipt):
        self.kept.append(receipt)

    def may_read(self, caller, provider):
        return caller.identity == CUSTOMER.identity

    def observations(self, provider, windows):
        return {number: good for number, good in self.seen.items() if number in windows}

    def appoint(self, agreement):
        self.appointed.append(agreement)

    def notices_of(self, provider, caller):
        return self.announced


class ProbeWorld:
    """A desk, and streams to it."""

    def __init__(self, nursery, node=PROVIDER) -> None:
        self.now = NOW
        self.nursery = nursery
        self.node = node
        self.book = MemoryProbeBook()
        self.desk = ProbeDesk(device_key=node.device_key, book=self.book, clock=lambda: self.now)

    def open(self, caller=CUSTOMER, desk=None):
        stream, far = trio.testing.memory_stream_pair()

        async def serve() -> None:
            async with far:
                await serve_requests(
                    far,
                    desk or self.desk,
                    m.PROTOCOL,
                    Introduction(self.node.certificate, lambda: self.now),
                    caller.device_key.public,
                )

        self.nursery.start_soon(serve)
        return open_client(
            ProbeClient, stream, Introduction(caller.certificate, lambda: self.now), self.node.device_key.public
        )


async def test_both_sides_hold_the_others_signature(nursery) -> None:
    world = ProbeWorld(nursery)
    async with world.open() as client:
        outcome = await client.probe(os.urandom(16), CUSTOMER.device_key, NOW)
    assert outcome.receipt.signer == PROVIDER.device_key.public
    assert outcome.receipt.body.window == NOW // 600
    assert [kept.signer for kept in world.book.kept] == [CUSTOMER.device_key.public]
    assert world.book.kept[0].content_hash == outcome.receipt.content_hash
    assert [notice.act.effective_at for notice in outcome.notices] == [NOW + 900]


async def test_a_stranger_gets_no_answer(nursery) -> None:
    world = ProbeWorld(nursery)
    async with world.open(STRANGER) as client:
        with pytest.raises(RefusedError, match="wrong_party"):
            await client.probe(bytes(16), STRANGER.device_key, NOW)
        with pytest.raises(RefusedError, match="unknown_contract"):
            await client.windows(bytes(32), 1, 1)


async def test_many_probes_in_one_window_are_too_many(nursery) -> None:
    world = ProbeWorld(nursery)
    async with world.open() as client:
        for number in range(MAX_PROBES_PER_WINDOW):
            await client.probe(number.to_bytes(16, "big"), CUSTOMER.device_key, NOW)
        with pytest.raises(RefusedError, match="busy"):
            await client.probe(bytes(16), CUSTOMER.device_key, NOW)
        world.now += WINDOW_S
        await client.probe(bytes(16), CUSTOMER.device_key, world.now)


async def test_a_probe_from_another_time_is_refused(nursery) -> None:
    world = ProbeWorld(nursery)
    async with world.open() as client:
        with pytest.raises(RefusedError, match="clock_skew"):
            await client.probe(bytes(16), CUSTOMER.device_key, NOW - 121)


@pytest.mark.parametrize("fault", ["signer", "nonce", "notice", "kept"])
async def test_a_wrong_answer_is_no_answer(nursery, fault: str) -> None:
    world = ProbeWorld(nursery)

    class Liar:
        def handle(self, caller, request):
            answer = world.desk.handle(caller, request)
            if not isinstance(answer, m.ProbeAnswer):
                return m.ProbeKept(bytes(32)) if fault == "kept" else answer
            if fault == "kept":
                return answer
            body = ProbeReceipt(caller.device, PROVIDER.device_key.public, request.nonce, NOW, NOW)
            if fault == "notice":
                return replace(answer, notices=(sign_act(NOTICE.act, STRANGER.device_key).raw,))
            if fault == "nonce":
                return m.ProbeAnswer(sign_body(replace(body, nonce=bytes(17)), PROVIDER.device_key).raw)
            return m.ProbeAnswer(sign_body(body, STRANGER.device_key).raw)

    async with world.open(desk=Liar()) as client:
        with pytest.raises(RemoteProtocolError):
            await client.probe(bytes(16), CUSTOMER.device_key, NOW)


async def test_silence_for_ten_seconds_is_no_answer(autojump_clock) -> None:
    stream, far = trio.testing.memory_stream_pair()
    core = ClientStream(m.PROTOCOL)
    core.greet(Hello(NOW, b""))
    core.receive_data(encode_message(0, Hello(NOW, b"")))
    core.next_event()
    client = ProbeClient(stream, core, PROVIDER.caller, bytes(32))
    started = trio.current_time()
    with pytest.raises(ConnectionLostError, match="10 s"):
        await client.probe(bytes(16), CUSTOMER.device_key, NOW)
    assert trio.current_time() - started == pytest.approx(10)
    await far.aclose()


def record(**changes) -> m.ProbeRecord:
    fields = {
        "observer": CUSTOMER.device_key.public,
        "provider": PROVIDER.device_key.public,
        "nonce": bytes(16),
        "sent_at": NOW,
        "answered_at": NOW,
    }
    key = changes.pop("key", CUSTOMER.device_key)
    return m.ProbeRecord(sign_body(ProbeReceipt(**(fields | changes)), key).raw)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (record(key=STRANGER.device_key), "wrong_party"),
        (record(provider=STRANGER.device_key.public), "wrong_party"),
        (record(sent_at=NOW - 500), "clock_skew"),
        (m.ProbeRecord(b"nonsense"), "malformed"),
        (m.ProbeRecord(altered(record().receipt)), "signature"),
        (m.WindowsQuery(bytes(32), NOW // 600, 5), "state"),
        (m.WindowsQuery(PROVIDER.device_key.public, 1, 5), "state"),
        (OfferQuery(), "malformed"),
    ],
)
def test_the_desk_refuses(request_, reason: str) -> None:
    world = ProbeWorld(None)
    assert world.desk.handle(CUSTOMER.caller, request_) == Refuse(
        reason, {"peer_time": NOW} if reason == "clock_skew" else {}
    )
    assert world.book.kept == []


def test_only_a_customers_record_is_kept() -> None:
    world = ProbeWorld(None)
    answer = world.desk.handle(
        STRANGER.caller, record(key=STRANGER.device_key, observer=STRANGER.device_key.public)
    )
    assert answer == Refuse("wrong_party", {})


async def test_an_observer_tells_what_it_saw(nursery) -> None:
    world = ProbeWorld(nursery, STRANGER)
    first = window_of(NOW) - 3
    world.book.seen = {first: True, first + 2: False, first + 3: True}
    async with world.open() as client:
        report, notices = await client.windows(PROVIDER.device_key.public, first, 100)
    assert report.body.observations() == {first: True, first + 2: False}
    assert report.body.count == 3
    assert len(notices) == 1


@pytest.mark.parametrize("change", ["signer", "first", "provider"])
async def test_the_report_of_something_else_is_refused(nursery, change: str) -> None:
    world = ProbeWorld(nursery, STRANGER)
    start = window_of(NOW) - 3

    class Liar:
        def handle(self, caller, request):
            provider = bytes(range(32)) if change == "provider" else request.provider
            first = start - 1 if change == "first" else start
            observer = CUSTOMER.device_key if change == "signer" else STRANGER.device_key
            report = UptimeReport.of(observer.public, provider, range(first, first + 2), {})
            return m.WindowsAnswer(sign_body(report, observer).raw)

    async with world.open(desk=Liar()) as client:
        with pytest.raises(RemoteProtocolError):
            await client.windows(PROVIDER.device_key.public, start, 3)


def agreement_with(observers=(), **changes):
    terms = replace(World().terms(), observers=tuple(observers), **changes)
    return countersign(sign_terms(terms, CUSTOMER.device_key), PROVIDER.device_key)


async def test_an_observer_takes_its_task_from_a_party(nursery) -> None:
    world = ProbeWorld(nursery, STRANGER)
    agreement = agreement_with([STRANGER.device_key.public])
    async with world.open() as client:
        await client.appoint(agreement)
        with pytest.raises(RefusedError, match="observers"):
            await client.appoint(agreement_with())
        world.now = agreement.terms.end_at
        with pytest.raises(RefusedError, match="state"):
            await client.appoint(agreement)
    assert world.book.appointed == [agreement]
    request = m.Appoint(agreement.customer.raw, agreement.provider.raw)
    assert world.desk.handle(STRANGER.caller, request) == Refuse("wrong_party", {})


async def test_the_answer_about_another_contract_is_refused(nursery) -> None:
    class Liar:
        def handle(self, caller, request):
            return m.Appointed(bytes(32))

    async with ProbeWorld(nursery, STRANGER).open(desk=Liar()) as client:
        with pytest.raises(RemoteProtocolError):
            await client.appoint(agreement_with([STRANGER.device_key.public]))


def test_counting() -> None:
    windows = whole_windows(601, 10 * 600)
    assert windows == range(2, 10)
    seen = {1: True, 2: True, 3: False, 4: True, 5: False}
    count = count_windows(windows, seen, frozenset({5}))
    assert (count.good, count.observed, count.total) == (2, 3, 7)


def test_a_month_at_the_bar() -> None:
    month = range(4320)
    assert count_windows(month, {n: n >= 4 for n in month}, frozenset()).earns_bonus
    assert not count_windows(month, {n: n >= 5 for n in month}, frozenset()).earns_bonus
    assert not count_windows(month, dict.fromkeys(range(3455), True), frozenset()).earns_bonus
    assert count_windows(month, dict.fromkeys(range(3456), True), frozenset()).earns_bonus


@given(st.lists(st.booleans(), max_size=70))
def test_bits_round_trip(flags: list[bool]) -> None:
    assert unpack_bits(pack_bits(flags), len(flags)) == flags


@given(st.dictionaries(st.integers(0, MAX_WINDOWS - 1), st.booleans()), st.integers(1, MAX_WINDOWS))
def test_reports_round_trip(seen: dict[int, bool], count: int) -> None:
    report = UptimeReport.of(CUSTOMER.device_key.public, bytes(32), range(count), seen)
    signed = sign_body(report, CUSTOMER.device_key)
    assert signed.body.observations() == {number: good for number, good in seen.items() if number < count}


@given(
    st.lists(
        st.builds(lambda a, b, c: Maintenance(a, b, b + c), *[st.integers(0, 6_000_000)] * 2, st.integers(0, 9000))
    )
)
def test_maintenance_excludes_at_most_half_an_hour_a_month(notices: list[Maintenance]) -> None:
    found = excluded_windows(notices, contract_start_at=0)
    for month in range(3):
        # A pause over the end of a month counts where it began.
        assert sum(month * 4320 + 4 <= number < (month + 1) * 4320 for number in found) <= 4
    assert found == excluded_windows(list(reversed(notices)), contract_start_at=0)


async def test_a_hundred_providers_cost_less_than_20_kilobits_a_second(nursery) -> None:
    world = ProbeWorld(nursery)
    moved = 0

    class Counted(trio.abc.Stream):
        def __init__(self, inner) -> None:
            self.inner = inner

        async def send_all(self, data) -> None:
            nonlocal moved
            moved += len(data)
            await self.inner.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await self.inner.wait_send_all_might_not_block()

        async def receive_some(self, max_bytes=None):
            nonlocal moved
            data = await self.inner.receive_some(max_bytes)
            moved += len(data)
            return data

        async def aclose(self) -> None:
            await self.inner.aclose()

    near, far = trio.testing.memory_stream_pair()
    stream = Counted(near)

    async def serve() -> None:
        await serve_requests(
            far, world.desk, m.PROTOCOL, Introduction(PROVIDER.certificate, lambda: NOW), CUSTOMER.device_key.public
        )

    nursery.start_soon(serve)
    async with open_client(
        ProbeClient, stream, Introduction(CUSTOMER.certificate, lambda: NOW), PROVIDER.device_key.public
    ) as client:
        await client.probe(bytes(32), CUSTOMER.device_key, NOW)
    # A stream of its own with both certificates for every probe; 2 kB are left for the layers below.
    assert 100 * (moved + 2000) * 8 / WINDOW_S < 20_000
