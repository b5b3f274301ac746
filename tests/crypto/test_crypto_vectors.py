"""Every vector of ``crypto/vectors`` through our package, and the generators against the vectors."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sovereign_crypto import cbor, chunks, hpke, keyslot, merkle
from sovereign_crypto.certificate import IdentityAnchor, verify_certificate
from sovereign_crypto.envelope import Purpose, commitment_matches, open_sealed
from sovereign_crypto.errors import (
    AuthenticationError,
    CryptoError,
    FormatError,
    MalformedError,
    ParameterError,
    SignatureError,
    UnlockError,
)
from sovereign_crypto.identity import CertificateError, ForkError, IdentityLog, IdentityRoot, LogError
from sovereign_crypto.peer_id import peer_id_from_public_key, public_key_from_peer_id
from sovereign_crypto.project import ProjectKeys
from sovereign_crypto.recovery import RecoveryKit, open_with_recovery, parse_kit_file
from sovereign_crypto.signing import verify
from sovereign_crypto.statement import StatementType, parse_statement

FOLDER = Path(__file__).resolve().parents[2] / "crypto/vectors"
SPECS = ["envelope", "identity", "keys", "keyslot", "recovery", "statements"]
ERRORS = {
    "authentication": AuthenticationError,
    "certificate": CertificateError,
    "fork": ForkError,
    "format": FormatError,
    "log": LogError,
    "malformed": MalformedError,
    "parameter": ParameterError,
    "signature": SignatureError,
    "unlock": UnlockError,
}


def h(text: str) -> bytes:
    return bytes.fromhex(text)


def run_envelope(i: dict) -> dict:
    purpose, key, context, sealed = Purpose(i["purpose"]), h(i["key"]), h(i["context"]), h(i["sealed"])
    plaintext = open_sealed(purpose, key, context, sealed)
    assert commitment_matches(purpose, key, context, sealed)
    return {"plaintext": plaintext.hex()}


def run_cbor(i: dict) -> dict:
    encoded = h(i["encoded"])
    assert cbor.encode(cbor.decode(encoded)) == encoded
    return {}


def run_statement(i: dict) -> dict:
    kind = StatementType(i["type"])
    statement = parse_statement(h(i["raw"]), expected=kind, network_id=h(i["network_id"]))
    return {"signer": statement.signer.hex(), "body": cbor.encode(statement.body).hex()}


def run_verify(i: dict) -> dict:
    verify(h(i["public"]), h(i["message"]), h(i["signature"]))
    return {}


def run_slot(i: dict) -> dict:
    slot = h(i["slot"])
    if "secret" in i:
        return {"seed": keyslot.open_secret_slot(slot, h(i["secret"])).hex()}
    device_secret = h(i["device_secret"]) if "device_secret" in i else None
    return {"seed": keyslot.open_slot(slot, i["passphrase"], device_secret=device_secret).hex()}


def run_root(i: dict) -> dict:
    root = IdentityRoot(h(i["seed"]))
    anchor = IdentityAnchor(root.signing_key.public, h(i["recovery_key"]), h(i["nonce"]))
    return {
        "identity_key": root.signing_key.public.hex(),
        "seal_key": root.seal_key.hex(),
        "identity": anchor.identity_id.hex(),
    }


def run_certificate(i: dict) -> dict:
    certificate = verify_certificate(
        h(i["raw"]),
        i["now"],
        device_pk=h(i["device_key"]) if "device_key" in i else None,
        identity_pk=h(i["identity_key"]) if "identity_key" in i else None,
    )
    return {"device_key": certificate.device_pk.hex(), "identity": certificate.identity_id.hex()}


def run_log(i: dict) -> dict:
    log = IdentityLog.verify([h(entry) for entry in i["entries"]])
    return {
        "identity": log.identity_id.hex(),
        "identity_key": log.identity_pk.hex(),
        "active": sorted(key.hex() for key in log.active_devices),
        "head": log.head[1].hex(),
    }


def run_kit(i: dict) -> dict:
    kit, _hints = parse_kit_file(i["text"])
    return {
        "secret": kit.secret.hex(),
        "signing_seed": kit.signing_key.seed.hex(),
        "encryption_private": kit.encryption_key.seed.hex(),
        "encryption_public": kit.encryption_key.public.hex(),
        "locator": kit.locator.hex(),
        "rendezvous": kit.rendezvous.hex(),
        "groups": kit.to_groups(),
    }


def run_record(i: dict) -> dict:
    kit = RecoveryKit(h(i["secret"]))
    return {"plaintext": open_with_recovery(kit, h(i["context"]), h(i["sealed"])).hex()}


def run_project(i: dict) -> dict:
    keys = ProjectKeys.from_bytes(h(i["encoded"]))
    assert keys.to_bytes() == h(i["encoded"])
    epochs = range(keys.epoch + 1)
    return {
        "chunk_keys": [keys.chunk_key(epoch).hex() for epoch in epochs],
        "index_keys": [keys.index_key(epoch).hex() for epoch in epochs],
        "head_keys": [keys.head_key(epoch).hex() for epoch in epochs],
        "log_keys": [keys.log_key(epoch).hex() for epoch in epochs],
        "dedup_key": keys.dedup_key.hex(),
        "discovery_key": keys.discovery_key.hex(),
        "locator": keys.locator().hex(),
        "provider_locator": keys.locator(h(i["provider"])).hex(),
    }


def run_names(i: dict) -> dict:
    data = h(i["data"])
    return {"blob_id": chunks.blob_id(h(i["key"]), data).hex(), "chunk_id": chunks.chunk_id(data).hex()}


def run_padme(i: dict) -> dict:
    return {"padded": chunks.padme(i["size"])}


def leaf_data(size: int) -> bytes:
    whole = b"".join(hashlib.sha256(n.to_bytes(4, "big")).digest() * 128 for n in range(size // 4096 + 1))
    return whole[:size]


def run_leaves(i: dict) -> dict:
    data = leaf_data(i["size"])
    root = merkle.leaf_root(data)
    paths = [merkle.inclusion_proof(data, index) for index in range(merkle.leaf_count(len(data)))]
    for index, path in enumerate(paths):
        leaf = data[index * 4096 : (index + 1) * 4096]
        merkle.verify_inclusion(root, len(data), index, leaf, path)
    return {"root": root.hex(), "paths": [[node.hex() for node in path] for path in paths]}


def run_leaf_proof(i: dict) -> dict:
    leaf = leaf_data(i["size"])[i["index"] * 4096 : (i["index"] + 1) * 4096]
    path = [h(node) for node in i["path"]]
    merkle.verify_inclusion(h(i["root"]), i["size"], i["index"], leaf, path)
    return {}


def run_peer_id(i: dict) -> dict:
    public = public_key_from_peer_id(i["text"])
    assert peer_id_from_public_key(public) == i["text"]
    return {"public": public.hex()}


def run_wrap(i: dict) -> dict:
    key = hpke.EncryptionKey.from_seed(h(i["private"]))
    purpose, wrapped = hpke.WrapPurpose(i["purpose"]), h(i["wrapped"])
    contexts = {"context": h(i["context"]), "tag_context": h(i["tag_context"])}
    return {"secret": hpke.unwrap(purpose, key, wrapped, **contexts).hex()}


RUNNERS = {
    ("envelope", "open"): run_envelope,
    ("statements", "cbor"): run_cbor,
    ("statements", "parse"): run_statement,
    ("statements", "verify"): run_verify,
    ("keyslot", "open"): run_slot,
    ("identity", "root"): run_root,
    ("identity", "certificate"): run_certificate,
    ("identity", "log"): run_log,
    ("recovery", "kit"): run_kit,
    ("recovery", "record"): run_record,
    ("keys", "project"): run_project,
    ("keys", "names"): run_names,
    ("keys", "padme"): run_padme,
    ("keys", "leaves"): run_leaves,
    ("keys", "leaf-proof"): run_leaf_proof,
    ("keys", "peer-id"): run_peer_id,
    ("keys", "wrap"): run_wrap,
}
VECTORS = sorted(path for spec in SPECS for path in (FOLDER / spec).glob("*.json"))


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_vector(path):
    case = json.loads(path.read_text("ascii"))
    runner = RUNNERS[case["spec"], case["function"]]
    if case["expect"] == "ok":
        output = runner(case["input"])
        for name, expected in case.get("output", {}).items():
            assert output[name] == expected
        return
    category, _, reason = case["expect"].partition(":")
    with pytest.raises(CryptoError) as caught:
        runner(case["input"])
    assert isinstance(caught.value, ERRORS[category])
    if reason:
        assert caught.value.fault.value == reason


def test_every_kind_of_vector_is_there():
    seen = {(c["spec"], c["function"]) for c in (json.loads(p.read_text("ascii")) for p in VECTORS)}
    assert seen == RUNNERS.keys()


@pytest.mark.parametrize("spec", SPECS)
def test_generators_give_the_committed_vectors(spec, tmp_path):
    subprocess.run(
        [sys.executable, FOLDER / f"make_{spec}.py", tmp_path], check=True, capture_output=True, timeout=60
    )
    made = {path.name: path.read_bytes() for path in (tmp_path / spec).iterdir()}
    committed = {path.name: path.read_bytes() for path in (FOLDER / spec).iterdir()}
    assert made == committed


def test_generators_do_not_use_our_package():
    for path in FOLDER.glob("make_*.py"):
        assert "sovereign_" not in path.read_text("utf-8")


def test_the_hpke_of_the_generators_follows_rfc_9180():
    spec = importlib.util.spec_from_file_location("make_common", FOLDER / "make_common.py")
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    vectors = Path(cryptography_vectors.__file__).parent / "HPKE/test-vectors.json"
    ours = {"mode": 0, "kem_id": 0x20, "kdf_id": 1, "aead_id": 2}
    cases = [c for c in json.loads(vectors.read_text()) if all(c[n] == v for n, v in ours.items())]
    assert cases
    for case in cases:
        info = h(case["info"])
        key, nonce = common.hpke_key_and_nonce(h(case["skEm"]), h(case["pkRm"]), info)
        assert (key.hex(), nonce.hex()) == (case["key"], case["base_nonce"])
        first = case["encryptions"][0]
        sealed = AESGCM(key).encrypt(nonce, h(first["pt"]), h(first["aad"]))
        assert sealed.hex() == first["ct"]
        # The same key schedule through our wrapper, which has no associated data.
        recipient = hpke.EncryptionKey.from_seed(h(case["skRm"]))
        box = common.hpke_seal(h(case["skEm"]), h(case["pkRm"]), info, h(first["pt"]))
        assert recipient.open_box(box, info).hex() == first["pt"]
