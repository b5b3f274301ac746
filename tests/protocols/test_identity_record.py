import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign_crypto.envelope import Purpose, seal
from sovereign_crypto.errors import AuthenticationError, CryptoError, FormatError, MalformedError
from sovereign_crypto.hpke import EncryptionKey, WrapPurpose, wrap
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, StatementType, sign_statement
from sovereign_protocols.recovery.record import (
    MAGIC,
    ContractEntry,
    DeviceEntry,
    IdentityRecord,
    ProjectEntry,
    open_record,
    seal_record,
)

VECTORS = Path(__file__).parents[2] / "protocols" / "vectors" / "identity-record.json"
LOCATOR = b"l" * 32
KIT = EncryptionKey(b"k" * 32)
DEVICE = EncryptionKey(b"d" * 32)
WRITER = SigningKey.from_seed(b"w" * 32)
RECORD = IdentityRecord(
    identity_id=b"i" * 32,
    revision=3,
    root_box=b"box",
    log=(b"entry 0", b"entry 1"),
    user_keys=(b"u" * 32,),
    projects=(ProjectEntry(b"p" * 32, "photos", b"keys", 2),),
    contracts=(ContractEntry(b"customer", b"provider", "12D3KooW", ("/ip4/127.0.0.1/tcp/1",)),),
    devices=(DeviceEntry(b"x" * 32, "studio", ("server", "provider")),),
)


def sealed(record: IdentityRecord = RECORD, recipients: tuple[bytes, ...] = (KIT.public, DEVICE.public)) -> bytes:
    return seal_record(record, recipients=recipients, locator=LOCATOR, key=WRITER, network_id=NETWORK_ID_MAIN)


@pytest.mark.parametrize("key", [KIT, DEVICE])
def test_each_recipient_opens_it(key: EncryptionKey) -> None:
    opened = open_record(sealed(), key=key, locator=LOCATOR, network_id=NETWORK_ID_MAIN)
    assert opened.record == RECORD
    assert opened.writer == WRITER.public


@pytest.mark.parametrize(
    ("key", "locator", "network_id"),
    [
        (EncryptionKey(b"e" * 32), LOCATOR, NETWORK_ID_MAIN),
        (KIT, b"m" * 32, NETWORK_ID_MAIN),
        (KIT, LOCATOR, b"n" * 32),
    ],
)
def test_others_do_not(key: EncryptionKey, locator: bytes, network_id: bytes) -> None:
    with pytest.raises(CryptoError):
        open_record(sealed(), key=key, locator=locator, network_id=network_id)


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(position: int, bit: int) -> None:
    damaged = bytearray(sealed(recipients=(KIT.public,)))
    damaged[position % len(damaged)] ^= 1 << bit
    with pytest.raises((FormatError, AuthenticationError)):
        open_record(bytes(damaged), key=KIT, locator=LOCATOR, network_id=NETWORK_ID_MAIN)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, 10**6))
def test_any_truncation_is_refused(length: int) -> None:
    whole = sealed()
    with pytest.raises((FormatError, AuthenticationError)):
        open_record(whole[: length % len(whole)], key=KIT, locator=LOCATOR, network_id=NETWORK_ID_MAIN)


@pytest.mark.parametrize("count", [0, 66])
def test_number_of_recipients_is_bounded(count: int) -> None:
    with pytest.raises(FormatError):
        sealed(recipients=(KIT.public,) * count)


def test_too_large_a_record_is_refused() -> None:
    big = tuple(ProjectEntry(bytes(32), "n", bytes(1000), 1) for _ in range(4200))
    with pytest.raises(CryptoError):
        sealed(replace(RECORD, projects=big))


def forge(content: bytes, statement_body: dict[str, object] | None = None, length: int | None = None) -> bytes:
    """A record whose envelope is sound and whose inside is not."""
    import hashlib

    body = statement_body or {
        "v": 1,
        "locator": LOCATOR,
        "revision": 3,
        "content": hashlib.sha256(content).digest(),
    }
    statement = sign_statement(StatementType.RECOVERY_RECORD, body, WRITER).raw
    inner = (len(statement) if length is None else length).to_bytes(4, "big") + statement + content
    key, header = b"r" * 32, MAGIC + bytes((1, 0, 0))
    wrapped = wrap(WrapPurpose.RECOVERY, KIT.public, key, context=LOCATOR)
    return header + wrapped + seal(Purpose.RECOVERY, key, LOCATOR + header, inner)


def content_with(**changes: object) -> bytes:
    from sovereign_crypto import cbor

    body: dict[str, object] = {
        "v": 1,
        "identity_id": bytes(32),
        "revision": 3,
        "root_box": b"",
        "log": [],
        "user_keys": [],
        "projects": [],
        "contracts": [],
        "devices": [],
    }
    body.update(changes)
    return cbor.encode({name: value for name, value in body.items() if value is not ...})


def test_plain_content_is_accepted() -> None:
    opened = open_record(forge(content_with()), key=KIT, locator=LOCATOR, network_id=NETWORK_ID_MAIN)
    assert opened.record.revision == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"revision": 0},
        {"revision": True},
        {"root_box": "text"},
        {"root_box": ...},
        {"more": 1},
        {"identity_id": bytes(31)},
        {"log": b""},
        {"log": [1]},
        {"user_keys": [bytes(31)]},
        {"projects": [[bytes(32), "n", b""]]},
        {"projects": [[bytes(32), "n", b"", 0]]},
        {"projects": [[bytes(32), b"n", b"", 1]]},
        {"contracts": [[b"", b"", "p", [1]]]},
        {"devices": [[bytes(32), "n" * 1025, []]]},
    ],
)
def test_schema_is_closed(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        open_record(forge(content_with(**changes)), key=KIT, locator=LOCATOR, network_id=NETWORK_ID_MAIN)


def test_signature_must_be_about_this_content() -> None:
    with pytest.raises(MalformedError):
        open_record(
            forge(content_with(), {"v": 1, "locator": LOCATOR, "revision": 3, "content": bytes(32)}),
            key=KIT,
            locator=LOCATOR,
            network_id=NETWORK_ID_MAIN,
        )


def test_statement_length_is_bounded_by_what_is_there() -> None:
    with pytest.raises(MalformedError):
        open_record(forge(content_with(), length=2**31), key=KIT, locator=LOCATOR, network_id=NETWORK_ID_MAIN)


def test_vector() -> None:
    vector = json.loads(VECTORS.read_text())
    opened = open_record(
        bytes.fromhex(vector["record"]),
        key=EncryptionKey(bytes.fromhex(vector["kit_private_key"])),
        locator=bytes.fromhex(vector["locator"]),
        network_id=bytes.fromhex(vector["network_id"]),
    )
    assert opened.writer.hex() == vector["writer"]
    assert opened.record.identity_id.hex() == vector["identity_id"]
    assert opened.record.revision == vector["revision"]
    assert [project.name for project in opened.record.projects] == vector["project_names"]
