"""Audits by itself: learns what is placed where, draws chunks, asks for proofs, and acts on failures."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import structlog
import trio

from sovereign_crypto.merkle import leaf_count, leaf_root
from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_node.chunkstore import ChunkStore
from sovereign_node.clock import Clock
from sovereign_node.errors import NodeError
from sovereign_node.keys import DeviceKeys
from sovereign_node.net.streams import PeerStream
from sovereign_node.services.audit_book import OnFailed, StateAuditBook, note_failure
from sovereign_node.services.audit_plan import DAY_S, AuditPlan, has_failed_by_silence
from sovereign_node.services.chunk_identities import IdentityDirectory
from sovereign_node.services.money.notes import credit_due_key
from sovereign_node.services.own_identity import OwnIdentity
from sovereign_node.services.peer_check import introduction_of, known_identity_check
from sovereign_node.services.peer_finder import PeerFinder
from sovereign_node.services.placements import Placements
from sovereign_node.services.project_targets import ProjectTargets
from sovereign_node.store import State
from sovereign_node.store.audits import FAILED, NO_ANSWER, PASSED, AuditRecord, PlacedChunk
from sovereign_node.store.contracts import LIVE_STATES, Contract
from sovereign_node.vault.errors import TargetError
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict, Method, Outcome
from sovereign_protocols.audit.desk import AuditDesk
from sovereign_protocols.audit.messages import PROTOCOL, PROTOCOL_ID
from sovereign_protocols.audit.proof import Proof, is_intact, judge_hash, judge_leaf
from sovereign_protocols.audit.shell import AuditClient
from sovereign_protocols.errors import ProtocolError
from sovereign_protocols.requests.shell import open_client, serve_requests
from sovereign_protocols.settle.signed import NO_HASH, Signed, sign_body

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

TICK_S: Final = 60
FETCH: Final = "fetch"
#: Passed audits are kept so long for statistics; failures stay for ever.
KEEP_PASSED_S: Final = 90 * DAY_S
#: Bytes of challenge and answer, for the cost of an audit that moves no chunk.
_PROOF_BYTES: Final = 1_024

Sleep = Callable[[float], Awaitable[object]]


class Repairs(Protocol):
    """Puts back what a provider lost."""

    def request(self, project_id: bytes, contract_id: bytes, chunk_id: bytes) -> None:
        """Ask for a repair; returns at once."""
        ...


class Audits:
    """Audits the providers of this identity, and answers auditors.

    Args:
        identity: certificate to show.
        keys: signs challenges, answers and verdicts.
        state: contracts, placed chunks, audits.
        chunk_store: own copies of chunks, and what this provider stores.
        finder: reaches providers.
        targets: fetches chunks.
        placements: knows what is stored where.
        repairs: told of failures.
        clock: wall time.
        on_failed: told of each audit that this provider failed.
        sleep: waits for a number of seconds of ``clock``.
        choose: source of random draws.
    """

    def __init__(
        self,
        identity: OwnIdentity,
        keys: DeviceKeys,
        state: State,
        chunk_store: ChunkStore,
        finder: PeerFinder,
        targets: ProjectTargets,
        placements: Placements,
        repairs: Repairs,
        clock: Clock,
        *,
        on_failed: OnFailed = lambda _contract_id, _verdict: None,
        sleep: Sleep = trio.sleep,
        choose: random.Random | None = None,
    ) -> None:
        self._identity = identity
        self._keys = keys
        self._state = state
        self._chunk_store = chunk_store
        self._finder = finder
        self._targets = targets
        self._placements = placements
        self._repairs = repairs
        self._clock = clock
        check = known_identity_check(identity, IdentityDirectory(chunk_store, identity.network_id))
        self._introduction = partial(introduction_of, identity, clock, check)
        self._sleep = sleep
        self._random = choose or random.SystemRandom()
        self._thinned_at = 0
        self._plan = AuditPlan(state, clock, self._random)
        network_id = identity.network_id
        book = StateAuditBook(state, chunk_store, network_id, on_failed)
        self._desk = AuditDesk(device_key=keys.signing, book=book, clock=clock, network_id=network_id)

    async def handle(self, stream: PeerStream) -> None:
        """Serve one audit stream."""
        caller_device = public_key_from_peer_id(stream.peer_id)
        await serve_requests(stream, self._desk, PROTOCOL, self._introduction(), caller_device)

    async def run(self, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""
        task_status.started()
        while True:
            await self.run_once()
            await self._sleep(TICK_S)

    async def run_once(self) -> None:
        """Learn what is new, and do the audits that are due."""
        now = self._clock()
        if now - self._thinned_at >= DAY_S:
            self._thinned_at = now
            await trio.to_thread.run_sync(self._state.audits.thin, now - KEEP_PASSED_S)
        await self._placements.learn()
        for contract in await trio.to_thread.run_sync(self.contracts):
            for chunk, is_sample in await trio.to_thread.run_sync(self._plan.due, contract):
                await self.audit(contract, chunk, is_sample=is_sample)

    def contracts(self) -> list[Contract]:
        """Return the contracts whose chunks this device audits. Blocks."""
        found = self._state.contracts.all(role="customer", states=LIVE_STATES)
        return [item for item in found if item.provider_device != self._keys.public]

    async def sample(self, contract: Contract, samples: int) -> AsyncIterator[AuditRecord]:
        """Audit random chunks now; the same chunk may be drawn twice.

        Args:
            contract: as customer.
            samples: how many.
        """
        await self._placements.learn(now=True)
        for _ in range(samples):
            chunk, is_sample = await trio.to_thread.run_sync(self._plan.draw, contract)
            if chunk is None:
                return
            record = await self.audit(contract, chunk, is_sample=is_sample)
            if record is not None:
                yield record

    async def audit(self, contract: Contract, chunk: PlacedChunk, *, is_sample: bool) -> AuditRecord | None:
        """Audit one chunk, keep what came of it, and act on a failure.

        Returns:
            The record; None if it turned out that the chunk is not to be stored any more.
        """
        try:
            record, verdict = await self._ask(contract, chunk, is_sample)
        except (NodeError, ProtocolError, TargetError) as error:
            log.info("audit_not_answered", contract_id=contract.contract_id.hex(), reason=str(error))
            record, verdict = await trio.to_thread.run_sync(self._silence, contract, chunk, is_sample)
        if record.outcome == FAILED and not await self._placements.is_placed(chunk):
            # The owner gave it up meanwhile, on this device or another one.
            return None
        await trio.to_thread.run_sync(self._keep, record, verdict)
        if record.outcome == FAILED:
            self._plan.escalate(contract.contract_id)
            self._repairs.request(chunk.project_id, chunk.contract_id, chunk.chunk_id)
        return record

    async def _ask(
        self, contract: Contract, chunk: PlacedChunk, is_sample: bool
    ) -> tuple[AuditRecord, AuditVerdict | None]:
        sealed = await trio.to_thread.run_sync(self._own_copy, chunk.chunk_id)
        if sealed is None and not chunk.leaf_root:
            fetched = await self._fetch(contract, chunk)
            if fetched is not None:
                return await self._passed_by_fetch(contract, chunk, fetched, is_sample), None
        method = Method.HASH if sealed is not None or not chunk.leaf_root else Method.LEAF
        leaf = self._random.randrange(leaf_count(chunk.size_bytes)) if method is Method.LEAF else 0
        challenge = self._challenge(chunk, contract, method, leaf)
        async with self._session(contract) as client:
            answer, proof = await client.challenge(challenge)
            outcome = _judge(challenge.body, answer.body, proof, chunk, sealed)
            if outcome is Outcome.FAILED:
                fetched = await self._fetch(contract, chunk) if sealed is not None or chunk.leaf_root else None
                if fetched is not None:
                    return await self._passed_by_fetch(contract, chunk, fetched, is_sample), None
            record = self._record(
                contract, chunk, method, outcome, is_sample, challenge=challenge.raw, answer=answer.raw
            )
            if outcome is Outcome.PASSED:
                return record, None
            verdict = self._verdict(chunk, contract, challenge, answer)
            signed = sign_body(verdict, self._keys.signing, self._identity.network_id)
            await client.verdict(signed, challenge, answer)
        return _with_verdict(record, signed), verdict

    def _silence(
        self, contract: Contract, chunk: PlacedChunk, is_sample: bool
    ) -> tuple[AuditRecord, AuditVerdict | None]:
        """Note that no answer came; the third time in a row it is a failure. Blocks."""
        challenge = self._challenge(chunk, contract, Method.HASH, 0)
        record = self._record(contract, chunk, Method.HASH, NO_ANSWER, is_sample, challenge=challenge.raw)
        before = self._state.audits.records(contract.contract_id, chunk_id=chunk.chunk_id, limit=100)
        if not has_failed_by_silence([*before], record.audited_at):
            self._plan.ask_again(chunk)
            return record, None
        verdict = self._verdict(chunk, contract, challenge, None)
        signed = sign_body(verdict, self._keys.signing, self._identity.network_id)
        return _with_verdict(record, signed), verdict

    async def _passed_by_fetch(
        self, contract: Contract, chunk: PlacedChunk, fetched: bytes, is_sample: bool
    ) -> AuditRecord:
        root = await trio.to_thread.run_sync(leaf_root, fetched)
        now = self._clock()
        await trio.to_thread.run_sync(
            lambda: self._state.placed_chunks.note_pass(chunk.contract_id, chunk.chunk_id, at=now, leaf_root=root)
        )
        return self._record(contract, chunk, FETCH, PASSED, is_sample, moved_bytes=len(fetched))

    async def _fetch(self, contract: Contract, chunk: PlacedChunk) -> bytes | None:
        """Fetch a chunk whole; None if the provider does not give the bytes that its id names.

        Raises:
            NodeError, TargetError: the provider did not answer.
        """
        found: bytes | None = None
        async with self._targets.open_contract(contract) as target:
            # To the end of the download: a generator that is left early would close itself too late.
            async for chunk_id, sealed in target.get([chunk.chunk_id]):
                if chunk_id == chunk.chunk_id and await trio.to_thread.run_sync(is_intact, chunk_id, sealed):
                    found = sealed
        return found

    def _own_copy(self, chunk_id: bytes) -> bytes | None:
        """Return the same sealed bytes if this device stores them for its own identity. Blocks."""
        for contract in self._state.contracts.all(role="provider", customer_identity=self._identity.identity_id):
            if contract.contract_id in self._chunk_store.contracts():
                sealed = self._chunk_store.get(contract.contract_id, chunk_id)
                if is_intact(chunk_id, sealed):
                    return sealed
        return None

    def _keep(self, record: AuditRecord, verdict: AuditVerdict | None) -> None:
        with self._state.transaction():
            self._state.audits.add(record)
            if record.outcome == PASSED:
                self._state.placed_chunks.note_pass(record.contract_id, record.chunk_id, at=record.audited_at)
            if verdict is not None:
                note_failure(self._state, self._keys.peer_id, verdict, at=record.audited_at)
                self._state.meta.set(credit_due_key(record.contract_id), "1")

    def _challenge(
        self, chunk: PlacedChunk, contract: Contract, method: Method, leaf: int
    ) -> Signed[AuditChallenge]:
        body = AuditChallenge(
            contract=chunk.contract_id,
            provider=contract.provider_device,
            auditor=self._keys.public,
            chunk=chunk.chunk_id,
            method=method,
            leaf=leaf,
            nonce=os.urandom(32),
            at=self._clock(),
        )
        return sign_body(body, self._keys.signing, self._identity.network_id)

    def _verdict(
        self,
        chunk: PlacedChunk,
        contract: Contract,
        challenge: Signed[AuditChallenge],
        answer: Signed[AuditAnswer] | None,
    ) -> AuditVerdict:
        return AuditVerdict(
            contract=chunk.contract_id,
            provider=contract.provider_device,
            chunk=chunk.chunk_id,
            challenge=challenge.content_hash,
            answer=answer.content_hash if answer else NO_HASH,
            outcome=Outcome.FAILED,
            size=chunk.size_bytes,
            since_at=chunk.passed_at or chunk.placed_at,
            at=self._clock(),
        )

    def _record(
        self,
        contract: Contract,
        chunk: PlacedChunk,
        method: str,
        outcome: str,
        is_sample: bool,
        *,
        moved_bytes: int = _PROOF_BYTES,
        challenge: bytes = b"",
        answer: bytes = b"",
    ) -> AuditRecord:
        return AuditRecord(
            contract_id=chunk.contract_id,
            provider_device=contract.provider_device,
            chunk_id=chunk.chunk_id,
            method=str(method),
            outcome=str(outcome),
            is_sample=is_sample,
            size_bytes=chunk.size_bytes,
            moved_bytes=moved_bytes,
            passed_before_at=chunk.passed_at or chunk.placed_at,
            audited_at=self._clock(),
            challenge=challenge,
            answer=answer,
        )

    @asynccontextmanager
    async def _session(self, contract: Contract) -> AsyncIterator[AuditClient]:
        stream = await self._finder.open_stream(peer_id_from_public_key(contract.provider_device), PROTOCOL_ID)
        async with open_client(AuditClient, stream, self._introduction(), contract.provider_device) as client:
            yield client


def _judge(
    challenge: AuditChallenge, answer: AuditAnswer, proof: Proof, chunk: PlacedChunk, sealed: bytes | None
) -> Outcome:
    if sealed is not None:
        return judge_hash(challenge, answer, sealed)
    if chunk.leaf_root:
        return judge_leaf(challenge, answer, proof, root=chunk.leaf_root, size_bytes=chunk.size_bytes)
    # Only asked after a fetch that brought nothing: whatever is signed now, the chunk cannot be read.
    return Outcome.FAILED


def _with_verdict(record: AuditRecord, signed: Signed[AuditVerdict]) -> AuditRecord:
    return replace(record, outcome=FAILED, verdict=signed.raw)
