"""The identity record ``SIR1``: one sealed object from which every device, or the recovery kit, gets everything.

==============  =====  ====================================================
offset          size   field
==============  =====  ====================================================
0               4      ``SIR1``
4               1      version, 1
5               1      number n of key wraps, 1 to 65
6               2      zero
8               106 n  SVW1 wraps of the record key: recovery kit, then devices
8 + 106 n       rest   SVE1, purpose recovery: u32 length, SVS1 statement, content
==============  =====  ====================================================

A new record key is drawn at each writing, so a revoked device cannot open later records. The statement (type
recovery record) is signed by the writing device over the SHA-256 of the content; a reader checks that this device
is active in the identity log that the content carries.

Source: ``protocols/specs/identity-record.md``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sovereign_crypto import cbor
from sovereign_crypto.envelope import Purpose, open_sealed, seal
from sovereign_crypto.errors import AuthenticationError, FormatError, MalformedError
from sovereign_crypto.hpke import WRAP_BYTES, EncryptionKey, WrapPurpose, is_wrap_for, unwrap, wrap
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import Statement, StatementType, parse_statement, sign_statement

MAGIC = b"SIR1\x01"
MAX_WRAPS = 65
MAX_RECORD_BYTES = 4 * 1024 * 1024
MAX_PROJECTS = 10_000
_HEADER_BYTES = 8


@dataclass(frozen=True)
class ProjectEntry:
    """A project that comes back with the identity.

    Attributes:
        project_id: 32 bytes.
        name: chosen by the user.
        keys: encoded ProjectKeys, secret.
        copies: providers that must hold each chunk.

    """

    project_id: bytes
    name: str
    keys: bytes = field(repr=False)
    copies: int


@dataclass(frozen=True)
class ContractEntry:
    """A contract and where its provider was last seen.

    Attributes:
        customer_statement: terms signed by the customer, SVS1.
        provider_statement: the same terms signed by the provider, SVS1.
        peer_id: base58 text of the provider's device.
        addresses: multiaddrs, as a hint.

    """

    customer_statement: bytes
    provider_statement: bytes
    peer_id: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class DeviceEntry:
    """A device's name; which devices are active is said by the identity log alone."""

    public_key: bytes
    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class IdentityRecord:
    """The content of a record.

    Attributes:
        identity_id: 32 bytes.
        revision: grows by one at each writing.
        root_box: identity root seed, sealed to the recovery kit alone; opaque to devices.
        log: identity log, every entry as its SVS1 bytes.
        user_keys: X25519 private keys by generation, 32 bytes each, secret.
        projects: every project of the identity.
        contracts: every contract of the identity.
        devices: names of devices.

    """

    identity_id: bytes
    revision: int
    root_box: bytes = field(repr=False)
    log: tuple[bytes, ...] = field(repr=False)
    user_keys: tuple[bytes, ...] = field(repr=False)
    projects: tuple[ProjectEntry, ...] = ()
    contracts: tuple[ContractEntry, ...] = ()
    devices: tuple[DeviceEntry, ...] = ()


@dataclass(frozen=True)
class OpenedRecord:
    """A record whose signature holds; ``writer`` must still be checked against the identity log."""

    record: IdentityRecord
    writer: bytes


def seal_record(
    record: IdentityRecord, *, recipients: Sequence[bytes], locator: bytes, key: SigningKey, network_id: bytes
) -> bytes:
    """Encode, sign and seal a record.

    Args:
        record: the content.
        recipients: X25519 public keys, the recovery kit's first, then those of active devices; 1 to 65.
        locator: 32 bytes, the name under which the record is stored; bound to it.
        key: the writing device.
        network_id: 32 bytes.

    Raises:
        FormatError: too many recipients, an unusable key, or too large a record.

    """
    if not 1 <= len(recipients) <= MAX_WRAPS:
        raise FormatError(f"a record has 1 to {MAX_WRAPS} recipients")
    content = cbor.encode(_to_map(record))
    statement = sign_statement(
        StatementType.RECOVERY_RECORD,
        {"v": 1, "locator": locator, "revision": record.revision, "content": hashlib.sha256(content).digest()},
        key,
        network_id,
    )
    plaintext = len(statement.raw).to_bytes(4, "big") + statement.raw + content
    record_key = os.urandom(32)
    wraps = [wrap(WrapPurpose.RECOVERY, item, record_key, context=locator) for item in recipients]
    header = MAGIC + bytes((len(wraps), 0, 0))
    sealed = header + b"".join(wraps) + seal(Purpose.RECOVERY, record_key, locator + header, plaintext)
    if len(sealed) > MAX_RECORD_BYTES:
        raise FormatError("the identity record is too large")
    return sealed


def open_record(sealed: bytes, *, key: EncryptionKey, locator: bytes, network_id: bytes) -> OpenedRecord:
    """Open a record with the key of the recovery kit or of a device.

    Raises:
        FormatError: not a record.
        AuthenticationError: not sealed to ``key`` under this locator, or altered.
        SignatureError: the writer's signature does not hold.
        MalformedError: the content does not follow the schema.

    """
    header, wraps, envelope = _split(sealed)
    record_key = _record_key(wraps, key, locator)
    plaintext = open_sealed(Purpose.RECOVERY, record_key, locator + header, envelope)
    length = int.from_bytes(plaintext[:4], "big")
    if length > len(plaintext) - 4:
        raise MalformedError("record statement is cut off")
    statement = parse_statement(
        plaintext[4 : 4 + length], expected=StatementType.RECOVERY_RECORD, network_id=network_id
    )
    content = plaintext[4 + length :]
    record = _from_map(cbor.decode(content, max_bytes=MAX_RECORD_BYTES))
    _check_statement(statement, record, content, locator)
    return OpenedRecord(record, statement.signer)


def _split(sealed: bytes) -> tuple[bytes, list[bytes], bytes]:
    if not _HEADER_BYTES < len(sealed) <= MAX_RECORD_BYTES or sealed[:5] != MAGIC or sealed[6:8] != b"\0\0":
        raise FormatError("not an identity record")
    count = sealed[5]
    end = _HEADER_BYTES + count * WRAP_BYTES
    if not 1 <= count <= MAX_WRAPS or end > len(sealed):
        raise FormatError("identity record is cut off")
    wraps = [sealed[start : start + WRAP_BYTES] for start in range(_HEADER_BYTES, end, WRAP_BYTES)]
    return sealed[:_HEADER_BYTES], wraps, sealed[end:]


def _record_key(wraps: Sequence[bytes], key: EncryptionKey, locator: bytes) -> bytes:
    for item in wraps:
        if is_wrap_for(WrapPurpose.RECOVERY, key.public, item, locator):
            return unwrap(WrapPurpose.RECOVERY, key, item, context=locator)
    raise AuthenticationError("the identity record is not sealed to this key")


def _check_statement(statement: Statement, record: IdentityRecord, content: bytes, locator: bytes) -> None:
    expected = {
        "v": 1,
        "locator": locator,
        "revision": record.revision,
        "content": hashlib.sha256(content).digest(),
    }
    if statement.body != expected:
        raise MalformedError("the record's signature is about another content")


def _to_map(record: IdentityRecord) -> dict[str, Any]:
    return {
        "v": 1,
        "identity_id": record.identity_id,
        "revision": record.revision,
        "root_box": record.root_box,
        "log": list(record.log),
        "user_keys": list(record.user_keys),
        "projects": [[p.project_id, p.name, p.keys, p.copies] for p in record.projects],
        "contracts": [
            [c.customer_statement, c.provider_statement, c.peer_id, list(c.addresses)] for c in record.contracts
        ],
        "devices": [[d.public_key, d.name, list(d.roles)] for d in record.devices],
    }


def _from_map(body: Any) -> IdentityRecord:
    if not isinstance(body, dict) or body.keys() != {"v", *(item.name for item in fields(IdentityRecord))}:
        raise MalformedError("identity record has other fields")
    if body["v"] != 1 or type(body["revision"]) is not int or body["revision"] < 1:
        raise MalformedError("identity record has another version")
    lists = {name: _list(body[name]) for name in ("log", "user_keys", "projects", "contracts", "devices")}
    return IdentityRecord(
        identity_id=_bytes(body["identity_id"], 32),
        revision=body["revision"],
        root_box=_bytes(body["root_box"]),
        log=tuple(_bytes(item) for item in lists["log"]),
        user_keys=tuple(_bytes(item, 32) for item in lists["user_keys"]),
        projects=tuple(_project(item) for item in lists["projects"]),
        contracts=tuple(_contract(item) for item in lists["contracts"]),
        devices=tuple(_device(item) for item in lists["devices"]),
    )


def _project(item: Any) -> ProjectEntry:
    project_id, name, keys, copies = _list(item, 4)
    if type(copies) is not int or not 1 <= copies <= 64:
        raise MalformedError("project copies out of range")
    return ProjectEntry(_bytes(project_id, 32), _text(name), _bytes(keys), copies)


def _contract(item: Any) -> ContractEntry:
    customer, provider, peer_id, addresses = _list(item, 4)
    texts = tuple(_text(address) for address in _list(addresses))
    return ContractEntry(_bytes(customer), _bytes(provider), _text(peer_id), texts)


def _device(item: Any) -> DeviceEntry:
    public_key, name, roles = _list(item, 3)
    return DeviceEntry(_bytes(public_key, 32), _text(name), tuple(_text(role) for role in _list(roles)))


def _list(value: Any, length: int | None = None) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_PROJECTS or length not in (None, len(value)):
        raise MalformedError("expected a list in the identity record")
    return value


def _bytes(value: Any, length: int | None = None) -> bytes:
    if not isinstance(value, bytes) or length not in (None, len(value)):
        raise MalformedError("expected bytes in the identity record")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 1024:
        raise MalformedError("expected a text in the identity record")
    return value
