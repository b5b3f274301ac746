"""Audit streams over trio.

Source: protocols/specs/audit.md.
"""

from sovereign_protocols.audit import messages as m
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict
from sovereign_protocols.audit.proof import Proof
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.requests.shell import RequestClient
from sovereign_protocols.settle.signed import Signed, parse_signed


class AuditClient(RequestClient):
    """Asks one provider; use `open_client`."""

    PROTOCOL = m.PROTOCOL

    async def challenge(self, challenge: Signed[AuditChallenge]) -> tuple[Signed[AuditAnswer], Proof]:
        """Ask for a proof; what it is worth, the caller judges.

        Raises:
            RefusedError: the provider does not answer this auditor.
            RemoteProtocolError: the answer is to something else, or not signed by the provider.
        """
        message = await self._ask(m.Challenge(challenge.raw), m.Answer)
        answer = parse_signed(message.answer, AuditAnswer, self._network_id)
        if answer.signer != self.peer.device or answer.body.challenge != challenge.content_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the answer to another challenge")
        return answer, Proof(message.leaf, message.path)

    async def verdict(
        self,
        verdict: Signed[AuditVerdict],
        challenge: Signed[AuditChallenge],
        answer: Signed[AuditAnswer] | None,
    ) -> None:
        """Tell the provider what was concluded; returns when it has stored it."""
        note = m.VerdictNote(verdict.raw, challenge.raw, answer.raw if answer else b"")
        kept = await self._ask(note, m.VerdictKept)
        if kept.hash != verdict.statement_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the provider kept another verdict")
