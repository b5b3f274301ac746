"""Peer records: where a device is and whose it is, in its own signed words.

Source: protocols/specs/discovery.md, "Peer record".
"""

from dataclasses import dataclass, field
from typing import Any, Final

from sovereign_crypto.certificate import DeviceCertificate, check_validity, parse_certificate
from sovereign_crypto.errors import CryptoError
from sovereign_crypto.schema import Check, bounded_bytes, byte_string, check_schema, integer, list_of, text
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import NETWORK_ID_MAIN, Statement, StatementType, sign_statement
from sovereign_protocols.errors import ErrorCode, RemoteProtocolError
from sovereign_protocols.statements import read_statement

VERSION: Final = 1
#: A record of a device that is gone misleads others for a day at most.
MAX_VALIDITY_S: Final = 24 * 3600
#: Clocks of honest nodes may differ by this much.
CLOCK_SKEW_S: Final = 300
MAX_RECORD_BYTES: Final = 4096
MAX_CERTIFICATE_BYTES: Final = 1024
MAX_ADDRESSES: Final = 16
MAX_ADDRESS_CHARACTERS: Final = 200
MAX_NAME_CHARACTERS: Final = 64
MAX_ROLES: Final = 4
MAX_ROLE_CHARACTERS: Final = 16
_TIME = integer(0, 2**53)

_SCHEMA: Final[dict[str, Check]] = {
    "v": integer(VERSION, VERSION),
    "device": byte_string(32),
    "certificate": bounded_bytes(MAX_CERTIFICATE_BYTES),
    "addresses": list_of(text(MAX_ADDRESS_CHARACTERS), MAX_ADDRESSES),
    "roles": list_of(text(MAX_ROLE_CHARACTERS), MAX_ROLES),
    "name": text(MAX_NAME_CHARACTERS),
    "seq": _TIME,
    "issued_at": _TIME,
    "expires_at": _TIME,
}


@dataclass(frozen=True)
class PeerRecord:
    """What a device says about itself.

    Attributes:
        device: Ed25519 key of the device, 32 bytes; it signs.
        certificate: the device certificate, at most 1024 bytes.
        addresses: multiaddrs that end in ``/p2p/PEER``, best first, at most 16.
        roles: what the device does: "server", "mobile", "provider".
        name: for people; may be empty, and is public.
        seq: grows with every record of the device.
        issued_at: Unix seconds UTC.
        expires_at: Unix seconds UTC, at most a day after ``issued_at``.
    """

    device: bytes
    certificate: bytes = field(repr=False)
    addresses: tuple[str, ...]
    roles: tuple[str, ...]
    name: str
    seq: int
    issued_at: int
    expires_at: int

    def to_body(self) -> dict[str, Any]:
        """Give the body of the statement."""
        return {
            "v": VERSION,
            "device": self.device,
            "certificate": self.certificate,
            "addresses": list(self.addresses),
            "roles": list(self.roles),
            "name": self.name,
            "seq": self.seq,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
        }


@dataclass(frozen=True)
class SignedPeerRecord:
    """A peer record whose signatures have been verified.

    Attributes:
        record: its content.
        certificate: whose device it is. If ``certificate.self_certified`` is false, only the identity log
            can tell whether the identity vouches for it.
        raw: the statement.
    """

    record: PeerRecord
    certificate: DeviceCertificate
    raw: bytes = field(repr=False)

    def is_valid_at(self, now: int) -> bool:
        """Tell whether the record and its certificate hold at a time.

        Args:
            now: Unix seconds UTC.
        """
        try:
            check_validity(self.certificate, now)
        except CryptoError:
            return False
        return self.record.issued_at - CLOCK_SKEW_S <= now < self.record.expires_at


def sign_peer_record(
    record: PeerRecord, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN
) -> SignedPeerRecord:
    """Sign a peer record.

    Args:
        record: its ``device`` must be the key's public part.
        device_key: the device key.
        network_id: 32 bytes.

    Raises:
        CryptoError: a field is outside its bounds, the whole is too long, or the certificate is no good.
        RemoteProtocolError: the fields contradict each other.
    """
    statement = sign_statement(
        StatementType.PEER_RECORD, record.to_body(), device_key, network_id, max_bytes=MAX_RECORD_BYTES
    )
    return _read(statement, network_id)


def parse_peer_record(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> SignedPeerRecord:
    """Verify a peer record; whether it is still valid is asked with ``is_valid_at``.

    Args:
        raw: the statement as received.
        network_id: 32 bytes.

    Raises:
        RemoteProtocolError: code signature or malformed.
    """
    return read_statement(
        raw,
        lambda statement: _read(statement, network_id),
        expected=StatementType.PEER_RECORD,
        network_id=network_id,
        max_bytes=MAX_RECORD_BYTES,
    )


def _read(statement: Statement, network_id: bytes) -> SignedPeerRecord:
    body = check_schema(statement.body, _SCHEMA)
    record = PeerRecord(
        device=body["device"],
        certificate=body["certificate"],
        addresses=tuple(body["addresses"]),
        roles=tuple(body["roles"]),
        name=body["name"],
        seq=body["seq"],
        issued_at=body["issued_at"],
        expires_at=body["expires_at"],
    )
    certificate = parse_certificate(record.certificate, network_id)
    if not record.device == statement.signer == certificate.device_pk:
        raise RemoteProtocolError(ErrorCode.SIGNATURE, "a peer record is signed by the device it names")
    if not record.issued_at < record.expires_at <= record.issued_at + MAX_VALIDITY_S:
        raise RemoteProtocolError(ErrorCode.MALFORMED, "a peer record is valid for a day at most")
    return SignedPeerRecord(record, certificate, statement.raw)
