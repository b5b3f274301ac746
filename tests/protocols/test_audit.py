"""Audits over memory streams, the desk's refusals, and what samples say."""

import hashlib
import os
from dataclasses import replace

import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from market_world import CUSTOMER, NOW, PROVIDER, STRANGER, altered

from sovereign_crypto.merkle import leaf_count, leaf_root
from sovereign_protocols.audit import messages as m
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict, Method, Outcome, Result
from sovereign_protocols.audit.desk import MAX_CHALLENGES_PER_HOUR, AuditDesk
from sovereign_protocols.audit.proof import (
    Proof,
    confidence_words,
    judge_hash,
    judge_leaf,
    keyed_hash,
    loss_bound_percent,
    make_answer,
    samples_needed,
)
from sovereign_protocols.audit.shell import AuditClient
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.market.messages import OfferQuery
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.requests.shell import Introduction, open_client, serve_requests
from sovereign_protocols.requests.wire import Refuse
from sovereign_protocols.settle.signed import NO_HASH, sign_body

CONTRACT = bytes(range(32))
SEALED = bytes(number % 249 for number in range(3 * 4096 + 17))
CHUNK = hashlib.sha256(SEALED).digest()


class MemoryAuditBook:
    """One contract of the customer with one chunk."""

    def __init__(self) -> None:
        self.stored = {CHUNK: SEALED}
        self.verdicts = []

    def may_audit(self, caller, contract_id):
        return caller.identity == CUSTOMER.identity and contract_id == CONTRACT

    def chunk(self, contract_id, chunk_id):
        return self.stored.get(chunk_id)

    def keep_verdict(self, verdict, challenge, answer, at):
        self.verdicts.append((verdict, challenge, answer, at))


class AuditWorld:
    """A provider's desk, and streams to it."""

    def __init__(self, nursery=None) -> None:
        self.now = NOW
        self.nursery = nursery
        self.book = MemoryAuditBook()
        self.desk = AuditDesk(device_key=PROVIDER.device_key, book=self.book, clock=lambda: self.now)

    def open(self, caller=CUSTOMER, desk=None):
        stream, far = trio.testing.memory_stream_pair()

        async def serve() -> None:
            async with far:
                await serve_requests(
                    far,
                    desk or self.desk,
                    m.PROTOCOL,
                    Introduction(PROVIDER.certificate, lambda: self.now),
                    caller.device_key.public,
                )

        self.nursery.start_soon(serve)
        return open_client(
            AuditClient, stream, Introduction(caller.certificate, lambda: self.now), PROVIDER.device_key.public
        )


def challenge(method=Method.HASH, leaf=0, *, key=CUSTOMER.device_key, **changes):
    body = AuditChallenge(
        CONTRACT, PROVIDER.device_key.public, CUSTOMER.device_key.public, CHUNK, method, leaf, os.urandom(32), NOW
    )
    return sign_body(replace(body, **changes), key)


def verdict_on(asked, answer, *, key=CUSTOMER.device_key, **changes):
    body = AuditVerdict(
        CONTRACT,
        PROVIDER.device_key.public,
        asked.body.chunk,
        asked.content_hash,
        answer.content_hash if answer else NO_HASH,
        Outcome.FAILED,
        len(SEALED),
        NOW - 100,
        NOW,
    )
    return sign_body(replace(body, **changes), key)


async def test_a_chunk_that_is_there_passes_every_method(nursery) -> None:
    world = AuditWorld(nursery)
    root = leaf_root(SEALED)
    async with world.open() as client:
        asked = challenge()
        answer, shown = await client.challenge(asked)
        assert judge_hash(asked.body, answer.body, SEALED) is Outcome.PASSED
        assert shown == Proof()
        for leaf in range(leaf_count(len(SEALED))):
            asked = challenge(Method.LEAF, leaf)
            answer, shown = await client.challenge(asked)
            assert judge_leaf(asked.body, answer.body, shown, root=root, size_bytes=len(SEALED)) is Outcome.PASSED
            assert judge_hash(asked.body, answer.body, SEALED) is Outcome.PASSED
        with pytest.raises(RefusedError, match="max_leaf 3"):
            await client.challenge(challenge(Method.LEAF, 4))


@pytest.mark.parametrize("loss", ["gone", "rotten"])
async def test_a_lost_chunk_is_a_signed_failure_that_the_provider_keeps(nursery, loss: str) -> None:
    world = AuditWorld(nursery)
    world.book.stored = {} if loss == "gone" else {CHUNK: SEALED[:-1] + b"\0"}
    async with world.open() as client:
        asked = challenge()
        answer, _ = await client.challenge(asked)
        assert answer.body.result == Result.MISSING
        assert judge_hash(asked.body, answer.body, SEALED) is Outcome.FAILED
        verdict = verdict_on(asked, answer)
        await client.verdict(verdict, asked, answer)
        passed = verdict_on(asked, answer, outcome=Outcome.PASSED)
        await client.verdict(passed, asked, answer)
        await client.verdict(verdict_on(asked, None), asked, None)
    assert [(item[0].content_hash, item[2]) for item in world.book.verdicts] == [
        (verdict.content_hash, answer),
        (verdict_on(asked, None).content_hash, None),
    ]


def test_an_answer_without_the_bytes_does_not_pass() -> None:
    asked = challenge()
    guess = AuditAnswer(asked.content_hash, Result.HELD, len(SEALED), keyed_hash(SEALED, bytes(32)), NOW)
    assert judge_hash(asked.body, guess, SEALED) is Outcome.FAILED
    assert judge_hash(asked.body, replace(guess, size=1), SEALED) is Outcome.FAILED


async def test_a_stranger_gets_no_answer(nursery) -> None:
    world = AuditWorld(nursery)
    async with world.open(STRANGER) as client:
        with pytest.raises(RefusedError, match="unknown_contract"):
            await client.challenge(challenge(key=STRANGER.device_key, auditor=STRANGER.device_key.public))


@pytest.mark.parametrize("fault", ["signer", "challenge"])
async def test_the_answer_to_something_else_is_refused(nursery, fault: str) -> None:
    class Liar:
        def handle(self, caller, request):
            about = bytes(32) if fault == "challenge" else asked.content_hash
            body = AuditAnswer(about, Result.MISSING, 0, NO_HASH, NOW)
            key = STRANGER.device_key if fault == "signer" else PROVIDER.device_key
            return m.Answer(sign_body(body, key).raw)

    asked = challenge()
    async with AuditWorld(nursery).open(desk=Liar()) as client:
        with pytest.raises(RemoteProtocolError):
            await client.challenge(asked)


async def test_another_verdict_kept_is_an_error(nursery) -> None:
    class Liar:
        def handle(self, caller, request):
            return m.VerdictKept(bytes(32))

    asked = challenge()
    async with AuditWorld(nursery).open(desk=Liar()) as client:
        with pytest.raises(RemoteProtocolError):
            await client.verdict(verdict_on(asked, None), asked, None)


def note(asked=None, answer=None, *, key=CUSTOMER.device_key, challenge_key=None, **changes) -> m.VerdictNote:
    asked = asked or challenge()
    verdict = verdict_on(asked, answer, key=key, **changes)
    return m.VerdictNote(verdict.raw, asked.raw, answer.raw if answer else b"")


def answer_to(asked, key=PROVIDER.device_key, **changes):
    body, _ = make_answer(asked, None, NOW)
    return sign_body(replace(body, **changes), key)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (m.Challenge(challenge(key=STRANGER.device_key).raw), "wrong_party"),
        (m.Challenge(challenge(auditor=STRANGER.device_key.public).raw), "wrong_party"),
        (m.Challenge(challenge(provider=STRANGER.device_key.public).raw), "unknown_contract"),
        (m.Challenge(challenge(contract=bytes(32)).raw), "unknown_contract"),
        (m.Challenge(challenge(at=NOW - 121).raw), "clock_skew"),
        (m.Challenge(b"nonsense"), "malformed"),
        (m.Challenge(altered(challenge().raw)), "signature"),
        (note(key=STRANGER.device_key), "wrong_party"),
        (note(chunk=bytes(32)), "wrong_party"),
        (note(challenge=bytes(32)), "wrong_party"),
        (note(at=NOW + 500), "clock_skew"),
        (note(asked := challenge(), answer_to(asked, STRANGER.device_key)), "wrong_party"),
        (note(asked := challenge(), answer_to(asked, challenge=bytes(32))), "wrong_party"),
        (OfferQuery(), "malformed"),
    ],
)
def test_the_desk_refuses(request_, reason: str) -> None:
    world = AuditWorld()
    answer = world.desk.handle(CUSTOMER.caller, request_)
    assert answer == Refuse(reason, {"peer_time": NOW} if reason == "clock_skew" else {})
    assert world.book.verdicts == []


def test_too_many_challenges_in_an_hour() -> None:
    world = AuditWorld()
    request = m.Challenge(challenge().raw)
    for _ in range(MAX_CHALLENGES_PER_HOUR - 1):
        world.desk._calls.take(CUSTOMER.device_key.public, NOW // 3600, MAX_CHALLENGES_PER_HOUR)
    assert isinstance(world.desk.handle(CUSTOMER.caller, request), m.Answer)
    assert world.desk.handle(CUSTOMER.caller, request) == Refuse("busy", {})
    world.now += 3600
    assert isinstance(world.desk.handle(CUSTOMER.caller, m.Challenge(challenge(at=world.now).raw)), m.Answer)


@given(st.integers(1, 20_000))
def test_words_never_promise_too_much(samples: int) -> None:
    words = confidence_words(samples)
    bound = float(words.removeprefix("99 % sure that less than ").removesuffix(" % is missing"))
    assert bound >= loss_bound_percent(samples) - 1e-6
    assert samples >= samples_needed(99, 10) or bound > 1


def test_words() -> None:
    assert confidence_words(0) == "nothing is proven yet"
    assert confidence_words(459) == "99 % sure that less than 1 % is missing"
    assert confidence_words(458) == "99 % sure that less than 1.1 % is missing"
    assert confidence_words(4603) == "99 % sure that less than 0.1 % is missing"
    assert confidence_words(1) == "99 % sure that less than 99 % is missing"
    assert loss_bound_percent(0) == 100
