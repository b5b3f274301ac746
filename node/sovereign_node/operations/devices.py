"""Devices, peers, presence."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.net.circuit.addresses import relay_of
from sovereign_node.net.errors import NetError
from sovereign_node.node import Node
from sovereign_node.services.lookup import only
from sovereign_node.services.own_identity import open_root_with_kit
from sovereign_node.services.path_words import path_text
from sovereign_node.services.peer_finder import unreachable
from sovereign_node.services.setup import read_kit
from sovereign_node.store.devices import Device

MAX_PINGS = 100
PING_TIMEOUT_S = 1.0
PING_INTERVAL_S = 0.2


@dataclass(frozen=True)
class RevokeParameters:
    """What `device_revoke` takes."""

    device: str
    passphrase: str


@dataclass(frozen=True)
class RenewParameters:
    """What `device_renew` takes: one of the two."""

    passphrase: str | None = None
    kit: str | None = None


@dataclass(frozen=True)
class PingParameters:
    """What `ping` takes."""

    peer: str
    count: int = 3


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def devices(_: NoParameters, _report: ReportProgress) -> Any:
        found = await trio.to_thread.run_sync(lambda: node.state.devices.all(identity=node.identity.identity_id))
        return [_device_row(node, device) for device in found]

    async def revoke(parameters: RevokeParameters, _report: ReportProgress) -> Any:
        device = await trio.to_thread.run_sync(_find_device, node, parameters.device)
        if device.device_id == node.keys.public:
            raise NodeError(
                "own_device",
                "a device does not revoke itself",
                "revoke it from another device of yours",
                ExitCode.USAGE,
            )
        await trio.to_thread.run_sync(_revoke, node, device, parameters.passphrase)
        await node.network.disconnect(device.peer_id)
        node.recovery.publish_soon()
        return {"device_id": device.device_id.hex(), "name": device.device_name, "revoked_at": node.clock()}

    async def renew(parameters: RenewParameters, _report: ReportProgress) -> Any:
        not_after = await trio.to_thread.run_sync(_renew, node, parameters)
        node.recovery.publish_soon()
        node.kademlia.announce_soon()
        return {"device_id": node.keys.public.hex(), "valid_until": not_after}

    async def peers(_: NoParameters, _report: ReportProgress) -> Any:
        await _measure(node)
        known = await trio.to_thread.run_sync(lambda: {row.peer_id: row for row in node.state.devices.all()})
        now = node.clock()

        def name_of(peer_id: str) -> str:
            return known[peer_id].device_name if peer_id in known else ""

        return [
            {
                "peer_id": info.peer_id,
                "name": name_of(info.peer_id),
                "roles": list(known[info.peer_id].roles) if info.peer_id in known else [],
                "path": info.path,
                "path_text": path_text(info, name_of),
                "via": relay_of(info.address),
                "address": info.address,
                "rtt_ms": None if info.rtt_s is None else round(info.rtt_s * 1000, 3),
                "inbound": info.inbound,
                "connected_s": max(0, now - info.opened_at),
                "bytes_received": info.bytes_received,
                "bytes_sent": info.bytes_sent,
            }
            for info in node.network.connections()
        ]

    async def ping(parameters: PingParameters, _report: ReportProgress) -> Any:
        if not 1 <= parameters.count <= MAX_PINGS:
            raise NodeError("bad_request", f"count goes from 1 to {MAX_PINGS}", "", ExitCode.USAGE)
        peer_id = await trio.to_thread.run_sync(find_peer_id, node, parameters.peer)
        await node.finder.connect(peer_id)
        times: list[float] = []
        try:
            for number in range(parameters.count):
                if number:
                    await trio.sleep(PING_INTERVAL_S)
                times.append(round(await node.network.ping(peer_id) * 1000, 3))
        except NetError as error:
            raise unreachable(peer_id) from error
        info = node.network.preferred(peer_id)
        return {
            "peer_id": peer_id,
            "rtt_ms": times,
            "path": info.path if info else "",
            "path_text": path_text(info, lambda _peer_id: "") if info else "",
        }

    return [
        Operation("devices", "List the devices of this identity", NoParameters, devices),
        Operation("device_revoke", "End a device for good", RevokeParameters, revoke),
        Operation("device_renew", "Certify this device for another year", RenewParameters, renew),
        Operation("peers", "List open connections", NoParameters, peers),
        Operation("ping", "Measure the round trip to a peer", PingParameters, ping),
    ]


async def _measure(node: Node) -> None:
    """Ping every peer: what was measured before, under load or on another path, may not hold any more."""

    async def measure(peer_id: str) -> None:
        with contextlib.suppress(NetError):
            await node.network.ping(peer_id, timeout_s=PING_TIMEOUT_S)

    async with trio.open_nursery() as nursery:
        for peer_id in {info.peer_id for info in node.network.connections()}:
            nursery.start_soon(measure, peer_id)


def _device_row(node: Node, device: Device) -> dict[str, Any]:
    this = device.device_id == node.keys.public
    return {
        "device_id": device.device_id.hex(),
        "name": device.device_name,
        "type": device.device_type,
        "roles": list(device.roles),
        "is_online": this or device.is_online,
        "last_seen": node.clock() if this else device.last_seen,
        "peer_id": device.peer_id,
        "this_device": this,
        "revoked_at": device.revoked_at,
        "addresses": node.network.addresses() if this else list(device.addresses),
    }


def _find_device(node: Node, name: str) -> Device:
    found = [item for item in node.state.devices.find(name) if item.identity == node.identity.identity_id]
    return only("device", name, found, lambda item: item.peer_id, "sovereign devices")


def find_peer_id(node: Node, name: str) -> str:
    """Return the peer id that a user named. Blocks.

    Raises:
        NodeError: nobody known, or several.
    """
    connected = {info.peer_id for info in node.network.connections() if info.peer_id.startswith(name)}
    known = {item.peer_id for item in node.state.devices.find(name)}
    if not connected | known and name.startswith("12D3Koo") and len(name) == 52:
        return name
    return only("peer", name, sorted(connected | known), str, "sovereign peers")


def _renew(node: Node, parameters: RenewParameters) -> int:
    identity = node.identity
    if parameters.kit is not None:
        root = open_root_with_kit(read_kit(parameters.kit)[0], identity.secrets.root_box, identity.log)
    else:
        root = identity.unlock_root(parameters.passphrase or "")
    return identity.renew_certificate(root, node.config.roles, at=node.clock()).not_after


def _revoke(node: Node, device: Device, passphrase: str) -> None:
    if device.revoked_at is not None or not node.identity.is_own_device(device.device_id):
        raise NodeError("already_revoked", f"{device.device_name} is revoked already", "", ExitCode.USAGE)
    root = node.identity.unlock_root(passphrase)
    at = node.clock()
    node.identity.revoke_device(root, device.device_id, at=at)
    node.state.devices.revoke(device.device_id, at)
    node.state.audit.record("user", "device_revoked", device.device_id.hex(), "ok", at=at)
