"""What this node knows of uptime: whom it observes, what it saw, what others reported, how a period counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sovereign_node.clock import Clock
from sovereign_node.services.contract_book import load_agreement
from sovereign_node.store import State
from sovereign_node.store.contracts import LIVE_STATES, Contract
from sovereign_node.store.uptime import Appointment, MaintenanceNotice
from sovereign_protocols.market.acts import ActKind, SignedAct, parse_act
from sovereign_protocols.market.prices import UptimeCount
from sovereign_protocols.market.refusals import Reason, RefusedError
from sovereign_protocols.market.terms import Agreement
from sovereign_protocols.probe.bodies import ProbeReceipt
from sovereign_protocols.probe.windows import Maintenance, count_windows, excluded_windows, whole_windows
from sovereign_protocols.requests.desk import Caller
from sovereign_protocols.settle.signed import Signed

#: Each costs a probe in ten minutes; a stranger must not make this device probe without end.
MAX_APPOINTMENTS = 256


@dataclass(frozen=True)
class UptimeView:
    """The uptime of one contract's provider, for people.

    Args:
        counted: by the observers that the contract names; only this earns a bonus.
        seen: by everybody whose observations this node has.
        observers: device keys that the contract names.
    """

    counted: UptimeCount
    seen: UptimeCount
    observers: tuple[bytes, ...]


class UptimeBook:
    """The book of probes in the state database; it fits `sovereign_protocols.probe.desk.ProbeBook`.

    All methods block.

    Args:
        state: this node's state.
        identity_id: of this device's owner, 32 bytes.
        device_id: of this device, 32 bytes.
        clock: wall time.
        network_id: 32 bytes.
    """

    def __init__(self, state: State, identity_id: bytes, device_id: bytes, clock: Clock, network_id: bytes) -> None:
        self._state = state
        self._identity_id = identity_id
        self._device_id = device_id
        self._clock = clock
        self._network_id = network_id
        self._agreements: dict[bytes, Agreement] = {}

    # --- contracts -------------------------------------------------------------------------------------------

    def agreement(self, contract: Contract) -> Agreement:
        """Read the terms in force; their signatures are checked once."""
        known = self._agreements.get(contract.contract_id)
        if known is None or known.terms.revision != contract.revision:
            known = load_agreement(self._state, contract, self._network_id)
            self._agreements[contract.contract_id] = known
        return known

    def live(self, role: str) -> list[Contract]:
        """Read the contracts in which this node has a role and that hold data."""
        return self._state.contracts.all(role=role, states=LIVE_STATES)

    def providers(self, *, also_unnamed: bool) -> set[bytes]:
        """Return the devices that this one observes.

        Args:
            also_unnamed: all providers of the own identity, not only those whose contracts name this device.
        """
        found = {
            contract.provider_device
            for contract in self.live("customer")
            if also_unnamed or self._device_id in self.agreement(contract).terms.observers
        }
        found |= {item.provider_device for item in self._state.uptime.appointments(after_at=self._clock())}
        return found - {self._device_id}

    # --- ProbeBook -------------------------------------------------------------------------------------------

    def may_probe(self, caller: Caller) -> bool:
        """See ProbeBook."""
        return any(self._concerns(caller, contract) for contract in self.live("provider"))

    def notices(self, caller: Caller, now: int) -> Sequence[bytes]:
        """See ProbeBook."""
        concerned = [contract for contract in self.live("provider") if self._concerns(caller, contract)]
        return [
            notice.raw
            for contract in concerned
            for notice in self._state.uptime.notices(contract.contract_id, after_at=now)
        ]

    def keep(self, receipt: Signed[ProbeReceipt]) -> None:
        """See ProbeBook."""
        body = receipt.body
        self._state.uptime.observe(body.provider, body.observer, body.window, is_good=True, receipt=receipt.raw)

    def may_read(self, caller: Caller, provider: bytes) -> bool:
        """See ProbeBook."""
        return bool(self._contracts_with(caller, provider))

    def observations(self, provider: bytes, windows: range) -> Mapping[int, bool]:
        """See ProbeBook."""
        own = frozenset({self._device_id})
        return self._state.uptime.windows(provider, windows.start, windows.stop, observers=own)

    def notices_of(self, provider: bytes, caller: Caller) -> Sequence[bytes]:
        """See ProbeBook."""
        return [
            notice.raw
            for contract_id in self._contracts_with(caller, provider)
            for notice in self._state.uptime.notices(contract_id)
        ]

    def appoint(self, agreement: Agreement) -> None:
        """See ProbeBook."""
        now, terms = self._clock(), agreement.terms
        known = {item.contract_id for item in self._state.uptime.appointments(after_at=now)}
        if len(known) >= MAX_APPOINTMENTS and agreement.contract_id not in known:
            raise RefusedError(Reason.TOO_MANY, {"max_contracts": MAX_APPOINTMENTS})
        self._state.uptime.appoint(
            Appointment(
                agreement.contract_id,
                terms.revision,
                terms.customer_identity,
                terms.provider_identity,
                terms.provider_device,
                terms.end_at,
                agreement.customer.raw,
                agreement.provider.raw,
            ),
            at=now,
        )

    def _concerns(self, caller: Caller, contract: Contract) -> bool:
        if caller.identity == contract.customer_identity:
            return True
        return caller.device in self.agreement(contract).terms.observers

    def _contracts_with(self, caller: Caller, provider: bytes) -> list[bytes]:
        """Return the contracts with a provider to which the caller is a party."""
        own = [item for item in self.live("customer") if item.provider_device == provider]
        found = [
            item.contract_id
            for item in own
            if caller.device == provider or caller.identity in (item.customer_identity, item.provider_identity)
        ]
        for item in self._state.uptime.appointments(after_at=0):
            parties = (item.customer_identity, item.provider_identity)
            if item.provider_device == provider and caller.identity in parties:
                found.append(item.contract_id)
        return found

    # --- what was observed -----------------------------------------------------------------------------------

    def observe(self, provider: bytes, number: int, *, is_good: bool, receipt: bytes = b"") -> None:
        """Note an own observation."""
        self._state.uptime.observe(provider, self._device_id, number, is_good=is_good, receipt=receipt)

    def adopt_notices(self, notices: Sequence[SignedAct]) -> None:
        """Keep maintenance that a provider announced before it began; anything else is left out."""
        now = self._clock()
        for notice in notices:
            act = notice.act
            if act.kind is not ActKind.MAINTENANCE or act.issued_at >= act.effective_at or now >= act.effective_at:
                continue
            self._state.uptime.add_notice(_row(notice), at=now)

    def add_own_notice(self, notice: SignedAct) -> None:
        """Keep a maintenance of this provider."""
        self._state.uptime.add_notice(_row(notice), at=self._clock())

    # --- counting --------------------------------------------------------------------------------------------

    def count(self, contract_id: bytes, from_at: int, until_at: int) -> UptimeCount:
        """Count the windows of a period as its statement does: what the named observers saw, without maintenance.

        Args:
            contract_id: 32 bytes, of a contract in which this node is a party.
            from_at: first second, Unix seconds UTC.
            until_at: first second after.
        """
        contract = self._state.contracts.get(contract_id)
        if contract is None:
            return UptimeCount(0, 0, 0)
        return self._count(contract, from_at, until_at, frozenset(self.agreement(contract).terms.observers))

    def view(self, contract: Contract, from_at: int, until_at: int) -> UptimeView:
        """Count the windows of a period for people."""
        observers = self.agreement(contract).terms.observers
        return UptimeView(
            self._count(contract, from_at, until_at, frozenset(observers)),
            self._count(contract, from_at, until_at, None),
            observers,
        )

    def write_metrics(self) -> None:
        """Bring the windows in storage_metrics up to date: since the start of each live contract."""
        now = self._clock()
        for contract in [*self.live("customer"), *self.live("provider")]:
            seen = self._count(contract, contract.started_at, now, None)
            if seen.observed:
                self._state.metrics.note_windows(
                    contract.contract_id, good=seen.good, observed=seen.observed, at=now
                )

    def _count(
        self, contract: Contract, from_at: int, until_at: int, observers: frozenset[bytes] | None
    ) -> UptimeCount:
        windows = whole_windows(from_at, until_at)
        seen = self._state.uptime.windows(
            contract.provider_device, windows.start, windows.stop, observers=observers
        )
        notices = [
            Maintenance(_issued_at(notice, self._network_id), notice.from_at, notice.until_at)
            for notice in self._state.uptime.notices(contract.contract_id)
        ]
        return count_windows(windows, seen, excluded_windows(notices, contract_start_at=contract.started_at))


def _row(notice: SignedAct) -> MaintenanceNotice:
    act = notice.act
    return MaintenanceNotice(
        notice.statement_hash, notice.signer, act.contract, act.effective_at, act.until_at, notice.raw
    )


def _issued_at(notice: MaintenanceNotice, network_id: bytes) -> int:
    return parse_act(notice.raw, network_id).act.issued_at
