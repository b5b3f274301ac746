"""Device certificates: both signatures, and a distinct reason for each refusal."""

import dataclasses

import pytest

from sovereign_crypto.certificate import (
    CLOCK_SKEW_S,
    MAX_LIFETIME_S,
    Capability,
    CertificateError,
    CertificateFault,
    IdentityAnchor,
    countersign_certificate,
    draft_certificate,
    issue_certificate,
    parse_certificate,
    verify_certificate,
)
from sovereign_crypto.errors import FormatError
from sovereign_crypto.hpke import EncryptionKey
from sovereign_crypto.signing import SigningKey
from sovereign_crypto.statement import StatementType, sign_statement

IDENTITY = SigningKey.from_seed(bytes([1]) * 32)
RECOVERY = SigningKey.from_seed(bytes([2]) * 32)
DEVICE = SigningKey.from_seed(bytes([3]) * 32)
STRANGER = SigningKey.from_seed(bytes([4]) * 32)
DEVICE_ENC = EncryptionKey.from_seed(bytes([5]) * 32).public
ANCHOR = IdentityAnchor(IDENTITY.public, RECOVERY.public, bytes(16))
FIELDS = {
    "device_enc_pk": DEVICE_ENC,
    "caps": Capability.READ | Capability.WRITE,
    "not_before": 1_000_000,
    "not_after": 2_000_000,
    "serial": 7,
}
RAW = issue_certificate(IDENTITY, ANCHOR, DEVICE, **FIELDS)
NOW = 1_500_000


def fault_of(raw: bytes, now: int = NOW, **options) -> CertificateFault:
    with pytest.raises(CertificateError) as caught:
        verify_certificate(raw, now, **options)
    assert caught.value.fault.value in str(caught.value)
    return caught.value.fault


def certificate_body() -> dict:
    return {
        "v": 1,
        "identity": ANCHOR.identity_id,
        "identity_key": IDENTITY.public,
        "recovery_key": RECOVERY.public,
        "nonce": bytes(16),
        "device_key": DEVICE.public,
        "device_encryption_key": DEVICE_ENC,
        "capabilities": 3,
        "not_before": 1_000_000,
        "not_after": 2_000_000,
        "serial": 7,
    }


def test_a_good_certificate():
    certificate = verify_certificate(RAW, NOW, device_pk=DEVICE.public, identity_pk=IDENTITY.public)
    assert certificate.identity_id == ANCHOR.identity_id
    assert certificate.identity_pk == IDENTITY.public
    assert certificate.device_pk == DEVICE.public
    assert certificate.device_enc_pk == DEVICE_ENC
    assert certificate.caps == Capability.READ | Capability.WRITE
    assert (certificate.not_before, certificate.not_after, certificate.serial) == (1_000_000, 2_000_000, 7)
    assert certificate.self_certified
    assert certificate.raw == RAW
    assert len(certificate.hash) == 32


def test_capabilities_are_frozen_bits():
    assert [cap.value for cap in Capability] == [1, 2, 4, 8]


def test_lifetime_with_skew():
    for now in (1_000_000 - CLOCK_SKEW_S, 2_000_000 + CLOCK_SKEW_S):
        verify_certificate(RAW, now)
    assert fault_of(RAW, 1_000_000 - CLOCK_SKEW_S - 1) == CertificateFault.NOT_YET_VALID
    assert fault_of(RAW, 2_000_000 + CLOCK_SKEW_S + 1) == CertificateFault.EXPIRED


def test_other_device_or_identity_key():
    assert fault_of(RAW, device_pk=STRANGER.public) == CertificateFault.OTHER_DEVICE
    assert fault_of(RAW, identity_pk=STRANGER.public) == CertificateFault.OLD_IDENTITY_KEY


def test_missing_and_wrong_counter_signature():
    assert fault_of(RAW[:-64]) == CertificateFault.MISSING_COUNTER_SIGNATURE
    assert fault_of(RAW[:-64] + bytes(64)) == CertificateFault.BAD_COUNTER_SIGNATURE
    by_stranger = RAW[:-64] + STRANGER.sign(b"x")
    assert fault_of(by_stranger) == CertificateFault.BAD_COUNTER_SIGNATURE


def test_the_identity_id_cannot_be_claimed_by_another_key():
    claimed = IdentityAnchor(STRANGER.public, RECOVERY.public, bytes(16))
    body = certificate_body() | {"identity_key": STRANGER.public}
    draft = sign_statement(StatementType.DEVICE_CERTIFICATE, body, STRANGER).raw
    raw = countersign_certificate(draft, DEVICE)
    assert claimed.identity_id != ANCHOR.identity_id
    assert fault_of(raw) == CertificateFault.IDENTITY_KEY_UNPROVEN
    # A pinned key may vouch even though the id does not prove it: that is how rotated roots work.
    assert not verify_certificate(raw, NOW, identity_pk=STRANGER.public).self_certified


def test_signed_by_another_key_than_it_names():
    draft = sign_statement(StatementType.DEVICE_CERTIFICATE, certificate_body(), STRANGER).raw
    assert fault_of(draft + bytes(64)) == CertificateFault.BAD_SIGNATURE


def test_another_network():
    assert fault_of(RAW, network_id=bytes(32)) == CertificateFault.BAD_SIGNATURE


def test_every_flipped_bit_and_truncation_is_refused():
    for bit in range(len(RAW) * 8):
        bad = bytearray(RAW)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CertificateError):
            parse_certificate(bytes(bad))
    for length in range(len(RAW)):
        with pytest.raises(CertificateError):
            parse_certificate(RAW[:length])
    assert fault_of(RAW + b"\0") == CertificateFault.MALFORMED
    assert fault_of(b"") == CertificateFault.MALFORMED
    assert fault_of(bytes(5000)) == CertificateFault.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"extra": 0},
        {"identity": bytes(31)},
        {"nonce": bytes(17)},
        {"capabilities": 16},
        {"capabilities": True},
        {"serial": -1},
        {"not_after": "x"},
        {"recovery_key": bytes(32)},
        {"device_key": bytes([1]) + bytes(31)},
        {"device_encryption_key": bytes(32)},
    ],
    ids=str,
)
def test_bodies_outside_the_schema(change):
    draft = sign_statement(StatementType.DEVICE_CERTIFICATE, certificate_body() | change, IDENTITY).raw
    assert fault_of(draft + bytes(64)) == CertificateFault.MALFORMED


@pytest.mark.parametrize("not_after", [1_000_000, 999_999, 1_000_000 + MAX_LIFETIME_S + 1])
def test_lifetimes(not_after):
    with pytest.raises(CertificateError) as caught:
        issue_certificate(IDENTITY, ANCHOR, DEVICE, **FIELDS | {"not_after": not_after})
    assert caught.value.fault == CertificateFault.LIFETIME_TOO_LONG


def test_the_longest_lifetime():
    fields = FIELDS | {"not_after": 1_000_000 + MAX_LIFETIME_S}
    verify_certificate(issue_certificate(IDENTITY, ANCHOR, DEVICE, **fields), NOW)


def test_a_device_signs_only_for_itself():
    draft = draft_certificate(IDENTITY, ANCHOR, device_pk=STRANGER.public, **FIELDS)
    with pytest.raises(CertificateError) as caught:
        countersign_certificate(draft, DEVICE)
    assert caught.value.fault == CertificateFault.OTHER_DEVICE
    assert parse_certificate(countersign_certificate(draft, STRANGER)).device_pk == STRANGER.public


def test_a_draft_with_a_bad_key_is_not_made():
    with pytest.raises(FormatError):
        draft_certificate(IDENTITY, ANCHOR, device_pk=bytes(32), **FIELDS)


def test_certificates_are_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_certificate(RAW).serial = 8
