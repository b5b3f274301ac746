"""What a user reads of paths and reachability."""

from dataclasses import replace

import pytest

from sovereign_node.net.connection import ConnectionInfo
from sovereign_node.net.nats.client import ClientStatus
from sovereign_node.net.reachability import NatKind, Reach, ReachReport
from sovereign_node.services.path_findings import examine_dht, examine_listening, examine_paths
from sovereign_node.services.path_words import path_text, reach_text

RELAY = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
INFO = ConnectionInfo(RELAY, "/ip4/192.0.2.1/tcp/4001", False, 0, None, 0, 0, "direct")
BEHIND = ReachReport(Reach.UNREACHABLE, NatKind.CONE, servers=1)


@pytest.mark.parametrize(
    ("path", "text"),
    [("lan", "LAN"), ("direct", "direct"), ("hole-punched", "hole-punched"), ("nats", "NATS")],
)
def test_a_path_has_its_word(path, text):
    assert path_text(replace(INFO, path=path), lambda _peer: "") == text


def test_a_relayed_path_names_its_relay():
    info = replace(INFO, path="relayed", address=f"/ip4/192.0.2.1/tcp/4001/p2p/{RELAY}/p2p-circuit")
    assert path_text(info, lambda peer: "studio" if peer == RELAY else "") == "relayed via studio"
    assert path_text(info, lambda _peer: "") == f"relayed via {RELAY[-8:]}"


def test_reachability_in_a_sentence():
    assert reach_text(ReachReport(), [], []) == "no peer connected yet"
    assert "not checked" in reach_text(ReachReport(), [INFO], [])
    reachable = ReachReport(Reach.REACHABLE, NatKind.NONE, ("/ip4/8.8.8.8/tcp/1",))
    assert "others can connect" in reach_text(reachable, [INFO], [])
    assert "reached through studio" in reach_text(BEHIND, [INFO], ["studio"])
    assert "no relay accepts" in reach_text(BEHIND, [INFO], [])


def test_findings_say_what_to_do():
    reachable = ReachReport(Reach.REACHABLE, NatKind.NONE, ("/ip4/8.8.8.8/tcp/1",))
    (finding,) = examine_paths(reachable, relays=[], brokers=[])
    assert (finding.check, finding.level) == ("nat", "ok")
    assert examine_paths(ReachReport(), relays=[], brokers=[])[0].level == "ok"
    broken = ClientStatus("nats://127.0.0.1:4222", False, 0, "refused")
    nat, relay, broker = examine_paths(BEHIND, relays=[], brokers=[broken])
    assert [item.level for item in (nat, relay, broker)] == ["warning"] * 3
    assert all(item.next_step for item in (nat, relay, broker))
    assert "cone" in nat.message
    assert "refused" in broker.message
    nat, relay, broker = examine_paths(BEHIND, relays=[RELAY], brokers=[replace(broken, connected=True)])
    assert [item.level for item in (nat, relay, broker)] == ["ok"] * 3


LOOPBACK = "/ip4/127.0.0.1/tcp/4001"
WILDCARD = "/ip4/0.0.0.0/tcp/0"


@pytest.mark.parametrize(
    ("addresses", "listen", "levels", "words"),
    [
        ([], [], ["error"], "does not listen"),
        (["/ip4/192.168.1.2/tcp/4001"], [WILDCARD], ["ok"], "listening on 1 address"),
        ([LOOPBACK, "/ip4/192.168.1.2/tcp/1"], [WILDCARD], ["ok"], "2 addresses"),
        (["/nats/127.0.0.1/4222"], [], ["ok"], "peers come through others: /nats/127.0.0.1/4222"),
        ([LOOPBACK, "/nats/10.0.0.1/4222"], [LOOPBACK], ["ok"], "listening on 1 address"),
        ([LOOPBACK], [LOOPBACK], ["ok", "warning"], "--listen"),
        ([LOOPBACK], [WILDCARD], ["ok", "warning"], "in no network"),
        (["/ip6/::1/tcp/1"], ["/ip6/::/tcp/0"], ["ok", "warning"], "in no network"),
    ],
)
def test_listening(addresses, listen, levels, words):
    findings = examine_listening(addresses, listen)
    assert [item.level for item in findings] == levels
    assert any(words in f"{item.message} {item.next_step}" for item in findings)


@pytest.mark.parametrize(
    ("contacts", "is_alone", "level", "words"),
    [
        (12, False, "ok", "12 contacts"),
        (0, True, "error", "--bootstrap"),
        (0, False, "warning", "check the network"),
    ],
)
def test_the_dht(contacts, is_alone, level, words):
    finding = examine_dht(contacts, is_alone=is_alone)
    assert finding.level == level
    assert words in f"{finding.message} {finding.next_step}"
