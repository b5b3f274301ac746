"""How many copies of a project there are, and where they go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import trio

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_node.api.operations import Operation, ReportProgress
from sovereign_node.errors import ExitCode, NodeError
from sovereign_node.node import Node
from sovereign_node.services.lookup import only
from sovereign_node.services.missed_copies import note_missed_copies
from sovereign_node.services.placement_rules import avoided_peers, make_rules, preferred_peers
from sovereign_node.store.projects import Project

MAX_COPIES = 16


@dataclass(frozen=True)
class PlacementParameters:
    """What `placement` takes; what is None stays as it is.

    Args:
        project: name or beginning of the id.
        copies: providers that hold each chunk.
        prefer: names or peer ids of providers to use first; empty for none.
        avoid: names or peer ids of providers that get nothing; empty for none.
    """

    project: str
    copies: int | None = None
    prefer: list[str] | None = None
    avoid: list[str] | None = None


def operations(node: Node) -> list[Operation]:
    """Return the operations of this family."""

    async def placement(parameters: PlacementParameters, _report: ReportProgress) -> Any:
        if parameters.copies is not None and not 1 <= parameters.copies <= MAX_COPIES:
            raise NodeError("bad_request", f"copies go from 1 to {MAX_COPIES}", "use --copies 2", ExitCode.USAGE)
        found, is_changed = await trio.to_thread.run_sync(_place, node, parameters)
        if is_changed:
            node.repair.note_connected()
        return found

    return [Operation("placement", "Say where the copies of a project go", PlacementParameters, placement)]


def _place(node: Node, parameters: PlacementParameters) -> tuple[dict[str, Any], bool]:
    before = node.projects.find(parameters.project)
    names = _providers(node)

    def chosen(wanted: list[str] | None, known: set[str]) -> list[str]:
        return sorted(known) if wanted is None else [_provider(names, item) for item in wanted]

    preferred = chosen(parameters.prefer, preferred_peers(before))
    avoided = chosen(parameters.avoid, avoided_peers(before))
    if set(preferred) & set(avoided):
        raise NodeError("bad_request", "a provider is preferred and avoided", "name it only once", ExitCode.USAGE)
    after = replace(before, copies=parameters.copies or before.copies, placement=make_rules(preferred, avoided))
    if after != before:
        with node.state.transaction():
            node.state.projects.save(after)
            # The copies are brought to where the rules want them, as after a loss.
            note_missed_copies(node.state, after.project_id)
            node.state.audit.record("user", "placement_changed", after.project_id.hex(), "ok", at=node.clock())
    return _row(after, names), after != before


def _providers(node: Node) -> dict[str, str]:
    """Name the providers with which there are contracts, by peer id."""
    devices = {item.device_id: item.device_name for item in node.state.devices.all()}
    return {
        peer_id_from_public_key(item.provider_device): devices.get(item.provider_device, "")
        for item in node.contracts.live_as_customer()
    }


def _provider(names: dict[str, str], wanted: str) -> str:
    found = [peer_id for peer_id, name in names.items() if name == wanted or peer_id.startswith(wanted)]
    return only("provider", wanted, found, str, "sovereign contract list")


def _row(project: Project, names: dict[str, str]) -> dict[str, Any]:
    return {
        "project": project.project_id.hex(),
        "name": project.name,
        "copies": project.copies,
        "prefer": [names.get(peer_id) or peer_id for peer_id in sorted(preferred_peers(project))],
        "avoid": [names.get(peer_id) or peer_id for peer_id in sorted(avoided_peers(project))],
    }
