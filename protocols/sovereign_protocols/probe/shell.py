"""Probe streams over trio.

Source: protocols/specs/probe.md.
"""

from dataclasses import dataclass

import trio

from sovereign_crypto.signing import SigningKey
from sovereign_protocols.errors import ConnectionLostError, ErrorCode, RemoteProtocolError
from sovereign_protocols.market.acts import SignedAct, parse_act
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.probe import messages as m
from sovereign_protocols.probe.bodies import ANSWER_WITHIN_S, ProbeReceipt, UptimeReport
from sovereign_protocols.requests.shell import RequestClient
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


class ProbeClient(RequestClient):
    """Asks one peer; use `open_client`."""

    PROTOCOL = m.PROTOCOL

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
            answer = await self._ask(m.Probe(nonce, sent_at), m.ProbeAnswer)
        if scope.cancelled_caught:
            raise ConnectionLostError(f"no answer within {ANSWER_WITHIN_S} s")
        receipt = parse_signed(answer.receipt, ProbeReceipt, self._network_id)
        body = receipt.body
        asked = (device_key.public, self.peer.device, nonce, sent_at)
        if (body.observer, body.provider, body.nonce, body.sent_at) != asked or receipt.signer != self.peer.device:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the receipt of another probe")
        own = countersign(receipt, device_key, self._network_id)
        kept = await self._ask(m.ProbeRecord(own.raw), m.ProbeKept)
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
        answer = await self._ask(m.WindowsQuery(provider, first, count), m.WindowsAnswer)
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
        answer = await self._ask(request, m.Appointed)
        if answer.contract != agreement.contract_id:
            raise RemoteProtocolError(ErrorCode.UNEXPECTED, "the observer took another contract")

    def _notices(self, raws: tuple[bytes, ...], provider: bytes) -> tuple[SignedAct, ...]:
        notices = tuple(parse_act(raw, self._network_id) for raw in raws)
        if any(notice.signer != provider for notice in notices):
            raise RemoteProtocolError(ErrorCode.SIGNATURE, "only the provider announces its maintenance")
        return notices
