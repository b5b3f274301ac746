import pytest
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from sovereign_node.net.nats.multiaddr import register

PEER = "12D3KooWPbtVpZNwhvCHPNVFdjJeGtPPJPLLWxvQPFchbxZPWPVu"


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()
    register()


@pytest.mark.parametrize(
    "text",
    [
        f"/nats/relay.example:4222/p2p/{PEER}",
        f"/nats-tls/10.0.0.1:4222/p2p/{PEER}",
        "/nats/[2001:db8::1]:4222",
    ],
)
def test_addresses_round_trip_through_bytes(text):
    address = Multiaddr(text)
    assert str(Multiaddr(address.to_bytes())) == text


@pytest.mark.parametrize(
    "text", ["/nats", "/nats/relay", "/nats/Relay:1", "/nats/a:0", "/nats/a:01", "/nats-tls/::1:1"]
)
def test_other_text_is_refused(text):
    with pytest.raises((MultiaddrError, ValueError)):
        Multiaddr(text).to_bytes()


def test_other_bytes_are_refused():
    raw = Multiaddr("/nats/a:1").to_bytes()
    with pytest.raises((MultiaddrError, ValueError)):
        str(Multiaddr(raw[:-1] + b"x"))
