"""Offers and contracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.operations.track_record import track_record
from sovereign_node.services.contracts import WantedContract
from sovereign_node.services.lookup import only
from sovereign_node.store.contracts import Contract
from sovereign_node.store.devices import Device
from sovereign_protocols.market.offer import Offer
from sovereign_protocols.market.prices import FREE, GB, MONTH_S, quote
from sovereign_protocols.market.terms import NO_HASH, BonusPayer

MIN_CONTRACT_BYTES = 1_000_000
SYNCHRONISE_TIMEOUT_S = 5
BONUS_PAYERS = {str(payer): payer for payer in BonusPayer}
#: What prices are shown for while nothing is known about the user's data.
EXAMPLE_BYTES = 5 * GB


@dataclass(frozen=True)
class OpenParameters:
    """What `contract_open` takes.

    Args:
        provider: name, peer id or its beginning.
        capacity_bytes: to keep free.
        months: how long; the usual time without it.
        budget_micro_vibe: most that one period may cost, 0 for no limit.
        bonus: who pays for uptime, nobody, customer or sponsor.
        free: the provider is a friend.
        sponsor: identity that pays for uptime, 64 hexadecimal digits; only with the bonus of a sponsor.
    """

    provider: str
    capacity_bytes: int
    months: int | None = None
    budget_micro_vibe: int = 0
    bonus: str = "nobody"
    free: bool = False
    sponsor: str = ""


@dataclass(frozen=True)
class ContractParameters:
    """What `contract_show` takes."""

    contract: str


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def offers(_: NoParameters, _report: ReportProgress) -> Any:
        return await find_offers(node)

    async def contract_open(parameters: OpenParameters, _report: ReportProgress) -> Any:
        wanted = _wanted(parameters, node.identity.identity_id)
        peer_id = await _provider_named(node, parameters.provider)
        contract = await node.contracts.open(peer_id, wanted)
        await node.discovery.refresh_devices({contract.provider_device})
        node.recovery.publish_soon()
        node.presence.dial_soon()
        return await trio.to_thread.run_sync(contract_row, node, contract)

    async def contract_list(_: NoParameters, _report: ReportProgress) -> Any:
        return await trio.to_thread.run_sync(
            lambda: [contract_row(node, item) for item in node.state.contracts.all()]
        )

    async def contract_show(parameters: ContractParameters, _report: ReportProgress) -> Any:
        def show() -> Any:
            found = node.state.contracts.find(parameters.contract)
            chosen = only(
                "contract",
                parameters.contract,
                found,
                lambda item: item.contract_id.hex(),
                "sovereign contract list",
            )
            return contract_row(node, chosen) | _terms_facts(node, chosen)

        return await trio.to_thread.run_sync(show)

    return [
        Operation("offers", "Find offers of providers and own devices", NoParameters, offers),
        Operation("contract_open", "Open a contract", OpenParameters, contract_open),
        Operation("contract_list", "List contracts", NoParameters, contract_list),
        Operation("contract_show", "Show one contract", ContractParameters, contract_show),
    ]


def _wanted(parameters: OpenParameters, own_identity: bytes) -> WantedContract:
    if parameters.capacity_bytes < MIN_CONTRACT_BYTES:
        raise NodeError("bad_request", "a contract has at least 1 MB", "use --capacity 5GB", ExitCode.USAGE)
    if parameters.months is not None and not 1 <= parameters.months <= 60:
        raise NodeError("bad_request", "months go from 1 to 60", "use --months 12", ExitCode.USAGE)
    if parameters.budget_micro_vibe < 0:
        raise NodeError("bad_request", "a budget is not negative", "use --budget 20", ExitCode.USAGE)
    if parameters.bonus not in BONUS_PAYERS:
        raise NodeError(
            "bad_request",
            f"the bonus is paid by {' or '.join(BONUS_PAYERS)}",
            "use --bonus customer",
            ExitCode.USAGE,
        )
    return WantedContract(
        parameters.capacity_bytes,
        parameters.months,
        parameters.budget_micro_vibe,
        BONUS_PAYERS[parameters.bonus],
        parameters.free,
        sponsor=_sponsor(parameters, own_identity),
    )


def _sponsor(parameters: OpenParameters, own_identity: bytes) -> bytes:
    """Read who pays the bonus; it must be somebody else, and named exactly if a sponsor pays."""
    if (parameters.bonus == BonusPayer.SPONSOR) == bool(parameters.sponsor):
        if not parameters.sponsor:
            return NO_HASH
        try:
            sponsor = bytes.fromhex(parameters.sponsor)
        except ValueError:
            sponsor = b""
        if len(sponsor) == len(own_identity) and sponsor not in (own_identity, NO_HASH):
            return sponsor
    raise NodeError(
        "bad_request",
        "a sponsor is another identity of 64 hexadecimal digits, and pays only with --bonus sponsor",
        "use --bonus sponsor --sponsor IDENTITY; to pay yourself: --bonus customer",
        ExitCode.USAGE,
    )


async def find_offers(node: Node) -> list[dict[str, Any]]:
    """Return the offers in the DHT, and own always-on devices at price 0."""
    # A device that joined a moment ago is in the identity record before this one has read it.
    with trio.move_on_after(SYNCHRONISE_TIMEOUT_S):
        await node.recovery.synchronise()
        await node.discovery.refresh_devices(set())
    found: dict[str, dict[str, Any]] = {}
    size_bytes = await trio.to_thread.run_sync(my_bytes, node)

    async def from_dht() -> None:
        for signed in await node.discovery.find_offers():
            peer_id = peer_id_from_public_key(signed.offer.device)
            found[peer_id] = _offer_row(node, peer_id, signed.offer, size_bytes)

    async def from_own_device(device: Device) -> None:
        try:
            signed = await node.contracts.fetch_offer(device.peer_id)
        except NodeError:
            return
        found[device.peer_id] = _offer_row(node, device.peer_id, signed.offer, size_bytes)

    own = await trio.to_thread.run_sync(lambda: node.state.devices.all(identity=node.identity.identity_id))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(from_dht)
        for device in own:
            always_on = {"server", "provider"} & set(device.roles)
            if always_on and device.device_id != node.keys.public and device.revoked_at is None:
                nursery.start_soon(from_own_device, device)
    for peer_id, row in found.items():
        row |= await trio.to_thread.run_sync(track_record, node, peer_id)
    return sorted(found.values(), key=lambda item: (item["price_micro_vibe_per_gb_month"], item["peer_id"]))


def my_bytes(node: Node) -> int:
    """Return how much this identity stores, or would store: contracts first, then snapshots; else 5 GB. Blocks."""
    stored = max((item.stored_bytes for item in node.contracts.live_as_customer()), default=0)
    newest = [node.state.snapshots.newest(item.project_id) for item in node.state.projects.all()]
    return stored or sum(item.size_bytes for item in newest if item) or EXAMPLE_BYTES


def _my_price(offer: Offer, size_bytes: int, *, own: bool) -> dict[str, Any]:
    prices = FREE if own else offer.prices
    found = quote(prices, stored_bytes=size_bytes, duration_s=MONTH_S)
    return {
        "my_bytes": size_bytes,
        "my_price_micro_vibe_per_month": found.price,
        "my_price_with_bonus_micro_vibe_per_month": found.provider_earns_at_most,
    }


def _offer_row(node: Node, peer_id: str, offer: Offer, size_bytes: int) -> dict[str, Any]:
    own = offer.identity == node.identity.identity_id
    return _my_price(offer, size_bytes, own=own) | {
        "peer_id": peer_id,
        "name": offer.name,
        "identity": offer.identity.hex(),
        "capacity_bytes": offer.capacity_bytes,
        "free_bytes": offer.free_bytes,
        "max_contract_bytes": offer.max_contract_bytes,
        "price_micro_vibe_per_gb_month": 0 if own else offer.price_per_gb_month,
        "price_micro_vibe_per_gb_transfer": 0 if own else offer.price_per_gb_transfer,
        "uptime_bonus_permille": 1000 if own else offer.bonus_permille,
        "own": own,
        "region": offer.region,
        "expires_at": offer.valid_until,
        "addresses": node.network.known_addresses(peer_id),
    }


async def _provider_named(node: Node, name: str) -> str:
    """Return the peer id of a provider by name, or by peer id or a unique prefix of it."""
    if name.startswith("12D3Koo") and len(name) == 52:
        return name
    offers = await find_offers(node)
    found = [item for item in offers if item["name"] == name] or [
        item for item in offers if item["peer_id"].startswith(name)
    ]
    chosen: dict[str, Any] = only("provider", name, found, lambda item: item["peer_id"], "sovereign offers")
    return str(chosen["peer_id"])


def _terms_facts(node: Node, contract: Contract) -> dict[str, Any]:
    """Return what else was agreed, and the credit of this moment. Blocks."""
    book = node.money.book_of(contract)
    agreement = book.agreement(contract.contract_id)
    assert agreement is not None
    terms = agreement.terms
    return {
        "credit_micro_vibe": book.credit_limit(contract.contract_id),
        "budget_micro_vibe": terms.budget,
        "bonus_payer": str(terms.bonus_payer),
        "observers": [peer_id_from_public_key(observer) for observer in terms.observers],
    }


def contract_row(node: Node, contract: Contract) -> dict[str, Any]:
    """Return a contract as the operations show it. Blocks."""
    names = {item.device_id: item.device_name for item in node.state.devices.all()}
    return {
        "id": contract.contract_id.hex(),
        "role": contract.role,
        "state": contract.state,
        "provider": peer_id_from_public_key(contract.provider_device),
        "provider_name": names.get(contract.provider_device, ""),
        "customer": contract.customer_identity.hex(),
        "capacity_bytes": contract.capacity_bytes,
        "stored_bytes": node.contracts.stored_bytes(contract),
        "price_micro_vibe_per_gb_month": contract.price_micro_vibe_per_gb_month,
        "price_micro_vibe_per_gb_transfer": contract.price_micro_vibe_per_gb_transfer,
        "starts_at": contract.started_at,
        "ends_at": contract.ends_at,
        "revision": contract.revision,
    }
