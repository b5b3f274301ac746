"""The specifications of circuits and dial-backs say what the code does."""

import re
from pathlib import Path

from sovereign_node.net import reachability, reachability_server
from sovereign_node.net.circuit import punch, relay, reservations
from sovereign_protocols.circuit import messages, reach
from sovereign_protocols.circuit.relay_book import RelayLimits

SPECS = Path(__file__).parents[2] / "protocols" / "specs"
CIRCUIT = (SPECS / "circuit.md").read_text("utf-8")
REACH = (SPECS / "reachability.md").read_text("utf-8")
HEADINGS = ("Terms", "Messages", "States", "Limits", "Errors", "Security", "Versioning", "Vectors", "Changes")


def section(spec: str, title: str) -> str:
    return spec.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_headings_and_ids():
    for spec in (CIRCUIT, REACH):
        for heading in HEADINGS:
            assert f"\n## {heading}\n" in spec
    for name in (messages.HOP_PROTOCOL_ID, messages.STOP_PROTOCOL_ID, messages.DCUTR_PROTOCOL_ID):
        assert f"`{name}`" in CIRCUIT.splitlines()[0]
    for name in (reach.PROTOCOL_ID, reach.KNOCK_PROTOCOL_ID):
        assert f"`{name}`" in REACH.splitlines()[0]


def test_numbers_of_types_and_statuses():
    text = section(CIRCUIT, "Messages")
    for kind in (messages.HopType, messages.StopType, messages.PunchType):
        for item in kind:
            assert f"{item.name} = {item.value};" in text
    listed = re.findall(r"^\| (\d+) ([A-Z_]+) \|", section(CIRCUIT, "Errors"), flags=re.MULTILINE)
    codes = {item.name: item.value for item in messages.Status if item is not messages.Status.UNUSED}
    assert {name: int(number) for number, name in listed} == codes


def test_limits_of_circuits():
    text = section(CIRCUIT, "Limits")
    limits = RelayLimits()
    assert f"| message | {messages.MAX_MESSAGE_BYTES} bytes |" in text
    assert f"| a request, an answer | {relay.REQUEST_TIMEOUT_S:g} s |" in text
    assert f"| reservations of a relay | {limits.reservations} |" in text
    assert f"| reservation | {limits.reservation_s} s |" in text
    assert f"| {limits.circuits}; {limits.circuits_per_peer} of which" in text
    assert f"| {limits.duration_s} s; {limits.data_bytes:,} bytes each way |" in text
    assert f"| {limits.budget_bytes:,} bytes per {limits.budget_period_s} s |" in text
    assert f"| {relay.PIECE_BYTES:,} bytes |" in text
    assert f"| {punch.MAX_TARGETS}, two of each family, of the open network only |" in text
    assert f"| {punch.PUNCH_TIMEOUT_S:g} s after SYNC |" in text
    assert f"reserves | {reservations.WANTED_RELAYS} |" in text


def test_limits_of_dial_backs():
    text = section(REACH, "Limits")
    assert f"| message | {reach.MAX_MESSAGE_BYTES} bytes |" in text
    assert f"| ports in a request | {reach.MAX_PORTS} |" in text
    assert f"| servers asked in a round | {reachability.SERVERS_PER_ROUND} |" in text
    pauses = (
        reachability.UNKNOWN_INTERVAL_S,
        reachability.UNREACHABLE_INTERVAL_S,
        reachability.REACHABLE_INTERVAL_S,
    )
    assert "{:g} s while unknown, {:g} s while unreachable, {:g} s while reachable".format(*pauses) in text
    server = reachability_server
    assert f"one per peer in {server.PEER_INTERVAL_S:g} s, {server.REQUESTS_AT_ONCE} at a time" in text
    assert f"| a knock | {server.KNOCK_TIMEOUT_S:g} s |" in text
