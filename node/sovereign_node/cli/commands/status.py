"""``sovereign status``: what this device is, what it protects, where, and what that costs."""

import time
from collections.abc import Iterator
from typing import Any

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, escape, facts, short_id, styled, table
from sovereign_node.cli.session import Session, command
from sovereign_node.services.waiting_words import waiting_text
from sovereign_node.units import format_age, format_count, format_duration, format_price, format_rate, format_size


@command(app, "status")
def status(session: Session) -> None:
    """Show this device, its projects and their copies."""
    now = int(time.time())
    session.show(session.call("status"), lambda document: view(document, now))


def view(state: dict[str, Any], now: int) -> Iterator[Any]:
    """Draw a status document; ``now`` in seconds since 1970 UTC."""
    yield styled(f"{state['name']} ({', '.join(state['roles'])})", "bold")
    yield facts(_device(state))
    yield ""
    projects = state["projects"]
    if projects:
        yield table(["PROJECT", "!ID", "SOURCES", "LAST BACKUP", "COPIES AT", "PENDING"], _projects(projects, now))
    elif set(state["roles"]) != {"provider"}:
        yield "Nothing is protected yet. Begin with: sovereign protect PATH"
    for item in state.get("waiting") or ():
        yield styled(f"! {waiting_text(item, now)}", "yellow")
    if state.get("kit_confirmed") is False:
        yield styled("! The recovery kit is not confirmed. Without it a lost device is lost data.", "bold red")
        yield "  Type it once: sovereign kit confirm"


def _device(state: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "peer id", state["peer_id"]
    yield "identity", state["identity"]
    yield "addresses", list(state["addresses"]) or ("none: nobody can reach this node", "yellow")
    reach = state.get("reachability")
    dht = state.get("dht") or {}
    network = [format_count(count_of(state.get("peers")), "peer")]
    if dht:
        network.append(f"DHT {dht.get('mode', '')} with {format_count(int(dht.get('peers', 0)), 'peer')}")
    yield "network", ", ".join(network + ([str(reach)] if reach else []))
    if limits := state.get("limits"):
        yield from _limits(limits)
    yield (
        "node",
        f"version {state['version']}"
        + (f", pid {state['pid']}, up for {format_duration(state['uptime_s'])}" if "uptime_s" in state else ""),
    )
    yield from _storage(state)


def _limits(limits: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    """Say what slows this device down, if anything does."""
    words = [
        f"{format_rate(limits[key])} {way}"
        for key, way in (("upload_bytes_per_s", "up"), ("download_bytes_per_s", "down"))
        if limits[key]
    ]
    if limits["metered"]:
        words.append("metered network" + (", background work waits" if limits["background_paused"] else ""))
    if words:
        yield "limits", ", ".join(words)


def _storage(state: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    stored = state.get("stored")
    if stored and {"provider", "server"} & set(state["roles"]):
        yield (
            "stores",
            f"{format_size(stored['bytes'])} in {format_count(stored['chunks'], 'chunk')}"
            f" for {format_count(count_of(state.get('contracts')), 'contract')},"
            f" {format_count(count_of(state.get('replicas')), 'replica')}",
        )
    per_month = state.get("vibe_per_month_micro")
    if per_month is not None:
        yield ("earns" if "provider" in state["roles"] else "costs"), f"{format_price(per_month)} per month"


def _projects(projects: list[dict[str, Any]], now: int) -> Iterator[list[Cell]]:
    for project in projects:
        last = project.get("last_backup_at")
        when: Cell = format_age(last, now) if last else ("never", "bold red")
        pending = project.get("pending") or 0
        yield [
            project["name"],
            short_id(project["id"]),
            list(project.get("sources") or ()),
            when,
            ", ".join(str(target) for target in project.get("targets") or ()) or "-",
            (pending_text(pending), "yellow") if pending else "-",
        ]


def pending_text(pending: Any) -> str:
    """Return what waits to be sent; the node gives a number of chunks or says only that there is something."""
    return "yes" if pending is True else format_count(int(pending), "chunk")


def count_of(value: Any) -> int:
    """Return a number that the node gives as such or as a list."""
    return len(value) if isinstance(value, list) else int(value or 0)


def provider_line(state: dict[str, Any]) -> str:
    """Return what a provider stores and earns, in one line."""
    stored = state.get("stored") or {}
    return escape(
        f"replicas {count_of(state.get('replicas'))}, stored {format_size(int(stored.get('bytes', 0)))},"
        f" contracts {count_of(state.get('contracts'))},"
        f" {format_price(int(state.get('vibe_per_month_micro') or 0))} per month"
    )
