"""What the provider's desk says to proposals, revisions, notices and closes."""

import dataclasses

import pytest
from market_world import CUSTOMER, CUSTOMER_LAPTOP, GB, NOW, OWN_LAPTOP, PROVIDER, STRANGER, World

from sovereign_crypto.signing import SigningKey
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import Act, ActKind, parse_act, sign_act
from sovereign_protocols.market.desk import ContractRecord
from sovereign_protocols.market.draft import draft_revision
from sovereign_protocols.market.lifecycle import ContractState
from sovereign_protocols.market.offer import VALIDITY_S, parse_offer
from sovereign_protocols.market.policy import ListPricePolicy
from sovereign_protocols.market.prices import MONTH_S
from sovereign_protocols.market.terms import agree, parse_terms, sign_terms


@pytest.fixture
def world() -> World:
    return World()


def propose(world: World, node=CUSTOMER, **changes):
    signed = sign_terms(world.terms(node, **changes), node.device_key)
    return world.desk.handle(node.caller, m.Propose(signed.raw))


def opened(world: World, node=CUSTOMER, **changes):
    signed = sign_terms(world.terms(node, **changes), node.device_key)
    answer = world.desk.handle(node.caller, m.Propose(signed.raw))
    assert isinstance(answer, m.Accept), answer
    return agree(signed, parse_terms(answer.terms))


def amend(world: World, agreement, node=CUSTOMER, **changes):
    terms = draft_revision(agreement, nonce=b"r" * 16, offer=world.offers.current(world.now).hash)
    signed = sign_terms(dataclasses.replace(terms, **changes), node.device_key)
    return world.desk.handle(node.caller, m.Amend(signed.raw)), signed


def refusal(answer) -> tuple[str, dict]:
    assert isinstance(answer, m.Refuse), answer
    return answer.reason, answer.figures


def test_a_contract_has_both_signatures_over_the_same_bytes(world: World) -> None:
    agreement = opened(world)
    record = world.book.get(agreement.contract_id)
    assert record == ContractRecord(agreement, ContractState.ACTIVE)
    content = agreement.customer.raw[: -(32 + 64)]
    assert agreement.provider.raw.startswith(content)
    assert agreement.provider.signer == PROVIDER.device_key.public


def test_the_same_proposal_twice_has_one_effect_and_one_answer(world: World) -> None:
    first, second = propose(world), propose(world)
    assert first == second
    assert len(world.book.records) == 1


def test_a_repeated_proposal_outlives_its_offer(world: World) -> None:
    terms = world.terms()
    signed = sign_terms(terms, CUSTOMER.device_key)
    first = world.desk.handle(CUSTOMER.caller, m.Propose(signed.raw))
    world.now += VALIDITY_S * 2
    assert world.desk.handle(CUSTOMER.caller, m.Propose(signed.raw)) == first


def test_the_last_gigabyte_is_given_once(world: World) -> None:
    world.capacity = 8 * GB
    opened(world, nonce=1)
    assert refusal(propose(world, nonce=2)) == ("capacity", {"free_bytes": 3 * GB})
    opened(world, nonce=3, capacity_bytes=3 * GB)
    assert world.book.committed_bytes() == world.capacity


def test_own_devices_pay_nothing(world: World) -> None:
    agreement = opened(world, OWN_LAPTOP)
    assert agreement.terms.is_free


def test_a_stranger_may_not_claim_the_free_price(world: World) -> None:
    answer = propose(world, price_per_gb_month=0, price_per_gb_transfer=0)
    assert refusal(answer) == ("price_too_low", {"per_gb_month": 2_000_000, "per_gb_transfer": 500_000})


def test_the_free_allowance_is_counted_over_all_contracts() -> None:
    world = World(free_allowance_bytes=6 * GB)
    assert opened(world, nonce=1).terms.is_free
    assert refusal(propose(world, nonce=2))[0] == "price_too_low"
    assert opened(world, nonce=3, capacity_bytes=1 * GB).terms.is_free


def test_a_friend_pays_nothing_and_needs_no_offer(world: World) -> None:
    world.desk._policy = ListPricePolicy(PROVIDER.identity, friends=frozenset({CUSTOMER.identity}), is_open=False)
    opened(world, price_per_gb_month=0, price_per_gb_transfer=0, offer=bytes(32))
    assert refusal(propose(world, STRANGER)) == ("closed_for_new", {})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price_per_gb_month": 1_999_999}, "price_too_low"),
        ({"price_per_gb_transfer": 499_999}, "price_too_low"),
        ({"capacity_bytes": GB - 1}, "size"),
        ({"capacity_bytes": 20 * GB + 1}, "size"),
        ({"capacity_bytes": 51 * GB}, "capacity"),
        ({"end_at": NOW + 367 * 86_400}, "duration"),
        ({"period_s": 721 * 3600}, "duration"),
        ({"grace_s": 31 * 86_400}, "grace"),
        ({"credit_limit": 1_000_001}, "credit"),
        ({"adapter": "barter"}, "adapter"),
        ({"offer": b"\x05" * 32}, "offer_expired"),
        ({"offer": bytes(32)}, "offer_unknown"),
        ({"start_at": NOW - 121}, "clock_skew"),
        ({"start_at": NOW + 86_401}, "clock_skew"),
        ({"provider_identity": b"\x06" * 32}, "wrong_party"),
        ({"customer_identity": b"\x06" * 32}, "wrong_party"),
    ],
)
def test_reasons_for_refusing_a_proposal(world: World, changes, reason) -> None:
    assert refusal(propose(world, **changes))[0] == reason
    assert not world.book.records


def test_higher_prices_are_welcome(world: World) -> None:
    assert opened(world, price_per_gb_month=3_000_000).terms.price_per_gb_month == 3_000_000


def test_clock_refusals_name_the_time(world: World) -> None:
    assert refusal(propose(world, start_at=NOW - 500)) == ("clock_skew", {"peer_time": NOW})


def test_an_expired_contract_cannot_be_opened(world: World) -> None:
    world.now = NOW
    answer = propose(world, start_at=NOW - 100, end_at=NOW - 50)
    assert refusal(answer) == ("duration", {"peer_time": NOW})


def test_too_many_contracts_of_one_customer(world: World) -> None:
    world.desk._policy = ListPricePolicy(PROVIDER.identity, max_contracts_per_customer=2)
    opened(world, nonce=1)
    opened(world, nonce=2)
    assert refusal(propose(world, nonce=3)) == ("too_many", {"max_contracts": 2})


def test_someone_elses_signed_terms_are_refused(world: World) -> None:
    signed = sign_terms(world.terms(CUSTOMER), CUSTOMER.device_key)
    assert refusal(world.desk.handle(STRANGER.caller, m.Propose(signed.raw)))[0] == "wrong_party"


def test_terms_signed_by_the_provider_are_no_proposal(world: World) -> None:
    signed = sign_terms(world.terms(CUSTOMER), PROVIDER.device_key)
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Propose(signed.raw)))[0] == "wrong_party"


@pytest.mark.parametrize("damage", [b"", b"\x00", b"SVS1" + bytes(200)])
def test_damaged_terms_are_malformed(world: World, damage: bytes) -> None:
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Propose(damage)))[0] == "malformed"


def test_a_broken_signature_is_named(world: World) -> None:
    raw = bytearray(sign_terms(world.terms(), CUSTOMER.device_key).raw)
    raw[-1] ^= 1
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Propose(bytes(raw))))[0] == "signature"


def test_an_answer_is_no_request(world: World) -> None:
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Refuse("busy", {})))[0] == "malformed"


def test_a_revision_needs_both_signatures(world: World) -> None:
    agreement = opened(world)
    answer, signed = amend(world, agreement, capacity_bytes=10 * GB)
    assert isinstance(answer, m.Accept)
    revised = agree(signed, parse_terms(answer.terms))
    assert revised.contract_id == agreement.contract_id
    assert world.book.get(agreement.contract_id).agreement == revised
    assert world.book.committed_bytes() == 10 * GB
    repeated, _ = amend(world, agreement, capacity_bytes=10 * GB)
    assert repeated == answer


def test_the_first_terms_cannot_come_back_after_a_revision(world: World) -> None:
    agreement = opened(world)
    amend(world, agreement, capacity_bytes=10 * GB)
    assert refusal(propose(world)) == ("revision", {"revision": 1})


def test_another_device_of_the_customer_may_revise(world: World) -> None:
    agreement = opened(world)
    laptop = CUSTOMER_LAPTOP.device_key.public
    answer, _ = amend(world, agreement, CUSTOMER_LAPTOP, customer_device=laptop, capacity_bytes=6 * GB)
    assert isinstance(answer, m.Accept)


def test_a_refused_revision_leaves_the_old_one_whole(world: World) -> None:
    agreement = opened(world)
    answer, _ = amend(world, agreement, capacity_bytes=60 * GB)
    assert refusal(answer) == ("capacity", {"free_bytes": 50 * GB})
    assert world.book.get(agreement.contract_id).agreement == agreement


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"revision": 2}, "revision"),
        ({"previous": b"\x01" * 32}, "revision"),
        ({"start_at": NOW + 1}, "fixed_field"),
        ({"adapter": "barter"}, "fixed_field"),
        ({"price_per_gb_month": 1}, "price_too_low"),
        ({"contract": b"\x01" * 32}, "unknown_contract"),
    ],
)
def test_reasons_for_refusing_a_revision(world: World, changes, reason) -> None:
    answer, _ = amend(world, opened(world), **changes)
    assert refusal(answer)[0] == reason


def test_capacity_may_not_fall_below_what_is_stored(world: World) -> None:
    agreement = opened(world)
    record = world.book.get(agreement.contract_id)
    world.book.records[agreement.contract_id] = dataclasses.replace(record, stored_bytes=4 * GB)
    assert refusal(amend(world, agreement, capacity_bytes=3 * GB)[0]) == ("capacity", {"stored_bytes": 4 * GB})


def test_renewal_moves_the_end(world: World) -> None:
    agreement = opened(world)
    world.now += 3 * MONTH_S
    answer, _ = amend(world, agreement, end_at=world.now + 6 * MONTH_S)
    assert isinstance(answer, m.Accept)


def test_a_first_revision_cannot_be_proposed_later(world: World) -> None:
    agreement = opened(world)
    terms = draft_revision(agreement, nonce=bytes(16), capacity_bytes=6 * GB)
    raw = sign_terms(terms, CUSTOMER.device_key).raw
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Propose(raw)))[0] == "revision"


def act_of(agreement, kind: ActKind, node=CUSTOMER, **changes):
    act = Act(kind, agreement.contract_id, agreement.terms_hash, NOW, NOW)
    return sign_act(dataclasses.replace(act, **changes), node.device_key)


def test_an_exit_notice_ends_uploads(world: World) -> None:
    agreement = opened(world)
    signed = act_of(agreement, ActKind.EXIT)
    for _ in range(2):
        answer = world.desk.handle(CUSTOMER.caller, m.Notice(signed.raw))
        assert answer == m.NoticeKept(signed.statement_hash)
    assert world.book.get(agreement.contract_id).state is ContractState.ENDING
    assert list(world.book.acts) == [signed.statement_hash]


def test_a_renewal_notice_keeps_uploads(world: World) -> None:
    agreement = opened(world)
    world.desk.handle(CUSTOMER.caller, m.Notice(act_of(agreement, ActKind.RENEWAL).raw))
    assert world.book.get(agreement.contract_id).state is ContractState.RENEWING


@pytest.mark.parametrize("kind", [ActKind.DELETION, ActKind.OVERDUE, ActKind.CLOSE])
def test_a_customer_cannot_give_the_providers_notices(world: World, kind: ActKind) -> None:
    answer = world.desk.handle(CUSTOMER.caller, m.Notice(act_of(opened(world), kind).raw))
    assert refusal(answer)[0] == "wrong_party"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"terms": b"\x01" * 32}, "revision"),
        ({"contract": b"\x01" * 32}, "unknown_contract"),
        ({"issued_at": NOW + 500}, "clock_skew"),
    ],
)
def test_reasons_for_refusing_an_act(world: World, changes, reason) -> None:
    signed = act_of(opened(world), ActKind.EXIT, **changes)
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Notice(signed.raw)))[0] == reason


def test_an_act_of_a_stranger_is_refused(world: World) -> None:
    agreement = opened(world)
    signed = act_of(agreement, ActKind.EXIT)
    assert refusal(world.desk.handle(STRANGER.caller, m.Notice(signed.raw)))[0] == "wrong_party"
    own = act_of(agreement, ActKind.EXIT, STRANGER)
    assert refusal(world.desk.handle(STRANGER.caller, m.Notice(own.raw)))[0] == "unknown_contract"


def test_a_close_has_both_signatures_and_frees_the_space(world: World) -> None:
    agreement = opened(world)
    signed = act_of(agreement, ActKind.CLOSE)
    first = world.desk.handle(CUSTOMER.caller, m.Close(signed.raw))
    closed = parse_act(first.act)
    assert closed.content_hash == signed.content_hash
    assert closed.signer == PROVIDER.device_key.public
    assert world.desk.handle(CUSTOMER.caller, m.Close(signed.raw)) == first
    assert world.book.committed_bytes() == 0
    assert len(world.book.acts) == 2
    assert refusal(propose(world))[0] == "state"
    assert refusal(amend(world, agreement, capacity_bytes=6 * GB)[0])[0] == "state"


def test_only_a_close_closes(world: World) -> None:
    signed = act_of(opened(world), ActKind.EXIT)
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Close(signed.raw)))[0] == "malformed"


def test_a_contract_in_default_of_payment_is_not_closed_by_the_customer(world: World) -> None:
    agreement = opened(world)
    world.book.set_state(agreement.contract_id, ContractState.PROPOSED, NOW)
    signed = act_of(agreement, ActKind.CLOSE)
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Close(signed.raw)))[0] == "state"


def test_only_parties_learn_of_a_contract(world: World) -> None:
    agreement = opened(world)
    answer = world.desk.handle(CUSTOMER_LAPTOP.caller, m.StateQuery(agreement.contract_id))
    assert isinstance(answer, m.LatestState)
    assert (answer.customer_terms, answer.provider_terms) == (agreement.customer.raw, agreement.provider.raw)
    hidden = world.desk.handle(STRANGER.caller, m.StateQuery(agreement.contract_id))
    missing = world.desk.handle(STRANGER.caller, m.StateQuery(bytes(32)))
    assert hidden == missing == m.Refuse("unknown_contract", {})


def test_the_list_comes_in_pages(world: World) -> None:
    ids = sorted(opened(world, nonce=n, capacity_bytes=GB).contract_id for n in range(5))
    first = world.desk.handle(CUSTOMER.caller, m.ListQuery(limit=3))
    assert [item[0] for item in first.items] == ids[:3]
    assert first.more
    second = world.desk.handle(CUSTOMER.caller, m.ListQuery(after=ids[2], limit=3))
    assert [item[0] for item in second.items] == ids[3:]
    assert not second.more
    assert world.desk.handle(STRANGER.caller, m.ListQuery()).items == ()


def test_offers_are_renewed_before_they_expire(world: World) -> None:
    first = world.desk.handle(CUSTOMER.caller, m.OfferQuery())
    assert world.desk.handle(CUSTOMER.caller, m.OfferQuery()) == first
    world.now += VALIDITY_S // 2 + 1
    second = world.desk.handle(CUSTOMER.caller, m.OfferQuery())
    assert parse_offer(second.offer).offer.seq == 2
    old = parse_offer(first.offer)
    assert world.offers.get(old.hash, world.now) == old
    assert world.offers.replace(world.now).offer.seq == 3
    world.now += VALIDITY_S
    world.offers.current(world.now)
    assert world.offers.get(old.hash, world.now) is None


def test_terms_of_another_network_are_refused(world: World) -> None:
    raw = sign_terms(world.terms(), CUSTOMER.device_key, bytes(32)).raw
    assert refusal(world.desk.handle(CUSTOMER.caller, m.Propose(raw)))[0] == "signature"


def test_a_third_key_signs_nothing(world: World) -> None:
    with pytest.raises(Exception, match="only the two parties"):
        sign_terms(world.terms(), SigningKey.from_seed(b"\x07" * 32))
