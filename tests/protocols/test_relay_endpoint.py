import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign_protocols.relay.endpoint import Endpoint, EndpointError, parse_authority, parse_multiaddr, parse_url


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("nats://relay.example", Endpoint("relay.example", 4222)),
        ("nats://Relay.Example:99/", Endpoint("relay.example", 99)),
        ("tls://10.0.0.1:4223", Endpoint("10.0.0.1", 4223, True)),
        ("nats-tls://a", Endpoint("a", 4222, True)),
        (" tls://[2001:DB8::1]:5 ", Endpoint("2001:db8::1", 5, True)),
        ("nats://[::1]", Endpoint("::1", 4222)),
    ],
)
def test_urls_of_the_configuration(url, endpoint):
    assert parse_url(url) == endpoint
    assert parse_url(endpoint.url) == endpoint
    assert parse_multiaddr(endpoint.multiaddr) == (endpoint, "")
    assert parse_multiaddr(endpoint.multiaddr + "/p2p/12D3") == (endpoint, "12D3")


@pytest.mark.parametrize(
    "url",
    [
        "relay.example",
        "http://relay.example",
        "nats://",
        "nats://user:pass@relay.example",
        "nats://relay.example:0",
        "nats://relay.example:65536",
        "nats://relay.example:x",
        "nats://a/b",
        "nats://a b",
        "nats://-a",
        "nats://[::g]",
        "nats://[::1",
        "nats://" + "a." * 200 + "b:1",
    ],
)
def test_other_text_names_no_relay(url):
    with pytest.raises(EndpointError):
        parse_url(url)


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/1.2.3.4/tcp/1",
        "/nats",
        "/nats/a",
        "/nats/a:1/p2p",
        "/nats/a:1/p2p/",
        "/nats/a:1/x/y",
        "nats/a:1",
        "x/nats/a:1",
    ],
)
def test_other_multiaddrs_name_no_relay(address):
    with pytest.raises(EndpointError):
        parse_multiaddr(address)


@given(st.text(max_size=300))
def test_any_text_is_an_endpoint_or_the_documented_error(text):
    for parse in (parse_url, parse_multiaddr, parse_authority):
        with contextlib.suppress(EndpointError):
            parse(text)
