"""Specifications and code state the same headings, numbers, strings and limits."""

import re
from pathlib import Path

import pytest

from sovereign_crypto import (
    cbor,
    certificate,
    envelope,
    hpke,
    identity_entries,
    kdf,
    keyslot,
    merkle,
    project,
    recovery,
    statement,
)
from sovereign_crypto.domains import Domain

SPECS = Path(__file__).resolve().parents[2] / "crypto/specs"
HEADINGS = [
    "Status",
    "Terms",
    "Messages",
    "States",
    "Limits",
    "Errors",
    "Security",
    "Versioning",
    "Vectors",
    "Changes",
]
START = "svrn/" + "v1"


def text(name: str) -> str:
    return (SPECS / f"{name}.md").read_text("utf-8")


def rows(name: str) -> list[list[str]]:
    lines = [line for line in text(name).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("name", ["envelope", "identity", "keys", "keyslot", "recovery", "statements"])
def test_headings_and_vectors(name):
    assert re.findall(r"^## (.*)$", text(name), re.MULTILINE) == HEADINGS
    assert f"`crypto/vectors/{name}`, made by `make_{name}.py`" in text(name)
    assert (SPECS.parent / "vectors" / f"make_{name}.py").exists()


def test_domain_strings():
    listed = [row[0].strip("`") for row in rows("keys") if row[0].startswith(f"`{START}")]
    assert sorted(listed) == sorted(domain.value for domain in Domain)
    known = {domain.value for domain in Domain}
    for path in SPECS.glob("*.md"):
        used = set(re.findall(rf"{START}[a-z0-9/-]*", path.read_text("utf-8")))
        assert used <= known, path.name


def test_statement_types():
    listed = {row[0]: int(row[1], 16) for row in rows("statements") if row[1].startswith("0x")}
    in_code = {kind.name.lower().replace("_", " "): kind.value for kind in statement.StatementType}
    assert listed == in_code


def test_envelope_purposes():
    listed = {row[0]: int(row[1]) for row in rows("envelope") if len(row) == 3 and row[1].isdigit()}
    in_code = {purpose.name.lower().replace("_", " "): purpose.value for purpose in envelope.Purpose}
    assert {name: number for name, number in listed.items() if name in in_code} == in_code


def test_wrap_purposes():
    line = next(row[2] for row in rows("keys") if row[2:] and row[2].startswith("purpose:"))
    listed = dict(re.findall(r"(\d) ([a-z ]+)", line))
    assert listed == {str(p.value): p.name.lower().replace("_", " ") for p in hpke.WrapPurpose}


def test_identity_actions_and_reasons():
    for action in identity_entries.Action:
        assert any(row[0] == action.value for row in rows("identity"))
    reasons = re.search(r"peer learns just \"refused\"\): ([^.]*)\.", text("identity"))[1]
    assert set(re.split(r",\s+", reasons)) == {fault.value for fault in certificate.CertificateFault}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("envelope", envelope.OVERHEAD_BYTES),
        ("envelope", envelope.OVERHEAD_BYTES + envelope.MAX_PLAINTEXT_BYTES),
        ("envelope", envelope.MAX_CONTEXT_BYTES),
        ("keyslot", keyslot.SLOT_BYTES),
        ("keyslot", kdf.DEFAULT_KDF.memory_kib),
        ("keyslot", kdf.STRONG_KDF.memory_kib),
        ("keyslot", kdf.DEFAULT_PBKDF2.passes),
        ("keyslot", kdf.MAX_PASSPHRASE_BYTES),
        ("statements", statement.DEFAULT_MAX_BYTES),
        ("statements", statement.OVERHEAD_BYTES),
        ("statements", cbor.MAX_DEPTH),
        ("statements", cbor.MAX_INT_KEY),
        ("identity", identity_entries.MAX_ENTRIES),
        ("identity", identity_entries.MAX_ACTIVE_DEVICES),
        ("identity", identity_entries.MAX_ENTRY_BYTES),
        ("identity", identity_entries.MAX_BOX_BYTES),
        ("identity", certificate.MAX_CERTIFICATE_BYTES),
        ("identity", certificate.MAX_LIFETIME_S),
        ("identity", certificate.CLOCK_SKEW_S),
        ("keys", project.MAX_EPOCHS),
        ("keys", hpke.WRAP_BYTES),
        ("keys", hpke.MAX_CONTEXT_BYTES),
        ("keys", merkle.LEAF_BYTES),
        ("keys", merkle.MAX_PATH_NODES),
        ("recovery", recovery.MAX_KIT_FILE_CHARACTERS),
    ],
)
def test_limits_are_stated(name, value):
    assert re.search(rf"(?<!\d){value}(?!\d)", text(name))
