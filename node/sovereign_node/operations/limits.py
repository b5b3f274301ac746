"""Limits on bytes per second: what holds now, and other ones until told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from sovereign_node.api.operations import NoParameters, Operation, ReportProgress
from sovereign_node.config import METERED
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.operations.devices import find_peer_id
from sovereign_node.rates import Rates


@dataclass(frozen=True)
class LimitsParameters:
    """What `limits_set` takes; 0 is no limit, what is left out stays as it is."""

    upload_bytes_per_s: int | None = None
    download_bytes_per_s: int | None = None
    peer: str | None = None
    metered: str | None = None


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def limits(_: NoParameters, _report: ReportProgress) -> Any:
        return await _document(node)

    async def limits_set(parameters: LimitsParameters, _report: ReportProgress) -> Any:
        _check(parameters)
        if parameters.upload_bytes_per_s is None and parameters.download_bytes_per_s is None:
            await node.traffic.command(metered=parameters.metered)
        elif parameters.peer is None:
            rates = _changed(node.traffic.rates, parameters)
            await node.traffic.command(rates=rates, metered=parameters.metered)
        else:
            peer_id = await trio.to_thread.run_sync(find_peer_id, node, parameters.peer)
            rates = _changed(node.traffic.rates_of(peer_id), parameters)
            await node.traffic.command(peers={peer_id: rates}, metered=parameters.metered)
        return await _document(node)

    async def limits_clear(_: NoParameters, _report: ReportProgress) -> Any:
        await node.traffic.clear()
        return await _document(node)

    return [
        Operation("limits", "Limits on bytes per second in force, and why", NoParameters, limits),
        Operation("limits_set", "Set limits until they are cleared", LimitsParameters, limits_set),
        Operation("limits_clear", "Go back to the limits of the settings", NoParameters, limits_clear),
    ]


async def _document(node: Node) -> dict[str, Any]:
    document = node.traffic.document()
    rows = await trio.to_thread.run_sync(lambda: {row.peer_id: row.device_name for row in node.state.devices.all()})
    for peer in document["peers"]:
        peer["name"] = rows.get(peer["peer_id"], "")
    return document


def _changed(present: Rates, parameters: LimitsParameters) -> Rates:
    upload, download = parameters.upload_bytes_per_s, parameters.download_bytes_per_s
    return Rates(
        present.upload_bytes_per_s if upload is None else upload,
        present.download_bytes_per_s if download is None else download,
    )


def _check(parameters: LimitsParameters) -> None:
    values = (parameters.upload_bytes_per_s, parameters.download_bytes_per_s)
    if all(item is None for item in (*values, parameters.metered)):
        raise NodeError("bad_request", "nothing to set was given", "give a limit or metered", ExitCode.USAGE)
    if parameters.peer is not None and values == (None, None):
        raise NodeError("bad_request", "no limit for the peer was given", "0 is no limit", ExitCode.USAGE)
    if any(item is not None and item < 0 for item in values):
        raise NodeError("bad_request", "a limit can't be negative", "0 is no limit", ExitCode.USAGE)
    if parameters.metered not in (None, *METERED):
        raise NodeError(
            "bad_request",
            f"metered {parameters.metered!r} is unknown",
            f"it takes {', '.join(METERED)}",
            ExitCode.USAGE,
        )
