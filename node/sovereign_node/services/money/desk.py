"""The answering side of settlement in a node: meters are brought up to now first; credit notes and notices besides.

Source: protocols/specs/settle.md, "Answering".
"""

from __future__ import annotations

from collections.abc import Callable

from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType
from sovereign_node.services.money.book import MoneyBook
from sovereign_node.services.money.notes import NoteKeeper
from sovereign_node.services.money.provider_meter import ProviderMeter
from sovereign_node.services.money.sponsored import SponsoredContracts
from sovereign_node.store import State
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.requests.desk import Caller, Desk
from sovereign_protocols.requests.wire import Message
from sovereign_protocols.settle import messages as m
from sovereign_protocols.settle.bodies import CreditNote, Voucher
from sovereign_protocols.settle.desk import SettlementDesk
from sovereign_protocols.settle.signed import Signed, parse_signed

_METERED = (m.ReportQuery, m.ReceiptQuery, m.StatementQuery)


class MoneyDesk(Desk[MoneyBook]):
    """Answers requests about money as a provider, and credit notes as either side.

    Args:
        device_key: of this device.
        state: contracts and acts.
        book: of the provider's side.
        meter: of the provider's side.
        notes: credit notes of both sides.
        clock: wall time.
        network_id: 32 bytes.
    """

    def __init__(
        self,
        *,
        device_key: SigningKey,
        state: State,
        book: MoneyBook,
        meter: ProviderMeter,
        notes: NoteKeeper,
        clock: Callable[[], int],
        network_id: bytes = NETWORK_ID_MAIN,
    ) -> None:
        super().__init__(device_key=device_key, book=book, clock=clock, network_id=network_id)
        self._state = state
        self._meter = meter
        self._notes = notes
        self._sponsored = SponsoredContracts(state, device_key, clock, network_id)
        self._desk = SettlementDesk(device_key=device_key, book=book, clock=clock, network_id=network_id)

    def handle(self, caller: Caller, request: Message) -> Message:
        """Answer one request; blocks. Requests of many customers share a commit; an answer leaves after it."""
        try:
            return self._state.grouped(lambda: super(MoneyDesk, self).handle(caller, request))
        except BaseException:
            self._meter.forget()
            raise

    def _answer(self, caller: Caller, request: Message) -> Message:
        match request:
            case m.CreditOffer(note=raw):
                return m.CreditAnswer(self._credit(caller, parse_signed(raw, CreditNote, self._network_id)))
            case m.CreditQuery(contract=contract_id):
                return m.CreditList(self._notes.offered(caller, contract_id))
            case m.GrantNote(grant=raw):
                return self._sponsored.keep_grant(caller, raw)
            case m.SponsorQuery():
                return self._sponsored.answer(caller, request)
            case m.NoticeQuery(contract=contract_id):
                return m.NoticeList(self._notices(caller, contract_id))
        if isinstance(request, _METERED) and self._is_customer(caller, request.contract):
            self._meter.flush(request.contract, for_report=isinstance(request, m.ReportQuery))
        answer = self._desk.handle(caller, request)
        if isinstance(answer, m.VoucherKept) and isinstance(request, m.VoucherNote):
            self._meter.resume(parse_signed(request.voucher, Voucher, self._network_id).body.contract)
        return answer

    def _credit(self, caller: Caller, note: Signed[CreditNote]) -> bytes:
        if self._sponsored.is_sponsor(caller, note.body.contract):
            return self._sponsored.take_note(caller, note)
        return self._notes.take(caller, note)

    def _is_customer(self, caller: Caller, contract_id: bytes) -> bool:
        row = self._state.contracts.get(contract_id)
        return row is not None and row.role == "provider" and row.customer_identity == caller.identity

    def _notices(self, caller: Caller, contract_id: bytes) -> tuple[bytes, ...]:
        if not self._is_customer(caller, contract_id):
            raise RefusedError(Reason.UNKNOWN_CONTRACT)
        own = [
            item.raw
            for item in self._state.contracts.statements(contract_id)
            if item.statement_type == int(StatementType.ACCEPTANCE) and item.signer == self._key.public
        ]
        return tuple(own[-m.MAX_NOTICES :])
