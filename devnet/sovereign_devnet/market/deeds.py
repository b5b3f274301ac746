"""What people of the story do: open contracts with observers, lose chunks, cheat with vouchers and meters."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_devnet.stored_chunks import stored_chunks
from sovereign_node.errors import NodeError
from sovereign_node.node import Node
from sovereign_node.services.contracts import WantedContract
from sovereign_node.store.contracts import Contract
from sovereign_protocols.market.refusals import RefusedError
from sovereign_protocols.market.terms import NO_HASH, BonusPayer
from sovereign_protocols.settle.bodies import Voucher
from sovereign_protocols.settle.meter import Meter
from sovereign_protocols.settle.signed import parse_signed, sign_body

#: What the sponsor pays for one contract altogether, micro-VIBE.
SPONSOR_BUDGET: Final = 100_000_000


async def open_contract(
    customer: Node, provider: Node, *, capacity_bytes: int, observer: Node, sponsor: Node | None
) -> Contract:
    """Open a contract whose terms name an observer and who pays the bonus: a sponsor, or else the customer."""
    wanted = WantedContract(
        capacity_bytes,
        bonus_payer=BonusPayer.CUSTOMER if sponsor is None else BonusPayer.SPONSOR,
        sponsor=NO_HASH if sponsor is None else sponsor.identity.identity_id,
        observers=(observer.keys.public,),
    )
    contract = await customer.contracts.open(provider.keys.peer_id, wanted)
    await customer.discovery.refresh_devices({contract.provider_device})
    if sponsor is not None:
        await sponsor.money.sponsors.grant(contract.contract_id, provider.keys.public, budget=SPONSOR_BUDGET)
    return contract


def lose_chunks(folder: Path, contract_id: bytes, percent: int, choose: random.Random) -> list[bytes]:
    """Overwrite a share of the chunks of a contract on a provider's disk, at least one.

    Returns:
        Their ids.
    """
    found = [item for item in stored_chunks(folder / "chunks") if item.contract_id == contract_id and item.is_sound]
    lost = choose.sample(found, max(1, len(found) * percent // 100))
    for chunk in lost:
        with chunk.path.open("r+b") as file:
            file.seek(chunk.offset)
            file.write(bytes(chunk.size_bytes))
    return [chunk.chunk_id for chunk in lost]


def stop_paying(customer: Node) -> None:
    """Let a customer keep its money: whatever asks it to settle gets an error."""

    async def refuse(_contract: Contract, *, is_asked: bool = False) -> NoReturn:
        raise NodeError("no_money", "this customer does not pay", "")

    setattr(customer.money, "settle_up", refuse)  # noqa: B010 - a cheat replaces what an honest node does


def meter_too_much(provider: Node, contract_id: bytes, byte_seconds: int) -> None:
    """Let a provider report more than it stored under one contract."""
    book = provider.money.provider_book
    honest = book.meter

    def inflated(asked: bytes, now: int) -> Meter:
        meter = honest(asked, now)
        return replace(meter, byte_seconds=meter.byte_seconds + byte_seconds) if asked == contract_id else meter

    setattr(book, "meter", inflated)  # noqa: B010 - see above


async def cheat_with_vouchers(customer: Node, contract: Contract) -> list[str]:
    """Hand in an old voucher again, and another one with the number of the newest.

    Returns:
        The reasons with which the provider refused.
    """
    network_id = customer.identity.network_id
    raws = await trio.to_thread.run_sync(customer.state.vouchers.raws, contract.contract_id)
    known = [parse_signed(raw, Voucher, network_id) for raw in raws]
    newest = max(known, key=lambda item: item.body.seq)
    oldest = min(known, key=lambda item: item.body.seq)
    fork = sign_body(replace(newest.body, cumulative=newest.body.cumulative + 1), customer.keys.signing, network_id)
    refusals = []
    for voucher in (oldest, fork):
        try:
            async with customer.money.turns.session(contract.provider_device) as client:
                try:
                    await client.send_voucher(voucher)
                except RefusedError as error:
                    refusals.append(error.reason.value)
        except NodeError as error:
            refusals.append(error.code)
    return refusals


def copy_state(folder: Path, to: Path) -> None:
    """Keep a copy of a stopped device's database, as a backup of the machine would."""
    shutil.copy2(folder / "state.sqlite", to)


def restore_state(folder: Path, backup: Path) -> None:
    """Put the copy back; everything newer is forgotten."""
    for name in ("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"):
        (folder / name).unlink(missing_ok=True)
    shutil.copy2(backup, folder / "state.sqlite")


def name_of(device: bytes) -> str:
    """Return the beginning of a peer id, for people."""
    return peer_id_from_public_key(device)[:16]
