"""Probe streams over trio.

Source: protocols/specs/probe.md.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteProtocolError
from sovereign_protocols.market.acts import SignedAct, parse_act
from sovereign_protocols.market.core import ClientStream, ServerStream
from sovereign_protocols.market.desk import Caller
from sovereign_protocols.market.shell import Desk, PeerCheck, ask, certificate_check, greet, serve_requests
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.probe import messages as m
from sovereign_protocols.probe.bodies import ANSWER_WITHIN_S, ProbeReceipt, UptimeReport
from sovereign_protocols.settle.signed import Signed, countersign, parse_signed


@dataclass(frozen=True)
class ProbeOutcome:
    """A provider's answer.

    Args:
        receipt: signed by the provider.
        notices: maintenance that it announced; every one is signed by it.
    """

    receipt: Signed[ProbeReceipt]
    notices: tuple[SignedAct, ...]


class ProbeClient:
    """Asks one peer; use `open_probe`. Not for several tasks at once.

    Args:
        stream: to the peer.
        core: ready for requests.
        peer: its identity and device.
        network_id: 32 bytes.
    """

    def __init__(self, stream: trio.abc.Stream, core: ClientStream, peer: Caller, network_id: bytes) -> None:
        self._stream = stream
        self._core = core
        self._network_id = network_id
        self.peer = peer

    async def probe(self, nonce: bytes, device_key: SigningKey, sent_at: int) -> ProbeOutcome:
        """Ask for a sign of life, and give the provider the own signature under its answer.

        Args:
            nonce: fresh, 16 to 32 random bytes.
            device_key: of the observer.
            sent_at: Unix seconds UTC.

        Raises:
            RefusedError: the provider does not know this observer.
            ConnectionLostError: no answer within 10 s.
            RemoteProtocolError: the answer is to something else, or not signed by the provider.
        """
        with trio.move_on_after(ANSWER_WITHIN_S) as scope:
            answer = await ask(self._stream, self._core, m.Probe(nonce, sent_at), m.ProbeAnswer)
        if scope.cancelled_caught:
            raise ConnectionLostError(f"no answer within {ANSWER_WITHIN_S} s")
        receipt = parse_signed(answer.receipt, ProbeReceipt, self._network_id)
        body = receipt.body
        asked = (device_key.public, self.peer.device, nonce, sent_at)
        if (body.observer, body.provider, body.nonce, body.sent_at) != asked or receipt.signer != self.peer.device:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the receipt of another probe")
        own = countersign(receipt, device_key, self._network_id)
        kept = await ask(self._stream, self._core, m.ProbeRecord(own.raw), m.ProbeKept)
        if kept.hash != own.statement_hash:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the provider kept another receipt")
        return ProbeOutcome(receipt, self._notices(answer.notices, self.peer.device))

    async def windows(
        self, provider: bytes, first: int, count: int
    ) -> tuple[Signed[UptimeReport], list[SignedAct]]:
        """Ask an observer what it saw of a provider.

        Args:
            provider: device key, 32 bytes.
            first: number of the first window.
            count: how many.

        Raises:
            RefusedError: no contract with that provider, or the windows are not over yet.
        """
        answer = await ask(self._stream, self._core, m.WindowsQuery(provider, first, count), m.WindowsAnswer)
        report = parse_signed(answer.report, UptimeReport, self._network_id)
        body = report.body
        if report.signer != self.peer.device or (body.observer, body.provider) != (self.peer.device, provider):
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the report of another observer")
        if body.first != first or body.count > count:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "a report of other windows")
        return report, list(self._notices(answer.notices, provider))

    async def appoint(self, agreement: Agreement) -> None:
        """Ask an observer that a contract names to begin; asking again has no further effect.

        Raises:
            RefusedError: the contract does not name it, is over, or it observes too many already.
        """
        request = m.Appoint(agreement.customer.raw, agreement.provider.raw)
        answer = await ask(self._stream, self._core, request, m.Appointed)
        if answer.contract != agreement.contract_id:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the observer took another contract")

    def _notices(self, raws: tuple[bytes, ...], provider: bytes) -> tuple[SignedAct, ...]:
        notices = tuple(parse_act(raw, self._network_id) for raw in raws)
        if any(notice.signer != provider for notice in notices):
            raise RemoteProtocolError(ErrorCode.SIGNATURE, "only the provider announces its maintenance")
        return notices


@asynccontextmanager
async def open_probe(
    stream: trio.abc.Stream,
    *,
    certificate: bytes,
    peer_device: bytes,
    clock: Callable[[], int],
    check: PeerCheck | None = None,
    network_id: bytes = NETWORK_ID_MAIN,
) -> AsyncIterator[ProbeClient]:
    """Say hello to a peer; see `sovereign_protocols.market.shell.open_market`."""
    core = ClientStream(m.ANSWERS, m.decode_message)
    async with stream:
        peer = await greet(
            stream,
            core,
            certificate=certificate,
            peer_device=peer_device,
            clock=clock,
            check=check or certificate_check(network_id),
        )
        yield ProbeClient(stream, core, peer, network_id)


async def serve_probe(
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
