"""A provider's answers to auditors. Synchronous, for a worker thread.

Source: protocols/specs/audit.md, "Answering".
"""

from typing import Final, Protocol, TypeVar

from sovereign_protocols.audit import messages as m
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict, Outcome
from sovereign_protocols.audit.proof import make_answer
from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.desk import Caller, Desk
from sovereign_protocols.requests.wire import Message
from sovereign_protocols.settle.signed import NO_HASH, Body, Signed, parse_signed, sign_body

#: A sweep over a small contract and its daily samples fit; more would only keep the disk busy.
MAX_CHALLENGES_PER_HOUR: Final = 4000
_HOUR_S: Final = 3600

Kind = TypeVar("Kind", bound=Body)


class AuditBook(Protocol):
    """What a provider knows about its auditors and keeps of their verdicts; every method blocks."""

    def may_audit(self, caller: Caller, contract_id: bytes) -> bool:
        """Tell whether the caller is the customer of a contract, or an observer that it names."""
        ...

    def chunk(self, contract_id: bytes, chunk_id: bytes) -> bytes | None:
        """Read the stored bytes of a chunk, not verified."""
        ...

    def keep_verdict(
        self,
        verdict: Signed[AuditVerdict],
        challenge: Signed[AuditChallenge],
        answer: Signed[AuditAnswer] | None,
        at: int,
    ) -> None:
        """Keep a verdict with what it rests on; the same one twice is kept once."""
        ...


class AuditDesk(Desk[AuditBook]):
    """Answers challenges about this provider's chunks.

    Args:
        device_key: signs answers.
        book: where everything is kept.
        clock: Unix seconds UTC.
        network_id: 32 bytes.
    """

    def _answer(self, caller: Caller, request: Message) -> Message:
        match request:
            case m.Challenge(challenge=raw):
                return self._challenge(caller, raw)
            case m.VerdictNote():
                return self._verdict(caller, request)
            case _:
                raise RefusedError(Reason.MALFORMED)

    def _signed_by(self, device: bytes, raw: bytes, kind: type[Kind]) -> Signed[Kind]:
        signed = parse_signed(raw, kind, self._network_id)
        if signed.signer != device:
            raise RefusedError(Reason.WRONG_PARTY)
        return signed

    def _challenge(self, caller: Caller, raw: bytes) -> m.Answer:
        challenge = self._signed_by(caller.device, raw, AuditChallenge)
        body = challenge.body
        self._check_parties(caller, body.contract, body.provider)
        if body.auditor != caller.device:
            raise RefusedError(Reason.WRONG_PARTY)
        now = self._clock()
        if abs(body.at - now) > CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        self._calls.take(caller.device, now // _HOUR_S, MAX_CHALLENGES_PER_HOUR)
        answer, proof = make_answer(challenge, self._book.chunk(body.contract, body.chunk), now)
        return m.Answer(sign_body(answer, self._key, self._network_id).raw, proof.leaf, proof.path)

    def _verdict(self, caller: Caller, note: m.VerdictNote) -> m.VerdictKept:
        verdict = self._signed_by(caller.device, note.verdict, AuditVerdict)
        challenge = self._signed_by(caller.device, note.challenge, AuditChallenge)
        answer = self._signed_by(self._key.public, note.answer, AuditAnswer) if note.answer else None
        body = verdict.body
        self._check_parties(caller, body.contract, body.provider)
        rests_on = (body.contract, body.provider, body.chunk, body.challenge, body.answer)
        asked = challenge.body
        answered = answer.content_hash if answer else NO_HASH
        if rests_on != (asked.contract, asked.provider, asked.chunk, challenge.content_hash, answered):
            raise RefusedError(Reason.WRONG_PARTY)
        if answer is not None and answer.body.challenge != challenge.content_hash:
            raise RefusedError(Reason.WRONG_PARTY)
        now = self._clock()
        if body.at > now + CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        if body.outcome == Outcome.FAILED:
            self._book.keep_verdict(verdict, challenge, answer, now)
        return m.VerdictKept(verdict.statement_hash)

    def _check_parties(self, caller: Caller, contract_id: bytes, provider: bytes) -> None:
        if provider != self._key.public or not self._book.may_audit(caller, contract_id):
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
