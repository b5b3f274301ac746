"""Answers of a provider to observers, and of an observer to the parties. Synchronous, for a worker thread.

Source: protocols/specs/probe.md, "Answering".
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from sovereign_protocols.market.offer import CLOCK_SKEW_S
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement, agree, parse_terms
from sovereign_protocols.probe import messages as m
from sovereign_protocols.probe.bodies import ProbeReceipt, UptimeReport
from sovereign_protocols.probe.windows import window_of
from sovereign_protocols.requests.desk import Caller, Desk
from sovereign_protocols.requests.wire import Message
from sovereign_protocols.settle.signed import Signed, parse_signed, sign_body

#: An observer needs one answer in a window; more are for retries.
MAX_PROBES_PER_WINDOW: Final = 20


class ProbeBook(Protocol):
    """What a node knows about its observers and keeps of what they measure; every method blocks."""

    def may_probe(self, caller: Caller) -> bool:
        """Tell whether the caller is a customer of this provider, or an observer that a contract names."""
        ...

    def notices(self, caller: Caller, now: int) -> Sequence[bytes]:
        """Read announced maintenance that concerns a caller who probes this provider."""
        ...

    def keep(self, receipt: Signed[ProbeReceipt]) -> None:
        """Keep a receipt about this provider that an observer signed."""
        ...

    def may_read(self, caller: Caller, provider: bytes) -> bool:
        """Tell whether the caller is a party of a contract with this provider, or the provider itself."""
        ...

    def observations(self, provider: bytes, windows: range) -> Mapping[int, bool]:
        """Read what this node itself observed of a provider."""
        ...

    def appoint(self, agreement: Agreement) -> None:
        """Keep a contract that this node observes from now on.

        Raises:
            RefusedError: reason too_many.
        """
        ...

    def notices_of(self, provider: bytes, caller: Caller) -> Sequence[bytes]:
        """Read maintenance that a provider announced and that concerns the caller."""
        ...


class ProbeDesk(Desk[ProbeBook]):
    """Answers probes about this node, and questions about what it saw of others.

    Args:
        device_key: signs receipts and reports.
        book: where everything is kept.
        clock: Unix seconds UTC.
        network_id: 32 bytes.
    """

    def _answer(self, caller: Caller, request: Message) -> Message:
        match request:
            case m.Probe():
                return self._probe(caller, request)
            case m.ProbeRecord(receipt=raw):
                return self._record(caller, raw)
            case m.WindowsQuery():
                return self._windows(caller, request)
            case m.Appoint():
                return self._appoint(caller, request)
            case _:
                raise RefusedError(Reason.MALFORMED)

    def _probe(self, caller: Caller, probe: m.Probe) -> m.ProbeAnswer:
        now = self._clock()
        if not self._book.may_probe(caller):
            raise RefusedError(Reason.WRONG_PARTY)
        if abs(probe.sent_at - now) > CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        self._calls.take(caller.device, window_of(now), MAX_PROBES_PER_WINDOW)
        receipt = ProbeReceipt(caller.device, self._key.public, probe.nonce, probe.sent_at, now)
        signed = sign_body(receipt, self._key, self._network_id)
        return m.ProbeAnswer(signed.raw, tuple(self._book.notices(caller, now))[: m.MAX_NOTICES])

    def _record(self, caller: Caller, raw: bytes) -> m.ProbeKept:
        receipt = parse_signed(raw, ProbeReceipt, self._network_id)
        body = receipt.body
        if receipt.signer != caller.device or body.observer != caller.device or body.provider != self._key.public:
            raise RefusedError(Reason.WRONG_PARTY)
        now = self._clock()
        if abs(body.sent_at - now) > CLOCK_SKEW_S or abs(body.answered_at - now) > CLOCK_SKEW_S:
            raise RefusedError(Reason.CLOCK_SKEW, {"peer_time": now})
        if not self._book.may_probe(caller):
            raise RefusedError(Reason.WRONG_PARTY)
        self._book.keep(receipt)
        return m.ProbeKept(receipt.statement_hash)

    def _windows(self, caller: Caller, query: m.WindowsQuery) -> m.WindowsAnswer:
        end = min(query.first + query.count, window_of(self._clock()))
        if not self._book.may_read(caller, query.provider):
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        if end <= query.first or query.provider == self._key.public:
            raise RefusedError(Reason.STATE)
        windows = range(query.first, end)
        seen = self._book.observations(query.provider, windows)
        report = UptimeReport.of(self._key.public, query.provider, windows, seen)
        signed = sign_body(report, self._key, self._network_id)
        notices = tuple(self._book.notices_of(query.provider, caller))
        return m.WindowsAnswer(signed.raw, notices[-m.MAX_NOTICES :])

    def _appoint(self, caller: Caller, request: m.Appoint) -> m.Appointed:
        agreement = agree(
            parse_terms(request.customer, self._network_id), parse_terms(request.provider, self._network_id)
        )
        terms = agreement.terms
        if caller.identity not in (terms.customer_identity, terms.provider_identity):
            raise RefusedError(Reason.WRONG_PARTY)
        if self._key.public not in terms.observers:
            raise RefusedError(Reason.OBSERVERS)
        if terms.end_at <= self._clock():
            raise RefusedError(Reason.STATE)
        self._book.appoint(agreement)
        return m.Appointed(agreement.contract_id)
