"""Multicast DNS on loopback only."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from sovereign_crypto.peer_id import peer_id_from_public_key
from sovereign_crypto.signing import SigningKey
from sovereign_node.net.mdns import Mdns, decode_txt, encode_txt

PEERS = [peer_id_from_public_key(SigningKey.from_seed(bytes([n]) * 32).public) for n in range(1, 4)]


def address_of(peer_id: str, port: int = 4001) -> str:
    return f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id}"


def test_addresses_survive_a_txt_record():
    addresses = [address_of(PEERS[0], port) for port in (1, 2, 3)]
    assert decode_txt(encode_txt(addresses)) == (PEERS[0], addresses)


def test_what_does_not_fit_is_left_out():
    addresses = [f"/dns4/{'x' * 300}/tcp/1/p2p/{PEERS[0]}", *(address_of(PEERS[0], n) for n in range(40))]
    peer_id, found = decode_txt(encode_txt(addresses))
    assert peer_id == PEERS[0]
    assert 8 < len(found) <= 16
    assert len(encode_txt(addresses)) <= 1200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05hello",
        encode_txt([address_of(PEERS[0]), address_of(PEERS[1])]),
        encode_txt(["/ip4/127.0.0.1/tcp/1"]),
        encode_txt(["/ip4/127.0.0.1/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"]),
    ],
)
def test_txt_that_names_no_single_peer_is_nothing(data):
    assert decode_txt(data) is None


@given(st.binary(max_size=600))
def test_any_txt_is_read_without_error(data):
    result = decode_txt(data)
    assert result is None or result[0]


async def _run(mdns: Mdns, task_status) -> None:
    await mdns.run(task_status=task_status)


async def test_two_nodes_find_each_other_on_loopback():
    found: dict[str, tuple[str, list[str]]] = {}
    both = trio.Event()

    def note(owner: str, peer_id: str, addresses: list[str]) -> None:
        if peer_id in PEERS:
            found[owner] = (peer_id, addresses)
        if len(found) == 2:
            both.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for owner in PEERS[:2]:
                mdns = Mdns(
                    owner,
                    lambda owner=owner: [address_of(owner)],
                    lambda peer_id, addresses, owner=owner: note(owner, peer_id, addresses),
                    interfaces=["127.0.0.1"],
                )
                await nursery.start(_run, mdns)
            await both.wait()
            nursery.cancel_scope.cancel()
    assert found == {
        PEERS[0]: (PEERS[1], [address_of(PEERS[1])]),
        PEERS[1]: (PEERS[0], [address_of(PEERS[0])]),
    }


async def test_a_machine_without_that_interface_finds_nobody_and_goes_on():
    mdns = Mdns(PEERS[0], list, lambda *_: None, interfaces=["203.0.113.7"])
    with trio.fail_after(10):
        await mdns.run()
