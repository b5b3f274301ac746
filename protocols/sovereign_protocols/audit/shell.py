"""Audit streams over trio.

Source: protocols/specs/audit.md.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.audit import messages as m
from sovereign_protocols.audit.bodies import AuditAnswer, AuditChallenge, AuditVerdict
from sovereign_protocols.audit.proof import Proof
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.market.core import ClientStream, ServerStream
from sovereign_protocols.market.desk import Caller
from sovereign_protocols.market.shell import Desk, PeerCheck, ask, certificate_check, greet, serve_requests
from sovereign_protocols.settle.signed import Signed, parse_signed


class AuditClient:
    """Asks one provider; use `open_audit`. Not for several tasks at once.

    Args:
        stream: to the provider.
        core: ready for requests.
        provider: its identity and device.
        network_id: 32 bytes.
    """

    def __init__(self, stream: trio.abc.Stream, core: ClientStream, provider: Caller, network_id: bytes) -> None:
        self._stream = stream
        self._core = core
        self._network_id = network_id
        self.provider = provider

    async def challenge(self, challenge: Signed[AuditChallenge]) -> tuple[Signed[AuditAnswer], Proof]:
        """Ask for a proof; what it is worth, the caller judges.

        Raises:
            RefusedError: the provider does not answer this auditor.
            RemoteProtocolError: the answer is to something else, or not signed by the provider.
        """
        message = await ask(self._stream, self._core, m.Challenge(challenge.raw), m.Answer)
        answer = parse_signed(message.answer, AuditAnswer, self._network_id)
        if answer.signer != self.provider.device or answer.body.challenge != challenge.content_hash:
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
        kept = await ask(self._stream, self._core, note, m.VerdictKept)
        if kept.hash != verdict.statement_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the provider kept another verdict")


@asynccontextmanager
async def open_audit(
    stream: trio.abc.Stream,
    *,
    certificate: bytes,
    provider_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck | None = None,
    network_id: bytes = NETWORK_ID_MAIN,
) -> AsyncIterator[AuditClient]:
    """Say hello to a provider; see `sovereign_protocols.market.shell.open_market`."""
    core = ClientStream(m.ANSWERS, m.decode_message)
    async with stream:
        provider = await greet(
            stream,
            core,
            certificate=certificate,
            peer_device=provider_device,
            clock=clock,
            check=check or certificate_check(network_id),
        )
        yield AuditClient(stream, core, provider, network_id)


async def serve_audit(
    stream: trio.abc.Stream,
    desk: Desk,
    *,
    certificate: bytes,
    caller_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck | None = None,
    network_id: bytes = NETWORK_ID_MAIN,
) -> None:
    """Answer one caller until it stops asking; see `sovereign_protocols.market.shell.serve_market`."""
    await serve_requests(
        stream,
        desk,
        ServerStream(m.ANSWERS, m.decode_message),
        certificate=certificate,
        caller_device=caller_device,
        clock=clock,
        check=check or certificate_check(network_id),
    )
