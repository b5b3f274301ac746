"""Sponsoring the uptime bonus of other identities' contracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_crypto.errors import CryptoError
from sovereign_crypto.peer_id import public_key_from_peer_id
from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.services.money.sponsors import sponsorship_row
from sovereign_protocols.market.prices import MONTH_S
from sovereign_protocols.settle.bodies import MAX_AMOUNT

CONTRACT_DIGITS = 64


@dataclass(frozen=True)
class GrantParameters:
    """What `sponsor_grant` takes.

    Args:
        contract: the whole id; the customer knows it.
        provider: peer id of the provider's device.
        budget_micro_vibe: the most that all periods together may cost.
        months: of 720 hours from now; to the contract's end without it.
    """

    contract: str
    provider: str
    budget_micro_vibe: int
    months: int | None = None


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def sponsor_grant(parameters: GrantParameters, _report: ReportProgress) -> Any:
        contract_id, device = _named(parameters)
        until_at = node.clock() + parameters.months * MONTH_S if parameters.months else None
        item = await node.money.sponsors.grant(
            contract_id, device, budget=parameters.budget_micro_vibe, until_at=until_at
        )
        return sponsorship_row(item, node.clock())

    async def sponsor_list(_: NoParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(node.money.sponsors.rows)

    return [
        Operation("sponsor_grant", "Promise the uptime bonus of a contract", GrantParameters, sponsor_grant),
        Operation("sponsor_list", "Bonuses that this identity pays", NoParameters, sponsor_list),
    ]


def _named(parameters: GrantParameters) -> tuple[bytes, bytes]:
    if not 0 < parameters.budget_micro_vibe <= MAX_AMOUNT:
        raise NodeError("bad_request", "a budget is positive", "use --budget 20", ExitCode.USAGE)
    if parameters.months is not None and not 1 <= parameters.months <= 60:
        raise NodeError("bad_request", "months go from 1 to 60", "use --months 12", ExitCode.USAGE)
    try:
        contract_id = bytes.fromhex(parameters.contract)
        device = public_key_from_peer_id(parameters.provider)
    except (ValueError, CryptoError) as error:
        raise _unclear() from error
    if 2 * len(contract_id) != CONTRACT_DIGITS:
        raise _unclear()
    return contract_id, device


def _unclear() -> NodeError:
    return NodeError(
        "bad_request",
        "a sponsor names the whole contract id and the provider's peer id",
        "the customer reads both with: sovereign contract show CONTRACT --json",
        ExitCode.USAGE,
    )
