"""What a provider earns, announces, and how it leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.services.money.overdue import keep_act
from sovereign_node.store.contracts import LIVE_STATES, Contract
from sovereign_protocols.market.acts import Act, ActKind, sign_act
from sovereign_protocols.market.lifecycle import ContractEvent, ContractState, advance, can_advance


@dataclass(frozen=True)
class EarningsParameters:
    """What `earnings` takes."""

    forecast: bool = False


@dataclass(frozen=True)
class MaintenanceParameters:
    """What `maintenance_announce` takes: seconds from now until it begins, and how long it lasts."""

    in_s: int
    for_s: int


@dataclass(frozen=True)
class DrainParameters:
    """What `drain` takes.

    Args:
        stop: take customers again instead.
    """

    stop: bool = False


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def provider_contracts(_: NoParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(
            lambda: [node.money.wallet.balance(item) for item in node.money.wallet.contracts("provider")]
        )

    async def earnings(parameters: EarningsParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(lambda: node.money.wallet.earnings(forecast=parameters.forecast))

    async def maintenance_announce(parameters: MaintenanceParameters, _report: ReportProgress) -> Any:
        from_at = node.clock() + parameters.in_s
        until_at = from_at + parameters.for_s
        notices = await trio.to_thread.run_sync(node.uptime.announce, from_at, until_at)
        return {"from_at": from_at, "until_at": until_at, "notices": len(notices)}

    async def drain(parameters: DrainParameters, _report: ReportProgress) -> Any:
        if not node.config.is_always_on:
            raise NodeError("not_a_provider", "this device stores for nobody", "", ExitCode.USAGE)
        return await trio.to_thread.run_sync(_drain, node, parameters.stop)

    return [
        Operation("provider_contracts", "Contracts of customers", NoParameters, provider_contracts),
        Operation("earnings", "What this provider earns", EarningsParameters, earnings),
        Operation(
            "maintenance_announce", "Announce maintenance to customers", MaintenanceParameters, maintenance_announce
        ),
        Operation("drain", "Leave without losing anybody's data", DrainParameters, drain),
    ]


def _drain(node: Node, stop: bool) -> dict[str, Any]:
    """Take nobody new, and give every customer a signed notice; nothing is deleted before its grace."""
    node.contracts.set_draining(not stop)
    node.contracts.current_offer()
    contracts = node.state.contracts.all(role="provider", states=LIVE_STATES)
    if not stop:
        for contract in contracts:
            _give_notice(node, contract)
    left = [item for item in contracts if node.contracts.stored_bytes(item)]
    return {
        "draining": not stop,
        "contracts_left": len(left),
        "bytes_left": sum(node.contracts.stored_bytes(item) for item in left),
        "safe_to_stop": not stop and not left,
        "contracts": [
            {
                "contract": item.contract_id.hex(),
                "customer": item.customer_identity.hex(),
                "bytes_left": node.contracts.stored_bytes(item),
                "ends_at": min(item.ends_at, node.clock() + item.grace_s),
            }
            for item in left
        ],
    }


def _give_notice(node: Node, contract: Contract) -> None:
    state = ContractState(contract.state)
    if not can_advance(state, ContractEvent.EXIT_NOTICE):
        return
    agreement = node.money.provider_book.agreement(contract.contract_id)
    assert agreement is not None
    now = node.clock()
    act = Act(ActKind.EXIT, contract.contract_id, agreement.terms_hash, now, now + contract.grace_s)
    signed = sign_act(act, node.keys.signing, node.identity.network_id)
    with node.state.transaction():
        keep_act(node.state, signed, contract, now)
        moved = advance(state, ContractEvent.EXIT_NOTICE)
        node.state.contracts.set_state(contract.contract_id, moved.value, now)
        node.state.audit.record("user", "exit_notice", contract.contract_id.hex(), "ok", at=now)
