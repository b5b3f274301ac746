"""Device certificates: an identity says that a device speaks for it, and the device agrees.

A certificate is a statement of type 0x02 signed by the identity key, followed by the 64-byte
signature of the device key over the same content. The second signature proves possession, so nobody
can claim the peer id of another.

The body repeats what the identity id is the hash of, so a certificate made by the first identity key
proves by itself that this key belongs to this identity. After a rotation of the root only the
identity log can tell; see :meth:`~sovereign_crypto.identity.IdentityLog.check_certificate`.

Source: ``crypto/specs/identity.md``.
"""

import hashlib
from dataclasses import dataclass, field, replace
from enum import Enum, IntFlag
from functools import lru_cache
from typing import Final

from sovereign_crypto.domains import Domain
from sovereign_crypto.errors import CryptoError, FormatError, SignatureError
from sovereign_crypto.hpke import check_encryption_public_key
from sovereign_crypto.schema import byte_string, check_schema, integer
from sovereign_crypto.signing import SIGNATURE_BYTES, SigningKey, check_public_key
from sovereign_crypto.statement import (
    NETWORK_ID_MAIN,
    Statement,
    StatementType,
    parse_statement,
    sign_same_content,
    sign_statement,
)

MAX_CERTIFICATE_BYTES = 1024
MAX_LIFETIME_S = 400 * 86400
# Clocks of honest devices may differ by this much.
CLOCK_SKEW_S = 300
NONCE_BYTES = 16
#: Certificates that were found good: peers show theirs in every conversation. Refusals are never remembered.
_KNOWN_CERTIFICATES: Final = 512
_TIME = integer(0, 2**53)


class Capability(IntFlag):
    """What a device may do for its identity."""

    READ = 1
    WRITE = 2
    ADMIN_REQUEST = 4
    PROVIDER = 8


_ALL_CAPABILITIES = int(~Capability(0))

_SCHEMA = {
    "v": integer(1, 1),
    "identity": byte_string(32),
    "identity_key": byte_string(32),
    "recovery_key": byte_string(32),
    "nonce": byte_string(NONCE_BYTES),
    "device_key": byte_string(32),
    "device_encryption_key": byte_string(32),
    "capabilities": integer(0, _ALL_CAPABILITIES),
    "not_before": _TIME,
    "not_after": _TIME,
    "serial": integer(0, 2**53),
}


class CertificateFault(Enum):
    """Why a certificate was refused; goes to the audit log, never to the other side."""

    MALFORMED = "malformed"
    BAD_SIGNATURE = "bad-signature"
    MISSING_COUNTER_SIGNATURE = "missing-counter-signature"
    BAD_COUNTER_SIGNATURE = "bad-counter-signature"
    IDENTITY_KEY_UNPROVEN = "identity-key-unproven"
    LIFETIME_TOO_LONG = "lifetime-too-long"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    OTHER_IDENTITY = "other-identity"
    OTHER_DEVICE = "other-device"
    OLD_IDENTITY_KEY = "old-identity-key"
    REVOKED = "revoked"
    NOT_IN_LOG = "not-in-log"
    SUPERSEDED = "superseded"


class CertificateError(CryptoError):
    """A device certificate was refused.

    Attributes:
        fault: why.

    """

    def __init__(self, fault: CertificateFault) -> None:
        super().__init__(f"device certificate refused: {fault.value}")
        self.fault = fault


def compute_identity_id(identity_pk: bytes, recovery_pk: bytes, nonce: bytes) -> bytes:
    """Return the 32-byte identity id.

    Args:
        identity_pk: first Ed25519 identity key, 32 bytes.
        recovery_pk: first Ed25519 recovery key, 32 bytes.
        nonce: 16 bytes.

    """
    return hashlib.sha256(Domain.IDENTITY.prefix + identity_pk + recovery_pk + nonce).digest()


@dataclass(frozen=True)
class IdentityAnchor:
    """The identity id and what it is the hash of.

    Attributes:
        identity_pk: first Ed25519 identity key, 32 bytes.
        recovery_pk: first Ed25519 recovery key, 32 bytes.
        nonce: 16 bytes.

    """

    identity_pk: bytes
    recovery_pk: bytes
    nonce: bytes

    @property
    def identity_id(self) -> bytes:
        """The 32-byte identity id."""
        return compute_identity_id(self.identity_pk, self.recovery_pk, self.nonce)


@dataclass(frozen=True)
class DeviceCertificate:
    """A certificate whose two signatures have been verified.

    Attributes:
        identity_id: 32 bytes.
        identity_pk: Ed25519 key that signed, 32 bytes.
        device_pk: Ed25519 key of the device, 32 bytes; its peer id embeds it.
        device_enc_pk: X25519 key of the device, 32 bytes.
        caps: what the device may do.
        not_before: Unix seconds, first moment of validity.
        not_after: Unix seconds, last moment of validity.
        serial: larger in every later certificate of the identity.
        self_certified: the identity id itself proves that ``identity_pk`` belongs to it.
        raw: the bytes.

    """

    identity_id: bytes
    identity_pk: bytes
    device_pk: bytes
    device_enc_pk: bytes
    caps: Capability
    not_before: int
    not_after: int
    serial: int
    self_certified: bool
    raw: bytes = field(repr=False)

    @property
    def hash(self) -> bytes:
        """SHA-256 of the certificate."""
        return hashlib.sha256(self.raw).digest()


def draft_certificate(
    identity_key: SigningKey,
    anchor: IdentityAnchor,
    *,
    device_pk: bytes,
    device_enc_pk: bytes,
    caps: Capability,
    not_before: int,
    not_after: int,
    serial: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Sign a certificate as the identity; the device must still counter-sign it.

    Args:
        identity_key: the identity key in force.
        anchor: of the identity.
        device_pk: Ed25519 key of the device, 32 bytes.
        device_enc_pk: X25519 key of the device, 32 bytes.
        caps: what the device may do.
        not_before: Unix seconds.
        not_after: Unix seconds, at most 400 days later.
        serial: larger than that of every earlier certificate of the identity.
        network_id: 32 bytes.

    Returns:
        The statement for :func:`countersign_certificate`.

    Raises:
        FormatError: a key is not acceptable, or a field is out of range.
        CertificateError: the lifetime is empty or too long.

    """
    body = {
        "v": 1,
        "identity": anchor.identity_id,
        "identity_key": identity_key.public,
        "recovery_key": anchor.recovery_pk,
        "nonce": anchor.nonce,
        "device_key": device_pk,
        "device_encryption_key": device_enc_pk,
        "capabilities": int(caps),
        "not_before": not_before,
        "not_after": not_after,
        "serial": serial,
    }
    statement = sign_statement(StatementType.DEVICE_CERTIFICATE, body, identity_key, network_id)
    _read_body(statement)
    return statement.raw


def countersign_certificate(draft: bytes, device_key: SigningKey, network_id: bytes = NETWORK_ID_MAIN) -> bytes:
    """Add the signature of the device, after checking that the draft is about this device.

    Args:
        draft: from :func:`draft_certificate`.
        device_key: the device's own key.
        network_id: 32 bytes.

    Raises:
        CertificateError: the draft is not acceptable, or is about another device.

    """
    certificate = _read(draft, network_id)
    if certificate.device_pk != device_key.public:
        raise CertificateError(CertificateFault.OTHER_DEVICE)
    return draft + sign_same_content(draft, device_key, network_id)[-SIGNATURE_BYTES:]


def issue_certificate(
    identity_key: SigningKey,
    anchor: IdentityAnchor,
    device_key: SigningKey,
    *,
    device_enc_pk: bytes,
    caps: Capability,
    not_before: int,
    not_after: int,
    serial: int,
    network_id: bytes = NETWORK_ID_MAIN,
) -> bytes:
    """Make a complete certificate where both keys are at hand, as on the first device.

    See :func:`draft_certificate` for the arguments.
    """
    draft = draft_certificate(
        identity_key,
        anchor,
        device_pk=device_key.public,
        device_enc_pk=device_enc_pk,
        caps=caps,
        not_before=not_before,
        not_after=not_after,
        serial=serial,
        network_id=network_id,
    )
    return countersign_certificate(draft, device_key, network_id)


def parse_certificate(raw: bytes, network_id: bytes = NETWORK_ID_MAIN) -> DeviceCertificate:
    """Verify layout and both signatures, but not times and not whether the identity vouches for the key.

    Raises:
        CertificateError: with the reason.

    """
    return _parse(bytes(raw), network_id)


@lru_cache(_KNOWN_CERTIFICATES)
def _parse(raw: bytes, network_id: bytes) -> DeviceCertificate:
    draft, counter_signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
    if _is_bare_statement(raw):
        raise CertificateError(CertificateFault.MISSING_COUNTER_SIGNATURE)
    certificate = _read(draft, network_id)
    content_length = len(draft) - 32 - SIGNATURE_BYTES
    copy = draft[:content_length] + certificate.device_pk + counter_signature
    try:
        parse_statement(copy, expected=StatementType.DEVICE_CERTIFICATE, network_id=network_id)
    except SignatureError as error:
        raise CertificateError(CertificateFault.BAD_COUNTER_SIGNATURE) from error
    return replace(certificate, raw=raw)


def verify_certificate(
    raw: bytes,
    now: int,
    *,
    network_id: bytes = NETWORK_ID_MAIN,
    device_pk: bytes | None = None,
    identity_pk: bytes | None = None,
) -> DeviceCertificate:
    """Verify a certificate shown by a peer whose identity log is not at hand.

    Args:
        raw: the certificate.
        now: Unix seconds; a skew of 5 minutes is allowed.
        network_id: 32 bytes.
        device_pk: the key of the authenticated connection, 32 bytes; must be the certified one.
        identity_pk: a pinned identity key; without it the certificate must prove its own.

    Returns:
        The certificate; whether the device was revoked, only the identity log can tell.

    Raises:
        CertificateError: with the reason.

    """
    certificate = parse_certificate(raw, network_id)
    if identity_pk is None and not certificate.self_certified:
        raise CertificateError(CertificateFault.IDENTITY_KEY_UNPROVEN)
    if identity_pk is not None and identity_pk != certificate.identity_pk:
        raise CertificateError(CertificateFault.OLD_IDENTITY_KEY)
    if device_pk is not None and device_pk != certificate.device_pk:
        raise CertificateError(CertificateFault.OTHER_DEVICE)
    check_validity(certificate, now)
    return certificate


def check_validity(certificate: DeviceCertificate, now: int) -> None:
    """Return if ``now`` (Unix seconds) lies in the lifetime, give or take 5 minutes.

    Raises:
        CertificateError: not yet valid, or expired.

    """
    if now < certificate.not_before - CLOCK_SKEW_S:
        raise CertificateError(CertificateFault.NOT_YET_VALID)
    if now > certificate.not_after + CLOCK_SKEW_S:
        raise CertificateError(CertificateFault.EXPIRED)


def _is_bare_statement(raw: bytes) -> bool:
    # The length of the body stands in bytes 8 to 11; 108 bytes surround it.
    return len(raw) >= 12 and len(raw) == int.from_bytes(raw[8:12], "big") + 108


def _read(draft: bytes, network_id: bytes) -> DeviceCertificate:
    try:
        statement = parse_statement(
            draft,
            expected=StatementType.DEVICE_CERTIFICATE,
            network_id=network_id,
            max_bytes=MAX_CERTIFICATE_BYTES,
        )
        return _read_body(statement)
    except SignatureError as error:
        raise CertificateError(CertificateFault.BAD_SIGNATURE) from error
    except FormatError as error:
        raise CertificateError(CertificateFault.MALFORMED) from error


def _read_body(statement: Statement) -> DeviceCertificate:
    body = check_schema(statement.body, _SCHEMA)
    for name in ("identity_key", "recovery_key", "device_key"):
        check_public_key(body[name])
    check_encryption_public_key(body["device_encryption_key"])
    if statement.signer != body["identity_key"]:
        raise CertificateError(CertificateFault.BAD_SIGNATURE)
    if not 0 < body["not_after"] - body["not_before"] <= MAX_LIFETIME_S:
        raise CertificateError(CertificateFault.LIFETIME_TOO_LONG)
    anchored = compute_identity_id(body["identity_key"], body["recovery_key"], body["nonce"])
    return DeviceCertificate(
        identity_id=body["identity"],
        identity_pk=body["identity_key"],
        device_pk=body["device_key"],
        device_enc_pk=body["device_encryption_key"],
        caps=Capability(body["capabilities"]),
        not_before=body["not_before"],
        not_after=body["not_after"],
        serial=body["serial"],
        self_certified=anchored == body["identity"],
        raw=statement.raw,
    )
