"""``sovereign peers`` and ``ping``: who is connected, by which path, and how far away."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign_node.cli.application import app
from sovereign_node.cli.output import Cell, escape, short_id, table
from sovereign_node.cli.session import Session, command
from sovereign_node.units import format_duration, format_size


@command(app, "peers")
def peers(session: Session) -> None:
    """List connected peers with path, round-trip time and bytes."""
    session.show(session.call("peers"), _list)


@command(app, "ping")
def ping(
    session: Session,
    peer: Annotated[str, typer.Argument(metavar="PEER", help="Name, peer id or its beginning.")],
    count: Annotated[
        int | None, typer.Option("--count", "-c", metavar="N", min=1, max=100, help="How many times.")
    ] = None,
) -> None:
    """Measure the round-trip time to a peer."""
    session.show(session.call("ping", peer=peer, count=count), _pinged)


def _list(found: list[dict[str, Any]]) -> Iterator[Any]:
    if not found:
        yield "No peer is connected. Find out why with: sovereign doctor"
        return
    yield table(
        ["!PEER", "NAME", "PATH", ">RTT", "CONNECTED", ">RECEIVED", ">SENT", "ADDRESS"],
        (_row(peer) for peer in found),
    )


def _row(peer: dict[str, Any]) -> list[Cell]:
    rtt_ms = peer.get("rtt_ms")
    connected_s = peer.get("connected_s")
    direction = "in" if peer.get("inbound") else "out"
    return [
        short_id(peer["peer_id"]),
        peer.get("name") or "-",
        f"{peer.get('path_text') or peer.get('path') or 'direct'} ({direction})",
        "-" if rtt_ms is None else f"{rtt_ms:.1f} ms",
        "-" if connected_s is None else format_duration(connected_s),
        format_size(peer.get("bytes_received") or 0),
        format_size(peer.get("bytes_sent") or 0),
        peer.get("address") or "-",
    ]


def _pinged(answer: dict[str, Any]) -> Iterator[Any]:
    times = answer["rtt_ms"]
    yield f"{escape(answer['peer_id'])} by {escape(str(answer.get('path_text') or answer.get('path') or 'direct'))}"
    yield "  " + ", ".join(f"{rtt_ms:.2f} ms" for rtt_ms in times)
    if len(times) > 1:
        yield f"  fastest {min(times):.2f} ms, mean {sum(times) / len(times):.2f} ms, slowest {max(times):.2f} ms"
