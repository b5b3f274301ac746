"""Wallet, bill, statements, payments, quotes, ledger, evidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.datadir import write_private_file
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.operations.market import contract_row
from sovereign_node.operations.quotes import QuoteParameters, make_quote
from sovereign_node.services.lookup import only
from sovereign_node.services.money.bundle import export_bundle
from sovereign_node.services.money.renewal import RenewalWish
from sovereign_node.services.money.turns import hand_in_note
from sovereign_node.services.money.wallet import SHOWN_STATES
from sovereign_node.store.contracts import Contract
from sovereign_protocols.settle.signed import NO_HASH


@dataclass(frozen=True)
class OptionalContractParameters:
    """What `bill`, `statements` and `settle` take; without a contract, all of them."""

    contract: str | None = None


@dataclass(frozen=True)
class SettleParameters:
    """What `settle` takes.

    Args:
        contract: id or its beginning; all without it.
        confirm: sign the payments that customers say they made: the money came.
    """

    contract: str | None = None
    confirm: bool = False


@dataclass(frozen=True)
class TransferParameters:
    """What `transfer` takes."""

    identity: str
    amount_micro_vibe: int


@dataclass(frozen=True)
class RenewParameters:
    """What `contract_renew` takes."""

    contract: str
    months: int | None = None
    capacity_bytes: int | None = None
    budget_micro_vibe: int | None = None


@dataclass(frozen=True)
class ContractParameters:
    """What `contract_close` takes."""

    contract: str


@dataclass(frozen=True)
class ExportParameters:
    """What `dispute_export` takes; the path is absolute."""

    contract: str
    to: str


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def wallet(_: NoParameters, _report: ReportProgress) -> Any:
        found = await trio.to_thread.run_sync(node.money.wallet.summary)
        return found | {"sponsored": await trio.to_thread.run_sync(node.money.sponsors.rows)}

    async def bill(parameters: OptionalContractParameters, _report: ReportProgress) -> Any:
        def read() -> Any:
            chosen = chosen_contracts(node, parameters.contract)
            return [node.money.wallet.bill(item) for item in chosen if item.state != "closed"]

        return await trio.to_thread.run_sync(read)

    async def statements(parameters: OptionalContractParameters, _report: ReportProgress) -> Any:
        def read() -> Any:
            chosen = chosen_contracts(node, parameters.contract)
            return [row for item in chosen for row in node.money.wallet.statements(item)]

        return await trio.to_thread.run_sync(read)

    async def ledger_verify(_: NoParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(_verify_ledger, node)

    async def quote(parameters: QuoteParameters, _report: ReportProgress) -> Any:
        return await make_quote(node, parameters)

    return [
        Operation("wallet", "Balances, exposure and forecast", NoParameters, wallet),
        Operation("bill", "The period that runs", OptionalContractParameters, bill),
        Operation("statements", "Closed periods", OptionalContractParameters, statements),
        Operation("ledger_verify", "Check the books", NoParameters, ledger_verify),
        Operation("quote", "What a service will cost", QuoteParameters, quote),
        *_acting(node),
    ]


def _acting(node: Node) -> list[Operation]:
    async def settle(parameters: SettleParameters, _report: ReportProgress) -> Any:
        chosen = await trio.to_thread.run_sync(chosen_contracts, node, parameters.contract)
        if parameters.contract is None:
            await node.money.sponsors.run_once(is_asked=True)
        return [await _settle_one(node, item, confirm=parameters.confirm) for item in chosen]

    async def transfer(parameters: TransferParameters, _report: ReportProgress) -> Any:
        if parameters.amount_micro_vibe <= 0:
            raise NodeError("bad_request", "an amount is positive", "sovereign transfer IDENTITY 5", ExitCode.USAGE)
        contract = await trio.to_thread.run_sync(_contract_with, node, parameters.identity)
        return await _pay(node, contract, parameters.amount_micro_vibe)

    async def contract_renew(parameters: RenewParameters, _report: ReportProgress) -> Any:
        contract = await trio.to_thread.run_sync(_one_contract, node, parameters.contract, "customer")
        renewed = await node.money.renew(
            contract,
            RenewalWish(parameters.months, parameters.capacity_bytes, parameters.budget_micro_vibe, is_asked=True),
        )
        node.recovery.publish_soon()
        return await trio.to_thread.run_sync(contract_row_of, node, renewed)

    async def contract_close(parameters: ContractParameters, _report: ReportProgress) -> Any:
        contract = await trio.to_thread.run_sync(_one_contract, node, parameters.contract, "customer")
        await node.money.close(contract)
        node.recovery.publish_soon()
        closed = await trio.to_thread.run_sync(node.state.contracts.get, contract.contract_id)
        return await trio.to_thread.run_sync(contract_row_of, node, closed or contract)

    async def dispute_export(parameters: ExportParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(_export, node, parameters)

    return [
        Operation("settle", "Pay what is due, or confirm payments", SettleParameters, settle),
        Operation("transfer", "Pay an identity by a co-signed note", TransferParameters, transfer),
        Operation("contract_renew", "Extend or resize a contract", RenewParameters, contract_renew),
        Operation("contract_close", "End a contract", ContractParameters, contract_close),
        Operation("dispute_export", "Write the evidence of a contract", ExportParameters, dispute_export),
    ]


def chosen_contracts(node: Node, name: str | None) -> list[Contract]:
    """Return the named contract, or all that have to do with money. Blocks."""
    return node.money.wallet.contracts() if name is None else [_one_contract(node, name)]


def _one_contract(node: Node, name: str, role: str | None = None) -> Contract:
    found = [item for item in node.state.contracts.find(name) if role is None or item.role == role]
    return only("contract", name, found, lambda item: item.contract_id.hex(), "sovereign contract list")


def contract_row_of(node: Node, contract: Contract) -> dict[str, Any]:
    """Return a contract as `contract_list` shows it. Blocks."""
    return contract_row(node, contract)


async def _settle_one(node: Node, contract: Contract, *, confirm: bool) -> dict[str, Any]:
    """Bring one contract up to date; as a provider, sign payments if the operator says that they came."""
    result: dict[str, Any] = {"confirmed": [], "reached": True}
    if contract.role == "customer" and await trio.to_thread.run_sync(node.money.pays, contract):
        try:
            result["agreed"] = await node.money.settle_up(contract, is_asked=True)
        except NodeError as error:
            result |= {"reached": False, "reason": error.message}
    elif contract.role == "provider":
        await trio.to_thread.run_sync(node.money.meter.flush, contract.contract_id)
        if confirm:
            result["confirmed"] = await trio.to_thread.run_sync(_confirm, node, contract)

    def balance() -> dict[str, Any]:
        # The conversation may have moved the contract to another state.
        return node.money.wallet.balance(node.state.contracts.get(contract.contract_id) or contract)

    return result | await trio.to_thread.run_sync(balance)


def _confirm(node: Node, contract: Contract) -> list[dict[str, Any]]:
    notes = node.money.notes
    found = [note for note in notes.waiting(contract.contract_id) if note.body.payee == node.identity.identity_id]
    for note in found:
        notes.confirm(note)
    return [node.money.wallet.note(note) for note in found]


def _contract_with(node: Node, name: str) -> Contract:
    """Find the newest contract with an identity; payments run along contracts, where both sides keep books."""
    found: dict[str, Contract] = {}
    for contract in node.state.contracts.all(states=SHOWN_STATES):
        other = contract.provider_identity if contract.role == "customer" else contract.customer_identity
        if other.hex().startswith(name.lower()) and other != node.identity.identity_id:
            found[other.hex()] = contract
    if not found:
        raise NodeError(
            "no_account",
            f"no contract with an identity that begins with {name}: payments run along contracts, where both keep"
            " books",
            "those you can pay are listed by: sovereign wallet; open one with: sovereign contract open",
            ExitCode.NOT_FOUND,
        )
    return only("identity", name, list(found.values()), lambda item: item.contract_id.hex(), "sovereign wallet")


async def _pay(node: Node, contract: Contract, amount: int) -> dict[str, Any]:
    note = await trio.to_thread.run_sync(lambda: node.money.notes.draft(contract, amount, evidence=NO_HASH))
    device = contract.provider_device if contract.role == "customer" else contract.customer_device
    is_signed = reached = False
    try:
        async with node.money.turns.session(device) as client:
            is_signed = await hand_in_note(client, node.money.notes, note)
            reached = True
    except NodeError as error:
        # The note is kept and handed in with the next turn; only a refusal is final.
        if error.exit_code != ExitCode.UNREACHABLE:
            raise
    return node.money.wallet.note(note) | {
        "contract": contract.contract_id.hex(),
        "state": "signed" if is_signed else "waiting for the other side" if reached else "waiting to be sent",
    }


def _verify_ledger(node: Node) -> dict[str, Any]:
    fault = node.state.ledger.verify()
    last = node.state.ledger.last()
    balances = node.state.ledger.balances()
    return {
        "ok": fault is None and sum(balances.values()) == 0,
        "entries": last.seq if last else 0,
        "head": last.hash.hex() if last else "",
        "first_fault": fault,
        "sum_micro_vibe": sum(balances.values()),
        "accounts": len(balances),
    }


def _export(node: Node, parameters: ExportParameters) -> dict[str, Any]:
    contract = _one_contract(node, parameters.contract)
    bundle = export_bundle(node.state, contract, node.identity.network_id, node.clock())
    target = Path(parameters.to)
    try:
        write_private_file(target, json.dumps(bundle, indent=1).encode())
    except OSError as error:
        raise NodeError("cannot_write", f"{target}: {error.strerror}", "choose another file") from error
    return {
        "to": str(target),
        "contract": bundle["contract"],
        "papers": sum(len(bundle[name]) for name in ("terms", "acts", "messages", "vouchers", "probes")),
        "customer_device": bundle["customer_device"],
        "provider_device": bundle["provider_device"],
    }
