"""The market's vectors, made without the code under test."""

import json
from pathlib import Path

import pytest

from sovereign_crypto.signing import SigningKey
from sovereign_protocols.errors import RemoteProtocolError
from sovereign_protocols.framing import PREFIX
from sovereign_protocols.market import messages as m
from sovereign_protocols.market.acts import parse_act, sign_act
from sovereign_protocols.market.offer import parse_offer, sign_offer
from sovereign_protocols.market.terms import agree, countersign, parse_terms, sign_terms

VECTORS = json.loads(
    (Path(__file__).parents[2] / "protocols" / "vectors" / "market.json").read_text(encoding="utf-8")
)
PROVIDER = SigningKey.from_seed(bytes.fromhex(VECTORS["seeds"]["provider"]))
CUSTOMER = SigningKey.from_seed(bytes.fromhex(VECTORS["seeds"]["customer"]))
PARSERS = {"offer": parse_offer, "terms": parse_terms, "act": parse_act}


def test_offer() -> None:
    signed = parse_offer(bytes.fromhex(VECTORS["offer"]["raw"]))
    assert signed.hash.hex() == VECTORS["offer"]["hash"]
    assert (signed.offer.name, signed.offer.seq) == (VECTORS["offer"]["name"], VECTORS["offer"]["seq"])
    assert sign_offer(signed.offer, PROVIDER) == signed


def test_terms() -> None:
    by_customer = parse_terms(bytes.fromhex(VECTORS["terms"]["by_customer"]))
    by_provider = parse_terms(bytes.fromhex(VECTORS["terms"]["by_provider"]))
    agreement = agree(by_customer, by_provider)
    assert agreement.contract_id.hex() == VECTORS["terms"]["contract"]
    assert countersign(sign_terms(agreement.terms, CUSTOMER), PROVIDER) == agreement
    revision = parse_terms(bytes.fromhex(VECTORS["terms"]["revision_by_customer"]))
    assert revision.terms_hash.hex() == VECTORS["terms"]["revision_hash"]
    assert revision.contract_id == agreement.contract_id


def test_act() -> None:
    signed = parse_act(bytes.fromhex(VECTORS["act"]["raw"]))
    assert signed.act.kind == VECTORS["act"]["kind"]
    assert sign_act(signed.act, CUSTOMER) == signed


@pytest.mark.parametrize("case", VECTORS["frames"], ids=lambda case: case["type"])
def test_frames(case) -> None:
    frame = bytes.fromhex(case["frame"])
    request_id, message = m.PROTOCOL.decode(frame[PREFIX.size :])
    assert (request_id, type(message).__name__) == (case["id"], case["type"])
    assert m.encode_message(request_id, message) == frame


def test_every_message_has_a_frame() -> None:
    assert {case["type"] for case in VECTORS["frames"]} == {kind.__name__ for kind in m.KINDS}


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["name"])
def test_refused(case) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        PARSERS[case["parser"]](bytes.fromhex(case["raw"]))
    assert caught.value.code.value == case["expect"]
