"""Peer ids of Ed25519 keys."""

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.peer.id import ID

from sovereign_crypto.errors import FormatError
from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_crypto.signing import SigningKey

seeds = st.binary(min_size=32, max_size=32)


@given(seeds)
def test_round_trip_and_agreement_with_libp2p(seed):
    public = SigningKey.from_seed(seed).public
    text = peer_id_from_public_key(public)
    assert text.startswith("12D3Koo")
    assert public_key_from_peer_id(text) == public
    assert str(ID.from_pubkey(Ed25519PublicKey.from_bytes(public))) == text


def encoded(prefix: str, public: bytes) -> str:
    return base58.b58encode(bytes.fromhex(prefix) + public).decode()


GOOD = SigningKey.from_seed(bytes(32)).public


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "12D3KooW",
        peer_id_from_public_key(GOOD)[:-1],
        peer_id_from_public_key(GOOD) + "1",
        " " + peer_id_from_public_key(GOOD)[:-1],
        peer_id_from_public_key(GOOD)[:-1] + " ",
        peer_id_from_public_key(GOOD)[:-1] + "0",
        peer_id_from_public_key(GOOD)[:-1] + "é",
        encoded("002408011220", bytes(32)),
        encoded("002408021220", GOOD),
        encoded("122408011220", GOOD),
        "z" * 52,
        "1" * 52,
        "Qm" + "a" * 50,
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises(FormatError):
        public_key_from_peer_id(text)


def test_unacceptable_key_has_no_peer_id():
    with pytest.raises(FormatError):
        peer_id_from_public_key(bytes(32))
